/**
 * CRC-32 (zlib's polynomial), salted by the kind of record, so that a right record in the wrong
 * place fails. Source of the idea: thin-provisioning-tools' checksum salts.
 */
import { createHash } from 'node:crypto';
import { crc32 as zlibCrc32 } from 'node:zlib';

/** Plain CRC-32 of the bytes, continued from `seed`. 0 … 2^32 - 1. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return zlibCrc32(bytes, seed) >>> 0;
}

/** CRC-32 of `kind` (ASCII) followed by the bytes. */
export function saltedCrc32(kind: string, bytes: Uint8Array): number {
  return zlibCrc32(bytes, zlibCrc32(kind)) >>> 0;
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
