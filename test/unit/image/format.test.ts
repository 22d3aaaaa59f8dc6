import { describe, expect, test } from 'vitest';
import { factsProblem, ImageFrame, ImageLayout } from '../../../src/image/format.ts';
import type { ImageFacts } from '../../../src/image/format.ts';
import { MAX_CAPACITY_BYTES, MAX_POOL_BLOCKS, MIB } from '../../../src/base/units.ts';
import { MemoryCopy } from '../../support/image-source.ts';

const { facts } = new MemoryCopy({ places: [1, 2, 5] });
const blockSizes = [16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * 1024);

test('an image of nothing is a header and a trailer', () => {
  const layout = new ImageLayout({ usedBlocks: 0, blockSizeBytes: 65536 });
  expect(layout.segmentCount).toBe(0);
  expect(layout.tablePages).toBe(0);
  expect(layout.imageBytes).toBe(8192);
  expect(layout.regionAt(4096)).toEqual({ kind: 'trailer', offset: 4096, length: 4096 });
});

test('the last segment is short and its head with it', () => {
  const layout = new ImageLayout({ usedBlocks: 513, blockSizeBytes: 16384 });
  expect(layout.segmentCount).toBe(2);
  expect(layout.segmentHeadBytes(0)).toBe(8192);
  expect(layout.segmentOffset(0)).toBe(4096 + 2 * 4096);
  expect(layout.segmentBytes(1)).toBe(4096 + 16384);
  expect(layout.trailerOffset).toBe(3 * 4096 + 8192 + 8 * MIB + 4096 + 16384);
});

test.each(blockSizes)('regions of %i byte blocks follow each other without gaps', (blockSize) => {
  for (const usedBlocks of [0, 1, 7, 8, 9, 509, 510, 511, 512, 513, 1600]) {
    const layout = new ImageLayout({ usedBlocks, blockSizeBytes: blockSize });
    let offset = 0;
    const kinds: string[] = [];
    while (offset < layout.imageBytes) {
      const region = layout.regionAt(offset);
      expect(region.offset).toBe(offset);
      expect(region.length % 4096).toBe(0);
      expect(layout.regionAt(offset + region.length - 1)).toEqual(region);
      kinds.push(region.kind);
      offset += region.length;
    }
    expect(offset).toBe(layout.imageBytes);
    expect(kinds.filter((kind) => kind === 'table')).toHaveLength(layout.tablePages);
    expect(kinds.filter((kind) => kind === 'segment')).toHaveLength(layout.segmentCount);
    expect([kinds[0], kinds.at(-1)]).toEqual(['header', 'trailer']);
  }
});

describe('overhead', () => {
  test.each(blockSizes)('of %i byte blocks stays below its bound', (blockSizeBytes) => {
    const share = blockSizeBytes >= 65536 ? 0.001 : 0.01;
    for (const usedBlocks of [0, 1, 100, 510, 10_000, 2 ** 24, MAX_POOL_BLOCKS]) {
      const data = usedBlocks * blockSizeBytes;
      const { imageBytes } = new ImageLayout({ usedBlocks, blockSizeBytes });
      expect(imageBytes - data).toBeLessThanOrEqual(data * share + 65536);
    }
  });
});

test('the largest image there can be has exact offsets', () => {
  const layout = new ImageLayout({ usedBlocks: MAX_POOL_BLOCKS, blockSizeBytes: MIB });
  expect(Number.isSafeInteger(layout.imageBytes)).toBe(true);
  expect(layout.regionAt(layout.imageBytes - 1).kind).toBe('trailer');
});

test('the image UUID depends on the copy and on nothing that can change', () => {
  const { imageId } = new ImageFrame(facts);
  const renamed = { ...facts, diskName: 'other', generation: 9, frozenAtMs: 1 };
  expect(new ImageFrame(renamed).imageId).toBe(imageId);
  expect(new ImageFrame({ ...facts, copyId: facts.diskId }).imageId).not.toBe(imageId);
  expect(imageId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
});

const wrongFacts: [string, Partial<ImageFacts>][] = [
  ['a copy id that is none', { copyId: 'x' }],
  ['an id in capitals', { diskId: facts.diskId.toUpperCase().replace('0193', 'ABCD') }],
  ['a block size that is no power of two', { blockSizeBytes: 65536 * 3 }],
  ['a small block size', { blockSizeBytes: 8192 }],
  ['a large block size', { blockSizeBytes: 2 * MIB }],
  ['no capacity', { capacityBytes: 0 }],
  ['an odd capacity', { capacityBytes: 1000 * 1000 }],
  ['a capacity beyond 2^53', { capacityBytes: MAX_CAPACITY_BYTES + 512 }],
  ['more blocks than the disk has', blocks(16)],
  ['a part of a block', blocks(1.5)],
  ['fewer than no blocks', blocks(-1)],
  ['generation 0', { generation: 0 }],
  ['a time that has no date', { frozenAtMs: 8.64e15 + 1 }],
  ['no name', { diskName: '' }],
  ['a name of 255 bytes', { diskName: 'x'.repeat(255) }],
  ['a name of 128 letters of two bytes', { diskName: 'ä'.repeat(128) }],
  ['a name with an escape sequence', { diskName: 'a\u001b[2J' }],
  ['a name with a C1 control', { diskName: 'a\u0085b' }],
  ['a name with half a letter', { diskName: 'a\ud800' }],
];

test.each(wrongFacts)('%s is refused', (_what, change) => {
  expect(factsProblem(facts)).toBeUndefined();
  expect(factsProblem({ ...facts, ...change })).toEqual(expect.any(String));
});

function blocks(count: number): Partial<ImageFacts> {
  return { usedBlocks: count, copyBlocks: count };
}

test('more blocks than a pool can number are refused', () => {
  const huge = { ...facts, blockSizeBytes: 16384, capacityBytes: MAX_CAPACITY_BYTES };
  expect(factsProblem({ ...huge, ...blocks(MAX_POOL_BLOCKS) })).toBeUndefined();
  expect(factsProblem({ ...huge, ...blocks(MAX_POOL_BLOCKS + 1) })).toMatch(/used/);
});
