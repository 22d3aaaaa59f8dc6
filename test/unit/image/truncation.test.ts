/**
 * Images that end too early, too late, or claim what they do not hold.
 */
import { describe, expect, test } from 'vitest';
import { writeU64 } from '../../../src/base/bytes.ts';
import { saltedCrc32 } from '../../../src/base/checksum.ts';
import { MAX_CAPACITY_BYTES, MAX_POOL_BLOCKS, MIB } from '../../../src/base/units.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import { encodeHeader } from '../../../src/image/header.ts';
import { ImageReader } from '../../../src/image/reader.ts';
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
const copy = new MemoryCopy({ places: [1, 2, 5] });
const imageBytes = 4096 * 4 + 3 * blockSize;
const cuts = Array.from({ length: imageBytes / 512 }, (_, index) => index * 512);

test.each(cuts)('an image of its first %i bytes is truncated', async (length) => {
  const image = (await imageOf(copy)).subarray(0, length);
  expect(await codeOf(() => readStream(image, 'fail', [3000]))).toBe('IMAGE_TRUNCATED');
  expect(await codeOf(() => readImage(new MemoryBytes(image), 'fail'))).toBe('IMAGE_TRUNCATED');
  const result = await verifyImage(new MemoryBytes(image));
  expect(result.ok).toBe(false);
  expect(result.problems[0]?.code).toBe('IMAGE_TRUNCATED');
  const wholeBlocks = Math.floor((length - 3 * 4096) / blockSize);
  expect(result.blocks).toBe(Math.min(3, Math.max(0, wholeBlocks)));
  if (length < 4096) return;
  const lostBytes = result.damaged.reduce((sum, range) => sum + range.length, 0);
  if (length >= 8192) expect(lostBytes).toBe((3 - result.blocks) * blockSize);
  else expect(lostBytes).toBe(copy.facts.capacityBytes);
  const stream = readStream(image, 'skip', [3000]);
  expect(stream.blocks.size).toBe(result.blocks);
});

test('a truncated image is refused before any of it is given', async () => {
  const image = (await imageOf(copy)).subarray(0, imageBytes - 1);
  const reader = await ImageReader.open(new MemoryBytes(image));
  await expect(reader.checkComplete()).rejects.toMatchObject({ code: 'IMAGE_TRUNCATED' });
  await expect(reader.segments({ onDamage: 'fail' }).next()).rejects.toMatchObject({
    code: 'IMAGE_TRUNCATED',
  });
});

test('bytes behind the trailer are refused', async () => {
  const image = Buffer.concat([await imageOf(copy), Buffer.alloc(1)]);
  expect(await codeOf(() => readImage(new MemoryBytes(image), 'fail'))).toBe('IMAGE_INVALID');
  expect(await codeOf(() => readStream(image, 'fail'))).toBe('IMAGE_INVALID');
  const result = await verifyImage(new MemoryBytes(image));
  expect(result).toMatchObject({ ok: false, blocks: 3, damaged: [] });
});

test('an image that misses whole segments names all their blocks', async () => {
  const many = new MemoryCopy({ places: Array.from({ length: 1600 }, (_, x) => x + 7) });
  const { layout } = new ImageFrame(many.facts);
  const image = (await imageOf(many)).subarray(0, layout.segmentOffset(1));
  const lost = [{ sourceOffset: 519 * blockSize, length: 1088 * blockSize, exact: true }];
  const result = await verifyImage(new MemoryBytes(image));
  expect(result).toMatchObject({ blocks: 512, damaged: lost });
  expect(result.problems.map((problem) => problem.code)).toEqual([
    'IMAGE_TRUNCATED',
    'IMAGE_TRUNCATED',
  ]);
  const problems = readStream(image, 'skip').problems;
  expect(problems.at(-1)).toMatchObject({ code: 'IMAGE_TRUNCATED', lost });
});

describe('an image that claims 2^32 blocks of 1 MiB and holds nothing', () => {
  const huge = new ImageFrame({
    ...copy.facts,
    capacityBytes: MAX_CAPACITY_BYTES,
    blockSizeBytes: MIB,
    usedBlocks: MAX_POOL_BLOCKS,
  });
  const everything = [{ sourceOffset: 0, length: MAX_CAPACITY_BYTES, exact: false }];

  test.each([4096, 8192, 20000])('is judged at once if it has %i bytes', async (length) => {
    const image = Buffer.concat([encodeHeader(huge), Buffer.alloc(length - 4096)]);
    const result = await verifyImage(new MemoryBytes(image));
    expect(result).toMatchObject({ ok: false, blocks: 0, damaged: everything });
    expect(readStream(image, 'skip').problems.at(-1)?.lost).toEqual(everything);
    expect(await codeOf(() => readStream(image, 'fail'))).toBe(
      length === 4096 ? 'IMAGE_TRUNCATED' : 'IMAGE_DAMAGED',
    );
  });
});

describe('a crafted image with right checksums', () => {
  /** The small image with other places in its table or its head. */
  async function crafted(table: number[], head: number[]): Promise<Buffer> {
    const image = await imageOf(copy);
    table.forEach((place, x) => {
      writeU64(image, place, 4096 + 8 * x);
    });
    head.forEach((place, x) => {
      writeU64(image, place, 8192 + 256 + 12 * x);
    });
    const tableCrc = saltedCrc32('spindle image table', image.subarray(4096, 8188));
    image.writeUInt32LE(tableCrc, 8188);
    const fields = image.subarray(8192, 8192 + 252);
    const entries = image.subarray(8192 + 256, 8192 + 256 + 36);
    const covered = Buffer.concat([fields, entries]);
    image.writeUInt32LE(saltedCrc32('spindle image segment', covered), 8192 + 252);
    return image;
  }

  const cases: [string, number[], number[]][] = [
    ['whose places descend', [1, 5, 2], [1, 5, 2]],
    ['whose places repeat', [1, 1, 5], [1, 1, 5]],
    ['with a place off the disk', [1, 2, 15], [1, 2, 15]],
    ['with a place of 2^52', [1, 2, 2 ** 52], [1, 2, 2 ** 52]],
    ['whose table and segment disagree', [1, 2, 6], [1, 2, 5]],
    ['with entries beyond the last block', [1, 2, 5, 6], [1, 2, 5]],
  ];

  test.each(cases)('%s is invalid', async (_what, table, head) => {
    const image = await crafted(table, head);
    expect(await codeOf(() => readImage(new MemoryBytes(image), 'fail'))).toBe('IMAGE_INVALID');
    expect(await codeOf(() => readImage(new MemoryBytes(image), 'skip'))).toBe('IMAGE_INVALID');
    expect(await codeOf(() => readStream(image, 'fail'))).toBe('IMAGE_INVALID');
    const result = await verifyImage(new MemoryBytes(image));
    expect(result.ok).toBe(false);
    expect(result.problems.at(-1)?.code).toBe('IMAGE_INVALID');
  });

  test('whose trailer belongs to other data is invalid', async () => {
    const image = await crafted([0, 2, 5], [0, 2, 5]);
    expect(await codeOf(() => readImage(new MemoryBytes(image), 'fail'))).toBe('IMAGE_INVALID');
    expect(await codeOf(() => readStream(image, 'fail'))).toBe('IMAGE_INVALID');
    const result = await verifyImage(new MemoryBytes(image));
    expect(result.problems.map((problem) => problem.code)).toEqual(['IMAGE_INVALID']);
  });
});

test('two segments that changed places are both lost', async () => {
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
  const result = await verifyImage(new MemoryBytes(swapped));
  expect(result).toMatchObject({
    blocks: 0,
    problemCount: 2,
    damaged: [{ sourceOffset: 0, length: 1024 * blockSize, exact: true }],
  });
});

test('a stream that is not read to its end refuses the next push', async () => {
  const image = await imageOf(copy);
  const reader = new ImageStreamReader();
  const events = reader.push(image);
  events.next();
  expect(() => reader.push(image).next()).toThrow('assertion failed');
});
