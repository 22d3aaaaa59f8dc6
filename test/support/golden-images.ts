/**
 * The golden images of format version 1: what is in them. Their bytes are in test/vectors and
 * never change; a new version of the format gets new ones beside them. Each has its own copy.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { labelledBlock, MemoryCopy } from './image-source.ts';
import type { MemoryCopyOptions } from './image-source.ts';

const KIB = 1024;

/** `count` places; every hundredth one is left out. */
function placesWithGaps(count: number): number[] {
  return Array.from({ length: count }, (_, x) => x + Math.floor(x / 100));
}

function copyOf(
  number: number,
  blockKib: number,
  capacityBytes: number,
  places: readonly number[],
  more: Partial<MemoryCopyOptions> = {},
): MemoryCopy {
  return new MemoryCopy({
    copyId: `0193e4c4-0000-7000-8000-${String(number).padStart(12, '0')}`,
    diskId: `0193e4c0-0000-7000-8000-${String(number).padStart(12, '0')}`,
    diskName: `golden-${number}`,
    generation: number,
    blockSizeBytes: blockKib * KIB,
    capacityBytes,
    places,
    ...more,
  });
}

/** The worked example of docs/format/image.md. The last block reaches beyond the capacity. */
function small(): MemoryCopy {
  const blockSizeBytes = 16 * KIB;
  return new MemoryCopy({
    places: [1, 2, 5],
    blockSizeBytes,
    capacityBytes: 5 * blockSizeBytes + 512,
  });
}

/** A disk that holds the small image from block 2 on. */
function nested(): MemoryCopy {
  const inner = goldenImage('image-v1-small');
  return copyOf(8, 16, 12 * 16 * KIB, [0, 2, 3, 4, 5, 9], {
    block: (place, size) =>
      place >= 2 && place < 6
        ? inner.subarray((place - 2) * size, (place - 1) * size)
        : labelledBlock(place, size),
  });
}

/** One block was rewritten, one is new on the grown disk, and one became a hole. */
function incremental(): MemoryCopy {
  const { copyId, diskId, generation } = small().facts;
  return copyOf(9, 16, 8 * 16 * KIB, [2, 6], {
    diskId,
    base: { copyId, generation },
    zeroRanges: [[4, 2]],
    copyBlocks: 3,
    block: (place, size) => labelledBlock(1000 + place, size),
  });
}

/** Two pages of the table, two of zero ranges, two segments; the disk has grown. */
function incrementalPages(): MemoryCopy {
  const { copyId, diskId, generation } = goldenCopy('image-v1-two-segments').facts;
  return copyOf(10, 16, 1500 * 16 * KIB, placesWithGaps(515), {
    diskId,
    base: { copyId, generation },
    zeroRanges: Array.from({ length: 300 }, (_, index) => [530 + 3 * index, 2] as const),
    block: (place, size) => labelledBlock(1000 + place, size),
  });
}

/** The disk is as it was at the freeze of the base. */
function incrementalUntouched(): MemoryCopy {
  const { diskId, capacityBytes, copyId } = incremental().facts;
  const base = { copyId, generation: 9 };
  return copyOf(11, 16, capacityBytes, [], { diskId, base, copyBlocks: 3 });
}

const makers = {
  'image-v1-small': small,
  'image-v1-empty': () => copyOf(1, 16, 2 ** 40, []),
  /** One sector, and the longest name, the highest generation and the last time there can be. */
  'image-v1-one-sector': () =>
    copyOf(2, 16, 512, [0], {
      diskName: 'ä'.repeat(127),
      generation: Number.MAX_SAFE_INTEGER,
      frozenAtMs: 8.64e15,
    }),
  /** A table page that is just full, and one more. */
  'image-v1-510-blocks': () => copyOf(3, 16, 600 * 16 * KIB, placesWithGaps(510)),
  'image-v1-511-blocks': () => copyOf(4, 16, 600 * 16 * KIB, placesWithGaps(511)),
  /** Two segments, the second of three blocks, and two table pages. */
  'image-v1-two-segments': () => copyOf(5, 16, 600 * 16 * KIB, placesWithGaps(515)),
  'image-v1-64-kib': () => copyOf(6, 64, 140 * 64 * KIB - 512, [...placesWithGaps(129), 139]),
  'image-v1-1-mib': () => copyOf(7, 1024, 2 ** 40 - 512, [...placesWithGaps(9), 2 ** 20 - 1]),
  'image-v1-nested': nested,
  'image-v1-incremental': incremental,
  'image-v1-incremental-pages': incrementalPages,
  'image-v1-incremental-untouched': incrementalUntouched,
} as const;

export type GoldenName = keyof typeof makers;

export const goldenNames: readonly GoldenName[] = [
  'image-v1-small',
  'image-v1-empty',
  'image-v1-one-sector',
  'image-v1-510-blocks',
  'image-v1-511-blocks',
  'image-v1-two-segments',
  'image-v1-64-kib',
  'image-v1-1-mib',
  'image-v1-nested',
];

/** These need the images of their bases. */
export const incrementalNames: readonly GoldenName[] = [
  'image-v1-incremental',
  'image-v1-incremental-pages',
  'image-v1-incremental-untouched',
];

/** Each restores the copy of the last one; the disk of `chainDisk`. */
export const goldenChains: readonly (readonly GoldenName[])[] = [
  ['image-v1-small', 'image-v1-incremental'],
  ['image-v1-small', 'image-v1-incremental', 'image-v1-incremental-untouched'],
  ['image-v1-two-segments', 'image-v1-incremental-pages'],
];

/** Images that no writer of this version makes, and every reader must read as the other one. */
export const readableNames = { 'image-v1-read-only-compatible': 'image-v1-small' } as const;

export type StoredName = GoldenName | keyof typeof readableNames;

export function goldenCopy(name: GoldenName): MemoryCopy {
  return makers[name]();
}

/** The stored bytes. */
export function goldenImage(name: StoredName): Buffer {
  const path = join(import.meta.dirname, '..', 'vectors', `${name}.spindle`);
  return existsSync(path) ? readFileSync(path) : gunzipSync(readFileSync(`${path}.gz`));
}

/** The disk that the last copy of a chain was taken of. */
export function chainDisk(names: readonly GoldenName[]): Buffer {
  let disk = Buffer.alloc(0);
  for (const name of names) {
    const copy = goldenCopy(name);
    const { facts, places, zeroRanges } = copy;
    const size = facts.blockSizeBytes;
    const before = disk.subarray(0, facts.capacityBytes);
    disk = Buffer.concat([before, Buffer.alloc(facts.capacityBytes - before.length)]);
    for (const [first, blocks] of zeroRanges) disk.fill(0, first * size, (first + blocks) * size);
    places.forEach((place, x) => copy.data(x).copy(disk, place * size));
  }
  return disk;
}

/** The disk that the image was taken of: the blocks at their places, zeros between. */
export function goldenDisk(name: GoldenName): Buffer {
  const copy = goldenCopy(name);
  const { capacityBytes, blockSizeBytes } = copy.facts;
  const disk = Buffer.alloc(capacityBytes);
  copy.places.forEach((place, x) => {
    copy.data(x).copy(disk, place * blockSizeBytes);
  });
  return disk;
}
