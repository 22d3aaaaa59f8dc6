/**
 * Pages of zero ranges in an incremental image: where the copy has holes that its base may not
 * have, 255 to a page.
 *
 * A list of ranges is a Float64Array of pairs: first place, number of blocks.
 *
 * Invariants:
 *  1. Ranges ascend, are not empty, do not touch each other, and lie on the disk: a set of places
 *     has one list.
 *  2. A page holds its own number and its image's tag, so a right page in a wrong place fails.
 *
 * Bytes: docs/format/image.md, "Zero ranges".
 */
import { assert } from '../base/assert.ts';
import { asBuffer, isZero, readU64, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { Fault } from './damage.ts';
import { UNIT_BYTES, ZERO_PAGE_RANGES } from './format.ts';
import type { ImageFrame } from './format.ts';

const SALT = 'spindle image zeros';
const RANGE_BYTES = 16;
const TAG_AT = ZERO_PAGE_RANGES * RANGE_BYTES;
const TAG_BYTES = 8;
const PAGE_AT = TAG_AT + TAG_BYTES;
const CRC_AT = PAGE_AT + 4;

/** Writes one page into `into` (4096 bytes) from its ranges. */
export function encodeZeroPage(
  frame: ImageFrame,
  page: number,
  ranges: Float64Array,
  into: Uint8Array,
): void {
  const count = frame.layout.zeroPageRanges(page);
  assert(ranges.length === 2 * count, `ranges of zero page ${page}`);
  const bytes = asBuffer(into);
  ranges.forEach((value, index) => {
    writeU64(bytes, value, index * 8);
  });
  bytes.fill(0, count * RANGE_BYTES, TAG_AT);
  frame.imageIdBytes.copy(bytes, TAG_AT, 0, TAG_BYTES);
  bytes.writeUInt32LE(page, PAGE_AT);
  bytes.writeUInt32LE(saltedCrc32(SALT, bytes.subarray(0, CRC_AT)), CRC_AT);
}

/**
 * The ranges on a page, or why it must not be used.
 *
 * @param before where the last range of an earlier page ends, or -1
 */
export function decodeZeroPage(
  frame: ImageFrame,
  page: number,
  from: Uint8Array,
  before: number,
): Float64Array | Fault {
  const bytes = asBuffer(from).subarray(0, UNIT_BYTES);
  if (bytes.readUInt32LE(CRC_AT) !== saltedCrc32(SALT, bytes.subarray(0, CRC_AT))) {
    return new Fault('IMAGE_DAMAGED', `page ${page} of the zero ranges is damaged`);
  }
  const invalid = (why: string): Fault =>
    new Fault('IMAGE_INVALID', `page ${page} of the zero ranges ${why}`);
  const tag = frame.imageIdBytes.subarray(0, TAG_BYTES);
  if (bytes.readUInt32LE(PAGE_AT) !== page) return invalid('is another page');
  if (!bytes.subarray(TAG_AT, PAGE_AT).equals(tag)) return invalid('is of another image');
  const count = frame.layout.zeroPageRanges(page);
  if (!isZero(bytes.subarray(count * RANGE_BYTES, TAG_AT))) return invalid('goes on too far');
  const ranges = new Float64Array(2 * count);
  for (let index = 0; index < ranges.length; index += 1) {
    ranges[index] = readU64(bytes, index * 8) ?? Infinity;
  }
  const problem = rangesProblem(frame, ranges, before);
  return problem === undefined ? ranges : invalid(`makes no sense: ${problem}`);
}

/**
 * What is against invariant 1 in a list of ranges.
 *
 * @param before where an earlier range ends, or -1
 */
export function rangesProblem(
  frame: ImageFrame,
  ranges: Float64Array,
  before: number,
): string | undefined {
  let last = before;
  for (let index = 0; index < ranges.length; index += 2) {
    const [first = NaN, length = NaN] = ranges.subarray(index, index + 2);
    if (!(first > last)) return `range at ${first} is out of order`;
    if (!(length > 0)) return `range at ${first} is empty`;
    last = first + length;
    if (!(last <= frame.diskBlocks)) return `range at ${first} leaves the disk`;
  }
  return undefined;
}
