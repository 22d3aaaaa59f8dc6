import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { type AllocatorExtent, Allocator, GROUP_BLOCKS } from '../../../src/pool/allocator.ts';
import { MetadataPages } from '../../../src/pool/metadata-pages.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

async function allocatorOf(
  extents: readonly Partial<AllocatorExtent>[],
  store = new MemoryMetadata(),
): Promise<{ allocator: Allocator; pages: MetadataPages }> {
  let firstBlock = 0;
  const all = extents.map(({ blocks = 100, highWater = blocks, virginFrom = 0 }) => {
    const extent = { firstBlock, blocks, highWater, virginFrom };
    firstBlock += blocks;
    return extent;
  });
  const pages = new MetadataPages(store, 1, MIB);
  const allocator = new Allocator(pages, all);
  await allocator.open();
  return { allocator, pages };
}

/** The blocks, with the pages made resident that it asks for. */
async function take(
  { allocator, pages }: { allocator: Allocator; pages: MetadataPages },
  count: number,
  keepFree = 0,
): Promise<number[] | 'raise' | 'full'> {
  for (;;) {
    const answer = allocator.allocate(count, keepFree);
    if (answer.kind === 'missing') await pages.ensure(answer.pages);
    else if (answer.kind === 'blocks') return answer.blocks.map(({ block }) => block);
    else return answer.kind;
  }
}

async function apply(
  { allocator, pages }: { allocator: Allocator; pages: MetadataPages },
  blocks: readonly number[],
): Promise<void> {
  for (const block of blocks) {
    await pages.ensure(allocator.missingFor(block));
    allocator.apply(block);
  }
}

function upTo(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

describe('an allocator', () => {
  it('gives ascending blocks, and none twice, until it is full', async () => {
    const pool = await allocatorOf([{ blocks: 10 }]);
    expect(await take(pool, 4)).toEqual([0, 1, 2, 3]);
    expect(await take(pool, 6)).toEqual([4, 5, 6, 7, 8, 9]);
    expect(await take(pool, 1)).toBe('full');
    pool.allocator.release(3);
    pool.allocator.release(7);
    expect(await take(pool, 3)).toBe('full');
    expect(await take(pool, 2)).toEqual([3, 7]);
  });

  it('does not give a freed block before it is released', async () => {
    const pool = await allocatorOf([{ blocks: 2 }]);
    const blocks = (await take(pool, 2)) as number[];
    await apply(pool, blocks);
    pool.allocator.free(0);
    expect(pool.allocator.usedBlocks).toBe(1);
    expect(pool.allocator.isUsed(0)).toBe(false);
    expect(await take(pool, 1)).toBe('full');
    pool.allocator.release(0);
    expect(await take(pool, 1)).toEqual([0]);
  });

  it('keeps room free for others', async () => {
    const pool = await allocatorOf([{ blocks: 10 }]);
    expect(await take(pool, 7, 4)).toBe('full');
    expect(await take(pool, 6, 4)).toHaveLength(6);
  });

  it('never passes the committed mark, and asks to raise it', async () => {
    const pool = await allocatorOf([{ blocks: 100, highWater: 5 }]);
    expect(await take(pool, 6)).toBe('raise');
    expect(await take(pool, 5)).toEqual([0, 1, 2, 3, 4]);
    expect(await take(pool, 1)).toBe('raise');
    pool.allocator.extents[0]!.highWater = 7;
    expect(await take(pool, 2)).toEqual([5, 6]);
  });

  it('tells which blocks were never written, once', async () => {
    const { allocator, pages } = await allocatorOf([{ blocks: 6, virginFrom: 2 }]);
    const keys = allocator.allocate(4);
    await pages.ensure(keys.kind === 'missing' ? keys.pages : []);
    const answer = allocator.allocate(4);
    expect(answer).toEqual({
      kind: 'blocks',
      blocks: [0, 1, 2, 3].map((block) => ({ block, virgin: block >= 2 })),
    });
    allocator.release(3);
    const again = allocator.allocate(3);
    expect(again).toEqual({
      kind: 'blocks',
      blocks: [
        { block: 4, virgin: true },
        { block: 5, virgin: true },
        { block: 3, virgin: false },
      ],
    });
  });

  it('goes through extents and groups, skipping full ones without reading them', async () => {
    const store = new MemoryMetadata();
    const blocks = 3 * GROUP_BLOCKS;
    const pool = await allocatorOf([{ blocks: GROUP_BLOCKS + 7 }, { blocks }], store);
    const found = await take(pool, GROUP_BLOCKS + 20);
    expect(found).toEqual(upTo(GROUP_BLOCKS + 20));
    await apply(pool, upTo(GROUP_BLOCKS + 20));
    const images = pool.pages.take();
    await store.commit({ pages: [{ pool: 1, images }], rows: [] });
    const again = await allocatorOf([{ blocks: GROUP_BLOCKS + 7 }, { blocks }], store);
    expect(again.allocator.usedBlocks).toBe(GROUP_BLOCKS + 20);
    expect(await take(again, 2)).toEqual([GROUP_BLOCKS + 20, GROUP_BLOCKS + 21]);
    expect(again.pages.isResident('bitmap', 0)).toBe(false);
  });

  it('grows by new extents and by a longer last one', async () => {
    const pool = await allocatorOf([{ blocks: 2 }]);
    await take(pool, 2);
    const { allocator } = pool;
    allocator.replaceLast({ firstBlock: 0, blocks: 3, highWater: 3, virginFrom: 2 });
    allocator.addExtent({ firstBlock: 3, blocks: 2, highWater: 0, virginFrom: 0 });
    expect(allocator.totalBlocks).toBe(5);
    expect(await take(pool, 2)).toBe('raise');
    expect(await take(pool, 1)).toEqual([2]);
    allocator.extents[1]!.highWater = 2;
    expect(await take(pool, 2)).toEqual([3, 4]);
  });

  it('refuses to use, free or release a block in the wrong state', async () => {
    const pool = await allocatorOf([{ blocks: 4 }]);
    const [block] = (await take(pool, 1)) as [number];
    await apply(pool, [block]);
    expect(() => pool.allocator.apply(block)).toThrow('twice');
    expect(() => pool.allocator.release(block)).toThrow('hold');
    pool.allocator.free(block);
    expect(() => pool.allocator.free(block)).toThrow('twice');
  });
});
