/**
 * The one name space of disks, copies and groups.
 *
 * Invariants:
 *  1. A name belongs to at most one object; everything can also be addressed by its id.
 *  2. A name that a job holds, for what it is going to make, is taken by nobody else.
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

/** Who has a name: the object with this id, or the job that is making one, or both. */
interface Taker {
  readonly id?: string | undefined;
  readonly job?: string | undefined;
}

export function nameTaken(name: string, { id, job }: Taker, field?: string): StorageError {
  const by = job === undefined ? '' : ` by job ${job}, which makes it`;
  return new StorageError('NAME_TAKEN', `the name ${name} is taken${by}`, {
    name,
    ...(id === undefined ? {} : { id }),
    ...(job === undefined ? {} : { job }),
    ...(field === undefined ? {} : { field }),
  });
}

export class Names {
  readonly #owners = new Map<string, string>();
  /** By name: the job that holds it. Its object, once there, is an owner beside. */
  readonly #holders = new Map<string, string>();

  ownerOf(name: string): string | undefined {
    return this.#owners.get(name);
  }

  /**
   * @param o.field where a request has it
   * @param o.job asks for itself: what it holds is free for it
   * @throws NAME_TAKEN with the owner's id, the holding job
   */
  assertFree(
    name: string,
    o: { readonly field?: string; readonly job?: string | null } = {},
  ): void {
    const id = this.#owners.get(name);
    const job = this.#holders.get(name);
    if (id === undefined && (job === undefined || job === o.job)) return;
    throw nameTaken(name, { id, job }, o.field);
  }

  /** @param job for which the object is made. @throws NAME_INVALID, and as assertFree */
  take(name: string, id: string, job?: string | null): void {
    checkName(name);
    this.assertFree(name, job === undefined ? {} : { job });
    this.#owners.set(name, id);
  }

  /** For what the job is going to make, until `letGo`. @throws NAME_TAKEN */
  hold(name: string, job: string): void {
    this.assertFree(name, { job });
    this.#holders.set(name, job);
  }

  /** After a restart, when its object may be there; whoever came first keeps it. */
  holdAgain(name: string, job: string): void {
    if (!this.#holders.has(name)) this.#holders.set(name, job);
  }

  /** All that the job holds; what it made keeps its name. */
  letGo(job: string): void {
    for (const [name, holder] of this.#holders) if (holder === job) this.#holders.delete(name);
  }

  /**
   * Another name for an object, which has both until the work is done: the old one if that fails.
   * @throws NAME_TAKEN, NAME_INVALID before the work begins; what the work throws
   */
  async rename<T>(id: string, from: string, to: string, work: () => Promise<T>): Promise<T> {
    if (from === to) return work();
    this.take(to, id);
    let given = to;
    try {
      const done = await work();
      given = from;
      return done;
    } finally {
      this.release(given, id);
    }
  }

  /** The object has it no more; nothing happens if it is another's. */
  release(name: string, id: string): void {
    if (this.#owners.get(name) === id) this.#owners.delete(name);
  }
}
