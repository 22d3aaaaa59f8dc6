import { describe, expect, test } from 'vitest';
import { saltedCrc32 } from '../../../src/base/checksum.ts';
import { isStorageError } from '../../../src/base/errors.ts';
import type { ErrorCode } from '../../../src/base/errors.ts';
import { MAX_CAPACITY_BYTES, MAX_POOL_BLOCKS, MIB } from '../../../src/base/units.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import { decodeHeader, encodeHeader } from '../../../src/image/header.ts';
import { MemoryCopy } from '../../support/image-source.ts';

const { facts } = new MemoryCopy({ places: [1, 2, 5] });

/** A valid header with some bytes changed and its CRC made right again. */
function crafted(change: (header: Buffer) => void): Buffer {
  const header = encodeHeader(new ImageFrame(facts));
  change(header);
  header.writeUInt32LE(saltedCrc32('spindle image header', header.subarray(0, 4092)), 4092);
  return header;
}

function codeOf(header: Buffer): ErrorCode | undefined {
  try {
    decodeHeader(header);
    return undefined;
  } catch (error) {
    if (!isStorageError(error)) throw error;
    return error.code;
  }
}

test('decoding gives what was encoded', () => {
  const frame = decodeHeader(encodeHeader(new ImageFrame(facts)));
  expect(frame.facts).toEqual(facts);
});

test('the longest name and the largest numbers fit, in the text too', () => {
  const largest = {
    ...facts,
    diskName: 'ä'.repeat(127),
    capacityBytes: MAX_CAPACITY_BYTES,
    blockSizeBytes: MIB,
    usedBlocks: MAX_POOL_BLOCKS,
    copyBlocks: MAX_POOL_BLOCKS,
    generation: Number.MAX_SAFE_INTEGER,
    frozenAtMs: 8.64e15,
  };
  expect(decodeHeader(encodeHeader(new ImageFrame(largest))).facts).toEqual(largest);
});

test('the text says what the image is and how to restore it', () => {
  const text = encodeHeader(new ImageFrame(facts)).subarray(0, 2048).toString();
  expect(text).toMatch(/^Spindle image, format version 1\n/);
  expect(text).toContain(`disk       web-01\ndisk id    ${facts.diskId}`);
  expect(text).toContain('frozen at  2026-01-02T03:04:05.678Z, generation 7');
  expect(text).toContain('used       3 blocks of 16384 bytes, 49152 bytes');
  expect(text).toContain('python3 spindle-restore.py restore THIS-FILE disk.raw');
  expect(text).toContain('docs/format/image.md');
  expect(text).toMatch(/\n *\n$/);
});

test('every flipped bit of a header is found', () => {
  const header = encodeHeader(new ImageFrame(facts));
  for (let bit = 0; bit < header.length * 8; bit += 1) {
    const byte = Math.floor(bit / 8);
    const mask = 1 << (bit % 8);
    header[byte] = (header[byte] ?? 0) ^ mask;
    if (codeOf(header) !== 'IMAGE_INVALID') throw new Error(`bit ${bit} was not found`);
    header[byte] ^= mask;
  }
  expect(codeOf(header)).toBeUndefined();
});

test('fewer than 4096 bytes are a truncated image', () => {
  const header = encodeHeader(new ImageFrame(facts));
  expect(codeOf(header.subarray(0, 4095))).toBe('IMAGE_TRUNCATED');
  expect(codeOf(Buffer.alloc(0))).toBe('IMAGE_TRUNCATED');
});

test('other bytes are no image', () => {
  expect(codeOf(Buffer.alloc(4096))).toBe('IMAGE_INVALID');
  expect(codeOf(Buffer.alloc(4096, 'SPDLHEAD'))).toBe('IMAGE_INVALID');
});

describe('a header with a right CRC is refused', () => {
  const cases: [string, ErrorCode, (header: Buffer) => void][] = [
    ['of a newer version', 'IMAGE_UNSUPPORTED', (h) => h.writeUInt32LE(2, 2056)],
    ['of version 0', 'IMAGE_INVALID', (h) => h.writeUInt32LE(0, 2056)],
    [
      'of version 0 with an unknown feature',
      'IMAGE_UNSUPPORTED',
      (h) => h.fill(0, 2056, 2060).fill(2, 2064, 2065),
    ],
    ['with an unknown feature', 'IMAGE_UNSUPPORTED', (h) => h.writeUInt8(2, 2064)],
    ['with the last unknown feature', 'IMAGE_UNSUPPORTED', (h) => h.writeUInt8(128, 2071)],
    ['that says it is incremental and has no base', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2064)],
    ['with a block size of 0', 'IMAGE_INVALID', (h) => h.writeUInt32LE(0, 2060)],
    ['with a block size of 2 GiB', 'IMAGE_INVALID', (h) => h.writeUInt32LE(2 ** 31, 2060)],
    ['with another image UUID', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2080)],
    ['with another copy UUID', 'IMAGE_INVALID', (h) => h.writeUInt8(2, 2096)],
    ['with a capacity of 2^63', 'IMAGE_INVALID', (h) => h.writeUInt8(128, 2135)],
    ['with 2^40 used blocks', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2141)],
    ['with 4 used blocks', 'IMAGE_INVALID', (h) => h.writeUInt8(4, 2136)],
    ['with a wrong length', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2160)],
    ['with zero ranges', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2168)],
    ['with options', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2239)],
    ['with a name of no bytes', 'IMAGE_INVALID', (h) => h.writeUInt8(0, 2240)],
    ['with a name of 255 bytes', 'IMAGE_INVALID', (h) => h.writeUInt8(255, 2240)],
    ['with a name that is no UTF-8', 'IMAGE_INVALID', (h) => h.writeUInt8(0xff, 2241)],
    ['with a name longer than said', 'IMAGE_INVALID', (h) => h.writeUInt8(5, 2240)],
    ['with a name that ends in half a letter', 'IMAGE_INVALID', (h) => h.writeUInt8(0xc3, 2246)],
    ['with a name that has a control', 'IMAGE_INVALID', (h) => h.writeUInt8(0x7f, 2242)],
    ['with the first reserved byte in use', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 2495)],
    ['with reserved bytes in use', 'IMAGE_INVALID', (h) => h.writeUInt8(1, 4091)],
  ];
  test.each(cases)('%s: %s', (_what, code, change) => {
    expect(codeOf(crafted(change))).toBe(code);
  });
});

test('an unknown read-only-compatible feature may use the reserved bytes', () => {
  const header = crafted((bytes) => {
    bytes.fill(0xff, 2072, 2080);
    bytes.fill('something', 2495, 4092);
  });
  expect(decodeHeader(header).facts).toEqual(facts);
  header.writeUInt8(1, 2494); // the last byte of the name
  header.writeUInt32LE(saltedCrc32('spindle image header', header.subarray(0, 4092)), 4092);
  expect(codeOf(header)).toBe('IMAGE_INVALID');
});
