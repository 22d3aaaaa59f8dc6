/**
 * Puts a copy's contents back into the working disk, by swapping the table: no data is moved.
 *
 * From a live copy the swap is all. From an image (`begin` … `finish` or `revert`) the disk is
 * fenced, its root frozen as an internal copy, and filled anew; on failure or cancel it returns to
 * that root in one transaction.
 *
 * Invariants:
 *  1. While fenced no data request reaches the disk.
 *  2. The old root is held by exactly one of: the disk, the internal or safety copy, the dead.
 *  3. The end of a fence is seen only when it is durable, with all that it brings (endings.ts).
 *
 * Seed: FIG. 14C.
 */
import { assert } from '../base/assert.ts';
import { uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { EMPTY_ROOT } from '../disk/allocation-table.ts';
import type { Disk } from '../disk/disk.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';
import { beginEnding, commitEndings, type Ending } from './endings.ts';
import { shareRoot } from './freeze.ts';
import { rootCountsResident } from './root-counts.ts';

/** Refuses a disk in use, or with `force` ends its users, and fences it for a job. */
export async function fence(
  disk: Disk,
  job: string,
  force: boolean,
  rows: readonly RowChange[] = [],
): Promise<void> {
  if (disk.state === 'fenced' && disk.fencedBy === job) return;
  if (!force) disk.assertUnused();
  disk.assertAccessible();
  disk.pool.assertWritable();
  disk.record.state = 'fenced';
  disk.record.job = job;
  const reason = new StorageError('DISK_FENCED', `disk ${disk.name} is fenced by a restore`, {
    disk: disk.name,
    job,
  });
  await disk.endUsers(reason);
  // what had begun when the fence went up is applied whole, and has left
  await disk.gate.close();
  disk.gate.open();
  await Promise.all(disk.begun);
  disk.liveRoot();
  disk.changed();
  try {
    await disk.pool.flush(rows);
  } catch (error) {
    disk.record.state = 'ready';
    disk.record.job = null;
    disk.changed();
    throw error;
  }
}

/** Takes the fence away and makes it durable with the rows. */
export async function unfence(disk: Disk, rows: readonly RowChange[] = []): Promise<void> {
  disk.record.state = 'ready';
  disk.record.job = null;
  disk.changed();
  await disk.pool.flush(rows);
}

/** A fenced disk, the copy whose table it is to get, and a name under which its contents stay. */
export interface Swap {
  readonly disk: Disk;
  readonly copy: Copy;
  readonly safetyCopy?: string | undefined;
}

/**
 * Swaps a fenced disk's table for a copy's and ends the fence, in one transaction.
 *
 * @param safetyCopy name under which the old contents stay
 * @throws POOL_MISMATCH, NAME_TAKEN, NOT_FOUND (the copy); the disk is then as before, still fenced
 */
export async function swapTable(
  copies: Copies,
  disk: Disk,
  copy: Copy,
  safetyCopy: string | undefined,
  rows: readonly RowChange[] = [],
): Promise<Copy | undefined> {
  const [safety] = await swapTables(copies, [{ disk, copy, safetyCopy }], rows);
  return safety;
}

/**
 * The same for several disks, of any pools: all of them in one turn and one transaction.
 * @returns the safety copies, in the order of the swaps
 * @throws as swapTable; then all disks are as before, still fenced
 */
export async function swapTables(
  copies: Copies,
  swaps: readonly Swap[],
  rows: readonly RowChange[] = [],
): Promise<(Copy | undefined)[]> {
  const { names, clock } = copies.options;
  for (const { disk, copy } of swaps) assertSamePool(disk, copy);
  const taken: { readonly name: string; readonly id: string }[] = [];
  const planned = swaps.map((swap) => ({ ...swap, id: uuidv7(clock) }));
  try {
    for (const { disk, safetyCopy: name, id } of planned) {
      if (name === undefined) continue;
      names.take(name, id, disk.record.job);
      taken.push({ name, id });
    }
    await rootCountsResident(() =>
      swaps.flatMap(({ disk, copy }) => [
        { pool: disk.pool, root: disk.liveRoot() },
        { pool: disk.pool, root: copy.liveRoot() },
      ]),
    );
    for (const { disk, copy } of swaps) {
      disk.liveRoot();
      copy.liveRoot();
    }
  } catch (error) {
    for (const { name, id } of taken) names.release(name, id);
    throw error;
  }
  // one turn up to the batch: fenced, so nobody is inside the gates
  const endings = planned.map((swap) => swapOne(copies, swap));
  await commitEndings(copies, endings, rows);
  return endings.map(({ safety }) => safety);
}

/** In this turn's batch: the disk has the copy's table. @param id of the safety copy */
function swapOne(
  copies: Copies,
  { disk, copy, id, safetyCopy: name }: Swap & { readonly id: string },
): Ending {
  assert(disk.state === 'fenced', 'a disk is fenced while its table is swapped');
  const reclaimer = copies.options.disks.reclaimer(disk.pool);
  const { undo: takeBack } = beginEnding(disk);
  const o = { id, name: name ?? id, haltMicroseconds: 0 };
  const safety = name === undefined ? undefined : shareRoot(copies, disk, o);
  // it is dead only once the disk has durably another one
  const held = disk.root.node === 0 ? undefined : reclaimer.hold(disk.root, disk.root.mapped);
  replaceRoot(copies, disk, copy);
  const { root } = disk;
  return {
    disk,
    safety,
    undo() {
      takeBack();
      if (held !== undefined) reclaimer.takeBack(held);
      reclaimer.add(root);
      if (safety !== undefined) copies.drop(safety);
      copies.updateDisk(disk);
    },
    done() {
      if (held !== undefined) reclaimer.release(held);
    },
  };
}

/** @throws POOL_MISMATCH */
export function assertSamePool(disk: Disk, copy: Copy): void {
  if (copy.pool === disk.pool) return;
  throw new StorageError(
    'POOL_MISMATCH',
    `copy ${copy.name} lives in pool ${copy.pool.name}, disk ${disk.name} in ${disk.pool.name}`,
    { pool: disk.pool.name },
  );
}

/** The disk takes the copy's root, which is counted for it. */
function replaceRoot(copies: Copies, disk: Disk, copy: Copy): void {
  const { generations } = copies.options;
  const { sourceCapacityBytes } = copy.record;
  const root = copy.liveRoot();
  if (root.node !== 0) disk.pool.nodeCounts.add(root.node);
  disk.takeTable(root, generations.next(), copy.record.lineage);
  disk.takeCapacity(Math.max(disk.capacityBytes, sourceCapacityBytes));
  copies.updateDisk(disk);
  disk.changed();
}

/**
 * Prepares a fenced disk for being filled from an image: its root is frozen as an internal copy.
 * Idempotent: after a restart the same internal copy is found.
 *
 * @param keepTable start from the present table (only differing blocks are written)
 */
export async function beginFill(copies: Copies, disk: Disk, keepTable: boolean): Promise<Copy> {
  const there = frozenRootOf(copies, disk);
  if (there !== undefined) return there;
  assert(disk.state === 'fenced', 'a disk is fenced before it is filled');
  await rootCountsResident(() => [disk]);
  const id = uuidv7(copies.options.clock);
  const internal = shareRoot(copies, disk, {
    id,
    name: id,
    haltMicroseconds: 0,
    state: 'internal',
    labels: { job: disk.record.job ?? '' },
  });
  if (!keepTable) {
    const { disks, generations } = copies.options;
    disks.reclaimer(disk.pool).add(disk.root);
    disk.takeTable(EMPTY_ROOT, generations.next());
    copies.updateDisk(disk);
    disk.changed();
  }
  await disk.pool.flush();
  return internal;
}

/** The internal copy of the job that fences the disk. */
export function frozenRootOf(copies: Copies, disk: Disk): Copy | undefined {
  return copies
    .internal()
    .find(
      (copy) => copy.record.diskId === disk.id && copy.record.labels['job'] === disk.record.job,
    );
}

/**
 * The fill is complete: the internal copy becomes the safety copy or goes, the fence ends.
 * @throws NAME_TAKEN, POOL_POISONED, METADATA_FULL; then the disk is as before, still fenced
 */
export async function finishFill(
  copies: Copies,
  disk: Disk,
  capacityBytes: number,
  safetyCopy: string | undefined,
  rows: readonly RowChange[] = [],
): Promise<Copy | undefined> {
  const ending = endFill(copies, disk, capacityBytes, safetyCopy);
  await commitEndings(copies, [ending], rows);
  return ending.safety;
}

/** The same in this turn's batch. @throws NAME_TAKEN, then nothing has changed */
export function endFill(
  copies: Copies,
  disk: Disk,
  capacityBytes: number,
  safetyCopy: string | undefined,
): Ending {
  const { names } = copies.options;
  const internal = frozenRootOf(copies, disk);
  const safety = safetyCopy === undefined ? undefined : internal;
  if (safety !== undefined && safetyCopy !== undefined) {
    names.take(safetyCopy, safety.id, disk.record.job);
  }
  const { undo: takeBack } = beginEnding(disk);
  disk.takeCapacity(Math.max(disk.capacityBytes, capacityBytes));
  if (safety === undefined || safetyCopy === undefined) {
    const done = (): void => {
      // a crash before this is durable: opening drops it
      if (internal !== undefined) copies.drop(internal);
    };
    return { disk, undo: takeBack, done };
  }
  const { name, state, labels } = safety.record;
  Object.assign(safety.record, { name: safetyCopy, state: 'ready', labels: {} });
  copies.changed(safety);
  const undo = (): void => {
    takeBack();
    Object.assign(safety.record, { name, state, labels });
    names.release(safetyCopy, safety.id);
    copies.changed(safety);
  };
  return { disk, safety, undo, done: () => undefined };
}

/** The fill failed: the disk returns to its frozen root in one transaction. */
export async function revertFill(
  copies: Copies,
  disk: Disk,
  rows: readonly RowChange[] = [],
): Promise<void> {
  const internal = frozenRootOf(copies, disk);
  if (internal !== undefined) {
    const { disks, generations } = copies.options;
    disks.reclaimer(disk.pool).add(disk.root);
    const { root, lineage } = internal.record;
    disk.takeTable(root, generations.next(), lineage);
    disk.takeCapacity(internal.record.sourceCapacityBytes);
    copies.forget(internal);
  }
  await unfence(disk, rows);
}
