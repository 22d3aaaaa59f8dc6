/**
 * Examines one segment of an image, from whatever it was read: which blocks are good, which lost.
 *
 * How: the head is checked, then each block against its CRC-32. If the head is damaged its blocks
 * are lost, since nothing proves them; where they belonged is taken from the table.
 *
 * Invariants:
 *  1. A block that is not in `bad` matched its checksum, and its place is proven by a CRC.
 *  2. Places of good blocks ascend over the whole image and lie on the disk.
 */
import { isZero } from '../base/bytes.ts';
import { crc32 } from '../base/checksum.ts';
import { StorageError } from '../base/errors.ts';
import { LossList } from './damage.ts';
import type { ImageProblem, LostRange } from './damage.ts';
import { bareHeadBytes } from './format.ts';
import type { ImageFrame } from './format.ts';
import { decodeSegmentHead } from './segment.ts';
import { checkSourceBlocks } from './table.ts';

/** A segment as a reader gives it. All arrays are indexed by X - firstBlock. */
export interface ImageSegment {
  readonly segment: number;
  /** First X. */
  readonly firstBlock: number;
  /** A of each block; NaN where it is not known (then the block is bad). */
  readonly sourceBlocks: Float64Array;
  readonly checksums: Uint32Array;
  /** The blocks in X order, valid until the next segment is asked for. */
  readonly data: Uint8Array;
  /** Blocks that must not be used. Empty unless damage is skipped. */
  readonly bad: ReadonlySet<number>;
  /** The logical bytes of the bad blocks. */
  readonly damaged: readonly LostRange[];
}

/** What else is known of the places of a segment's blocks. */
export interface KnownPlaces {
  /** From the table, for each block: its A, or NaN where the page is damaged or not at hand. */
  readonly table: Float64Array;
  /** Highest A known for an X before this segment, or -1. */
  readonly before: number;
  /** Lowest A known for an X after this segment, or the number of blocks of the disk. */
  readonly after: number;
}

export interface ExaminedSegment {
  readonly segment: ImageSegment;
  readonly problem: ImageProblem | undefined;
  readonly headIsGood: boolean;
}

/**
 * @param bytes the whole segment
 * @throws IMAGE_INVALID if checked structures contradict each other (a crafted image)
 */
export function examineSegment(
  frame: ImageFrame,
  index: number,
  bytes: Uint8Array,
  places: KnownPlaces,
): ExaminedSegment {
  const { layout } = frame;
  const headBytes = layout.segmentHeadBytes(index);
  const entries = decodeSegmentHead(frame, index, bytes);
  const data = bytes.subarray(headBytes, layout.segmentBytes(index));
  const count = layout.segmentBlocks(index);
  const firstBlock = layout.segmentFirstBlock(index);
  const blank = { sourceBlocks: places.table, checksums: new Uint32Array(count) };
  const { sourceBlocks, checksums } = entries ?? blank;
  let bad = new Set<number>(Array.from({ length: count }, (_, block) => block));
  if (entries !== undefined) {
    checkSourceBlocks(frame, firstBlock, sourceBlocks, places.before);
    checkAgainstTable(index, sourceBlocks, places.table);
    bad = mismatches(data, checksums, layout.blockSizeBytes);
  }
  const damaged = lostRanges(frame, firstBlock, sourceBlocks, bad, places);
  const segment = { segment: index, firstBlock, sourceBlocks, checksums, data, bad, damaged };
  const padding = bytes.subarray(bareHeadBytes(count), headBytes);
  const message = describe(index, entries !== undefined, bad.size, isZero(padding));
  const problem: ImageProblem | undefined =
    message === undefined
      ? undefined
      : {
          code: 'IMAGE_DAMAGED',
          message,
          imageOffset: layout.segmentOffset(index),
          length: layout.segmentBytes(index),
          lost: damaged,
        };
  return { segment, problem, headIsGood: entries !== undefined };
}

function describe(
  index: number,
  headIsGood: boolean,
  badBlocks: number,
  paddingIsZero: boolean,
): string | undefined {
  if (!headIsGood) return `the head of segment ${index} is damaged: its blocks are lost`;
  if (badBlocks > 0) return `${badBlocks} blocks of segment ${index} are damaged (CRC)`;
  if (!paddingIsZero) return `the padding of segment ${index} is damaged; no data is lost`;
  return undefined;
}

function checkAgainstTable(index: number, blocks: Float64Array, table: Float64Array): void {
  const differs = blocks.findIndex((block, at) => {
    const inTable = table[at];
    return inTable !== undefined && !Number.isNaN(inTable) && inTable !== block;
  });
  if (differs < 0) return;
  throw new StorageError(
    'IMAGE_INVALID',
    `segment ${index} and the correspondence table disagree about block ${differs} of it`,
  );
}

function mismatches(data: Uint8Array, checksums: Uint32Array, blockSizeBytes: number): Set<number> {
  const bad = new Set<number>();
  checksums.forEach((checksum, index) => {
    const start = index * blockSizeBytes;
    if (crc32(data.subarray(start, start + blockSizeBytes)) !== checksum) bad.add(index);
  });
  return bad;
}

function lostRanges(
  frame: ImageFrame,
  firstBlock: number,
  sourceBlocks: Float64Array,
  bad: ReadonlySet<number>,
  places: KnownPlaces,
): LostRange[] {
  const losses = new LossList(frame, Math.max(places.before, firstBlock - 1));
  sourceBlocks.forEach((block, index) => {
    losses.next(block, bad.has(index));
  });
  losses.end(places.after);
  return losses.ranges;
}
