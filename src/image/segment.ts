/**
 * The head of a segment: 256 bytes that say which segment of which image it is, then A and CRC-32
 * of each of its blocks.
 *
 * A segment says all that a restore needs, so any subset of segments restores what it holds.
 *
 * Invariants:
 *  1. The header is a function of the image's facts and the sequence number; one that differs
 *     in any bit is not this segment.
 *  2. One CRC covers header and entries; the padding behind them is zero.
 *  3. Entries are believed only if the CRC that stands in the head is that of the header as it must
 *     be and of these entries, whether they were read, taken from the table, or computed.
 *
 * Bytes: docs/format/image.md, "Segment".
 */
import { assert } from '../base/assert.ts';
import { asBuffer, readU64, writeU64 } from '../base/bytes.ts';
import { crc32, saltedCrc32 } from '../base/checksum.ts';
import { parseUuid } from '../base/clock.ts';
import { MIN_BLOCK_SIZE_BYTES } from '../base/units.ts';
import { Fault } from './damage.ts';
import { bareHeadBytes, FORMAT_VERSION } from './format.ts';
import { SEGMENT_DATA_BYTES, SEGMENT_ENTRY_BYTES, SEGMENT_HEADER_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';

const MAGIC = 'SPDLSEGM';
const SALT = 'spindle image segment';
const CRC_AT = SEGMENT_HEADER_BYTES - 4;
const MAX_BLOCKS = SEGMENT_DATA_BYTES / MIN_BLOCK_SIZE_BYTES;

const at = {
  magic: 0,
  version: 8,
  blockSize: 12,
  incompatible: 16,
  imageId: 24,
  copyId: 40,
  diskId: 56,
  capacity: 72,
  usedBlocks: 80,
  firstBlock: 88,
  sequence: 96,
  count: 100,
  /** The rest of an incremental; zero in a full image. */
  zeroRanges: 104,
  baseCopyId: 112,
  baseGeneration: 128,
  copyBlocks: 136,
} as const;

/** A and CRC-32 of each block of a segment, in X order. */
export interface SegmentEntries {
  readonly sourceBlocks: Float64Array;
  readonly checksums: Uint32Array;
}

/** A head that is proven. */
export interface SegmentHead extends SegmentEntries {
  /** Header and entries as they were written. */
  readonly bare: Buffer;
  /** True if something of it was damaged, and follows from the rest of the image. */
  readonly isRepaired: boolean;
}

/** The header without its CRC. */
function headerFields(frame: ImageFrame, segment: number): Buffer {
  const { facts, layout } = frame;
  const bytes = Buffer.alloc(CRC_AT);
  bytes.write(MAGIC, at.magic, 'latin1');
  bytes.writeUInt32LE(FORMAT_VERSION, at.version);
  bytes.writeUInt32LE(facts.blockSizeBytes, at.blockSize);
  bytes.writeBigUInt64LE(frame.incompatible, at.incompatible);
  frame.imageIdBytes.copy(bytes, at.imageId);
  frame.copyIdBytes.copy(bytes, at.copyId);
  frame.diskIdBytes.copy(bytes, at.diskId);
  writeU64(bytes, facts.capacityBytes, at.capacity);
  writeU64(bytes, facts.usedBlocks, at.usedBlocks);
  writeU64(bytes, layout.segmentFirstBlock(segment), at.firstBlock);
  bytes.writeUInt32LE(segment, at.sequence);
  bytes.writeUInt32LE(layout.segmentBlocks(segment), at.count);
  if (facts.base === null) return bytes;
  writeU64(bytes, facts.zeroRanges, at.zeroRanges);
  parseUuid(facts.base.copyId).copy(bytes, at.baseCopyId);
  writeU64(bytes, facts.base.generation, at.baseGeneration);
  writeU64(bytes, facts.copyBlocks, at.copyBlocks);
  return bytes;
}

function headCrc(head: Buffer, bareBytes: number): number {
  const fields = saltedCrc32(SALT, head.subarray(0, CRC_AT));
  return crc32(head.subarray(SEGMENT_HEADER_BYTES, bareBytes), fields);
}

/** Writes header, entries and padding into the first `segmentHeadBytes(segment)` bytes. */
export function encodeSegmentHead(
  frame: ImageFrame,
  segment: number,
  entries: SegmentEntries,
  into: Uint8Array,
): void {
  const count = frame.layout.segmentBlocks(segment);
  const { sourceBlocks, checksums } = entries;
  assert(sourceBlocks.length === count && checksums.length === count, 'entries of a segment');
  const head = asBuffer(into).subarray(0, frame.layout.segmentHeadBytes(segment));
  headerFields(frame, segment).copy(head);
  for (let index = 0; index < count; index += 1) {
    writeU64(head, sourceBlocks[index] ?? 0, entryAt(index));
    head.writeUInt32LE(checksums[index] ?? 0, entryAt(index) + 8);
  }
  const bareBytes = bareHeadBytes(count);
  head.fill(0, bareBytes);
  head.writeUInt32LE(headCrc(head, bareBytes), CRC_AT);
}

/**
 * The head that a segment begins with, or why it is not that of this segment.
 * The A are as they stand there: the caller checks their order.
 */
export function decodeSegmentHead(
  frame: ImageFrame,
  segment: number,
  from: Uint8Array,
): SegmentHead | Fault {
  const bare = asBuffer(from).subarray(0, bareHeadBytes(frame.layout.segmentBlocks(segment)));
  const isThis = bare.subarray(0, CRC_AT).equals(headerFields(frame, segment));
  if (isThis && hasRightCrc(bare)) return proven(bare, false);
  if (!isThis && isHeadOfAny(asBuffer(from))) {
    return new Fault('IMAGE_INVALID', `segment ${segment} has the head of another segment`);
  }
  return new Fault('IMAGE_DAMAGED', `the head of segment ${segment} is damaged`);
}

/**
 * The head that was written, if all that is wrong with the one that is there follows from the
 * header, the table or the blocks; else undefined.
 *
 * @param bytes the whole segment
 * @param places A of each block by the table, or NaN
 */
export function repairSegmentHead(
  frame: ImageFrame,
  segment: number,
  bytes: Uint8Array,
  places: Float64Array,
): SegmentHead | undefined {
  const { blockSizeBytes } = frame.layout;
  const bare = Buffer.from(bytes.subarray(0, bareHeadBytes(places.length)));
  headerFields(frame, segment).copy(bare);
  if (hasRightCrc(bare)) return proven(bare, true);
  if (places.includes(NaN)) return undefined;
  places.forEach((place, index) => {
    writeU64(bare, place, entryAt(index));
  });
  if (hasRightCrc(bare)) return proven(bare, true);
  const data = bytes.subarray(frame.layout.segmentHeadBytes(segment));
  for (let index = 0; index < places.length; index += 1) {
    const block = data.subarray(index * blockSizeBytes, (index + 1) * blockSizeBytes);
    bare.writeUInt32LE(crc32(block), entryAt(index) + 8);
  }
  return hasRightCrc(bare) ? proven(bare, true) : undefined;
}

/** True if the bytes begin with an undamaged head of whatever segment of whatever image. */
function isHeadOfAny(bytes: Buffer): boolean {
  const count = bytes.readUInt32LE(at.count);
  if (bytes.toString('latin1', 0, at.version) !== MAGIC || count > MAX_BLOCKS) return false;
  return hasRightCrc(bytes.subarray(0, bareHeadBytes(count)));
}

function hasRightCrc(bare: Buffer): boolean {
  return bare.readUInt32LE(CRC_AT) === headCrc(bare, bare.length);
}

function proven(bare: Buffer, isRepaired: boolean): SegmentHead {
  const count = (bare.length - SEGMENT_HEADER_BYTES) / SEGMENT_ENTRY_BYTES;
  const sourceBlocks = new Float64Array(count);
  const checksums = new Uint32Array(count);
  for (let index = 0; index < count; index += 1) {
    sourceBlocks[index] = readU64(bare, entryAt(index)) ?? Infinity;
    checksums[index] = bare.readUInt32LE(entryAt(index) + 8);
  }
  return { sourceBlocks, checksums, bare, isRepaired };
}

function entryAt(index: number): number {
  return SEGMENT_HEADER_BYTES + index * SEGMENT_ENTRY_BYTES;
}
