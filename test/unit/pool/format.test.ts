import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { saltedCrc32, sha256 } from '../../../src/base/checksum.ts';
import { GIB, KIB, MIB } from '../../../src/base/units.ts';
import type { PoolHeader } from '../../../src/pool/format.ts';
import {
  blocksInFile,
  decodeHeader,
  decodeHeaderArea,
  encodeHeader,
  HEADER_BYTES,
  headerPosition,
  POOL_MAGIC,
} from '../../../src/pool/format.ts';

const page = readFileSync(join(import.meta.dirname, '../../../docs/format/pool.md'), 'utf8');

const example: PoolHeader = {
  storeId: '01890a5d-ac96-774b-bcce-b302099a8057',
  poolId: '01890a5d-ac97-7c21-8f5e-6d1f0a3b9c42',
  blockSizeBytes: 64 * KIB,
  fileIndex: 1,
  epoch: 7,
};

const headers: fc.Arbitrary<PoolHeader> = fc.record({
  storeId: fc.uuid(),
  poolId: fc.uuid(),
  blockSizeBytes: fc.integer({ min: 14, max: 20 }).map((power) => 2 ** power),
  fileIndex: fc.nat(2 ** 32 - 1),
  epoch: fc.maxSafeNat(),
});

function area(first: Uint8Array, second: Uint8Array): Buffer {
  return Buffer.concat([first, second]);
}

/** The copy with some bytes changed and the checksum right again. */
function forged(header: PoolHeader, change: (bytes: Buffer) => void): Buffer {
  const bytes = encodeHeader(header);
  change(bytes);
  bytes.writeUInt32LE(0, 12);
  bytes.writeUInt32LE(saltedCrc32('spindle pool header', bytes), 12);
  return bytes;
}

describe('the header of a pool file', () => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(headers, (header) => {
        expect(decodeHeader(encodeHeader(header))).toEqual({ state: 'valid', header });
      }),
    );
  });

  it('is the worked example of the format page, byte for byte', () => {
    const lines = [...page.matchAll(/^00[0-9a-f]{2} {2}((?:[0-9a-f]{2} ?){16})$/gm)];
    const bytes = Buffer.from(lines.map((line) => line[1]!.replaceAll(' ', '')).join(''), 'hex');
    const whole = Buffer.concat([bytes, Buffer.alloc(HEADER_BYTES - bytes.length)]);
    expect(bytes.length).toBe(80);
    expect(encodeHeader(example).equals(whole)).toBe(true);
    expect(headerPosition(example.epoch)).toBe(4096);
  });

  it('begins with the hash of its sentence', () => {
    const hash = sha256(Buffer.from('Spindle pool file header, version 1'));
    expect(POOL_MAGIC.equals(hash.subarray(0, 8))).toBe(true);
  });

  it('is never valid with a flipped bit, wherever that is', () => {
    const good = encodeHeader(example);
    for (let bit = 0; bit < HEADER_BYTES * 8; bit += 1) {
      const at = bit >>> 3;
      good.writeUInt8(good.readUInt8(at) ^ (1 << (bit & 7)), at);
      expect(decodeHeader(good).state).toBe(at < 8 ? 'absent' : 'damaged');
      good.writeUInt8(good.readUInt8(at) ^ (1 << (bit & 7)), at);
    }
  });

  it.each([
    ['a block size that is none', (bytes: Buffer) => bytes.writeUInt32LE(65537, 48)],
    ['an epoch beyond 2^53', (bytes: Buffer) => bytes.writeUInt32LE(2 ** 31, 60)],
    ['another data offset', (bytes: Buffer) => bytes.writeUInt32LE(4096, 64)],
  ])('with %s is damaged, although its checksum is right', (_, change) => {
    expect(decodeHeader(forged(example, change)).state).toBe('damaged');
  });

  it('keeps all that is not zero in its first sector', () => {
    fc.assert(
      fc.property(headers, (header) => {
        expect(
          encodeHeader(header)
            .subarray(512)
            .every((byte) => byte === 0),
        ).toBe(true);
      }),
    );
  });
});

describe('the two copies of a header', () => {
  const old = encodeHeader({ ...example, epoch: 6 });
  const young = encodeHeader(example);
  const torn = encodeHeader({ ...example, epoch: 8 }).fill(0xff, 512, 600);
  const nothing = Buffer.alloc(HEADER_BYTES);

  it('count as the one with the higher epoch', () => {
    const valid = { state: 'valid', header: example };
    expect(decodeHeaderArea(area(old, young))).toEqual(valid);
    expect(decodeHeaderArea(area(young, old))).toEqual(valid);
    expect(decodeHeaderArea(area(young, young))).toEqual(valid);
  });

  it('count as the valid one if the other is torn or missing', () => {
    for (const other of [torn, nothing]) {
      expect(decodeHeaderArea(area(other, young))).toMatchObject({ header: { epoch: 7 } });
      expect(decodeHeaderArea(area(old, other))).toMatchObject({ header: { epoch: 6 } });
    }
  });

  it('are damaged if one is and none is valid, absent if there is no magic at all', () => {
    expect(decodeHeaderArea(area(torn, torn)).state).toBe('damaged');
    expect(decodeHeaderArea(area(nothing, torn)).state).toBe('damaged');
    expect(decodeHeaderArea(area(torn, nothing)).state).toBe('damaged');
    expect(decodeHeaderArea(area(nothing, nothing)).state).toBe('absent');
  });

  it.each([
    { storeId: example.poolId },
    { poolId: example.storeId },
    { blockSizeBytes: MIB },
    { fileIndex: 2 },
  ])('are damaged if they disagree: %o', (difference) => {
    const other = encodeHeader({ ...example, ...difference, epoch: 8 });
    expect(decodeHeaderArea(area(other, young)).state).toBe('damaged');
  });

  it('are of an unknown version if one is, whatever the other', () => {
    const newer = forged(example, (bytes) => bytes.writeUInt32LE(2, 8));
    for (const other of [young, torn, nothing]) {
      const found = { state: 'unknown-version', version: 2 };
      expect(decodeHeaderArea(area(newer, other))).toEqual(found);
      expect(decodeHeaderArea(area(other, newer))).toEqual(found);
    }
  });

  it('alternate with the epoch', () => {
    expect([0, 1, 2, 2 ** 53 - 1].map(headerPosition)).toEqual([0, 4096, 0, 4096]);
  });
});

describe('blocks in a file', () => {
  it.each([
    [0, 0],
    [MIB, 0],
    [MIB + 64 * KIB - 1, 0],
    [MIB + 64 * KIB, 1],
    [MIB + 128 * KIB - 512, 1],
    [GIB, 16_368],
  ])('%i bytes hold %i blocks of 64 KiB', (sizeBytes, blocks) => {
    expect(blocksInFile(sizeBytes, 64 * KIB)).toBe(blocks);
  });
});
