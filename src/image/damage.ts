/**
 * What is wrong with an image, and what of the disk it costs.
 *
 * Invariants:
 *  1. A lost range never reaches beyond the disk's capacity.
 *  2. Every block that cannot be restored lies in a reported range; an exact range holds nothing
 *     else. If both records of a block's place are damaged, it lay between the nearest known ones.
 *     (If table and heads contradict each other, which is reported, the ranges may be wrong.)
 *  3. Lists are bounded (MAX_RANGES), whatever the image claims.
 *
 * Rules: docs/format/image.md, "Lost ranges".
 */
import type { ErrorCode } from '../base/errors.ts';
import { StorageError } from '../base/errors.ts';
import type { ImageFrame } from './format.ts';

/** Ranges kept in one list; what follows widens the last one. */
const MAX_RANGES = 65536;

/** Why a structure of an image cannot be used as it stands. */
export class Fault {
  readonly code: 'IMAGE_DAMAGED' | 'IMAGE_INVALID' | 'IMAGE_TRUNCATED';
  readonly message: string;

  constructor(code: Fault['code'], message: string) {
    this.code = code;
    this.message = message;
  }
}

/** Logical bytes of the disk that the image can no longer give. */
export interface LostRange {
  readonly sourceOffset: number;
  readonly length: number;
  /** False if the lost blocks lay somewhere in this range, which also holds others. */
  readonly exact: boolean;
}

/** One damaged or missing part of an image. */
export interface ImageProblem {
  readonly code: ErrorCode;
  readonly message: string;
  /** Where in the image. */
  readonly imageOffset: number;
  readonly length: number;
  /** What of the disk it costs; empty if nothing. */
  readonly lost: readonly LostRange[];
  /** The copy whose image it is, if several are read as a chain. */
  readonly copyId?: string;
}

/** `fail`: the first problem is thrown. `skip`: problems are reported, the rest is given. */
export type OnDamage = 'fail' | 'skip';

export type OnProblem = (problem: ImageProblem) => void;

export function problemError(problem: ImageProblem): StorageError {
  const { imageOffset, length, lost, copyId } = problem;
  const details = {
    imageOffset,
    length,
    damaged: lost,
    ...(copyId === undefined ? {} : { copyId }),
  };
  return new StorageError(problem.code, problem.message, details);
}

/**
 * Adds a range at or behind the end of the list, joined with the last one where they touch. One
 * that begins before the last one (a crafted image) widens it.
 */
export function addRange(ranges: LostRange[], range: LostRange): void {
  const last = ranges.at(-1);
  const end = range.sourceOffset + range.length;
  const touches =
    last?.exact === range.exact && last.sourceOffset + last.length >= range.sourceOffset;
  if (last === undefined || (!touches && ranges.length < MAX_RANGES)) {
    ranges.push(range);
    return;
  }
  const sourceOffset = Math.min(last.sourceOffset, range.sourceOffset);
  const length = Math.max(last.sourceOffset + last.length, end) - sourceOffset;
  const exact = last.exact && touches && sourceOffset === last.sourceOffset;
  ranges[ranges.length - 1] = { sourceOffset, length, exact };
}

/** The bytes of places `first` … `end` - 1, cut at the capacity. */
export function rangeOf(frame: ImageFrame, first: number, end: number, exact: boolean): LostRange {
  const { blockSizeBytes, capacityBytes } = frame.facts;
  const sourceOffset = first * blockSizeBytes;
  const length = Math.min(end * blockSizeBytes, capacityBytes) - sourceOffset;
  return { sourceOffset, length, exact };
}

/** Walks over blocks in X order and notes where on the disk the lost ones were. */
export class LossList {
  readonly ranges: LostRange[] = [];
  readonly #frame: ImageFrame;
  #before: number;
  #unknown = false;

  /** @param before highest A known for an X before the first block, or -1 */
  constructor(frame: ImageFrame, before: number) {
    this.#frame = frame;
    this.#before = before;
  }

  /**
   * The next block: its A, and whether it is lost. An A that is NaN, or not above those before
   * (a table that lies), is unknown; such a block is lost.
   */
  next(sourceBlock: number, isLost: boolean): void {
    if (!(sourceBlock > this.#before)) {
      this.#unknown = true;
      return;
    }
    this.end(sourceBlock);
    this.#before = sourceBlock;
    if (isLost) this.#add(sourceBlock, sourceBlock + 1, true);
  }

  /** @param after lowest A known for an X after the last block, or the disk's number of blocks */
  end(after: number): void {
    const first = this.#before + 1;
    if (this.#unknown && first < after) this.#add(first, after, false);
    else if (this.#unknown) this.#add(0, this.#frame.diskBlocks, false); // known places that lie
    this.#unknown = false;
  }

  #add(first: number, end: number, exact: boolean): void {
    addRange(this.ranges, rangeOf(this.#frame, first, end, exact));
  }
}
