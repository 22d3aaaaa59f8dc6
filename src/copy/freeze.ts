/**
 * Freezes a disk into a copy, in an instant.
 *
 * Inside the disk's gate only: wait for the operations in flight (at most 1 MiB each), count the
 * root once more, take the next generation: memory only. The gate opens; then one flush makes the
 * copy durable, and only then it is answered. A crash before that leaves no copy.
 *
 * Invariants:
 *  1. The copy holds exactly the operations that had completed when the gate was closed.
 *  2. From the freeze on every block that the copy holds was born before the disk's generation,
 *     so the disk redirects instead of overwriting it.
 *
 * Seed: FIG. 4, 13.
 */
import { uuidv7 } from '../base/clock.ts';
import type { Disk, Labels } from '../disk/disk.ts';
import { EMPTY_ROOT } from '../disk/allocation-table.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { Pool } from '../pool/pool.ts';
import type { Effects } from '../pool/pools.ts';
import type { Copies } from './copies.ts';
import { Copy, type CopyRecord, type Layout } from './copy.ts';
import {
  type DedicatedRequest,
  allOwed,
  assertRoom,
  makeRoom,
  ownPool,
} from './dedicated/reserve.ts';
import { areRootCountsResident, rootCountsResident } from './root-counts.ts';

export interface FreezeRequest {
  readonly name: string;
  readonly layout?: Layout;
  readonly labels?: Labels;
  /** Blocks of its own, in reserved room: see dedicated/dedicated.ts. */
  readonly dedicated?: DedicatedRequest;
}

/** Freezes for inner use: the copy has no name and is not listed; whoever made it drops it. */
export async function freezeInternal(
  copies: Copies,
  diskRef: string,
  labels: Labels,
): Promise<Copy> {
  const disk = copies.options.disks.get(diskRef);
  disk.assertAccessible();
  disk.pool.assertWritable();
  const id = uuidv7(copies.options.clock);
  const request = { id, name: id, labels, state: 'internal' } as const;
  const { copy, committed } = await freezeGated(copies, disk, request);
  await committed;
  return copy;
}

/**
 * @throws NAME_TAKEN, NAME_INVALID, NOT_FOUND, DISK_FENCED, POOL_POISONED; for a dedicated one
 *   POOL_MISMATCH, POOL_FULL
 */
export async function freeze(
  copies: Copies,
  diskRef: string,
  request: FreezeRequest,
  effects?: Effects<Copy>,
): Promise<Copy> {
  const { clock, names, disks } = copies.options;
  const disk = disks.get(diskRef);
  const id = uuidv7(clock);
  // the name first: whether it is taken does not depend on what the disk is doing
  names.take(request.name, id);
  try {
    disk.assertAccessible();
    disk.pool.assertWritable();
    const own = request.dedicated && ownPool(copies, disk, request.dedicated);
    const gated = { ...request, id, own };
    const { copy, committed } = await freezeGated(copies, disk, gated, effects);
    await committed;
    return copy;
  } catch (error) {
    names.release(request.name, id);
    throw error;
  }
}

async function freezeGated(
  copies: Copies,
  disk: Disk,
  request: FreezeRequest & {
    readonly id: string;
    readonly state?: CopyRecord['state'];
    /** Where a dedicated copy's blocks go. */
    readonly own?: Pool | undefined;
  },
  effects?: Effects<Copy>,
): Promise<{ copy: Copy; committed: Promise<void> }> {
  const { clock } = copies.options;
  for (;;) {
    await rootCountsResident(() => [disk]);
    if (request.own !== undefined) await makeRoom(request.own, disk);
    const begin = clock.monotonicNs();
    await disk.gate.close();
    try {
      disk.assertAccessible();
      if (!areRootCountsResident([disk])) continue;
      if (request.own !== undefined) assertRoom(copies, request.own, disk);
      const halt = Math.ceil(Number(clock.monotonicNs() - begin) / 1000);
      const copy = shareRoot(copies, disk, { ...request, haltMicroseconds: halt });
      // called in this turn, so that copy and effects are in one batch
      return { copy, committed: commitCopy(copies, copy, effects?.(copy)) };
    } finally {
      disk.gate.open();
    }
  }
}

/** The copy on the disk's root, and the disk in its next generation; gate closed, one turn. */
export function shareRoot(
  copies: Copies,
  disk: Disk,
  o: {
    readonly id: string;
    readonly name: string;
    readonly layout?: Layout;
    readonly labels?: Labels;
    readonly haltMicroseconds: number;
    /** Default: now. */
    readonly frozenAtMs?: number;
    readonly state?: CopyRecord['state'];
    readonly groupId?: string;
    readonly dedicated?: DedicatedRequest | undefined;
    readonly own?: Pool | undefined;
  },
): Copy {
  const { clock, generations } = copies.options;
  const { record, pool } = disk;
  if (record.root.node !== 0) pool.nodeCounts.add(record.root.node);
  const dedicated = o.dedicated && allOwed(disk, o.dedicated);
  const copy = new Copy(
    o.own ?? pool,
    {
      id: o.id,
      name: o.name,
      diskId: disk.id,
      diskName: disk.name,
      layout: o.layout ?? 'compact',
      placement: dedicated === undefined ? 'shared' : 'dedicated',
      generation: record.generation,
      lineage: record.lineage,
      sourceCapacityBytes: record.capacityBytes,
      root: dedicated === undefined ? record.root : EMPTY_ROOT,
      haltMicroseconds: o.haltMicroseconds,
      labels: o.labels ?? {},
      state: o.state ?? 'ready',
      version: 1,
      frozenAtMs: o.frozenAtMs ?? clock.nowMs(),
      ...(o.groupId === undefined ? {} : { groupId: o.groupId }),
    },
    copies.checksums,
    dedicated,
  );
  disk.nextGeneration(generations.next());
  disk.keepsTombstones = true;
  disk.changed();
  copies.add(copy);
  return copy;
}

/** Makes a new copy durable; where that cannot be, it is as if it had never been. */
export async function commitCopy(
  copies: Copies,
  copy: Copy,
  rows: readonly RowChange[] = [],
): Promise<void> {
  const source = copy.dedicated?.owed?.pool;
  try {
    const pools = new Set([copy.pool, ...(source === undefined ? [] : [source])]);
    await copies.whileHidden(copy, Pool.flushTogether([...pools], rows));
  } catch (error) {
    copies.takeBack(copy);
    throw error;
  }
}
