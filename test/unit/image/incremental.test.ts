/**
 * Incremental images: blocks that changed, ranges that are holes now, and the base they need.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { MAX_CAPACITY_BYTES, MAX_POOL_BLOCKS, MIB } from '../../../src/base/units.ts';
import { ImageFrame, factsProblem, ImageLayout } from '../../../src/image/format.ts';
import type { ImageFacts } from '../../../src/image/format.ts';
import { decodeHeader, encodeHeader } from '../../../src/image/header.ts';
import { ImageReader } from '../../../src/image/reader.ts';
import { ImageStreamReader } from '../../../src/image/stream-reader.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import {
  codeOf,
  copyId,
  diskId,
  imageOf,
  MemoryBytes,
  MemoryCopy,
  readImage,
  readStream,
} from '../../support/image-source.ts';
import {
  base,
  headAt,
  places,
  seal,
  smallIncrement,
  zerosAt,
} from '../../support/incremental-image.ts';

const copy = smallIncrement();
const frame = new ImageFrame(copy.facts);
let image: Buffer;

beforeAll(async () => {
  image = await imageOf(copy);
});

describe('the layout of an incremental image', () => {
  test('has pages of 255 zero ranges between table and segments', () => {
    for (const count of [0, 1, 255, 256, 511]) {
      const layout = new ImageLayout({ usedBlocks: 511, blockSizeBytes: 16384, zeroRanges: count });
      expect(layout.zeroPages).toBe(Math.ceil(count / 255));
      const kinds: string[] = [];
      for (let offset = 0; offset < layout.imageBytes;) {
        const region = layout.regionAt(offset);
        expect(region.offset).toBe(offset);
        expect(layout.regionAt(offset + region.length - 1)).toEqual(region);
        kinds.push(region.kind);
        offset += region.length;
      }
      const zeros = Array.from({ length: layout.zeroPages }, () => 'zeros');
      expect(kinds).toEqual(['header', 'table', 'table', ...zeros, 'segment', 'trailer']);
    }
  });

  test('of nothing that changed is a header and a trailer', async () => {
    const untouched = new MemoryCopy({ places: [], base, copyBlocks: 2, capacityBytes: MIB });
    const bytes = await imageOf(untouched);
    expect(bytes).toHaveLength(8192);
    expect(await verifyImage(new MemoryBytes(bytes))).toMatchObject({ ok: true, blocks: 0 });
    expect(readStream(bytes, 'fail').blocks.size).toBe(0);
  });
});

describe('the facts of an incremental image', () => {
  test('are read as they were written', () => {
    expect(decodeHeader(image).facts).toEqual(copy.facts);
    expect(copy.facts).toMatchObject({ base, zeroRanges: 3, copyBlocks: 4, usedBlocks: 3 });
  });

  test('give it a UUID that depends on copy and base', () => {
    const id = (change: Partial<ImageFacts>): string =>
      new ImageFrame({ ...copy.facts, ...change }).imageId;
    const full = id({ base: null, zeroRanges: 0, copyBlocks: 3 });
    const older = id({ base: { ...base, generation: 2 } });
    expect(new Set([frame.imageId, full, older]).size).toBe(3);
    expect(id({ diskName: 'renamed', copyBlocks: 5 })).toBe(frame.imageId);
  });

  test('fit into the text with the largest numbers', () => {
    const largest = {
      ...copy.facts,
      diskName: 'ä'.repeat(127),
      capacityBytes: MAX_CAPACITY_BYTES,
      blockSizeBytes: MIB,
      usedBlocks: MAX_POOL_BLOCKS / 2,
      zeroRanges: MAX_POOL_BLOCKS / 2,
      copyBlocks: MAX_POOL_BLOCKS,
      generation: Number.MAX_SAFE_INTEGER,
      base: { copyId: diskId, generation: Number.MAX_SAFE_INTEGER - 1 },
      frozenAtMs: 8.64e15,
    };
    const header = encodeHeader(new ImageFrame(largest));
    expect(decodeHeader(header).facts).toEqual(largest);
    expect(header.toString('utf8', 0, 2048)).toMatch(/the image is not complete\.\n *\n$/);
  });

  test('say in the text that a base is needed, and which', () => {
    const text = image.toString('utf8', 0, 2048);
    expect(text).toMatch(/^Spindle image, format version 1, incremental\n/);
    expect(text).toContain(`base id    ${diskId}, generation 3`);
    expect(text).toContain('changed    3 blocks, 49152 bytes, zero ranges: 3');
    expect(text).toContain('restore FULL ... THIS-FILE disk.raw');
  });

  const wrong: [string, Partial<ImageFacts>][] = [
    ['a base that is the copy itself', { base: { copyId, generation: 3 } }],
    ['a base that is no UUID', { base: { copyId: 'x', generation: 3 } }],
    ['a base of the same generation', { base: { ...base, generation: 7 } }],
    ['a base of generation 0', { base: { ...base, generation: 0 } }],
    ['more ranges than places are left', { zeroRanges: 13 }],
    ['fewer ranges than none', { zeroRanges: -1 }],
    ['more blocks than the copy', { copyBlocks: 2 }],
    ['more blocks in the copy than places without ranges', { copyBlocks: 13 }],
    ['zero ranges without a base', { base: null, copyBlocks: 3 }],
    ['other blocks of the copy without a base', { base: null, zeroRanges: 0 }],
  ];
  test.each(wrong)('%s are refused', (_what, change) => {
    expect(factsProblem(copy.facts)).toBeUndefined();
    expect(factsProblem({ ...copy.facts, ...change })).toEqual(expect.any(String));
  });

  const crafted: [string, (header: Buffer) => void][] = [
    ['a full image that has a base', (h) => h.writeUInt8(0, 2064)],
    ['flags', (h) => h.writeUInt8(1, 2176)],
    ['a base generation above 2^53', (h) => h.writeUInt8(0xff, 2176 + 31)],
    ['another base', (h) => h.writeUInt8(0xff, 2176 + 8)],
    ['reserved options', (h) => h.writeUInt8(1, 2176 + 63)],
    ['2^60 zero ranges', (h) => h.writeUInt8(16, 2168 + 7)],
    ['zero ranges for a length of three more', (h) => h.writeUInt16LE(3 * 255 + 1, 2168)],
    ['fewer blocks in the copy', (h) => h.writeUInt8(2, 2496)],
    ['a copy of 2^60 blocks', (h) => h.writeUInt8(16, 2496 + 7)],
    ['a reserved byte before them', (h) => h.writeUInt8(1, 2495)],
    ['a reserved byte behind them', (h) => h.writeUInt8(1, 2504)],
  ];
  test.each(crafted)('with a right CRC and %s are refused', async (_what, change) => {
    const header = Buffer.from(image.subarray(0, 4096));
    change(header);
    seal(header, 'spindle image header');
    const bytes = Buffer.concat([header, image.subarray(4096)]);
    expect(await codeOf(() => readImage(new MemoryBytes(bytes), 'skip'))).toBe('IMAGE_INVALID');
    expect(await codeOf(() => readStream(bytes, 'skip'))).toBe('IMAGE_INVALID');
  });
});

describe('an incremental image', () => {
  test('gives its blocks, by random access and as a stream', async () => {
    for (const read of [
      await readImage(new MemoryBytes(image), 'fail'),
      readStream(image, 'fail', [1, 5000]),
    ]) {
      expect([...read.blocks.keys()]).toEqual(places);
      expect(read.problems).toEqual([]);
    }
    expect(await verifyImage(new MemoryBytes(image))).toMatchObject({ ok: true, blocks: 3 });
  });

  test('is the same in parts, whatever is known', async () => {
    const many = new MemoryCopy({
      places: Array.from({ length: 600 }, (_, x) => 4 * x),
      base,
      zeroRanges: Array.from({ length: 600 }, (_, x) => [4 * x + 2, 1] as const),
    });
    const whole = await imageOf(many);
    const { layout } = new ImageFrame(many.facts);
    const cuts = [0, 4000, layout.zeroPagesOffset + 5, layout.zeroPageOffset(1) + 4000];
    const at = [...cuts, layout.segmentsOffset - 1, layout.segmentOffset(1), whole.length];
    many.kept.clear();
    const parts: Buffer[] = [];
    for (const [index, from] of at.slice(0, -1).entries()) {
      parts.push(await imageOf(many, from, at[index + 1]));
    }
    expect(Buffer.concat(parts).equals(whole)).toBe(true);
    expect(await verifyImage(new MemoryBytes(whole))).toMatchObject({ ok: true, blocks: 600 });
    expect(readStream(whole, 'fail', [777]).blocks.size).toBe(600);
  });

  test('goes on in a stream at a segment and is proven then', () => {
    const first = new ImageStreamReader();
    const before = [...first.push(image.subarray(0, headAt + 5000))];
    expect(before.map(({ kind }) => kind)).toEqual(['header']);
    expect(first.confirmedBytes).toBe(headAt);
    const state = first.state ?? expect.fail('no state');
    const second = ImageStreamReader.resume(state);
    const kinds = [...second.push(image.subarray(headAt))].map(({ kind }) => kind);
    expect(kinds).toEqual(['segment', 'end']);
  });

  test('from a later segment on is read without its zero ranges', async () => {
    const bytes = new MemoryBytes(image, [zerosAt]);
    const reader = await ImageReader.open(bytes);
    const segments = reader.segments({ from: 1, onDamage: 'fail' });
    expect((await segments.next()).done).toBe(true);
  });
});
