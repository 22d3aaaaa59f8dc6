/**
 * What the engine's thread and a job worker say to each other.
 *
 * The engine starts a worker with one task. The worker calls back for what only the engine knows
 * (places of blocks, checksums) and tells how far it is; each call has a number and one answer.
 * It ends with `done` or `failed`. `abort` makes it stop at its next step.
 */
import type { PackedError } from '../base/packed-error.ts';
import type { ImageFacts } from '../image/format.ts';
import type { NeededMedium } from '../target/tape-drive-use.ts';
import type { TapePlaceFacts } from '../target/tape-place.ts';
import type { DriveFlow } from '../target/target.ts';

/** Where a target's bytes are; enough for a thread of its own to open it. */
export type TargetPlace = { readonly kind: 'directory'; readonly path: string } | TapePlaceFacts;

/** Pool files as a reader needs them: a stretch of blocks lies in one file. */
export interface PoolPlaces {
  readonly files: readonly string[];
  readonly extents: readonly {
    readonly firstBlock: number;
    readonly blocks: number;
    readonly file: number;
    readonly fileBlock: number;
  }[];
}

export type Task =
  | {
      readonly kind: 'backup';
      readonly target: TargetPlace;
      readonly name: string;
      /** Last confirmed offset. */
      readonly resumeFrom: number;
      readonly facts: ImageFacts;
      readonly pool: PoolPlaces;
      readonly manifest: Readonly<Record<string, unknown>>;
    }
  | {
      readonly kind: 'consolidate';
      readonly target: TargetPlace;
      readonly name: string;
      readonly resumeFrom: number;
      /** The chain, oldest first. */
      readonly from: readonly string[];
      readonly manifest: Readonly<Record<string, unknown>>;
    }
  | {
      readonly kind: 'verify';
      readonly target: TargetPlace;
      readonly name: string;
      /** Its chain, oldest first, itself the last; empty if that is not complete. */
      readonly chain: readonly string[];
    }
  | {
      readonly kind: 'read';
      readonly target: TargetPlace;
      /** The chain, oldest first. */
      readonly names: readonly string[];
      readonly fromSegment: number;
      /** Segments have to come in ascending places, whatever that costs. */
      readonly mustAscend: boolean;
      readonly onDamage: 'fail' | 'skip';
    };

/** What a worker asks; the answer's type follows the name. */
export interface Calls {
  /** A and P of `count` blocks from X on. */
  places: {
    arguments: readonly [first: number, count: number];
    answer: { readonly source: Float64Array; readonly physical: Uint32Array };
  };
  /** Zero ranges `first` … `first + count - 1`, pairs of first A and number of blocks. */
  zeroRanges: {
    arguments: readonly [first: number, count: number];
    answer: Float64Array;
  };
  known: { arguments: readonly [segment: number]; answer: Uint32Array | undefined };
  keep: { arguments: readonly [segment: number, checksums: Uint32Array]; answer: undefined };
  /**
   * Taken so far, how busy, and how the drive keeps up, if there is one; answered when the job may
   * go on (rate limit).
   */
  progress: {
    arguments: readonly [
      doneBytes: number,
      totalBytes: number,
      busy?: BusyMs,
      flow?: DriveFlow | undefined,
    ];
    answer: undefined;
  };
  /** Durable on the target. */
  confirmed: { arguments: readonly [offset: number]; answer: undefined };
  /** Answered when the drive may hold that cartridge. */
  medium: { arguments: readonly [needed: NeededMedium]; answer: undefined };
  /** The image's facts, before its first segment. */
  facts: { arguments: readonly [facts: ImageFacts]; answer: undefined };
  /** The buffer goes to the engine and comes back, to be used again. */
  segment: { arguments: readonly [segment: ReadSegment]; answer: Uint8Array<ArrayBuffer> };
}

export type CallName = keyof Calls;

/** Milliseconds that each stage was at work since the last time it was told. */
export type BusyMs = Readonly<Record<string, number>>;

/** One verified segment on its way to a disk; its buffer is the receiver's until it answers. */
export interface ReadSegment {
  readonly segment: number;
  readonly sourceBlocks: Float64Array;
  /** Indexes of blocks that must not be used. */
  readonly bad: readonly number[];
  readonly damaged: readonly { readonly sourceOffset: number; readonly length: number }[];
  readonly data: Uint8Array<ArrayBuffer>;
}

export type ToWorker =
  | { readonly kind: 'start'; readonly task: Task }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'refused'; readonly id: number; readonly error: PackedError }
  | { readonly kind: 'abort' };

export type FromWorker =
  | { readonly kind: 'call'; readonly id: number; readonly name: CallName; readonly args: unknown }
  | { readonly kind: 'done'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly error: PackedError };
