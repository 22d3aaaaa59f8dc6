/**
 * A small incremental image, and ways to craft one that looks right.
 */
import { writeU64 } from '../../src/base/bytes.ts';
import { saltedCrc32 } from '../../src/base/checksum.ts';
import { diskId, MemoryCopy } from './image-source.ts';

export const blockSize = 16384;
export const base = { copyId: diskId, generation: 3 };
export const places = [1, 2, 5];
export const zeroRanges = [
  [0, 1],
  [3, 2],
  [7, 4],
] as const;
export const tableAt = 4096;
export const zerosAt = 8192;
export const headAt = 12288;
export const trailerAt = headAt + 4096 + 3 * blockSize;

export function smallIncrement(): MemoryCopy {
  return new MemoryCopy({ places, base, zeroRanges, copyBlocks: 4 });
}

/** Makes the CRC of a page or header right. */
export function seal(bytes: Buffer, salt: string): Buffer {
  bytes.writeUInt32LE(saltedCrc32(salt, bytes.subarray(0, 4092)), 4092);
  return bytes;
}

/** The small increment with other zero ranges, as if they were right. */
export function withRanges(image: Buffer, ranges: readonly (readonly [number, number])[]): Buffer {
  const crafted = Buffer.from(image);
  const page = crafted.subarray(zerosAt, zerosAt + 4096).fill(0, 0, 4080);
  ranges.flat().forEach((value, index) => {
    writeU64(page, value, index * 8);
  });
  seal(page, 'spindle image zeros');
  return crafted;
}
