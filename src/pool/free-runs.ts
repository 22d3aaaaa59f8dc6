/**
 * Finds consecutive free blocks in a group's bits. Pure.
 *
 * A run does not go on into the next group: 32768 blocks are more than anyone asks for at once.
 */
import { firstClearBit, testBit } from '../base/bitmap.ts';
import { defined } from '../base/assert.ts';

/** Indexes `from` … `end` - 1 of a group's blocks. */
export interface GroupPart {
  readonly group: number;
  readonly from: number;
  readonly end: number;
}

export interface FreeRun {
  first: number;
  length: number;
}

const GROUP_BLOCKS = 4096 * 8;
const WORD_BITS = 32;

/**
 * Looks for `count` clear bits in a row, and puts the longest run that it meets into `best` if it
 * is longer than what is there. Stops at the first that is long enough.
 *
 * @param used bits of blocks in use
 * @param held bits of blocks that cannot be handed out for another reason
 */
export function findRun(
  used: Uint32Array,
  held: Uint32Array | undefined,
  { group, from, end }: GroupPart,
  count: number,
  best: FreeRun,
): void {
  for (let at = from; at < end && best.length < count;) {
    const first = firstFree(used, held, at, end);
    if (first < 0) return;
    const stop = endOfRun(used, held, first, Math.min(end, first + count));
    if (stop - first > best.length) {
      best.first = group * GROUP_BLOCKS + first;
      best.length = stop - first;
    }
    at = stop + 1;
  }
}

function firstFree(
  used: Uint32Array,
  held: Uint32Array | undefined,
  from: number,
  end: number,
): number {
  for (let at = from; at < end;) {
    const index = firstClearBit(used, at, end);
    if (index < 0 || held === undefined || !testBit(held, index)) return index;
    const next = firstClearBit(held, index, end);
    if (next < 0) return -1;
    at = next;
  }
  return -1;
}

/** The first index from `from` on that is not free, at most `end`. Whole words at a time. */
function endOfRun(
  used: Uint32Array,
  held: Uint32Array | undefined,
  from: number,
  end: number,
): number {
  let at = from;
  while (at < end) {
    const word = at / WORD_BITS;
    const isWhole = Number.isInteger(word) && at + WORD_BITS <= end;
    if (isWhole && defined(used[word], 'word') === 0 && (held?.[word] ?? 0) === 0) {
      at += WORD_BITS;
      continue;
    }
    if (testBit(used, at) || (held !== undefined && testBit(held, at))) return at;
    at += 1;
  }
  return at;
}
