/**
 * The words of Linux's <linux/mtio.h>: requests of the st driver as bytes, and its answers.
 *
 * Numbers and layouts are those of 64-bit little-endian Linux (x64, arm64, riscv64, loong64); on
 * mips, ppc and sparc they differ, so these are refused before.
 */
import { assert } from '../base/assert.ts';
import type { TapeErrno, TapeStatus } from './drive.ts';

export const MTIOCTOP = 0x40086d01;
export const MTIOCGET = 0x80306d02;
export const MTIOCPOS = 0x80086d03;

export const mtOperations = {
  spaceFilemarks: 1,
  backFilemarks: 2,
  spaceRecords: 3,
  backRecords: 4,
  writeFilemarks: 5,
  rewind: 6,
  offline: 7,
  endOfData: 12,
  erase: 13,
  setBlockSize: 20,
  seek: 22,
  setOptions: 24,
  lock: 28,
  unlock: 29,
  load: 30,
} as const;

export type MtOperation = keyof typeof mtOperations;

/** MT_ST_CLEARBOOLEANS with MT_ST_BUFFER_WRITES and MT_ST_ASYNC_WRITES. */
export const CLEAR_ASYNC_WRITES = 0x40000000 + 1 + 2;

const STATUS_BYTES = 48;
const MAX_COUNT = 2 ** 31 - 1;

/** `struct mtop`: i16 operation, padding, i32 count. */
export function encodeOperation(operation: MtOperation, count: number): Buffer {
  assert(Number.isInteger(count) && count >= 0 && count <= MAX_COUNT, `${operation} ${count}`);
  const bytes = Buffer.alloc(8);
  bytes.writeInt16LE(mtOperations[operation], 0);
  bytes.writeInt32LE(count, 4);
  return bytes;
}

export function statusBuffer(): Buffer {
  return Buffer.alloc(STATUS_BYTES);
}

/** `struct mtget`: i64 type, resid, dsreg, gstat, erreg; i32 fileno, blkno. */
export function decodeStatus(bytes: Buffer): TapeStatus {
  const blockSizeBytes = bytes.readUIntLE(16, 3);
  const flags = bytes.readUInt32LE(24);
  const has = (bit: number) => Math.floor(flags / 2 ** bit) % 2 === 1;
  return {
    online: has(24),
    doorOpen: has(18),
    writeProtected: has(26),
    atBeginning: has(30),
    atFilemark: has(31),
    atEndOfData: has(27),
    earlyWarning: has(29),
    file: bytes.readInt32LE(40),
    block: bytes.readInt32LE(44),
    blockSizeBytes,
    needsCleaning: has(15),
  };
}

export function positionBuffer(): Buffer {
  return Buffer.alloc(8);
}

/** `struct mtpos`: i64. */
export function decodePosition(bytes: Buffer): number {
  return Number(bytes.readBigInt64LE(0));
}

/** The errno numbers of Linux that a tape drive gives. */
const errnos: readonly (readonly [number, TapeErrno])[] = [
  [1, 'EPERM'],
  [2, 'ENOENT'],
  [5, 'EIO'],
  [6, 'ENXIO'],
  [9, 'EBADF'],
  [12, 'ENOMEM'],
  [13, 'EACCES'],
  [16, 'EBUSY'],
  [19, 'ENODEV'],
  [22, 'EINVAL'],
  [25, 'ENOTTY'],
  [28, 'ENOSPC'],
  [30, 'EROFS'],
  [123, 'ENOMEDIUM'],
];
const errnoNames = new Map(errnos);

/** @returns undefined for a number that is not in the table */
export function errnoName(errno: number): TapeErrno | undefined {
  return errnoNames.get(errno);
}
