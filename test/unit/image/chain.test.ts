/**
 * Chains of images: which belong together, what they cost to read, and what damage to one of them
 * costs the newest copy.
 */
import { describe, expect, test } from 'vitest';
import { isStorageError } from '../../../src/base/errors.ts';
import { chainSource } from '../../../src/image/chain-source.ts';
import { openChain } from '../../../src/image/chain.ts';
import type { ImageProblem } from '../../../src/image/damage.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import type { ImageBytes } from '../../../src/image/image-bytes.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import type { ImageSource } from '../../../src/image/writer.ts';
import {
  blockSizeBytes,
  contentOf,
  diskOf,
  ModelDisk,
  sourceOf,
  uuidOf,
} from '../../support/chain-model.ts';
import type { ModelCopy } from '../../support/chain-model.ts';
import { chainDisk, goldenChains, goldenImage } from '../../support/golden-images.ts';
import { codeOf, imageOf, MemoryBytes, MemoryCopy } from '../../support/image-source.ts';

/** Three copies of a small disk: written, then some anew and some discarded, then grown. */
function threeCopies(): [ModelCopy, ModelCopy, ModelCopy] {
  const disk = new ModelDisk(12);
  disk.write(0, 8, 1);
  const one = disk.freeze();
  disk.write(2, 2, 2);
  disk.discard(5, 2);
  const two = disk.freeze();
  disk.write(3, 1, 3);
  disk.resize(16);
  disk.write(14, 1, 4);
  return [one, two, disk.freeze()];
}

const [first, second, third] = threeCopies();

async function imagesOf(): Promise<[Buffer, Buffer, Buffer]> {
  const sources = [sourceOf(first), sourceOf(second, first), sourceOf(third, second)] as const;
  return [await imageOf(sources[0]), await imageOf(sources[1]), await imageOf(sources[2])];
}

function bytesOf(images: readonly Buffer[]): ImageBytes[] {
  return images.map((image) => new MemoryBytes(image));
}

interface Read {
  readonly disk: Buffer;
  readonly problems: ImageProblem[];
  readonly places: number[];
}

/** The disk that a chain restores, with zeros for what is lost. */
async function read(images: readonly Buffer[], onDamage: 'fail' | 'skip'): Promise<Read> {
  const chain = await openChain(bytesOf(images));
  const { facts } = chain;
  const made: Read = { disk: Buffer.alloc(facts.capacityBytes), problems: [], places: [] };
  const onProblem = (problem: ImageProblem): void => {
    made.problems.push(problem);
  };
  const size = facts.blockSizeBytes;
  for await (const { sourceBlocks, data, bad } of chain.segments({ onDamage, onProblem })) {
    sourceBlocks.forEach((place, index) => {
      made.places.push(place);
      if (bad.has(index)) return;
      const from = index * size;
      const end = from + Math.min(size, facts.capacityBytes - place * size);
      made.disk.set(data.subarray(from, end), place * size);
    });
  }
  return made;
}

describe('a chain of images', () => {
  test('is the newest copy', async () => {
    const images = await imagesOf();
    expect((await read(images, 'fail')).disk.equals(diskOf(third))).toBe(true);
    expect((await read(images.slice(0, 2), 'fail')).disk.equals(diskOf(second))).toBe(true);
    expect((await read(images.slice(0, 1), 'fail')).disk.equals(diskOf(first))).toBe(true);
  });

  test('has the facts of the full image of the newest copy, and makes it', async () => {
    const chain = await openChain(bytesOf(await imagesOf()));
    const full = sourceOf(third);
    expect(chain.facts).toEqual(full.facts);
    expect(chain.imageId).toBe(new ImageFrame(full.facts).imageId);
    expect((await imageOf(chainSource(chain))).equals(await imageOf(full))).toBe(true);
  });

  test.each(goldenChains)('of golden images %s … is restored today', async (...names) => {
    const images = names.map((name) => goldenImage(name));
    const { disk: restored, problems } = await read(images, 'fail');
    expect(problems).toEqual([]);
    expect(restored.equals(chainDisk(names))).toBe(true);
  });

  test('may go over to another disk that was made from a copy', async () => {
    const remapped = sourceOf(second, first);
    const source = new MemoryCopy({
      places: remapped.places,
      zeroRanges: remapped.zeroRanges,
      copyBlocks: 6,
      base: { copyId: uuidOf(1), generation: 1 },
      copyId: uuidOf(2),
      diskId: uuidOf(99),
      capacityBytes: 12 * blockSizeBytes,
      block: (_, length) => contentOf(2, length),
    });
    const images = [await imageOf(sourceOf(first)), await imageOf(source)];
    expect((await read(images, 'fail')).disk.equals(diskOf(second))).toBe(true);
  });

  test('ends when it is told to', async () => {
    const chain = await openChain(bytesOf(await imagesOf()));
    const controller = new AbortController();
    controller.abort();
    const segments = chain.segments({ onDamage: 'fail', signal: controller.signal });
    expect(await codeOf(() => segments.next())).toBe('CANCELLED');
    const source = chainSource(chain, controller.signal);
    expect(await codeOf(() => source.sourceBlocks(0, 1))).toBe('CANCELLED');
  });
});

describe('images that are no chain', () => {
  const missing = async (images: readonly Buffer[]): Promise<unknown> => {
    try {
      await openChain(bytesOf(images));
      return undefined;
    } catch (error) {
      return isStorageError(error) ? { code: error.code, ...error.details } : error;
    }
  };
  const wants = (copy: number, base: number): object => ({
    code: 'BASE_MISSING',
    copyId: uuidOf(copy),
    baseCopyId: uuidOf(base),
    baseGeneration: base,
  });

  test('are told which base is missing', async () => {
    const [full, one, two] = await imagesOf();
    expect(await missing([two])).toEqual(wants(3, 2));
    expect(await missing([one, two])).toEqual(wants(2, 1));
    expect(await missing([full, two])).toEqual(wants(3, 2));
    expect(await missing([full, two, one])).toEqual(wants(3, 2));
    expect(await missing([full, one, one])).toEqual(wants(2, 1));
  });

  test('with a base of another generation or another disk', async () => {
    const [full] = await imagesOf();
    const foreign = await imageOf(sourceOf({ ...first, id: uuidOf(77) }));
    const [, one] = await imagesOf();
    expect(await missing([foreign, one])).toEqual(wants(2, 1));
    const base = { copyId: uuidOf(1), generation: 2 };
    const wrong = new MemoryCopy({ places: [1], copyBlocks: 8, base, copyId: uuidOf(5) });
    expect(await missing([full, await imageOf(wrong)])).toMatchObject({
      code: 'BASE_MISSING',
      baseGeneration: 2,
    });
  });

  test('with two full ones, another block size, or something else', async () => {
    const [full, one] = await imagesOf();
    expect(await missing([full, full])).toMatchObject({ code: 'IMAGE_INVALID' });
    expect(await missing([full, one, full])).toMatchObject({ code: 'IMAGE_INVALID' });
    const base = { copyId: uuidOf(1), generation: 1 };
    const size = { blockSizeBytes: 2 * blockSizeBytes, copyId: uuidOf(5) };
    const coarse = await imageOf(new MemoryCopy({ places: [1], copyBlocks: 4, base, ...size }));
    expect(await missing([full, coarse])).toMatchObject({ code: 'IMAGE_INVALID' });
    expect(await missing([full, Buffer.alloc(9000)])).toMatchObject({ code: 'IMAGE_INVALID' });
    expect(await missing([full, one.subarray(0, 5)])).toMatchObject({ code: 'IMAGE_TRUNCATED' });
  });

  test.each([1, -1])('whose number of blocks is another by %i', async (more) => {
    const wrong = sourceOf(second, first, { copyBlocks: second.blocks.size + more });
    const images = [await imageOf(sourceOf(first)), await imageOf(wrong)];
    expect(await codeOf(() => read(images, 'fail'))).toBe('IMAGE_INVALID');
    const chain = await openChain(bytesOf(images));
    expect(await codeOf(() => imageOf(chainSource(chain)))).toBe('IMAGE_INVALID');
    const { problems, disk: restored } = await read(images, 'skip');
    expect(problems.map(({ code }) => code)).toEqual(['IMAGE_INVALID']);
    expect(restored.equals(diskOf(second))).toBe(true);
  });
});

describe('damage in a chain', () => {
  const newest = new ImageFrame(sourceOf(third, second).facts).layout;
  const middle = new ImageFrame(sourceOf(second, first).facts).layout;
  const lost = (place: number, count: number, exact: boolean): object => ({
    sourceOffset: place * blockSizeBytes,
    length: count * blockSizeBytes,
    exact,
  });
  const found = async (images: readonly Buffer[], holes: readonly number[]): Promise<object[]> => {
    const { disk: restored, problems } = await read(images, 'skip');
    const expected = diskOf(third);
    for (const place of holes) {
      expected.fill(0, place * blockSizeBytes, (place + 1) * blockSizeBytes);
    }
    expect(restored.equals(expected)).toBe(true);
    expect(await codeOf(() => read(images, 'fail'))).toBe(problems[0]?.code);
    return problems.flatMap((problem) => problem.lost);
  };
  const flip = (image: Buffer, at: number): void => {
    image[at] = (image[at] ?? 0) ^ 1;
  };

  test('to a block of the newest image loses it; no older one comes instead', async () => {
    const images = await imagesOf();
    flip(images[2], newest.segmentOffset(0) + newest.segmentHeadBytes(0));
    expect(await found(images, [3])).toEqual([lost(3, 1, true)]);
    await expect(read(images, 'fail')).rejects.toMatchObject({
      code: 'IMAGE_DAMAGED',
      details: { copyId: uuidOf(3), damaged: [lost(3, 1, true)] },
    });
  });

  test('to a block that a newer image has, too, costs nothing and is not seen', async () => {
    const images = await imagesOf();
    const data = middle.segmentOffset(0) + middle.segmentHeadBytes(0);
    flip(images[1], data + blockSizeBytes); // block 3
    flip(images[0], 8192 + 4096 + 5 * blockSizeBytes); // block 5 is a hole by now
    const { disk: restored, problems } = await read(images, 'fail');
    expect(problems).toEqual([]);
    expect(restored.equals(diskOf(third))).toBe(true);
  });

  test('to a head whose places the table tells loses just these', async () => {
    const images = await imagesOf();
    flip(images[1], middle.segmentOffset(0) + 252);
    expect(await found(images, [2])).toEqual([lost(2, 1, true)]);
  });

  test('to a head that the table repairs costs nothing', async () => {
    const images = await imagesOf();
    flip(images[1], middle.segmentOffset(0) + 256);
    expect(await found(images, [])).toEqual([]);
  });

  test('to head and table loses all that may be older, and nothing newer', async () => {
    const images = await imagesOf();
    flip(images[1], middle.segmentOffset(0) + 252);
    flip(images[1], middle.tableOffset);
    const ranges = await found(images, [0, 1, 2, 4, 7]);
    expect(ranges[0]).toEqual(lost(0, 12, false));
    expect(ranges.slice(1)).toEqual([lost(0, 3, false), lost(4, 1, false), lost(7, 1, false)]);
  });

  test('to zero ranges loses what they may have made holes', async () => {
    const images = await imagesOf();
    flip(images[1], middle.zeroPagesOffset);
    // 5 and 6 are holes, but nobody knows that; 2 and 3 are blocks of newer images
    const holes = [0, 1, 4, 5, 6, 7];
    expect(await found(images, holes)).toEqual([lost(0, 2, false), lost(4, 4, false)]);
  });

  test('of a cut image loses what it had', async () => {
    const images = await imagesOf();
    images[2] = images[2].subarray(0, newest.segmentsOffset);
    expect(await found(images, [3, 14])).toEqual([lost(3, 1, true), lost(14, 1, true)]);
    const chain = await openChain(bytesOf(images));
    expect(await codeOf(() => chain.checkComplete())).toBe('IMAGE_TRUNCATED');
  });

  test('of every kind is found wherever it is in a structure of any image', async () => {
    const images = await imagesOf();
    const expected = diskOf(third);
    const sources = [sourceOf(first), sourceOf(second, first), sourceOf(third, second)];
    for (const [index, { facts }] of sources.entries()) {
      const { layout } = new ImageFrame(facts);
      const image = images[index] ?? expect.fail('no image');
      for (let at = layout.zeroPagesOffset; at < image.length; at += at % 4096 < 400 ? 5 : 331) {
        const region = layout.regionAt(at);
        const isData = region.kind === 'segment' && at - region.offset >= region.headBytes;
        if (isData) continue;
        const bit = 1 << (at % 8);
        image[at] = (image[at] ?? 0) ^ bit;
        expect(await codeOf(() => read(images, 'fail')), `${index}: ${at}`).toMatch(/^IMAGE_/);
        const { disk: restored, problems } = await read(images, 'skip');
        for (const { sourceOffset, length } of problems.flatMap((problem) => problem.lost)) {
          expected.copy(restored, sourceOffset, sourceOffset, sourceOffset + length);
        }
        expect(restored.equals(expected), `${index}: ${at}`).toBe(true);
        image[at] = (image[at] ?? 0) ^ bit;
      }
    }
  });
});

describe('a chain of millions of blocks', () => {
  const count = 2 ** 20;
  const known = new Uint32Array(512).fill(7);

  /** An image that is made where it is read; its blocks are never asked for. */
  function virtualImage(source: ImageSource): ImageBytes & { bytesRead: number } {
    const writer = new ImageWriter(source);
    const bytes = {
      sizeBytes: writer.layout.imageBytes,
      bytesRead: 0,
      async read(offset: number, into: Uint8Array): Promise<void> {
        bytes.bytesRead += into.length;
        let at = 0;
        for await (const part of writer.read(offset, offset + into.length)) {
          into.set(part, at);
          at += part.length;
        }
      },
    };
    return bytes;
  }

  /** Every `stride`-th place is a block, the place behind it a hole. */
  function strided(copy: number, stride: number, blocks: number, base?: number): ImageSource {
    const template = new MemoryCopy({
      copyId: uuidOf(copy),
      generation: copy,
      places: [],
      capacityBytes: 2 * count * blockSizeBytes,
    });
    const zeroRanges = base === undefined ? 0 : blocks;
    const facts = {
      ...template.facts,
      usedBlocks: blocks,
      zeroRanges,
      base: base === undefined ? null : { copyId: uuidOf(base), generation: base },
      copyBlocks: base === undefined ? blocks : count - blocks,
    };
    return {
      facts,
      sourceBlocks: (from, length) =>
        Promise.resolve(Float64Array.from({ length }, (_, index) => (from + index) * stride)),
      zeroRangesAt: (from, length) =>
        Promise.resolve(
          Float64Array.from({ length: 2 * length }, (_, index) =>
            index % 2 === 1 ? 1 : (from + index / 2) * stride + 1,
          ),
        ),
      readBlocks: () => Promise.reject(new Error('no data is read')),
      knownChecksums: (segment) =>
        Promise.resolve(known.subarray(0, Math.min(512, blocks - segment * 512))),
      keepChecksums: () => Promise.resolve(),
    };
  }

  test('is merged as it comes: no table is read as a whole', { timeout: 120_000 }, async () => {
    const base = virtualImage(strided(1, 1, count));
    const changed = count / 4;
    const newer = virtualImage(strided(2, 4, changed, 1));
    const chain = await openChain([base, newer]);
    const merge = chain.merge({ onDamage: 'fail' });
    const batch = await merge.next(512);
    expect([...batch.places.subarray(0, 5)]).toEqual([0, 2, 3, 4, 6]);
    expect([...batch.members.subarray(0, 5)]).toEqual([1, 0, 0, 1, 0]);
    const { zeroPages } = new ImageFrame(strided(2, 4, changed, 1).facts).layout;
    expect(base.bytesRead).toBeLessThan(8 * 8192);
    expect(newer.bytesRead).toBeLessThan((zeroPages + 16) * 4096);
    while (merge.count < chain.facts.usedBlocks) await merge.next(512);
    await merge.next(1);
    expect(merge.count).toBe(count - changed);
  });
});
