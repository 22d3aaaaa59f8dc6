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
import type { Fault } from './damage.ts';
import { TABLE_PAGE_ENTRIES } from './format.ts';
import type { ImageFrame } from './format.ts';
import { decodeNumberPage, encodeNumberPage, type PageKind } from './number-page.ts';

const TABLE: PageKind = { name: 'correspondence table', salt: 'spindle image table' };

/** Writes one page into `into` (4096 bytes) from the A of its entries. */
export function encodeTablePage(
  frame: ImageFrame,
  page: number,
  sourceBlocks: Float64Array,
  into: Uint8Array,
): void {
  assert(sourceBlocks.length === frame.layout.pageEntries(page), `entries of table page ${page}`);
  encodeNumberPage(frame, TABLE, page, sourceBlocks, into);
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
  const count = frame.layout.pageEntries(page);
  return decodeNumberPage(frame, TABLE, page, from, count, (sourceBlocks) =>
    placesProblem(frame, page * TABLE_PAGE_ENTRIES, sourceBlocks, before),
  );
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
