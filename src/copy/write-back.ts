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
import { rootCountResident, shareRoot } from './freeze.ts';

/** Refuses a disk in use, or with `force` ends its users, and fences it for a job. */
export async function fence(
  disk: Disk,
  job: string,
  force: boolean,
  rows: readonly RowChange[] = [],
): Promise<void> {
  if (disk.state === 'fenced' && disk.record.job === job) return;
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
  // what was inside when the fence went up has left
  await disk.gate.close();
  disk.gate.open();
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
  if (copy.pool !== disk.pool) {
    throw new StorageError(
      'POOL_MISMATCH',
      `copy ${copy.name} lives in pool ${copy.pool.name}, disk ${disk.name} in ${disk.pool.name}`,
      { pool: disk.pool.name },
    );
  }
  const id = uuidv7(copies.options.clock);
  if (safetyCopy !== undefined) copies.options.names.take(safetyCopy, id);
  try {
    await rootCountsResident(disk, copy);
    disk.liveRoot();
    copy.liveRoot();
  } catch (error) {
    if (safetyCopy !== undefined) copies.options.names.release(safetyCopy);
    throw error;
  }
  // one turn up to the batch: fenced, so nobody is inside the gate
  assert(disk.state === 'fenced', 'a disk is fenced while its table is swapped');
  let safety: Copy | undefined;
  if (safetyCopy !== undefined) {
    safety = shareRoot(copies, disk, { id, name: safetyCopy, haltMicroseconds: 0 });
  }
  replaceRoot(copies, disk, copy);
  await unfence(disk, rows);
  return safety;
}

/** Count pages of both roots are resident when it resolves, and until the next turn. */
async function rootCountsResident(disk: Disk, copy: Copy): Promise<void> {
  const { nodeCounts, pages } = disk.pool;
  for (;;) {
    const missing = [disk.liveRoot().node, copy.liveRoot().node]
      .filter((node) => node !== 0 && !nodeCounts.isResident(node))
      .map((node) => nodeCounts.keyOf(node));
    if (missing.length === 0) return;
    await pages.ensure(missing);
  }
}

/** The disk gives up its root and takes the copy's, which is counted for it. */
function replaceRoot(copies: Copies, disk: Disk, copy: Copy): void {
  const { generations, disks } = copies.options;
  const { sourceCapacityBytes } = copy.record;
  const root = copy.liveRoot();
  if (root.node !== 0) disk.pool.nodeCounts.add(root.node);
  disks.reclaimer(disk.pool).add(disk.root);
  disk.record.root = root;
  disk.record.generation = generations.next();
  disk.record.capacityBytes = Math.max(disk.capacityBytes, sourceCapacityBytes);
  disk.keepsTombstones = true;
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
  await rootCountResident(disk);
  const id = uuidv7(copies.options.clock);
  const internal = shareRoot(copies, disk, {
    id,
    name: id,
    haltMicroseconds: 0,
    state: 'internal',
    labels: { job: disk.record.job ?? '' },
  });
  if (!keepTable) {
    copies.options.disks.reclaimer(disk.pool).add(disk.root);
    disk.record.root = EMPTY_ROOT;
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

/** The fill is complete: the internal copy becomes the safety copy or goes, the fence ends. */
export async function finishFill(
  copies: Copies,
  disk: Disk,
  capacityBytes: number,
  safetyCopy: string | undefined,
  rows: readonly RowChange[] = [],
): Promise<Copy | undefined> {
  const internal = frozenRootOf(copies, disk);
  if (internal !== undefined && safetyCopy !== undefined) {
    copies.options.names.take(safetyCopy, internal.id);
    internal.record.name = safetyCopy;
    internal.record.state = 'ready';
    internal.record.labels = {};
    copies.changed(internal);
  } else if (internal !== undefined) {
    copies.drop(internal);
  }
  disk.record.capacityBytes = Math.max(disk.capacityBytes, capacityBytes);
  await unfence(disk, rows);
  return safetyCopy === undefined ? undefined : internal;
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
    disk.record.root = internal.record.root;
    disk.record.capacityBytes = internal.record.sourceCapacityBytes;
    disk.record.generation = generations.next();
    copies.forget(internal);
  }
  await unfence(disk, rows);
}
