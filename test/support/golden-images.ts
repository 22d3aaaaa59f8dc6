/**
 * The golden images of format version 1: what is in them. Their bytes are in test/vectors and
 * never change; a new version of the format gets new ones beside them.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { MemoryCopy } from './image-source.ts';

const blockSizeBytes = 16384;

/** The worked example of docs/format/image.md. The last block reaches beyond the capacity. */
const small = {
  places: [1, 2, 5],
  blockSizeBytes,
  capacityBytes: 5 * blockSizeBytes + 512,
};

/** Two segments, the second of three blocks, and two table pages. */
const twoSegments = {
  places: Array.from({ length: 515 }, (_, x) => x + Math.floor(x / 100)),
  blockSizeBytes,
  capacityBytes: 600 * blockSizeBytes,
};

export const goldenImages = {
  'image-v1-small': { ...small, file: 'image-v1-small.spindle' },
  'image-v1-empty': {
    places: [],
    blockSizeBytes,
    capacityBytes: 2 ** 40,
    file: 'image-v1-empty.spindle',
  },
  'image-v1-two-segments': { ...twoSegments, file: 'image-v1-two-segments.spindle.gz' },
} as const;

export type GoldenName = keyof typeof goldenImages;

export const goldenNames: readonly GoldenName[] = [
  'image-v1-small',
  'image-v1-empty',
  'image-v1-two-segments',
];

export function goldenCopy(name: GoldenName): MemoryCopy {
  return new MemoryCopy(goldenImages[name]);
}

/** The stored bytes. */
export function goldenImage(name: GoldenName): Buffer {
  const { file } = goldenImages[name];
  const stored = readFileSync(join(import.meta.dirname, '..', 'vectors', file));
  return file.endsWith('.gz') ? gunzipSync(stored) : stored;
}

/** The disk that the image was taken of: the blocks at their places, zeros between. */
export function goldenDisk(name: GoldenName): Buffer {
  const copy = goldenCopy(name);
  const disk = Buffer.alloc(copy.facts.capacityBytes);
  copy.places.forEach((place, x) => {
    copy.data(x).copy(disk, place * blockSizeBytes);
  });
  return disk;
}
