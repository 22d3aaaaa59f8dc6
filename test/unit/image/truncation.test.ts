/**
 * Images that end too early, too late, or claim what they do not hold.
 */
import { describe, expect, test } from 'vitest';
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
  expect(result.problems.map((problem) => problem.code)).toEqual(['IMAGE_INVALID']);
});

test('bytes behind the trailer cost nothing and are reported once', async () => {
  const image = Buffer.concat([await imageOf(copy), Buffer.alloc(90_000)]);
  for (const read of [
    await readImage(new MemoryBytes(image), 'skip'),
    readStream(image, 'skip', [4000]),
  ]) {
    expect(read.problems.map((problem) => problem.code)).toEqual(['IMAGE_INVALID']);
    expect(read.blocks.size).toBe(3);
  }
});

test('a longer image with a damaged trailer has both problems', async () => {
  const image = Buffer.concat([await imageOf(copy), Buffer.alloc(1)]);
  image.fill(0, imageBytes - 4096, imageBytes);
  const { problems } = await verifyImage(new MemoryBytes(image));
  expect(problems.map((problem) => problem.code)).toEqual(['IMAGE_INVALID', 'IMAGE_TRUNCATED']);
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
    copyBlocks: MAX_POOL_BLOCKS,
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

test('a stream that is not read to its end refuses the next push', async () => {
  const image = await imageOf(copy);
  const reader = new ImageStreamReader();
  const events = reader.push(image);
  events.next();
  expect(() => reader.push(image).next()).toThrow('assertion failed');
});
