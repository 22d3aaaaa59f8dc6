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

/** The CRC-32 of two pieces joined, from the CRC-32 of each. */
export type CrcJoin = (first: number, second: number) => number;

/**
 * Joins CRCs of which the second is of that many bytes. Costs as much as a kilobyte of CRC each
 * time, and a hundred times that to make. Polynomials are reflected: bit 31 is x^0.
 */
export function crc32Join(secondBytes: number): CrcJoin {
  let factor = X_TO_0;
  let square = multiplied(X_TO_1, X_TO_1);
  square = multiplied(square, square);
  square = multiplied(square, square); // x^8: one byte
  for (let left = secondBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) factor = multiplied(square, factor);
    square = multiplied(square, square);
  }
  const columns = Array.from({ length: 32 }, (_, bit) => multiplied((1 << bit) >>> 0, factor));
  return (first, second) => {
    let joined = second;
    for (let bits = first, bit = 0; bits !== 0; bits >>>= 1, bit += 1) {
      if ((bits & 1) !== 0) joined ^= columns[bit] ?? 0;
    }
    return joined >>> 0;
  };
}

/** Joins by length: there are few block sizes and record sizes. */
const joins = new Map<number, CrcJoin>();

/** As `crc32Join`, made once for each length. @param secondBytes one of few */
export function joinOf(secondBytes: number): CrcJoin {
  const join = joins.get(secondBytes) ?? crc32Join(secondBytes);
  joins.set(secondBytes, join);
  return join;
}

/** CRCs of any stretch of bytes whose blocks have known CRCs: only cut blocks are computed. */
export class BlockCrcs {
  readonly #bytes: Uint8Array;
  readonly #crcs: Uint32Array;
  readonly #blockBytes: number;
  readonly #join: CrcJoin;

  /** @param crcs of each of the blocks of equal size that `bytes` are */
  constructor(bytes: Uint8Array, crcs: Uint32Array) {
    this.#bytes = bytes;
    this.#crcs = crcs;
    this.#blockBytes = bytes.length / crcs.length;
    this.#join = joinOf(this.#blockBytes);
  }

  /** The CRC of bytes `from` … `to` - 1, continued from `seed`. */
  continued(seed: number, from: number, to: number): number {
    const size = this.#blockBytes;
    let crc = seed;
    for (let at = from; at < to;) {
      const block = Math.floor(at / size);
      const end = Math.min(to, (block + 1) * size);
      const known = end - at === size ? this.#crcs[block] : undefined;
      crc =
        known === undefined ? crc32(this.#bytes.subarray(at, end), crc) : this.#join(crc, known);
      at = end;
    }
    return crc;
  }
}

const POLYNOMIAL = 0xedb88320;
const X_TO_0 = 0x80000000;
const X_TO_1 = 0x40000000;

/** The product of two polynomials modulo the CRC's. */
function multiplied(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let mask = X_TO_0; mask !== 0; mask >>>= 1) {
    if ((a & mask) !== 0) product ^= shifted;
    shifted = (shifted & 1) === 0 ? shifted >>> 1 : (shifted >>> 1) ^ POLYNOMIAL;
  }
  return product >>> 0;
}
