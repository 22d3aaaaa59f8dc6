/**
 * The header of a pool file: which store and pool the file belongs to, and its part in it.
 *
 * Pure: bytes in, bytes out. The layout is normative in docs/format/pool.md. Two copies lie in the
 * first 8 KiB; an epoch is written into copy `epoch % 2`, so that a torn write leaves the other.
 * All that is not zero in a copy lies in its first sector.
 *
 * Invariants:
 *  1. decode(encode(h)) = h, and every flipped bit of a copy is found.
 *  2. Magic, version and checksum keep their places in all versions.
 */
import { assert } from '../base/assert.ts';
import { readU64, writeU64 } from '../base/bytes.ts';
import { saltedCrc32 } from '../base/checksum.ts';
import { formatUuid, parseUuid } from '../base/clock.ts';
import { isBlockSize, KIB, MIB } from '../base/units.ts';

/** First 8 bytes of sha256 of "Spindle pool file header, version 1". */
export const POOL_MAGIC = Buffer.from('7703d8d06c20c30a', 'hex');
export const POOL_FORMAT_VERSION = 1;

/** One copy of the header. */
export const HEADER_BYTES = 4 * KIB;
export const HEADER_COPIES = 2;
export const HEADER_AREA_BYTES = HEADER_COPIES * HEADER_BYTES;
/** Block 0 of a file begins here, so that blocks of every size are aligned. */
export const DATA_OFFSET = MIB;

const CRC_SALT = 'spindle pool header';
const AT = {
  magic: 0,
  version: 8,
  crc: 12,
  store: 16,
  pool: 32,
  blockSize: 48,
  fileIndex: 52,
  epoch: 56,
  dataOffset: 64,
} as const;

export interface PoolHeader {
  readonly storeId: string;
  readonly poolId: string;
  readonly blockSizeBytes: number;
  /** Place of the file in its pool's list, from 0. */
  readonly fileIndex: number;
  /** The store's epoch when the pool was last opened for writing. */
  readonly epoch: number;
}

/** What one copy, or both, are found to be. */
export type HeaderState =
  | { readonly state: 'valid'; readonly header: PoolHeader }
  | { readonly state: 'absent' }
  | { readonly state: 'damaged'; readonly reason: string }
  | { readonly state: 'unknown-version'; readonly version: number };

/** Where the copy of an epoch lies in the file. */
export function headerPosition(epoch: number): number {
  return (epoch % HEADER_COPIES) * HEADER_BYTES;
}

/** Whole blocks in a file or device of this size. */
export function blocksInFile(sizeBytes: number, blockSizeBytes: number): number {
  return Math.max(0, Math.floor((sizeBytes - DATA_OFFSET) / blockSizeBytes));
}

export function encodeHeader(header: PoolHeader): Buffer {
  assert(isBlockSize(header.blockSizeBytes), `block size ${header.blockSizeBytes}`);
  assert(Number.isSafeInteger(header.epoch) && header.epoch >= 0, `epoch ${header.epoch}`);
  const bytes = Buffer.alloc(HEADER_BYTES);
  POOL_MAGIC.copy(bytes, AT.magic);
  bytes.writeUInt32LE(POOL_FORMAT_VERSION, AT.version);
  parseUuid(header.storeId).copy(bytes, AT.store);
  parseUuid(header.poolId).copy(bytes, AT.pool);
  bytes.writeUInt32LE(header.blockSizeBytes, AT.blockSize);
  bytes.writeUInt32LE(header.fileIndex, AT.fileIndex);
  writeU64(bytes, header.epoch, AT.epoch);
  writeU64(bytes, DATA_OFFSET, AT.dataOffset);
  bytes.writeUInt32LE(saltedCrc32(CRC_SALT, bytes), AT.crc);
  return bytes;
}

/** Reads one copy. @param bytes HEADER_BYTES long */
export function decodeHeader(bytes: Uint8Array): HeaderState {
  assert(bytes.length === HEADER_BYTES, `header copy of ${bytes.length} bytes`);
  const copy = Buffer.from(bytes);
  if (!copy.subarray(0, POOL_MAGIC.length).equals(POOL_MAGIC)) return { state: 'absent' };
  const crc = copy.readUInt32LE(AT.crc);
  copy.writeUInt32LE(0, AT.crc);
  if (saltedCrc32(CRC_SALT, copy) !== crc) return damaged('its checksum is wrong');
  const version = copy.readUInt32LE(AT.version);
  if (version !== POOL_FORMAT_VERSION) return { state: 'unknown-version', version };
  const blockSizeBytes = copy.readUInt32LE(AT.blockSize);
  const epoch = readU64(copy, AT.epoch);
  if (!isBlockSize(blockSizeBytes)) return damaged(`its block size is ${blockSizeBytes}`);
  if (epoch === undefined) return damaged('its epoch is out of range');
  if (readU64(copy, AT.dataOffset) !== DATA_OFFSET) return damaged('its data offset is unknown');
  const header = {
    storeId: formatUuid(copy.subarray(AT.store, AT.pool)),
    poolId: formatUuid(copy.subarray(AT.pool, AT.blockSize)),
    blockSizeBytes,
    fileIndex: copy.readUInt32LE(AT.fileIndex),
    epoch,
  };
  return { state: 'valid', header };
}

/**
 * Reads both copies: the valid one with the higher epoch. One damaged copy is a torn write. An
 * intact copy of an unknown version wins: a newer program has been here. Two that disagree are
 * damage.
 *
 * @param area HEADER_AREA_BYTES from the start of the file
 */
export function decodeHeaderArea(area: Uint8Array): HeaderState {
  assert(area.length === HEADER_AREA_BYTES, `header area of ${area.length} bytes`);
  const first = decodeHeader(area.subarray(0, HEADER_BYTES));
  const second = decodeHeader(area.subarray(HEADER_BYTES));
  if (first.state !== 'valid' || second.state !== 'valid') return better(first, second);
  if (!sameFile(first.header, second.header)) return damaged('its two copies disagree');
  return second.header.epoch > first.header.epoch ? second : first;
}

function better(first: HeaderState, second: HeaderState): HeaderState {
  for (const state of ['unknown-version', 'valid', 'damaged'] as const) {
    if (first.state === state) return first;
    if (second.state === state) return second;
  }
  return { state: 'absent' };
}

function sameFile(a: PoolHeader, b: PoolHeader): boolean {
  const samePlace = a.fileIndex === b.fileIndex && a.blockSizeBytes === b.blockSizeBytes;
  return samePlace && a.storeId === b.storeId && a.poolId === b.poolId;
}

function damaged(reason: string): HeaderState {
  return { state: 'damaged', reason };
}
