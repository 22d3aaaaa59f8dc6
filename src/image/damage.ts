/**
 * What is wrong with an image, in ranges of the disk: which logical bytes a damage costs.
 *
 * Invariants:
 *  1. A range never reaches beyond the disk's capacity.
 *  2. Every block that cannot be restored lies in a reported range; an exact range holds nothing
 *     else.
 */
import type { ErrorCode } from '../base/errors.ts';
import { StorageError } from '../base/errors.ts';
import type { ImageFrame } from './format.ts';

/** Logical bytes of the disk that the image can no longer give. */
export interface LostRange {
  readonly sourceOffset: number;
  readonly length: number;
  /** False if both records of a block's place are damaged: it lay somewhere in this range. */
  readonly exact: boolean;
}

/** One damaged or missing structure of an image. */
export interface ImageProblem {
  readonly code: ErrorCode;
  readonly message: string;
  /** Where in the image. */
  readonly imageOffset: number;
  readonly length: number;
  /** What of the disk it costs; empty if nothing. */
  readonly lost: readonly LostRange[];
}

/** `fail`: the first problem is thrown. `skip`: problems are reported, the rest is given. */
export type OnDamage = 'fail' | 'skip';

export function problemError(problem: ImageProblem): StorageError {
  const { imageOffset, length, lost } = problem;
  return new StorageError(problem.code, problem.message, { imageOffset, length, damaged: lost });
}

/** The A range [first, end) in bytes, cut at the capacity. */
export function lostBlocks(
  frame: ImageFrame,
  first: number,
  end: number,
  exact: boolean,
): LostRange {
  const { blockSizeBytes, capacityBytes } = frame.facts;
  const sourceOffset = first * blockSizeBytes;
  const length = Math.min(end * blockSizeBytes, capacityBytes) - sourceOffset;
  return { sourceOffset, length, exact };
}

/** Adds a range behind the last one, joined with it where they touch. Ranges ascend. */
export function addRange(ranges: LostRange[], range: LostRange): void {
  const last = ranges.at(-1);
  const touches = last !== undefined && last.sourceOffset + last.length >= range.sourceOffset;
  if (last === undefined || !touches || last.exact !== range.exact) {
    ranges.push(range);
    return;
  }
  const end = Math.max(last.sourceOffset + last.length, range.sourceOffset + range.length);
  ranges[ranges.length - 1] = { ...last, length: end - last.sourceOffset };
}
