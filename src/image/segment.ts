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
 *
 * Bytes: docs/format/image.md, "Segment".
 */
import { assert } from '../base/assert.ts';
import { asBuffer, readU64, writeU64 } from '../base/bytes.ts';
import { crc32, saltedCrc32 } from '../base/checksum.ts';
import { bareHeadBytes, FORMAT_VERSION } from './format.ts';
import { SEGMENT_ENTRY_BYTES, SEGMENT_HEADER_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';

const MAGIC = 'SPDLSEGM';
const SALT = 'spindle image segment';
const CRC_AT = SEGMENT_HEADER_BYTES - 4;

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
} as const;

/** A and CRC-32 of each block of a segment, in X order. */
export interface SegmentEntries {
  readonly sourceBlocks: Float64Array;
  readonly checksums: Uint32Array;
}

/** The header without its CRC. */
function headerFields(frame: ImageFrame, segment: number): Buffer {
  const { facts, layout } = frame;
  const bytes = Buffer.alloc(CRC_AT);
  bytes.write(MAGIC, at.magic, 'latin1');
  bytes.writeUInt32LE(FORMAT_VERSION, at.version);
  bytes.writeUInt32LE(facts.blockSizeBytes, at.blockSize);
  frame.imageIdBytes.copy(bytes, at.imageId);
  frame.copyIdBytes.copy(bytes, at.copyId);
  frame.diskIdBytes.copy(bytes, at.diskId);
  writeU64(bytes, facts.capacityBytes, at.capacity);
  writeU64(bytes, facts.usedBlocks, at.usedBlocks);
  writeU64(bytes, layout.segmentFirstBlock(segment), at.firstBlock);
  bytes.writeUInt32LE(segment, at.sequence);
  bytes.writeUInt32LE(layout.segmentBlocks(segment), at.count);
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
    const entryAt = SEGMENT_HEADER_BYTES + index * SEGMENT_ENTRY_BYTES;
    writeU64(head, sourceBlocks[index] ?? 0, entryAt);
    head.writeUInt32LE(checksums[index] ?? 0, entryAt + 8);
  }
  const bareBytes = bareHeadBytes(count);
  head.fill(0, bareBytes);
  head.writeUInt32LE(headCrc(head, bareBytes), CRC_AT);
}

/**
 * The entries of a segment from its head, or undefined if the head is damaged or another one's.
 * The A are as they stand there: the caller checks their order.
 */
export function decodeSegmentHead(
  frame: ImageFrame,
  segment: number,
  from: Uint8Array,
): SegmentEntries | undefined {
  const count = frame.layout.segmentBlocks(segment);
  const bareBytes = bareHeadBytes(count);
  const head = asBuffer(from).subarray(0, bareBytes);
  if (!head.subarray(0, CRC_AT).equals(headerFields(frame, segment))) return undefined;
  if (head.readUInt32LE(CRC_AT) !== headCrc(head, bareBytes)) return undefined;
  const sourceBlocks = new Float64Array(count);
  const checksums = new Uint32Array(count);
  for (let index = 0; index < count; index += 1) {
    const entryAt = SEGMENT_HEADER_BYTES + index * SEGMENT_ENTRY_BYTES;
    sourceBlocks[index] = readU64(head, entryAt) ?? Infinity;
    checksums[index] = head.readUInt32LE(entryAt + 8);
  }
  return { sourceBlocks, checksums };
}
