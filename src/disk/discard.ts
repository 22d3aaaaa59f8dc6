/**
 * Discards a byte range: whole blocks are unmapped, part blocks zeroed where they are mapped.
 *
 * Cost follows the mapped blocks of the range: holes of any size are skipped. Each step takes the
 * range of one leaf exclusively and applies in one turn inside the gate.
 */
import { blocksFor, roundUp } from '../base/units.ts';
import {
  FAN_OUT,
  type TableChange,
  leafEnd,
  lookup,
  missingForChange,
} from './allocation-table.ts';
import type { Disk } from './disk.ts';
import { nextMapped } from './table-walk.ts';
import { applyLeaf } from './apply-changes.ts';
import { writeRange } from './write.ts';

/** @throws POOL_FULL if a part block needs a new block and there is none */
export async function discardRange(disk: Disk, offset: number, length: number): Promise<void> {
  if (length === 0) return;
  const size = disk.blockSizeBytes;
  const end = offset + length;
  const firstWhole = Math.ceil(offset / size);
  const endWhole = end === disk.capacityBytes ? blocksFor(end, size) : Math.floor(end / size);
  if (firstWhole >= endWhole) {
    await zeroPart(disk, offset, end);
    return;
  }
  await zeroPart(disk, offset, Math.min(end, roundUp(offset, size)));
  await zeroPart(disk, Math.min(end, Math.max(offset, endWhole * size)), end);
  await unmapBlocks(disk, firstWhole, endWhole);
}

/** Zeroes part of one or two blocks; an unmapped block stays unmapped. */
async function zeroPart(disk: Disk, from: number, to: number): Promise<void> {
  const size = disk.blockSizeBytes;
  for (let at = from; at < to;) {
    const stop = Math.min(to, (Math.floor(at / size) + 1) * size);
    const found = await nextMapped(disk.pool, () => disk.liveRoot(), Math.floor(at / size));
    if (found === Math.floor(at / size)) {
      await writeRange(disk, at, new Uint8Array(stop - at), true);
    }
    at = stop;
  }
}

/** Unmaps the blocks [first, end). */
export async function unmapBlocks(disk: Disk, first: number, end: number): Promise<void> {
  let at: number | undefined = first;
  for (;;) {
    at = await nextMapped(disk.pool, () => disk.liveRoot(), at);
    if (at === undefined || at >= end) return;
    const stop: number = Math.min(end, leafEnd(at));
    const hold = await disk.lock.acquire(at, stop, true);
    try {
      await unmapHeld(disk, at, stop);
    } finally {
      disk.lock.release(hold);
    }
    at = stop;
  }
}

/** Unmaps blocks of one leaf whose range the caller holds exclusively. */
export async function unmapHeld(disk: Disk, first: number, end: number): Promise<void> {
  const { pool } = disk;
  for (;;) {
    await pool.throttle();
    pool.assertWritable();
    const missing = missingForChange(pool, disk.liveRoot(), first, Math.min(FAN_OUT, end - first));
    if (missing.length > 0) await pool.pages.ensure(missing);
    else if (disk.gate.tryEnter()) break;
    else await disk.gate.opened();
  }
  try {
    await applyLeaf(disk, unmappings(disk, first, end), false);
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
