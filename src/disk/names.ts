/**
 * The one name space of disks, copies and groups.
 *
 * Invariant: a name belongs to at most one object; everything can also be addressed by its id.
 */
import { isUuid } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** @throws NAME_INVALID */
export function checkName(name: string, field = 'name'): void {
  if (NAME.test(name) && !isUuid(name)) return;
  throw new StorageError(
    'NAME_INVALID',
    'a name has 1 to 63 of a-z 0-9 . _ -, begins with a letter or digit, and is no UUID',
    { field, name },
  );
}

/** NAME_TAKEN, by the object with this id. */
export function nameTaken(name: string, id: string, field?: string): StorageError {
  const at = field === undefined ? {} : { field };
  return new StorageError('NAME_TAKEN', `the name ${name} is taken`, { name, id, ...at });
}

export class Names {
  readonly #owners = new Map<string, string>();

  ownerOf(name: string): string | undefined {
    return this.#owners.get(name);
  }

  /** @param field where a request has it. @throws NAME_TAKEN with the owner's id */
  assertFree(name: string, field?: string): void {
    const owner = this.#owners.get(name);
    if (owner !== undefined) throw nameTaken(name, owner, field);
  }

  /** @throws NAME_TAKEN with the owner's id; NAME_INVALID */
  take(name: string, id: string): void {
    checkName(name);
    this.assertFree(name);
    this.#owners.set(name, id);
  }

  release(name: string): void {
    this.#owners.delete(name);
  }

  rename(from: string, to: string, id: string): void {
    if (from === to) return;
    this.take(to, id);
    this.release(from);
  }
}
