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
import type { Fault } from './damage.ts';
import type { ImageFrame } from './format.ts';
import { decodeNumberPage, encodeNumberPage, type PageKind } from './number-page.ts';

const ZEROS: PageKind = { name: 'zero ranges', salt: 'spindle image zeros' };

/** Writes one page into `into` (4096 bytes) from its ranges. */
export function encodeZeroPage(
  frame: ImageFrame,
  page: number,
  ranges: Float64Array,
  into: Uint8Array,
): void {
  const count = frame.layout.zeroPageRanges(page);
  assert(ranges.length === 2 * count, `ranges of zero page ${page}`);
  encodeNumberPage(frame, ZEROS, page, ranges, into);
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
  const count = 2 * frame.layout.zeroPageRanges(page);
  return decodeNumberPage(frame, ZEROS, page, from, count, (ranges) =>
    rangesProblem(frame, ranges, before),
  );
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
