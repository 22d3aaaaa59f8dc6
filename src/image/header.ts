/**
 * The image's first 4096 bytes: 2048 of text for people, then the same facts for programs.
 *
 * The text tells whoever finds the image, in any year, what it is and how to get the disk back.
 *
 * Invariants:
 *  1. Every byte is a function of the facts: a golden image stays the same for ever.
 *  2. No fact is believed before the CRC over all that precedes it is right.
 *  3. Magic, version, feature bits and CRC keep their places in every version to come.
 *
 * Bytes: docs/format/image.md, "Header".
 */
import { assert } from '../base/assert.ts';
import { asBuffer, isZero, readU64, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { formatUuid, rfc3339 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { decodeBase, factsProblem, FORMAT_VERSION, ImageFrame } from './format.ts';
import { INCREMENTAL_FEATURE, MAX_NAME_BYTES, OPTIONS_BYTES, UNIT_BYTES } from './format.ts';
import type { ImageBase, ImageFacts } from './format.ts';

const TEXT_BYTES = 2048;
const MAGIC = 'SPDLHEAD';
const SALT = 'spindle image header';
const CRC_AT = UNIT_BYTES - 4;

/** Offsets of the binary part. */
const at = {
  magic: 2048,
  version: 2056,
  blockSize: 2060,
  incompatible: 2064,
  readOnlyCompatible: 2072,
  imageId: 2080,
  copyId: 2096,
  diskId: 2112,
  capacity: 2128,
  usedBlocks: 2136,
  generation: 2144,
  frozenAt: 2152,
  imageBytes: 2160,
  zeroRanges: 2168,
  options: 2176,
  nameLength: 2240,
  name: 2241,
  reserved: 2495,
  /** Of an incremental; reserved in a full image. */
  copyBlocks: 2496,
} as const;

export function encodeHeader(frame: ImageFrame): Buffer {
  const { facts } = frame;
  const bytes = Buffer.alloc(UNIT_BYTES);
  writeText(frame, bytes);
  bytes.write(MAGIC, at.magic, 'latin1');
  bytes.writeUInt32LE(FORMAT_VERSION, at.version);
  bytes.writeUInt32LE(facts.blockSizeBytes, at.blockSize);
  bytes.writeBigUInt64LE(frame.incompatible, at.incompatible);
  frame.imageIdBytes.copy(bytes, at.imageId);
  frame.copyIdBytes.copy(bytes, at.copyId);
  frame.diskIdBytes.copy(bytes, at.diskId);
  writeU64(bytes, facts.capacityBytes, at.capacity);
  writeU64(bytes, facts.usedBlocks, at.usedBlocks);
  writeU64(bytes, facts.generation, at.generation);
  writeU64(bytes, facts.frozenAtMs, at.frozenAt);
  writeU64(bytes, frame.layout.imageBytes, at.imageBytes);
  writeU64(bytes, facts.zeroRanges, at.zeroRanges);
  frame.optionsBytes.copy(bytes, at.options);
  if (facts.base !== null) writeU64(bytes, facts.copyBlocks, at.copyBlocks);
  const nameBytes = bytes.write(facts.diskName, at.name, MAX_NAME_BYTES, 'utf8');
  bytes.writeUInt8(nameBytes, at.nameLength);
  bytes.writeUInt32LE(saltedCrc32(SALT, bytes.subarray(0, CRC_AT)), CRC_AT);
  return bytes;
}

/**
 * The facts of an image from its first 4096 bytes.
 *
 * @throws IMAGE_TRUNCATED fewer bytes; IMAGE_INVALID no image, or a damaged or senseless header;
 *   IMAGE_UNSUPPORTED a newer format or an unknown incompatible feature
 */
export function decodeHeader(header: Uint8Array): ImageFrame {
  if (header.length < UNIT_BYTES) {
    throw new StorageError('IMAGE_TRUNCATED', `an image has at least ${2 * UNIT_BYTES} bytes`);
  }
  const bytes = asBuffer(header).subarray(0, UNIT_BYTES);
  if (bytes.toString('latin1', at.magic, at.version) !== MAGIC) {
    throw new StorageError('IMAGE_INVALID', 'this is no image: its header has another magic');
  }
  if (bytes.readUInt32LE(CRC_AT) !== saltedCrc32(SALT, bytes.subarray(0, CRC_AT))) {
    throw new StorageError('IMAGE_INVALID', 'the header of the image is damaged (CRC)');
  }
  checkFeatures(bytes);
  const facts = readFacts(bytes);
  const problem = facts === undefined ? 'a number above 2^53' : factsProblem(facts);
  if (facts === undefined || problem !== undefined) throw senseless(String(problem));
  const frame = new ImageFrame(facts);
  checkRest(bytes, frame);
  return frame;
}

function checkFeatures(bytes: Buffer): void {
  const version = bytes.readUInt32LE(at.version);
  if (version > FORMAT_VERSION) {
    throw new StorageError(
      'IMAGE_UNSUPPORTED',
      `the image has format version ${version}, this program reads up to ${FORMAT_VERSION}`,
      { version },
    );
  }
  const features = bytes.readBigUInt64LE(at.incompatible);
  const unknown = isIncremental(bytes) ? features - INCREMENTAL_FEATURE : features;
  if (unknown !== 0n) {
    throw new StorageError(
      'IMAGE_UNSUPPORTED',
      `the image uses features that this program does not know (bits 0x${unknown.toString(16)})`,
      { features: `0x${unknown.toString(16)}` },
    );
  }
  if (version !== FORMAT_VERSION) throw senseless(`version ${version}`);
}

function isIncremental(header: Buffer): boolean {
  return header.readUInt8(at.incompatible) % 2 === 1;
}

function readFacts(bytes: Buffer): ImageFacts | undefined {
  const capacityBytes = readU64(bytes, at.capacity);
  const usedBlocks = readU64(bytes, at.usedBlocks);
  const generation = readU64(bytes, at.generation);
  const frozenAtMs = readU64(bytes, at.frozenAt);
  if (capacityBytes === undefined || usedBlocks === undefined) return undefined;
  if (generation === undefined || frozenAtMs === undefined) return undefined;
  const zeroRanges = readU64(bytes, at.zeroRanges);
  const options = bytes.subarray(at.options, at.options + OPTIONS_BYTES);
  const base = isIncremental(bytes) ? decodeBase(options) : null;
  const copyBlocks = base === null ? usedBlocks : readU64(bytes, at.copyBlocks);
  if (zeroRanges === undefined || base === undefined || copyBlocks === undefined) return undefined;
  const nameEnd = at.name + Math.min(bytes.readUInt8(at.nameLength), MAX_NAME_BYTES);
  return {
    copyId: formatUuid(bytes.subarray(at.copyId, at.copyId + 16)),
    diskId: formatUuid(bytes.subarray(at.diskId, at.diskId + 16)),
    diskName: bytes.toString('utf8', at.name, nameEnd),
    frozenAtMs,
    generation,
    capacityBytes,
    blockSizeBytes: bytes.readUInt32LE(at.blockSize),
    usedBlocks,
    base,
    zeroRanges,
    copyBlocks,
  };
}

/** What follows from the facts, and what must be zero. */
function checkRest(bytes: Buffer, frame: ImageFrame): void {
  if (readU64(bytes, at.imageBytes) !== frame.layout.imageBytes) throw senseless('image length');
  const imageId = bytes.subarray(at.imageId, at.imageId + 16);
  if (!imageId.equals(frame.imageIdBytes)) throw senseless('image UUID');
  const name = Buffer.from(frame.facts.diskName);
  if (bytes.readUInt8(at.nameLength) !== name.length) throw senseless('disk name');
  if (!bytes.subarray(at.name, at.name + name.length).equals(name)) throw senseless('disk name');
  const options = bytes.subarray(at.options, at.options + OPTIONS_BYTES);
  if (!options.equals(frame.optionsBytes)) throw senseless('options');
  if (!isZero(bytes.subarray(at.name + name.length, at.reserved))) throw senseless('name padding');
  // An unknown read-only-compatible feature may keep something in the reserved bytes.
  if (bytes.readBigUInt64LE(at.readOnlyCompatible) !== 0n) return;
  const reserved = bytes.subarray(at.reserved, CRC_AT);
  if (!reserved.equals(encodeHeader(frame).subarray(at.reserved, CRC_AT))) {
    throw senseless('reserved bytes');
  }
}

function senseless(what: string): StorageError {
  return new StorageError('IMAGE_INVALID', `the header of the image makes no sense: ${what}`);
}

function writeText(frame: ImageFrame, into: Buffer): void {
  const text = Buffer.from(headerText(frame));
  assert(text.length < TEXT_BYTES, `header text of ${text.length} bytes`);
  into.fill(' ', 0, TEXT_BYTES - 1);
  into.write('\n', TEXT_BYTES - 1);
  text.copy(into);
}

function headerText(frame: ImageFrame): string {
  return frame.facts.base === null ? fullText(frame) : incrementalText(frame, frame.facts.base);
}

function fullText(frame: ImageFrame): string {
  const { facts, layout } = frame;
  const dataBytes = facts.usedBlocks * facts.blockSizeBytes;
  return `Spindle image, format version ${FORMAT_VERSION}

A point-in-time copy of a virtual disk: the blocks in use, and where each belongs.

${identityText(frame)}
used       ${facts.usedBlocks} blocks of ${facts.blockSizeBytes} bytes, ${dataBytes} bytes
image      ${layout.imageBytes} bytes, table pages: ${layout.tablePages}, \
segments: ${layout.segmentCount}

To get the disk back without Spindle (only Python 3 is needed):

  python3 spindle-restore.py restore THIS-FILE disk.raw

The program is in Spindle's tools/; docs/format/image.md describes every byte.
In short: all numbers are little-endian. From 4096: the table, pages of 4096
bytes with 510 numbers of 8 bytes (the place of each block on the disk, in
blocks) and 16 bytes of check. Then the segments of up to 8 MiB of blocks: 256
bytes of header, per block 8 bytes of place and 4 of CRC-32, zeros up to a
multiple of 4096, then the blocks. A block lies at place x block size on the
disk; what no block covers is zeros. The last 4096 bytes are the trailer;
without it the image is not complete.
`;
}

function incrementalText(frame: ImageFrame, base: ImageBase): string {
  const { facts, layout } = frame;
  const { blockSizeBytes, usedBlocks, copyBlocks, zeroRanges } = facts;
  return `Spindle image, format version ${FORMAT_VERSION}, incremental

What changed on a virtual disk between two point-in-time copies, base and copy.

${identityText(frame)}
base id    ${base.copyId}, generation ${base.generation}
copy       ${copyBlocks} blocks of ${blockSizeBytes} bytes
changed    ${usedBlocks} blocks, ${usedBlocks * blockSizeBytes} bytes, zero ranges: ${zeroRanges}
image      ${layout.imageBytes} bytes, table pages: ${layout.tablePages}, \
zero pages: ${layout.zeroPages}, segments: ${layout.segmentCount}

It needs the image of its base, and that of the base's base, down to a full one.
To get the disk back without Spindle (only Python 3 is needed), in any order:

  python3 spindle-restore.py restore FULL ... THIS-FILE disk.raw

The program is in Spindle's tools/; docs/format/image.md describes every byte.
In short: all numbers are little-endian. From 4096: the table, pages of 4096
bytes with 510 numbers of 8 bytes (the place of each block on the disk, in
blocks) and 16 bytes of check. Then pages of 4096 bytes with 255 zero ranges
(8 bytes of place, 8 of blocks) and 16 bytes of check. Then segments of up to
8 MiB of blocks: 256 bytes of header, per block 8 bytes of place and 4 of
CRC-32, zeros up to a multiple of 4096, then the blocks. A block lies at place
x block size on the disk; zero ranges are zeros; all else is as in the base.
The last 4096 bytes are the trailer; without it the image is not complete.
`;
}

function identityText({ facts, imageId }: ImageFrame): string {
  return `disk       ${facts.diskName}
disk id    ${facts.diskId}
copy id    ${facts.copyId}
image id   ${imageId}
frozen at  ${rfc3339(facts.frozenAtMs)}, generation ${facts.generation}
capacity   ${facts.capacityBytes} bytes`;
}
