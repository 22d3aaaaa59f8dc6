/**
 * Pages of the correspondence table in an image (FIG. 11): the A of each X, 510 to a page.
 *
 * Invariants:
 *  1. A is strictly ascending in X, so A ≥ X, and every A lies on the disk.
 *  2. A page holds its own number and its image's tag, so a right page in a wrong place fails.
 *
 * Bytes: docs/format/image.md, "Correspondence table".
 */
import { assert, defined } from '../base/assert.ts';
import { asBuffer, isZero, readU64, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { StorageError } from '../base/errors.ts';
import { TABLE_PAGE_ENTRIES, UNIT_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';

const SALT = 'spindle image table';
const ENTRIES_BYTES = TABLE_PAGE_ENTRIES * 8;
const TAG_AT = ENTRIES_BYTES;
const TAG_BYTES = 8;
const PAGE_AT = TAG_AT + TAG_BYTES;
const CRC_AT = PAGE_AT + 4;

/** Writes one page into `into` (4096 bytes) from the A of its entries. */
export function encodeTablePage(
  frame: ImageFrame,
  page: number,
  sourceBlocks: Float64Array,
  into: Uint8Array,
): void {
  assert(sourceBlocks.length === frame.layout.pageEntries(page), `entries of table page ${page}`);
  const bytes = asBuffer(into);
  sourceBlocks.forEach((block, index) => {
    writeU64(bytes, block, index * 8);
  });
  bytes.fill(0, sourceBlocks.length * 8, TAG_AT);
  frame.imageIdBytes.copy(bytes, TAG_AT, 0, TAG_BYTES);
  bytes.writeUInt32LE(page, PAGE_AT);
  bytes.writeUInt32LE(saltedCrc32(SALT, bytes.subarray(0, CRC_AT)), CRC_AT);
}

/**
 * The A of a page's entries, or undefined if the page is damaged or belongs elsewhere.
 *
 * @throws IMAGE_INVALID if the page is whole but says what cannot be (a crafted image)
 */
export function decodeTablePage(
  frame: ImageFrame,
  page: number,
  from: Uint8Array,
): Float64Array | undefined {
  const bytes = asBuffer(from).subarray(0, UNIT_BYTES);
  const crc = saltedCrc32(SALT, bytes.subarray(0, CRC_AT));
  if (bytes.readUInt32LE(CRC_AT) !== crc || bytes.readUInt32LE(PAGE_AT) !== page) return undefined;
  const tag = frame.imageIdBytes.subarray(0, TAG_BYTES);
  if (!bytes.subarray(TAG_AT, PAGE_AT).equals(tag)) return undefined;
  const count = frame.layout.pageEntries(page);
  const sourceBlocks = new Float64Array(count);
  for (let index = 0; index < count; index += 1) {
    sourceBlocks[index] = readU64(bytes, index * 8) ?? Infinity;
  }
  checkSourceBlocks(frame, page * TABLE_PAGE_ENTRIES, sourceBlocks, -1);
  if (!isZero(bytes.subarray(count * 8, TAG_AT))) {
    throw new StorageError('IMAGE_INVALID', `table page ${page} has entries beyond the last block`);
  }
  return sourceBlocks;
}

/**
 * Asserts invariant 1 of decoded blocks, the first of which is X = `firstBlock`.
 *
 * @param before an A that must be below all of them, or -1
 * @throws IMAGE_INVALID
 */
export function checkSourceBlocks(
  frame: ImageFrame,
  firstBlock: number,
  sourceBlocks: Float64Array,
  before: number,
): void {
  let last = Math.max(before, firstBlock - 1);
  for (const block of sourceBlocks) {
    if (!(block > last && block < frame.diskBlocks)) {
      throw new StorageError('IMAGE_INVALID', `block ${block} is out of order or off the disk`, {
        copyBlock: firstBlock,
      });
    }
    last = block;
  }
}

/** The last of ascending blocks. */
export function lastOf(sourceBlocks: Float64Array): number {
  return defined(sourceBlocks.at(-1), 'last block');
}
