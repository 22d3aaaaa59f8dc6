/**
 * What a disk or copy may show after a cut: by sector the numbers of the writes that may be there,
 * the last durable one and all later ones.
 */
import { expect } from 'vitest';
import { isStorageError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import type { Disk } from '../../src/disk/disk.ts';
import type { Engine } from './engine.ts';
import { SECTOR, sectorOf } from './history.ts';

export const SIZE = 16 * KIB;
export const SECTORS = SIZE / SECTOR;

/** What a disk or copy may hold: by sector the numbers it may show, 0 for zeros. */
export type Contents = Map<number, number[]>;

export interface Expected {
  readonly kind: 'disk' | 'copy';
  contents: Contents;
  /** A restore is under way that puts these in their place, all at once. */
  restored?: Contents | undefined;
  /** It was answered that it is there. */
  made: boolean;
  /** A deletion was called. */
  mayBeGone: boolean;
  capacities: number[];
}

export function mark(contents: Contents, first: number, count: number, number: number): void {
  for (let sector = first; sector < first + count; sector += 1) {
    contents.set(sector, [...(contents.get(sector) ?? [0]), number]);
  }
}

/** All of it is durable now. */
export function settle(contents: Contents): void {
  for (const [sector, numbers] of contents) contents.set(sector, numbers.slice(-1));
}

export function latest(contents: Contents): Contents {
  return new Map([...contents].map(([sector, numbers]) => [sector, numbers.slice(-1)]));
}

/** Why a disk or copy cannot show these bytes, or undefined. */
export function explain(bytes: Buffer, contents: Contents): string | undefined {
  for (let sector = 0; sector < bytes.length / SECTOR; sector += 1) {
    const found = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    const number = found.readUInt32LE(0);
    const allowed = contents.get(sector) ?? [0];
    const wanted = number === 0 ? Buffer.alloc(SECTOR) : sectorOf(0, number);
    if (!allowed.includes(number) || !found.equals(wanted)) {
      return `sector ${sector} shows ${number}, not ${allowed.join(' ')}`;
    }
  }
  return undefined;
}

/** Writes one sector into each block that is not mapped and looks at the rest of it. */
export async function touchHoles(disk: Disk): Promise<void> {
  const { runs } = await disk.allocatedRuns(0, 1000, false);
  const mapped = new Set(
    runs.flatMap(({ block, length }) => Array.from({ length }, (_, index) => block + index)),
  );
  for (let block = 0; (block + 1) * SIZE <= disk.capacityBytes; block += 1) {
    if (mapped.has(block)) continue;
    const wanted = Buffer.alloc(SIZE);
    sectorOf(0, 1).copy(wanted, 5 * SECTOR);
    try {
      await disk.write(block * SIZE + 5 * SECTOR, sectorOf(0, 1));
    } catch (error) {
      if (isStorageError(error, 'POOL_FULL')) return;
      throw error;
    }
    const found = Buffer.alloc(SIZE);
    await disk.read(block * SIZE, found);
    expect(found.equals(wanted)).toBe(true);
  }
}

/** A poisoned pool reads and does nothing else. */
export async function expectOnlyReads(engine: Engine): Promise<void> {
  const poisoned = { code: 'POOL_POISONED' };
  for (const pool of engine.pools.list()) {
    if (pool.poison === undefined) continue;
    await expect(pool.flush()).rejects.toMatchObject(poisoned);
    for (const disk of engine.disks.list()) {
      if (disk.state === 'fenced') continue;
      await expect(disk.write(0, Buffer.alloc(1))).rejects.toMatchObject(poisoned);
      await disk.read(0, Buffer.alloc(disk.capacityBytes));
    }
  }
}

/** What the disk shows now is what it may show. */
export async function learn(disk: Disk, contents: Contents): Promise<void> {
  const bytes = Buffer.alloc(disk.capacityBytes);
  await disk.read(0, bytes);
  for (const [sector, numbers] of contents) {
    if ((sector + 1) * SECTOR > bytes.length) continue;
    const shown = bytes.readUInt32LE(sector * SECTOR);
    if (numbers.at(-1) !== shown) contents.set(sector, [...numbers, shown]);
  }
}

/** Whether it is refused for want of room. */
export async function isFull(done: Promise<unknown>): Promise<boolean> {
  try {
    await done;
    return false;
  } catch (error) {
    if (!isStorageError(error, 'POOL_FULL')) throw error;
    return true;
  }
}
