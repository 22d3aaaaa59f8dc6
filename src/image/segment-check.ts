/**
 * Examines one segment of an image, from whatever it was read: which blocks are good, which lost.
 *
 * How: the head is checked, and made good again where it follows from the rest of the image; then
 * each block is compared with its CRC-32. Without a proven head the blocks of the segment are lost,
 * since nothing proves them; where they belonged is taken from the table.
 *
 * Invariants:
 *  1. A block that is not in `bad` matched its checksum, and its place is proven by a head's CRC:
 *     heads and blocks alone decide what the disk gets, never the table.
 *  2. Places of good blocks ascend over the whole image and lie on the disk.
 *
 * Rules: docs/format/image.md, "Reading".
 */
import { isZero } from '../base/bytes.ts';
import { crc32 } from '../base/checksum.ts';
import { Fault, LossList } from './damage.ts';
import type { ImageProblem, LostRange } from './damage.ts';
import type { ImageFrame } from './format.ts';
import { decodeSegmentHead, repairSegmentHead } from './segment.ts';
import type { SegmentHead } from './segment.ts';
import { placesProblem } from './table.ts';

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
  /** From the table, for each block: its A, or NaN where the page is not good or not at hand. */
  readonly table: Float64Array;
  /** Highest A in the good heads before this segment, or -1. */
  readonly beforeHead: number;
  /** The same, or the highest A that the table gave for a lost block before this segment. */
  readonly before: number;
  /** Lowest A known for an X after this segment, or the number of blocks of the disk. */
  readonly after: number;
}

export interface ExaminedSegment {
  readonly segment: ImageSegment;
  readonly problems: readonly ImageProblem[];
  /** Undefined if the head proves nothing. */
  readonly head: SegmentHead | undefined;
}

/** @param bytes the whole segment */
export function examineSegment(
  frame: ImageFrame,
  index: number,
  bytes: Uint8Array,
  places: KnownPlaces,
): ExaminedSegment {
  const { layout } = frame;
  const data = bytes.subarray(layout.segmentHeadBytes(index), layout.segmentBytes(index));
  const { head, fault } = findHead(frame, index, bytes, places);
  const { table } = places;
  const { sourceBlocks, checksums } = head ?? {
    sourceBlocks: table,
    checksums: new Uint32Array(table.length),
  };
  const bad = head === undefined ? new Set(table.keys()) : mismatches(head, data);
  const firstBlock = layout.segmentFirstBlock(index);
  const before = Math.max(firstBlock - 1, head ? places.beforeHead : places.before);
  const damaged = lostRanges(frame, sourceBlocks, bad, before, places.after);
  const problem = ({ code, message }: Fault, lost: readonly LostRange[]): ImageProblem => {
    const [imageOffset, length] = [layout.segmentOffset(index), layout.segmentBytes(index)];
    return { code, message, imageOffset, length, lost };
  };
  const problems = fault === undefined ? [] : [problem(fault, head ? [] : damaged)];
  if (head !== undefined) {
    const faults = harmlessFaults(frame, index, bytes, head, table);
    problems.push(...faults.map((harmless) => problem(harmless, [])));
    const what = bad.size === 1 ? '1 block' : `${bad.size} blocks`;
    const message = `${what} of segment ${index} ${bad.size === 1 ? 'is' : 'are'} damaged (CRC)`;
    if (bad.size > 0) problems.push(problem(new Fault('IMAGE_DAMAGED', message), damaged));
  }
  const segment = { segment: index, firstBlock, sourceBlocks, checksums, data, bad, damaged };
  return { segment, problems, head };
}

/** The proven head of a segment, if there is one, and what is wrong with the one that is there. */
function findHead(
  frame: ImageFrame,
  index: number,
  bytes: Uint8Array,
  places: KnownPlaces,
): { readonly head?: SegmentHead; readonly fault?: Fault } {
  const stored = decodeSegmentHead(frame, index, bytes);
  const isFault = stored instanceof Fault;
  const head = isFault ? repairSegmentHead(frame, index, bytes, places.table) : stored;
  const lost = 'its blocks are lost';
  if (head === undefined) {
    return isFault ? { fault: new Fault(stored.code, `${stored.message}: ${lost}`) } : {};
  }
  const firstBlock = frame.layout.segmentFirstBlock(index);
  const problem = placesProblem(frame, firstBlock, head.sourceBlocks, places.beforeHead);
  if (problem !== undefined) {
    const message = `segment ${index} makes no sense: ${problem}: ${lost}`;
    return { fault: new Fault('IMAGE_INVALID', message) };
  }
  return isFault ? { head, fault: stored } : { head };
}

/** What is wrong with the head's surroundings, and costs nothing. */
function harmlessFaults(
  frame: ImageFrame,
  index: number,
  bytes: Uint8Array,
  head: SegmentHead,
  table: Float64Array,
): Fault[] {
  const faults: Fault[] = [];
  const differs = head.sourceBlocks.findIndex((block, at) => {
    const inTable = table[at];
    return inTable !== undefined && !Number.isNaN(inTable) && inTable !== block;
  });
  if (differs >= 0) {
    const what = `block ${differs} of segment ${index}`;
    const message = `the head and the correspondence table disagree about ${what}`;
    faults.push(new Fault('IMAGE_INVALID', message));
  }
  const padding = bytes.subarray(head.bare.length, frame.layout.segmentHeadBytes(index));
  if (!isZero(padding)) {
    const message = `the padding of segment ${index} is damaged; no data is lost`;
    faults.push(new Fault('IMAGE_DAMAGED', message));
  }
  return faults;
}

function mismatches({ checksums }: SegmentHead, data: Uint8Array): Set<number> {
  const bad = new Set<number>();
  const blockSizeBytes = data.length / checksums.length;
  checksums.forEach((checksum, index) => {
    const start = index * blockSizeBytes;
    if (crc32(data.subarray(start, start + blockSizeBytes)) !== checksum) bad.add(index);
  });
  return bad;
}

function lostRanges(
  frame: ImageFrame,
  sourceBlocks: Float64Array,
  bad: ReadonlySet<number>,
  before: number,
  after: number,
): LostRange[] {
  const losses = new LossList(frame, before);
  sourceBlocks.forEach((block, index) => {
    losses.next(block, bad.has(index));
  });
  losses.end(after);
  return losses.ranges;
}

/** What is wrong with a segment that has a block in a zero range: the block counts. */
export function overlapMessage(segment: number): string {
  return `a block of segment ${segment} lies in a zero range`;
}
