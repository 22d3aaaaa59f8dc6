/**
 * What the fake services share: ids, names, effects, users, and the rule of references.
 */
import type { Effects, RecordStore, User } from '../../src/api/service-types.ts';
import type { Clock } from '../../src/base/clock.ts';
import { uuidv7 } from '../../src/base/clock.ts';
import { StorageError } from '../../src/base/errors.ts';
import { bumpIfChanged } from '../../src/base/version.ts';
import type { Blocks } from './fake-blocks.ts';

/** A disk or copy, as far as others look at its blocks. */
export interface BlockHolder {
  readonly id: string;
  readonly name: string;
  readonly blocks: Blocks;
  readonly capacityBytes: number;
  readonly pool: { readonly id: string };
}

/** What the fakes share: ids, names, effects. */
export class FakeWorld {
  readonly clock: Clock;
  readonly store: RecordStore;
  readonly names = new Map<string, string>();
  readonly disks = new Map<string, BlockHolder>();
  readonly copies = new Map<string, BlockHolder & { readonly blockSet: Set<Buffer> }>();
  generation = 0;

  constructor(clock: Clock, store: RecordStore) {
    this.clock = clock;
    this.store = store;
  }

  id(): string {
    return uuidv7(this.clock);
  }

  takeName(name: string, id: string): void {
    const owner = this.names.get(name);
    if (owner !== undefined) {
      throw new StorageError('NAME_TAKEN', `the name ${name} is taken`, { name, id: owner });
    }
    this.names.set(name, id);
  }

  rename(from: string, to: string | undefined, id: string): void {
    if (to === undefined || to === from) return;
    this.takeName(to, id);
    this.names.delete(from);
  }

  async commit<T>(effects: Effects<T> | undefined, result: T): Promise<void> {
    const rows = effects?.(result) ?? [];
    if (rows.length > 0) await this.store.commit({ pages: [], rows });
  }
}

/** Sets the values that are given; a new version if one is another than before. */
export function setChanged<T extends { version: number }>(object: T, change: object): T {
  const now: Record<string, unknown> = { ...object };
  const before = Object.keys(change).map((key) => now[key]);
  bumpIfChanged(object, before, Object.values(change));
  return Object.assign(object, change);
}

export function find<T extends { id: string; name: string }>(
  all: Map<string, T>,
  ref: string,
  kind: string,
): T {
  const found = all.get(ref) ?? [...all.values()].find(({ name }) => name === ref);
  if (found !== undefined) return found;
  throw new StorageError('NOT_FOUND', `there is no ${kind} ${ref}`, { [kind]: ref });
}

export class Users {
  readonly all = new Set<User>();

  add(user: User): () => void {
    this.all.add(user);
    return () => {
      this.all.delete(user);
    };
  }

  async end(reason: StorageError): Promise<void> {
    for (const user of this.all) user.abort(reason);
    while (this.all.size > 0) await new Promise((resolve) => setImmediate(resolve));
  }
}
