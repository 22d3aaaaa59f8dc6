/**
 * Structures with right CRCs that contradict each other: crafted images, and images that were
 * mixed. The heads and the blocks decide what the disk gets; every contradiction is reported.
 */
import { describe, expect, test } from 'vitest';
import { writeU64 } from '../../../src/base/bytes.ts';
import { saltedCrc32 } from '../../../src/base/checksum.ts';
import { addRange } from '../../../src/image/damage.ts';
import type { LostRange } from '../../../src/image/damage.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import { ImageStreamReader } from '../../../src/image/stream-reader.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import {
  codeOf,
  imageOf,
  MemoryBytes,
  MemoryCopy,
  readImage,
  readStream,
} from '../../support/image-source.ts';

const blockSize = 16384;
const tableAt = 4096;
const headAt = 8192;
const copy = new MemoryCopy({ places: [1, 2, 5] });
const trailerAt = headAt + 4096 + 3 * blockSize;
const everything = [
  { sourceOffset: blockSize, length: 2 * blockSize, exact: true },
  { sourceOffset: 5 * blockSize, length: blockSize, exact: true },
];
const anywhere = [{ sourceOffset: 0, length: copy.facts.capacityBytes, exact: false }];

function sealTable(image: Buffer, at = tableAt): void {
  const crc = saltedCrc32('spindle image table', image.subarray(at, at + 4092));
  image.writeUInt32LE(crc, at + 4092);
}

function sealHead(image: Buffer, at = headAt): void {
  const count = image.readUInt32LE(at + 100);
  const fields = image.subarray(at, at + 252);
  const entries = image.subarray(at + 256, at + 256 + 12 * count);
  const covered = Buffer.concat([fields, entries]);
  image.writeUInt32LE(saltedCrc32('spindle image segment', covered), at + 252);
}

function sealTrailer(image: Buffer): void {
  const crc = saltedCrc32('spindle image trailer', image.subarray(trailerAt, trailerAt + 4092));
  image.writeUInt32LE(crc, trailerAt + 4092);
}

/** The small image with other places in its table, its head, or both. */
async function withPlaces(table: number[], head: number[]): Promise<Buffer> {
  const image = await imageOf(copy);
  table.forEach((place, x) => {
    writeU64(image, place, tableAt + 8 * x);
  });
  head.forEach((place, x) => {
    writeU64(image, place, headAt + 256 + 12 * x);
  });
  sealTable(image);
  sealHead(image);
  return image;
}

interface Judged {
  readonly codes: string[];
  readonly blocks: number;
  readonly lost: unknown;
}

/** What each reader finds in an image; both must agree. */
async function judged(image: Buffer): Promise<Judged> {
  const result = await verifyImage(new MemoryBytes(image));
  const codes = result.problems.map((problem) => problem.code);
  expect(result.ok).toBe(false);
  const stream = readStream(image, 'skip', [70_000]);
  expect(stream.problems.map((problem) => problem.code)).toEqual(codes);
  expect(stream.blocks.size).toBe(result.blocks);
  const damaged: LostRange[] = [];
  for (const range of stream.damaged) addRange(damaged, range);
  expect(damaged).toEqual(result.damaged);
  expect(codes).toContain(await codeOf(() => readImage(new MemoryBytes(image), 'fail')));
  expect(codes).toContain(await codeOf(() => readStream(image, 'fail')));
  return { codes, blocks: result.blocks, lost: result.damaged };
}

const invalid = 'IMAGE_INVALID';

describe('places', () => {
  const none = { codes: [invalid, invalid], blocks: 0, lost: anywhere };
  const all = { codes: [invalid], blocks: 3, lost: [] };
  const cases: [string, number[], number[], Judged][] = [
    ['that descend', [1, 5, 2], [1, 5, 2], none],
    ['that repeat', [1, 1, 5], [1, 1, 5], none],
    ['off the disk', [1, 2, 15], [1, 2, 15], none],
    ['of 2^52', [1, 2, 2 ** 52], [1, 2, 2 ** 52], none],
    ['of a table that descends', [2, 1, 5], [1, 2, 5], all],
    ['of a table that goes on', [1, 2, 5, 6], [1, 2, 5], all],
    [
      'of a head that descends',
      [1, 2, 5],
      [1, 5, 2],
      { ...none, codes: [invalid], lost: everything },
    ],
  ];
  test.each(cases)('%s are not used', async (_what, table, head, expected) => {
    expect(await judged(await withPlaces(table, head))).toEqual(expected);
  });

  test('in the head count where a possible table says otherwise', async () => {
    const image = await withPlaces([1, 2, 6], [1, 2, 5]);
    expect(await judged(image)).toEqual({ codes: [invalid], blocks: 3, lost: [] });
    const { blocks } = await readImage(new MemoryBytes(image), 'skip');
    expect([...blocks.keys()]).toEqual([1, 2, 5]);
  });

  test('that leave no room for those behind them are not used', async () => {
    const many = new MemoryCopy({ places: Array.from({ length: 1030 }, (_, x) => x) });
    const { layout, diskBlocks } = new ImageFrame(many.facts);
    const image = await imageOf(many);
    writeU64(image, diskBlocks - 520, tableAt + 8 * 509);
    sealTable(image);
    writeU64(image, diskBlocks - 518, layout.segmentOffset(0) + 256 + 12 * 511);
    sealHead(image, layout.segmentOffset(0));
    const found = await judged(image);
    expect(found.codes).toEqual([invalid, invalid]);
    expect(found.blocks).toBe(518);
  });
});

describe('a table', () => {
  test('whose second page repeats places of the first is not used', async () => {
    const many = new MemoryCopy({ places: Array.from({ length: 515 }, (_, x) => 2 * x) });
    const image = await imageOf(many);
    writeU64(image, 1018, tableAt + 4096);
    sealTable(image, tableAt + 4096);
    expect(await judged(image)).toEqual({ codes: ['IMAGE_INVALID'], blocks: 515, lost: [] });
  });

  test.each([
    ['another image', 4080],
    ['another place', 4088],
  ])('page of %s is not used', async (_what, at) => {
    const image = await imageOf(copy);
    image.writeUInt8(image.readUInt8(tableAt + at) ^ 1, tableAt + at);
    sealTable(image);
    expect(await judged(image)).toEqual({ codes: ['IMAGE_INVALID'], blocks: 3, lost: [] });
  });

  test('that lies is found where a head contradicts it', async () => {
    const places = Array.from({ length: 1024 }, (_, x) => x);
    const many = new MemoryCopy({ places, capacityBytes: 4096 * blockSize });
    const { layout } = new ImageFrame(many.facts);
    const image = await imageOf(many);
    for (const at of [layout.pageOffset(0), layout.pageOffset(1)]) {
      for (let x = 0; x < 510; x += 1) {
        writeU64(image, image.readUInt16LE(at + 8 * x) + 2000, at + 8 * x);
      }
      sealTable(image, at);
    }
    image.fill(0, layout.segmentOffset(0), layout.segmentOffset(0) + 256);
    const { problems, blocks } = await verifyImage(new MemoryBytes(image));
    const codes = ['IMAGE_DAMAGED', invalid, invalid]; // head 0, page 2, head 1 and page 1
    expect(problems.map((problem) => problem.code)).toEqual(codes);
    expect(blocks).toBe(512);
    expect(readStream(image, 'skip').blocks.size).toBe(512);
  });
});

describe('a head', () => {
  test('of another image costs its blocks', async () => {
    const image = await imageOf(copy);
    image.writeUInt8(image.readUInt8(headAt + 24) ^ 1, headAt + 24);
    sealHead(image);
    const codes = ['IMAGE_INVALID'];
    expect(await judged(image)).toEqual({ codes, blocks: 0, lost: everything });
  });

  test('of a newer version costs its blocks', async () => {
    const image = await imageOf(copy);
    image.writeUInt32LE(2, headAt + 8);
    sealHead(image);
    expect(await judged(image)).toMatchObject({ codes: ['IMAGE_INVALID'], blocks: 0 });
  });

  test('that changed places with another costs the blocks of both', async () => {
    const many = new MemoryCopy({ places: Array.from({ length: 1024 }, (_, x) => x) });
    const { layout } = new ImageFrame(many.facts);
    const image = await imageOf(many);
    const [first, second] = [layout.segmentOffset(0), layout.segmentOffset(1)];
    const swapped = Buffer.concat([
      image.subarray(0, first),
      image.subarray(second, layout.trailerOffset),
      image.subarray(first, second),
      image.subarray(layout.trailerOffset),
    ]);
    const lost = [{ sourceOffset: 0, length: 1024 * blockSize, exact: true }];
    const codes = ['IMAGE_INVALID', 'IMAGE_INVALID'];
    expect(await judged(swapped)).toEqual({ codes, blocks: 0, lost });
  });

  test('is never made good from blocks that an older image left there', async () => {
    const older = new MemoryCopy({
      places: copy.places,
      block: (place, size) => Buffer.alloc(size, place + 100),
    });
    const stale = await imageOf(older);
    const image = await imageOf(copy);
    stale.copy(image, headAt + 256, headAt + 256, trailerAt);
    const codes = ['IMAGE_DAMAGED'];
    expect(await judged(image)).toEqual({ codes, blocks: 0, lost: everything });
  });
});

describe('a trailer', () => {
  test('of another image is invalid', async () => {
    const image = await imageOf(copy);
    image.writeUInt8(image.readUInt8(trailerAt + 24) ^ 1, trailerAt + 24);
    sealTrailer(image);
    expect(await judged(image)).toEqual({ codes: ['IMAGE_INVALID'], blocks: 3, lost: [] });
  });

  test('with reserved bytes in use is invalid', async () => {
    const image = await imageOf(copy);
    image.writeUInt8(1, trailerAt + 3000);
    sealTrailer(image);
    expect(await judged(image)).toEqual({ codes: ['IMAGE_INVALID'], blocks: 3, lost: [] });
  });

  test('of other data is invalid, and what the heads prove is given', async () => {
    const image = await withPlaces([0, 2, 5], [0, 2, 5]);
    expect(await judged(image)).toEqual({ codes: ['IMAGE_INVALID'], blocks: 3, lost: [] });
  });

  test('proves the heads also if one had to be made good', async () => {
    const image = await withPlaces([0, 2, 5], [0, 2, 5]);
    image.writeUInt8(0, headAt + 260);
    image.writeUInt8(image.readUInt8(headAt + 5) ^ 1, headAt + 5);
    const codes = ['IMAGE_DAMAGED', 'IMAGE_INVALID'];
    expect(await judged(image)).toEqual({ codes, blocks: 3, lost: [] });
  });
});

test('a stream is compared with its table even where the table is not kept', async () => {
  const image = await withPlaces([1, 2, 6], [1, 2, 5]);
  const reader = new ImageStreamReader();
  expect(await codeOf(() => [...reader.push(image)])).toBe('IMAGE_INVALID');
});
