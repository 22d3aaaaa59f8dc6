/**
 * Pages of the correspondence table in an image (FIG. 11): the A of each X, 510 to a page.
 *
 * Invariants:
 *  1. A is strictly ascending in X and lies on the disk, so X ≤ A ≤ blocks of the disk - (n - X).
 *  2. A page holds its own number and its image's tag, so a right page in a wrong place fails.
 *
 * Bytes: docs/format/image.md, "Correspondence table".
 */
import { assert } from '../base/assert.ts';
import { asBuffer, isZero, readU64, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { Fault } from './damage.ts';
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
 * The A of a page's entries, or why it must not be used.
 *
 * @param before an A that must be below all of them (of an earlier page), or -1
 */
export function decodeTablePage(
  frame: ImageFrame,
  page: number,
  from: Uint8Array,
  before: number,
): Float64Array | Fault {
  const bytes = asBuffer(from).subarray(0, UNIT_BYTES);
  if (bytes.readUInt32LE(CRC_AT) !== saltedCrc32(SALT, bytes.subarray(0, CRC_AT))) {
    return new Fault('IMAGE_DAMAGED', `page ${page} of the correspondence table is damaged`);
  }
  const invalid = (why: string): Fault =>
    new Fault('IMAGE_INVALID', `page ${page} of the correspondence table ${why}`);
  const tag = frame.imageIdBytes.subarray(0, TAG_BYTES);
  if (bytes.readUInt32LE(PAGE_AT) !== page) return invalid('is another page');
  if (!bytes.subarray(TAG_AT, PAGE_AT).equals(tag)) return invalid('is of another image');
  const count = frame.layout.pageEntries(page);
  if (!isZero(bytes.subarray(count * 8, TAG_AT))) return invalid('goes on behind the last block');
  const sourceBlocks = new Float64Array(count);
  for (let index = 0; index < count; index += 1) {
    sourceBlocks[index] = readU64(bytes, index * 8) ?? Infinity;
  }
  const problem = placesProblem(frame, page * TABLE_PAGE_ENTRIES, sourceBlocks, before);
  return problem === undefined ? sourceBlocks : invalid(`makes no sense: ${problem}`);
}

/**
 * What is against invariant 1 in decoded blocks, the first of which is X = `firstBlock`.
 *
 * @param before an A that must be below all of them, or -1
 */
export function placesProblem(
  frame: ImageFrame,
  firstBlock: number,
  sourceBlocks: Float64Array,
  before: number,
): string | undefined {
  const room = frame.diskBlocks - frame.layout.usedBlocks;
  let last = Math.max(before, firstBlock - 1);
  let copyBlock = firstBlock;
  for (const block of sourceBlocks) {
    if (!(block > last)) return `place ${block} of block ${copyBlock} is out of order`;
    if (block > room + copyBlock) return `place ${block} of block ${copyBlock} is off the disk`;
    last = block;
    copyBlock += 1;
  }
  return undefined;
}
