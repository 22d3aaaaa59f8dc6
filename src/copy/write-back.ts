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
import { EMPTY_ROOT, type TableRoot } from '../disk/allocation-table.ts';
import type { Disk } from '../disk/disk.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';
import { isRootCountResident, rootCountResident, shareRoot } from './freeze.ts';

/** Refuses a disk in use, or with `force` ends its users, and fences it for a job. */
export async function fence(
  disk: Disk,
  job: string,
  force: boolean,
  rows: readonly RowChange[] = [],
): Promise<void> {
  if (disk.state === 'fenced' && disk.record.job === job) return;
  disk.assertAccessible();
  if (!force) disk.assertUnused();
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
  disk.changed();
  disk.pool.addRow(...rows);
  await disk.pool.flush();
}

/** Takes the fence away and makes it durable with the rows. */
export async function unfence(disk: Disk, rows: readonly RowChange[] = []): Promise<void> {
  disk.record.state = 'ready';
  disk.record.job = null;
  disk.changed();
  disk.pool.addRow(...rows);
  await disk.pool.flush();
}

/**
 * Swaps a fenced disk's table for a copy's and ends the fence, in one transaction.
 *
 * @param safetyCopy name under which the old contents stay
 * @throws POOL_MISMATCH, NAME_TAKEN; the disk is then as before, still fenced
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
  const { record } = copy;
  const safety = await replaceRoot(copies, disk, record.root, safetyCopy);
  disk.record.capacityBytes = Math.max(disk.capacityBytes, record.sourceCapacityBytes);
  await unfence(disk, rows);
  return safety;
}

/** The old root becomes a safety copy or dead; the new one is counted for the disk. */
async function replaceRoot(
  copies: Copies,
  disk: Disk,
  root: TableRoot,
  safetyCopy: string | undefined,
): Promise<Copy | undefined> {
  const { names, clock, generations, disks } = copies.options;
  const { pool } = disk;
  const id = uuidv7(clock);
  if (safetyCopy !== undefined) names.take(safetyCopy, id);
  for (;;) {
    await rootCountResident(disk);
    const ready = root.node === 0 || pool.nodeCounts.isResident(root.node);
    if (ready && isRootCountResident(disk)) break;
    await pool.pages.ensure([pool.nodeCounts.keyOf(root.node)]);
  }
  // one turn: fenced, so nobody is inside the gate
  let safety: Copy | undefined;
  const old = disk.root;
  if (safetyCopy !== undefined) {
    safety = shareRoot(copies, disk, { id, name: safetyCopy, haltMicroseconds: 0 });
  }
  if (root.node !== 0) pool.nodeCounts.add(root.node);
  disks.reclaimer(pool).add(old);
  disk.record.root = root;
  disk.record.generation = generations.next();
  disk.keepsTombstones = true;
  disk.changed();
  return safety;
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
