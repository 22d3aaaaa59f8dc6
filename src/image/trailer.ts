/**
 * The image's last 4096 bytes: proof that the image is complete, and the digest of its segments.
 *
 * The digest is a chain, so that a transfer can stop at any segment and go on from 32 bytes: it
 * begins with 32 zero bytes, and each page of zero ranges, then each head of a segment without
 * padding, makes the next: SHA-256(digest, bytes).
 *
 * Invariants:
 *  1. Without a valid trailer an image is incomplete, however long it is.
 *  2. Equal digests mean equal zero ranges, and equal places and checksums of all blocks.
 *
 * Bytes: docs/format/image.md, "Trailer".
 */
import { createHash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { asBuffer, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { Fault } from './damage.ts';
import { bareHeadBytes, FORMAT_VERSION, UNIT_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';

const MAGIC = 'SPDLTAIL';
const SALT = 'spindle image trailer';
const END_MARK = 'END OF IMAGE';
const CRC_AT = UNIT_BYTES - 4;
const END_MARK_AT = CRC_AT - END_MARK.length;

const at = {
  magic: 0,
  version: 8,
  blockSize: 12,
  incompatible: 16,
  imageId: 24,
  usedBlocks: 40,
  segments: 48,
  tablePages: 56,
  zeroRanges: 64,
  imageBytes: 72,
  digest: 80,
  reserved: 112,
} as const;

export const DIGEST_BYTES = at.reserved - at.digest;

/** The digest before the first page of zero ranges or segment. */
export function emptyDigest(): Buffer {
  return Buffer.alloc(DIGEST_BYTES);
}

/** The digest after one more segment, of which `bytes` begins with the head. */
export function chainDigest(
  frame: ImageFrame,
  digest: Uint8Array,
  segment: number,
  bytes: Uint8Array,
): Buffer {
  const head = bytes.subarray(0, bareHeadBytes(frame.layout.segmentBlocks(segment)));
  return createHash('sha256').update(digest).update(head).digest();
}

/** The digest after one more page of zero ranges. */
export function chainZeroPage(digest: Uint8Array, page: Uint8Array): Buffer {
  return createHash('sha256').update(digest).update(page).digest();
}

export function encodeTrailer(frame: ImageFrame, digest: Uint8Array): Buffer {
  assert(digest.length === DIGEST_BYTES, 'length of a digest');
  const { facts, layout } = frame;
  const bytes = Buffer.alloc(UNIT_BYTES);
  bytes.write(MAGIC, at.magic, 'latin1');
  bytes.writeUInt32LE(FORMAT_VERSION, at.version);
  bytes.writeUInt32LE(facts.blockSizeBytes, at.blockSize);
  bytes.writeBigUInt64LE(frame.incompatible, at.incompatible);
  frame.imageIdBytes.copy(bytes, at.imageId);
  writeU64(bytes, facts.usedBlocks, at.usedBlocks);
  writeU64(bytes, layout.segmentCount, at.segments);
  writeU64(bytes, layout.tablePages, at.tablePages);
  writeU64(bytes, layout.zeroRanges, at.zeroRanges);
  writeU64(bytes, layout.imageBytes, at.imageBytes);
  bytes.set(digest, at.digest);
  bytes.write(END_MARK, END_MARK_AT, 'latin1');
  bytes.writeUInt32LE(saltedCrc32(SALT, bytes.subarray(0, CRC_AT)), CRC_AT);
  return bytes;
}

/** The digest that a trailer states, or why it is none of this image. */
export function decodeTrailer(frame: ImageFrame, from: Uint8Array): Buffer | Fault {
  const bytes = asBuffer(from).subarray(0, UNIT_BYTES);
  if (!isTrailer(bytes)) return new Fault('IMAGE_TRUNCATED', 'the image has no valid trailer');
  const digest = Buffer.from(bytes.subarray(at.digest, at.digest + DIGEST_BYTES));
  if (bytes.equals(encodeTrailer(frame, digest))) return digest;
  return new Fault('IMAGE_INVALID', 'the trailer contradicts the header');
}

/** True for the trailer of any image. Damage cannot be told from an end that was never written. */
function isTrailer(bytes: Buffer): boolean {
  if (bytes.length < UNIT_BYTES || bytes.toString('latin1', 0, at.version) !== MAGIC) return false;
  return bytes.readUInt32LE(CRC_AT) === saltedCrc32(SALT, bytes.subarray(0, CRC_AT));
}
