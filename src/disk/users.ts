/**
 * Who uses a disk or copy: data requests and jobs. What would pull it away under them is refused,
 * or ends them first.
 *
 * Invariant: while users are being ended nobody becomes one.
 */
import { type ErrorDetails, type ErrorCode, StorageError } from '../base/errors.ts';

/** `abort` ends it (connection closed, job cancelled); it is gone when it has given itself back. */
export interface User {
  readonly kind: string;
  readonly id: string;
  readonly sinceMs: number;
  abort(reason: StorageError): void;
}

const LOOK_AGAIN_MS = 5;

export class Users {
  readonly #users = new Set<User>();
  #ending: StorageError | undefined;

  list(): User[] {
    return [...this.#users];
  }

  /** @returns what ends the use. @throws the reason for which users are being ended */
  add(user: User): () => void {
    if (this.#ending !== undefined) throw this.#ending;
    this.#users.add(user);
    return () => {
      this.#users.delete(user);
    };
  }

  /** Ends all and waits until they are gone. */
  async end(reason: StorageError): Promise<void> {
    this.#ending = reason;
    try {
      for (const user of this.list()) user.abort(reason);
      while (this.#users.size > 0) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
      }
    } finally {
      this.#ending = undefined;
    }
  }

  /** @throws `code` with the users, if there are any */
  assertNone(code: ErrorCode, message: string, details: ErrorDetails): void {
    if (this.#users.size === 0) return;
    const users = this.list().map(({ kind, id }) => ({ kind, id }));
    throw new StorageError(code, message, { ...details, users });
  }
}
