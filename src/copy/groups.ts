/**
 * The groups of a store: copies that were frozen at one instant (freeze-group.ts), found, listed,
 * and deleted as a unit.
 *
 * A copy of a group is a copy like any other and may be deleted alone; the group goes on to name
 * it, as gone.
 *
 * Invariants:
 *  1. A group and all its copies become durable in one transaction, and visible after it.
 *  2. Deleting one takes all its copies or none. The rows of group and copies go in the same
 *     transaction; should the pools have to commit apart after a failure, the first takes the
 *     group's row along, and copies whose group is gone end at the next opening.
 *  3. Its members never change.
 */
import { StorageError } from '../base/errors.ts';
import type { Labels } from '../disk/disk.ts';
import { readLabels } from '../disk/disk-row.ts';
import { assertNone } from '../disk/users.ts';
import type { Row, RowChange } from '../pool/metadata-store.ts';
import { Pool } from '../pool/pool.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';

/** Names are those of the freeze. */
export interface GroupMember {
  readonly diskId: string;
  readonly diskName: string;
  readonly copyId: string;
  readonly copyName: string;
}

export interface GroupRecord {
  readonly id: string;
  readonly name: string;
  /** In the order of the request. */
  readonly members: readonly GroupMember[];
  readonly haltMicroseconds: number;
  readonly labels: Labels;
  readonly version: number;
  readonly frozenAtMs: number;
}

export class Groups {
  readonly #copies: Copies;
  readonly #groups = new Map<string, GroupRecord>();
  /** New ones whose rows are not durable yet. */
  readonly #hidden = new Set<GroupRecord>();

  constructor(copies: Copies) {
    this.#copies = copies;
  }

  /** Reads all groups; before the copies. */
  async open(): Promise<void> {
    const { store, names } = this.#copies.options;
    for (const row of await store.rows('groups')) {
      const group = readGroup(row);
      names.take(group.name, group.id);
      this.#groups.set(group.id, group);
    }
  }

  /** Newest last; unfinished ones are left out. */
  list(): GroupRecord[] {
    return [...this.#groups.values()].filter((group) => !this.#hidden.has(group));
  }

  has(id: string): boolean {
    return this.#groups.has(id);
  }

  find(ref: string): GroupRecord | undefined {
    const { names } = this.#copies.options;
    const group = this.#groups.get(ref) ?? this.#groups.get(names.ownerOf(ref) ?? '');
    return group === undefined || this.#hidden.has(group) ? undefined : group;
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): GroupRecord {
    const group = this.find(ref);
    if (group !== undefined) return group;
    throw new StorageError('NOT_FOUND', `there is no group ${ref}`, { group: ref });
  }

  /** The copy of a member, or undefined once it is gone. */
  copyOf(member: GroupMember): Copy | undefined {
    const copy = this.#copies.byId(member.copyId);
    return copy === undefined || copy.isDeleted ? undefined : copy;
  }

  /** Each member with its copy. @throws NOT_FOUND: a copy was deleted alone */
  allCopiesOf(group: GroupRecord): { readonly member: GroupMember; readonly copy: Copy }[] {
    return group.members.map((member) => {
      const copy = this.copyOf(member);
      if (copy !== undefined) return { member, copy };
      const { copyName } = member;
      const message = `copy ${copyName} of group ${group.name} was deleted`;
      throw new StorageError('NOT_FOUND', message, { group: group.name, copy: copyName });
    });
  }

  /** The copies that are still there. */
  copiesOf(group: GroupRecord): Copy[] {
    return group.members.map((member) => this.copyOf(member)).filter((copy) => copy !== undefined);
  }

  /** Nobody else sees a new group until it is durable; if that fails it is as if never made. */
  async addWhen(group: GroupRecord, durable: Promise<unknown>): Promise<void> {
    this.#groups.set(group.id, group);
    this.#hidden.add(group);
    try {
      await durable;
    } catch (error) {
      this.#forget(group);
      throw error;
    } finally {
      this.#hidden.delete(group);
    }
  }

  /**
   * Deletes a group and the copies that are left of it, all or none.
   * @param o.force ends the users of the copies first
   * @throws NOT_FOUND, COPY_IN_USE with `group`, `copy` and `users` (nothing is deleted then),
   * POOL_POISONED, METADATA_FULL (it is gone, and becomes durable later)
   */
  async delete(
    ref: string,
    o: { force?: boolean } = {},
    effects: readonly RowChange[] = [],
  ): Promise<void> {
    const group = this.get(ref);
    if (o.force === true) await this.#endUsers(group);
    // one turn from here to the flush; of two who delete it one is too late
    this.get(group.id);
    const copies = this.copiesOf(group);
    for (const copy of copies) assertUnused(group, copy);
    const pools = [...new Set(copies.map((copy) => copy.pool))];
    for (const pool of pools) pool.assertWritable();
    for (const copy of copies) this.#copies.drop(copy);
    this.#forget(group);
    const gone: RowChange = { table: 'groups', key: { id: group.id }, row: undefined };
    for (const pool of pools) pool.changeRow(`group ${group.id}`, () => gone);
    if (pools.length > 0) return Pool.flushTogether(pools, effects);
    await this.#copies.options.store.commit({ pages: [], rows: [gone, ...effects] });
  }

  /** Until all are unused in one turn: who has ended may have been followed meanwhile. */
  async #endUsers(group: GroupRecord): Promise<void> {
    const reason = new StorageError('COPY_IN_USE', `group ${group.name} is being deleted`);
    for (;;) {
      const used = this.copiesOf(group).filter((copy) => copy.users().length > 0);
      if (used.length === 0) return;
      await Promise.all(used.map((copy) => copy.endUsers(reason)));
    }
  }

  #forget(group: GroupRecord): void {
    this.#groups.delete(group.id);
    this.#copies.options.names.release(group.name, group.id);
  }
}

/** @throws COPY_IN_USE */
function assertUnused(group: GroupRecord, copy: Copy): void {
  const details = { group: group.name, copy: copy.name };
  const message = `copy ${copy.name} of the group is in use`;
  assertNone(copy.users(), 'COPY_IN_USE', message, details);
}

export function groupRow(group: GroupRecord): RowChange {
  return {
    table: 'groups',
    key: { id: group.id },
    row: {
      name: group.name,
      members: JSON.stringify(group.members),
      halt_microseconds: group.haltMicroseconds,
      labels: JSON.stringify(group.labels),
      version: group.version,
      frozen_at: group.frozenAtMs,
    },
  };
}

function readGroup(row: Row): GroupRecord {
  return {
    id: String(row['id']),
    name: String(row['name']),
    members: readMembers(row['members']),
    haltMicroseconds: Number(row['halt_microseconds']),
    labels: readLabels(row['labels']),
    version: Number(row['version']),
    frozenAtMs: Number(row['frozen_at']),
  };
}

/** @throws METADATA_INVALID */
function readMembers(cell: unknown): GroupMember[] {
  const parsed: unknown = JSON.parse(String(cell));
  const members = Array.isArray(parsed) ? parsed.map(readMember) : [];
  if (members.length > 0) return members;
  throw new StorageError('METADATA_INVALID', 'a group has no members', { table: 'groups' });
}

function readMember(value: unknown): GroupMember {
  const fields = new Map(Object.entries(typeof value === 'object' && value !== null ? value : {}));
  const text = (name: string): string => {
    const found: unknown = fields.get(name);
    if (typeof found === 'string') return found;
    const details = { table: 'groups', column: 'members' };
    throw new StorageError('METADATA_INVALID', `a member of a group has no ${name}`, details);
  };
  return {
    diskId: text('diskId'),
    diskName: text('diskName'),
    copyId: text('copyId'),
    copyName: text('copyName'),
  };
}
