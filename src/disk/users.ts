/**
 * Who uses a disk or copy: data requests and jobs. What would pull it away under them is refused,
 * or ends them first.
 *
 * Invariant: while users are being ended nobody becomes one.
 */
import { isUuid, rfc3339, timeOfId } from '../base/clock.ts';
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
}

/** @throws `code` with the users, if there are any */
export function assertNone(
  users: readonly User[],
  code: ErrorCode,
  message: string,
  details: ErrorDetails,
): void {
  if (users.length === 0) return;
  throw new StorageError(code, message, { ...details, users: users.map(userFacts) });
}

function userFacts({ kind, id, sinceMs }: User): Record<'kind' | 'id' | 'since', string> {
  return { kind, id, since: rfc3339(sinceMs) };
}

/** A job that keeps all others away; who ends it asks the job, not its use. */
export function jobAsUser(job: string, earliestMs: number): User {
  const sinceMs = isUuid(job) ? timeOfId(job) : earliestMs;
  return { kind: 'job', id: job, sinceMs, abort: () => undefined };
}
