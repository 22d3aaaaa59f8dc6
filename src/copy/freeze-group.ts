/**
 * Freezes several disks, of any pools, at one instant: a group copy.
 *
 *  1. The gates are closed in the order of the disks' ids, then all operations inside come to
 *     their end, beside each other.
 *  2. In one turn each disk's root is shared and takes a generation of its own. The gates open.
 *  3. One transaction over all pools makes the copies and the group durable; then it is answered.
 *
 * The halt is from the moment in which the first gate is closed to the one in which all roots are
 * shared, just before the gates open; each copy has the same.
 *
 * Invariants:
 *  1. If a writer wrote to one disk only after a write to another was answered, the group never
 *     holds the later write without the earlier.
 *  2. Who closes several gates closes them in the order of ids and waits for no other gate then:
 *     so nobody waits in a circle.
 *  3. A crash leaves the group and all its copies, or nothing.
 */
import { uuidv7 } from '../base/clock.ts';
import type { Disk, Labels } from '../disk/disk.ts';
import { Pool } from '../pool/pool.ts';
import type { Effects } from '../pool/pools.ts';
import type { Copies } from './copies.ts';
import type { Copy, Layout } from './copy.ts';
import { shareRoot } from './freeze.ts';
import { type GroupDisk, type PlannedMember, planMembers } from './group-plan.ts';
import { type GroupRecord, groupRow } from './groups.ts';
import { areRootCountsResident, rootCountsResident } from './root-counts.ts';

export interface FreezeGroupRequest {
  readonly name: string;
  /** By name or id, 1 to 64. */
  readonly disks: readonly (string | GroupDisk)[];
  readonly layout?: Layout;
  /** Of the group and of each of its copies. */
  readonly labels?: Labels;
}

interface NewMember extends PlannedMember<Disk> {
  readonly copyId: string;
}

/** After so many attempts the counts of the roots are read with the gates closed. */
const ATTEMPTS = 3;

/**
 * @throws as planMembers, NAME_TAKEN, NOT_FOUND, DISK_FENCED, POOL_POISONED, METADATA_FULL;
 * nothing is frozen then
 */
export async function freezeGroup(
  copies: Copies,
  request: FreezeGroupRequest,
  effects?: Effects<GroupRecord>,
): Promise<GroupRecord> {
  const { clock, names, disks } = copies.options;
  const planned = planMembers(request.name, request.disks, (ref) => disks.get(ref));
  for (const { disk } of planned) {
    disk.assertAccessible();
    disk.pool.assertWritable();
  }
  const id = uuidv7(clock);
  const members = planned.map((member) => ({ ...member, copyId: uuidv7(clock) }));
  const owned = [[request.name, id], ...members.map((one) => [one.copyName, one.copyId])] as const;
  try {
    for (const [name = '', owner = ''] of owned) names.take(name, owner);
    const { group, committed } = await freezeGated(copies, { ...request, id }, members, effects);
    await committed;
    return group;
  } catch (error) {
    for (const [name = '', owner = ''] of owned) names.release(name, owner);
    throw error;
  }
}

async function freezeGated(
  copies: Copies,
  request: FreezeGroupRequest & { readonly id: string },
  members: readonly NewMember[],
  effects?: Effects<GroupRecord>,
): Promise<{ group: GroupRecord; committed: Promise<void> }> {
  const { clock } = copies.options;
  const disks = members.map(({ disk }) => disk).sort((a, b) => (a.id < b.id ? -1 : 1));
  for (let attempt = 1; ; attempt += 1) {
    await rootCountsResident(() => disks);
    const beginNs = await closeAll(disks, () => clock.monotonicNs());
    try {
      if (attempt >= ATTEMPTS) await rootCountsResident(() => disks);
      for (const disk of disks) disk.assertAccessible();
      if (!areRootCountsResident(disks)) continue;
      const halt = (): number => Math.ceil(Number(clock.monotonicNs() - beginNs) / 1000);
      const { group, made } = shareRoots(copies, request, members, halt);
      // called in this turn, so that copies, group and effects are in one batch
      return { group, committed: commitGroup(copies, group, made, effects?.(group) ?? []) };
    } finally {
      for (const { gate } of disks) gate.open();
    }
  }
}

/** All gates closed, nobody inside. @returns when the first was closed */
async function closeAll(disks: readonly Disk[], now: () => bigint): Promise<bigint> {
  let begin: bigint | undefined;
  for (const { gate } of disks) {
    await gate.shut();
    begin ??= now();
  }
  await Promise.all(disks.map(({ gate }) => gate.drained()));
  return begin ?? now();
}

/** All copies and their group, in one turn, with all gates closed. */
function shareRoots(
  copies: Copies,
  request: FreezeGroupRequest & { readonly id: string },
  members: readonly NewMember[],
  halt: () => number,
): { group: GroupRecord; made: readonly Copy[] } {
  const { id: groupId, name, layout, labels = {} } = request;
  const frozenAtMs = copies.options.clock.nowMs();
  const made = members.map(({ disk, copyId, copyName }) =>
    shareRoot(copies, disk, {
      id: copyId,
      name: copyName,
      ...(layout === undefined ? {} : { layout }),
      labels,
      haltMicroseconds: 0,
      frozenAtMs,
      groupId,
    }),
  );
  const haltMicroseconds = halt();
  for (const copy of made) copy.record.haltMicroseconds = haltMicroseconds;
  const group: GroupRecord = {
    id: groupId,
    name,
    members: made.map(({ id, record: { diskId, diskName, name: copyName } }) => {
      return { diskId, diskName, copyId: id, copyName };
    }),
    haltMicroseconds,
    labels,
    version: 1,
    frozenAtMs,
  };
  return { group, made };
}

/** Makes the group durable with its copies; where that cannot be, it is as if it had never been. */
async function commitGroup(
  copies: Copies,
  group: GroupRecord,
  made: readonly Copy[],
  effects: ReturnType<Effects<GroupRecord>>,
): Promise<void> {
  const pools = [...new Set(made.map(({ pool }) => pool))];
  const durable = Pool.flushTogether(pools, [groupRow(group), ...effects]);
  const hidden = made.map((copy) => copies.whileHidden(copy, durable));
  try {
    await copies.groups.addWhen(group, durable);
    await Promise.all(hidden);
  } catch (error) {
    await Promise.allSettled(hidden);
    for (const copy of made) copies.drop(copy);
    throw error;
  }
}
