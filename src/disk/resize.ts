/**
 * Changes a disk's capacity. Growing is a number; shrinking first unmaps what lies beyond.
 *
 * Invariant: bytes between the capacity and the end of its last block are zero, so that growing
 * again reads zeros.
 */
import { StorageError } from '../base/errors.ts';
import { blocksFor, roundUp } from '../base/units.ts';
import { leafEnd } from './allocation-table.ts';
import { unmapHeld } from './discard.ts';
import type { Disk } from './disk.ts';
import { nextMapped } from './table-walk.ts';
import { writeHeld } from './write.ts';

/**
 * One at a time for each disk.
 *
 * @param discard allows a shrink to lose data
 * @throws DISK_HAS_DATA_BEYOND; POOL_FULL if the last block must move and cannot
 */
export async function resizeDisk(
  disk: Disk,
  capacityBytes: number,
  discard: boolean,
  apply: () => void,
): Promise<void> {
  const old = disk.capacityBytes;
  if (capacityBytes >= old) {
    disk.record.capacityBytes = capacityBytes;
    apply();
    return;
  }
  const size = disk.blockSizeBytes;
  const first = Math.floor(capacityBytes / size);
  const admitted = disk.admission();
  const hold = await disk.lock.acquire(first, blocksFor(old, size), true);
  try {
    admitted();
    if (!discard) await assertNoDataBeyond(disk, capacityBytes);
    // first, because it may need a block: a full pool changes nothing
    await zeroTail(disk, capacityBytes, old);
    await unmapBeyond(disk, blocksFor(capacityBytes, size), blocksFor(old, size), admitted);
    await disk.gate.close();
    try {
      admitted();
      disk.record.capacityBytes = capacityBytes;
      apply();
    } finally {
      disk.gate.open();
    }
  } finally {
    disk.lock.release(hold);
  }
}

/** Mapped blocks beyond count as data; so do bytes that are not zero in the last block. */
async function assertNoDataBeyond(disk: Disk, capacityBytes: number): Promise<void> {
  const size = disk.blockSizeBytes;
  const beyond = await nextMapped(disk.pool, () => disk.liveRoot(), blocksFor(capacityBytes, size));
  const end = Math.min(roundUp(capacityBytes, size), disk.capacityBytes);
  const tail = new Uint8Array(end - capacityBytes);
  await disk.read(capacityBytes, tail);
  if (beyond === undefined && tail.every((byte) => byte === 0)) return;
  throw new StorageError(
    'DISK_HAS_DATA_BEYOND',
    `disk ${disk.name} has data beyond ${capacityBytes} bytes; discard: true loses it`,
    { disk: disk.name, capacityBytes },
  );
}

async function unmapBeyond(
  disk: Disk,
  first: number,
  end: number,
  admitted: () => void,
): Promise<void> {
  let at = await nextMapped(disk.pool, () => disk.liveRoot(), first);
  while (at !== undefined && at < end) {
    const next = leafEnd(at);
    await unmapHeld(disk, { first: at, end: Math.min(end, next), admitted });
    at = await nextMapped(disk.pool, () => disk.liveRoot(), next);
  }
}

async function zeroTail(disk: Disk, capacityBytes: number, old: number): Promise<void> {
  const size = disk.blockSizeBytes;
  const end = Math.min(roundUp(capacityBytes, size), old);
  const logical = Math.floor(capacityBytes / size);
  if (end === capacityBytes) return;
  const mapped = await nextMapped(disk.pool, () => disk.liveRoot(), logical);
  if (mapped === logical) await writeHeld(disk, capacityBytes, new Uint8Array(end - capacityBytes));
}
