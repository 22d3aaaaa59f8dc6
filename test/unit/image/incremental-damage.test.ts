/**
 * Every flipped bit, cut and contradiction of an incremental image is found and attributed.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { MAX_CAPACITY_BYTES, MAX_POOL_BLOCKS } from '../../../src/base/units.ts';
import { addRange, Fault } from '../../../src/image/damage.ts';
import type { LostRange } from '../../../src/image/damage.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import { decodeHeader, encodeHeader } from '../../../src/image/header.ts';
import { ImageStreamReader } from '../../../src/image/stream-reader.ts';
import { examineSegment } from '../../../src/image/segment-check.ts';
import { decodeTrailer } from '../../../src/image/trailer.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { decodeZeroPage } from '../../../src/image/zero-ranges.ts';
import {
  codeOf,
  imageOf,
  MemoryBytes,
  MemoryCopy,
  readImage,
  readStream,
} from '../../support/image-source.ts';
import {
  base,
  blockSize,
  headAt,
  places,
  seal,
  smallIncrement,
  tableAt,
  trailerAt,
  withRanges,
  zeroRanges,
  zerosAt,
} from '../../support/incremental-image.ts';

const copy = smallIncrement();
const frame = new ImageFrame(copy.facts);
const known = {
  table: Float64Array.from(places),
  beforeHead: -1,
  before: -1,
  after: frame.diskBlocks,
};
const anywhere = { sourceOffset: 0, length: copy.facts.capacityBytes, exact: false };
let image: Buffer;

beforeAll(async () => {
  image = await imageOf(copy);
});

/** What both readers find; they must agree. */
async function judged(bytes: Buffer): Promise<{ codes: string[]; blocks: number; lost: unknown }> {
  const result = await verifyImage(new MemoryBytes(bytes));
  const codes = result.problems.map((problem) => problem.code);
  expect(result.ok).toBe(false);
  const stream = readStream(bytes, 'skip', [70_000]);
  expect(stream.problems.map((problem) => problem.code)).toEqual(codes);
  expect(stream.blocks.size).toBe(result.blocks);
  const lost: LostRange[] = [];
  for (const range of stream.problems.flatMap((problem) => problem.lost)) addRange(lost, range);
  expect(lost).toEqual(result.damaged);
  expect(codes).toContain(await codeOf(() => readImage(new MemoryBytes(bytes), 'fail')));
  expect(codes).toContain(await codeOf(() => readStream(bytes, 'fail')));
  return { codes, blocks: result.blocks, lost: result.damaged };
}

function forEachFlip(bytes: Buffer, from: number, to: number, body: (bit: number) => void): void {
  for (let bit = from * 8; bit < to * 8; bit += 1) {
    const byte = Math.floor(bit / 8);
    const before = bytes[byte] ?? 0;
    bytes[byte] = before ^ (1 << (bit % 8));
    body(bit);
    bytes[byte] = before;
  }
}

function check(isRight: boolean, bit: number): void {
  if (!isRight) throw new Error(`flipped bit ${bit} was not found or not attributed`);
}

describe('every flipped bit', () => {
  test('of the header is found', async () => {
    const header = Buffer.from(image.subarray(0, 4096));
    const codes = new Set<string | undefined>();
    for (let bit = 0; bit < 4096 * 8; bit += 1) {
      const byte = Math.floor(bit / 8);
      header[byte] = (header[byte] ?? 0) ^ (1 << (bit % 8));
      codes.add(await codeOf(() => decodeHeader(header)));
      header[byte] ^= 1 << (bit % 8);
    }
    expect([...codes]).toEqual(['IMAGE_INVALID']);
  });

  test('of a page of zero ranges is found', () => {
    const page = Buffer.from(image.subarray(zerosAt, headAt));
    forEachFlip(page, 0, page.length, (bit) => {
      const decoded = decodeZeroPage(frame, 0, page, -1);
      check(decoded instanceof Fault && decoded.code === 'IMAGE_DAMAGED', bit);
    });
    expect(decodeZeroPage(frame, 0, page, -1)).toEqual(Float64Array.from(zeroRanges.flat()));
  });

  test('of a head costs nothing, unless it is in the CRC: then its blocks', () => {
    const segment = Buffer.from(image.subarray(headAt, trailerAt));
    forEachFlip(segment, 0, 4096, (bit) => {
      const { problems, segment: found } = examineSegment(frame, 0, segment, known);
      const inCrc = bit >= 252 * 8 && bit < 256 * 8;
      check(problems.length === 1 && problems[0]?.code === 'IMAGE_DAMAGED', bit);
      check(found.bad.size === (inCrc ? 3 : 0), bit);
    });
    expect(examineSegment(frame, 0, segment, known).problems).toEqual([]);
  });

  test('of the trailer is found', () => {
    const trailer = Buffer.from(image.subarray(trailerAt));
    forEachFlip(trailer, 0, trailer.length, (bit) => {
      const decoded = decodeTrailer(frame, trailer);
      check(decoded instanceof Fault && decoded.code === 'IMAGE_TRUNCATED', bit);
    });
    expect(decodeTrailer(frame, trailer)).toBeInstanceOf(Buffer);
  });

  const lastBlock = { sourceOffset: 5 * blockSize, length: blockSize, exact: true };
  const damages: [string, number, string, object[]][] = [
    ['in the table', tableAt + 9, 'IMAGE_DAMAGED', []],
    ['in the zero ranges', zerosAt + 17, 'IMAGE_DAMAGED', [anywhere]],
    ['behind the zero ranges', zerosAt + 1000, 'IMAGE_DAMAGED', [anywhere]],
    ['in the base of a head', headAt + 112, 'IMAGE_DAMAGED', []],
    ['in the last block', trailerAt - 1, 'IMAGE_DAMAGED', [lastBlock]],
    ['in the trailer', trailerAt + 64, 'IMAGE_TRUNCATED', []],
  ];
  test.each(damages)('%s is reported with what it costs', async (_what, at, code, lost) => {
    const damaged = Buffer.from(image);
    damaged[at] = (damaged[at] ?? 0) ^ 4;
    const blocks = lost.includes(lastBlock) ? 2 : 3;
    expect(await judged(damaged)).toEqual({ codes: [code], blocks, lost });
  });
});

describe('zero ranges with a right CRC', () => {
  const unusable = { codes: ['IMAGE_INVALID'], blocks: 3, lost: [anywhere] };
  const cases: [string, [number, number][]][] = [
    [
      'that overlap',
      [
        [0, 1],
        [3, 3],
        [4, 4],
      ],
    ],
    [
      'that touch',
      [
        [0, 1],
        [3, 4],
        [7, 4],
      ],
    ],
    [
      'that descend',
      [
        [7, 4],
        [3, 2],
        [0, 1],
      ],
    ],
    [
      'that repeat',
      [
        [3, 2],
        [3, 2],
        [7, 1],
      ],
    ],
    [
      'that are empty',
      [
        [0, 1],
        [3, 0],
        [7, 4],
      ],
    ],
    [
      'that begin beyond the disk',
      [
        [0, 1],
        [3, 2],
        [15, 1],
      ],
    ],
    [
      'that end beyond the disk',
      [
        [0, 1],
        [3, 2],
        [7, 9],
      ],
    ],
    [
      'with a length of 2^52',
      [
        [0, 1],
        [3, 2],
        [7, 2 ** 52],
      ],
    ],
    [
      'of which there are too many',
      [
        [0, 1],
        [3, 2],
        [7, 4],
        [12, 1],
      ],
    ],
  ];
  test.each(cases)('%s are not used', async (_what, ranges) => {
    expect(await judged(withRanges(image, ranges))).toEqual(unusable);
  });

  test('with numbers above 2^53 are not used', async () => {
    const crafted = withRanges(image, [...zeroRanges]);
    crafted.writeUInt8(0xff, zerosAt + 15);
    seal(crafted.subarray(zerosAt, headAt), 'spindle image zeros');
    expect(await judged(crafted)).toEqual(unusable);
  });

  test.each([
    ['another image', 4080],
    ['another place', 4088],
  ])('of %s are not used', async (_what, at) => {
    const crafted = Buffer.from(image);
    crafted.writeUInt8(crafted.readUInt8(zerosAt + at) ^ 1, zerosAt + at);
    seal(crafted.subarray(zerosAt, headAt), 'spindle image zeros');
    expect(await judged(crafted)).toEqual(unusable);
  });

  test('that hold a block are reported; the block counts', async () => {
    const codes = ['IMAGE_INVALID', 'IMAGE_INVALID']; // and the digest
    const crafted = withRanges(image, [
      [0, 1],
      [4, 2],
      [7, 4],
    ]);
    expect(await judged(crafted)).toEqual({ codes, blocks: 3, lost: [] });
  });

  test('that were exchanged for other possible ones are found by the digest', async () => {
    const crafted = withRanges(image, [
      [0, 1],
      [3, 1],
      [7, 4],
    ]);
    expect(await judged(crafted)).toEqual({ codes: ['IMAGE_INVALID'], blocks: 3, lost: [] });
  });
});

describe('pages of zero ranges', () => {
  const many = new MemoryCopy({
    places: [1],
    capacityBytes: 4000 * blockSize,
    base,
    zeroRanges: Array.from({ length: 800 }, (_, x) => [10 + 4 * x, 2] as const),
  });
  const { layout } = new ImageFrame(many.facts);

  test('that are damaged leave unknown what lies between their neighbours', async () => {
    const damaged = await imageOf(many);
    for (const page of [1, 2]) damaged[layout.zeroPageOffset(page)] = 0xff;
    const first = 10 + 4 * 254 + 2 + 1;
    const end = 10 + 4 * 765 - 1;
    expect(await judged(damaged)).toEqual({
      codes: ['IMAGE_DAMAGED', 'IMAGE_DAMAGED'],
      blocks: 1,
      lost: [{ sourceOffset: first * blockSize, length: (end - first) * blockSize, exact: false }],
    });
  });

  test('that changed places are not used', async () => {
    const mixed = await imageOf(many);
    const [a, b] = [layout.zeroPageOffset(0), layout.zeroPageOffset(1)];
    const page = Buffer.from(mixed.subarray(a, a + 4096));
    mixed.copy(mixed, a, b, b + 4096);
    page.copy(mixed, b);
    expect(await judged(mixed)).toMatchObject({ codes: ['IMAGE_INVALID', 'IMAGE_INVALID'] });
  });

  test('that are missing are told with all they cost', async () => {
    const cut = (await imageOf(many)).subarray(0, layout.zeroPageOffset(2));
    const first = 10 + 4 * 509 + 2 + 1;
    const length = (4000 - first) * blockSize;
    const lost = { sourceOffset: first * blockSize, length, exact: false };
    const result = await verifyImage(new MemoryBytes(cut));
    expect(new Set(result.problems.map(({ code }) => code))).toEqual(new Set(['IMAGE_TRUNCATED']));
    const block = { sourceOffset: blockSize, length: blockSize, exact: true };
    expect(result.damaged).toEqual([block, lost]);
    const problems = readStream(cut, 'skip', [9999]).problems;
    expect(problems.flatMap((problem) => problem.lost)).toEqual([lost, block]);
  });
});

describe('a cut', () => {
  const cuts = Array.from({ length: (trailerAt + 4096) / 512 }, (_, index) => index * 512);

  test.each(cuts)('to %i bytes is found', async (length) => {
    const bytes = image.subarray(0, length);
    expect(await codeOf(() => readStream(bytes, 'fail', [3000]))).toBe('IMAGE_TRUNCATED');
    expect(await codeOf(() => readImage(new MemoryBytes(bytes), 'fail'))).toBe('IMAGE_TRUNCATED');
    const result = await verifyImage(new MemoryBytes(bytes));
    expect(result.ok).toBe(false);
    const wholeBlocks = Math.floor((length - headAt - 4096) / blockSize);
    expect(result.blocks).toBe(Math.min(3, Math.max(0, wholeBlocks)));
    if (length < 4096) return;
    expect(readStream(bytes, 'skip', [3000]).blocks.size).toBe(result.blocks);
    if (length < headAt) expect(result.damaged).toContainEqual(anywhere);
  });

  const huge = new ImageFrame({
    ...copy.facts,
    capacityBytes: MAX_CAPACITY_BYTES,
    zeroRanges: MAX_POOL_BLOCKS,
    copyBlocks: MAX_POOL_BLOCKS,
  });

  test('of an image that claims 2^32 zero ranges is judged at once', async () => {
    const image = Buffer.concat([encodeHeader(huge), Buffer.alloc(20_000)]);
    const result = await verifyImage(new MemoryBytes(image));
    expect(result.ok).toBe(false);
    expect(result.damaged).toContainEqual({
      sourceOffset: 0,
      length: MAX_CAPACITY_BYTES,
      exact: false,
    });
    const reader = new ImageStreamReader({ onDamage: 'skip', onProblem: () => undefined });
    expect([...reader.push(image)].map(({ kind }) => kind)).toEqual(['header']);
    expect([...reader.finish()]).toEqual([]);
  });
});
