/**
 * Discards a byte range: whole blocks are unmapped, part blocks zeroed where they are mapped.
 *
 * Cost follows the mapped blocks of the range: holes of any size are skipped. Each step takes the
 * range of one leaf exclusively and applies in one turn inside the gate.
 */
import { type TableChange, leafEnd, lookup, missingForChange } from './allocation-table.ts';
import type { Disk } from './disk.ts';
import { nextMapped } from './table-walk.ts';
import { applyLeaf } from './apply-changes.ts';
import { writeRange } from './write.ts';

/**
 * The last block is whole if the range ends with the disk: what lies beyond is zero anyway.
 * @throws POOL_FULL if a part block needs a new block and there is none; what comes before it in
 *   the range may be zeroed then
 */
export async function discardRange(disk: Disk, offset: number, length: number): Promise<void> {
  if (length === 0) return;
  const size = disk.blockSizeBytes;
  const end = offset + length;
  const firstWhole = Math.ceil(offset / size);
  const endWhole = Math.floor(end / size);
  const admitted = disk.admission();
  if (firstWhole > endWhole) {
    await zeroPart(disk, offset, end, admitted);
    return;
  }
  const endsWithDisk = end === disk.capacityBytes;
  await zeroPart(disk, offset, firstWhole * size, admitted);
  if (endsWithDisk && endWhole * size < end) await discardLast(disk, endWhole, end, admitted);
  else await zeroPart(disk, endWhole * size, end, admitted);
  await unmapBlocks(disk, firstWhole, endWhole, admitted);
}

/** Unmaps the block in which the disk ends; only zeroes up to there if it has grown meanwhile. */
async function discardLast(
  disk: Disk,
  block: number,
  end: number,
  admitted: () => void,
): Promise<void> {
  const condition = (): boolean => disk.capacityBytes === end;
  if (!(await unmapLocked(disk, { first: block, end: block + 1, admitted, condition }))) {
    await zeroPart(disk, block * disk.blockSizeBytes, end, admitted);
  }
}

/** Zeroes part of one or two blocks; an unmapped block stays unmapped. */
async function zeroPart(disk: Disk, from: number, to: number, admitted: () => void): Promise<void> {
  const size = disk.blockSizeBytes;
  for (let at = from; at < to;) {
    const stop = Math.min(to, (Math.floor(at / size) + 1) * size);
    const found = await nextMapped(disk.pool, () => disk.liveRoot(), Math.floor(at / size));
    if (found === Math.floor(at / size)) {
      await writeRange(disk, at, new Uint8Array(stop - at), true, admitted);
    }
    at = stop;
  }
}

/** Unmaps the blocks [first, end). @throws DISK_FENCED, NOT_FOUND if that happens meanwhile */
export async function unmapBlocks(
  disk: Disk,
  first: number,
  end: number,
  admitted = disk.admission(),
): Promise<void> {
  let at: number | undefined = first;
  while (at < end) {
    at = await nextMapped(disk.pool, () => disk.liveRoot(), at);
    if (at === undefined || at >= end) return;
    const stop: number = Math.min(end, leafEnd(at));
    await unmapLocked(disk, { first: at, end: stop, admitted });
    at = stop;
  }
}

interface Unmapping {
  /** Blocks `first` … `end` - 1, within one leaf. */
  readonly first: number;
  readonly end: number;
  readonly admitted: () => void;
  /** Asked in the turn that unmaps: false leaves all as it is. */
  readonly condition?: () => boolean;
}

async function unmapLocked(disk: Disk, o: Unmapping): Promise<boolean> {
  const hold = await disk.lock.acquire(o.first, o.end, true);
  try {
    return await unmapHeld(disk, o);
  } finally {
    disk.lock.release(hold);
  }
}

/** The same for a caller that holds the range exclusively. False if the condition failed. */
export async function unmapHeld(disk: Disk, o: Unmapping): Promise<boolean> {
  const { first, end, admitted, condition = () => true } = o;
  const { pool } = disk;
  for (;;) {
    await pool.throttle();
    pool.assertWritable();
    admitted();
    const missing = missingForChange(pool, disk.liveRoot(), first, end - first);
    if (missing.length > 0) await pool.pages.ensure(missing);
    else if (disk.gate.tryEnter()) break;
    else await disk.gate.opened();
  }
  try {
    if (!condition()) return false;
    await applyLeaf(disk, unmappings(disk, first, end), false);
    return true;
  } finally {
    disk.gate.leave();
  }
}

function unmappings(disk: Disk, first: number, end: number): TableChange[] {
  const birth = disk.keepsTombstones ? disk.generation : 0;
  const changes: TableChange[] = [];
  for (let logical = first; logical < end; logical += 1) {
    const { block } = lookup(disk.pool, disk.root, logical);
    if (block >= 0) changes.push({ logical, block: -1, birth });
  }
  return changes;
}
