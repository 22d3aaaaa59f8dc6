import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { type Allocation, Allocator, type Chosen, GROUP_BLOCKS } from '../../src/pool/allocator.ts';
import { MetadataPages } from '../../src/pool/metadata-pages.ts';
import { MemoryMetadata } from '../support/memory-metadata.ts';

type Command =
  | { do: 'allocate'; count: number; keepFree: number }
  | { do: 'allocate run'; count: number; hint: number }
  | { do: 'apply' | 'free' | 'release'; pick: number }
  | { do: 'grow'; blocks: number }
  | { do: 'reopen' };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('allocate' as const),
      count: fc.integer({ min: 1, max: 12 }),
      keepFree: fc.constantFrom(0, 0, 0, 5),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('allocate run' as const),
      count: fc.integer({ min: 1, max: 12 }),
      hint: fc.integer({ min: 0, max: 30 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('apply', 'free', 'release'),
      pick: fc.nat(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('grow' as const),
      blocks: fc.integer({ min: 1, max: 9 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen' as const) }) },
);

/** What each block is, in the naive way. */
type State = 'free' | 'chosen' | 'used' | 'freed';

class World {
  readonly #store = new MemoryMetadata();
  readonly #states: State[] = [];
  /** Blocks that were handed out at least once, or may have been before a reopening. */
  readonly #touched = new Set<number>();
  #pages: MetadataPages;
  #allocator: Allocator;

  constructor(sizes: readonly number[]) {
    this.#pages = new MetadataPages(this.#store, 1, 16 * KIB);
    let firstBlock = 0;
    const extents = sizes.map((blocks) => {
      const extent = { firstBlock, blocks, highWater: Math.min(3, blocks), virginFrom: 0 };
      firstBlock += blocks;
      return extent;
    });
    this.#allocator = new Allocator(this.#pages, extents);
    for (let block = 0; block < firstBlock; block += 1) this.#states.push('free');
  }

  async step(each: Command): Promise<void> {
    switch (each.do) {
      case 'allocate':
        return this.#allocate(each.count, each.keepFree);
      case 'allocate run':
        return this.#allocateRun(each.count, each.hint);
      case 'apply':
        return this.#move(each.pick, 'chosen', 'used', (block) => {
          this.#allocator.apply(block);
        });
      case 'free':
        return this.#move(each.pick, 'used', 'freed', (block) => {
          this.#allocator.free(block);
        });
      case 'release': {
        const from = this.#states.includes('freed') && each.pick % 2 === 0 ? 'freed' : 'chosen';
        return this.#move(each.pick, from, 'free', (block) => {
          this.#allocator.release(block);
        });
      }
      case 'grow':
        for (let block = 0; block < each.blocks; block += 1) this.#states.push('free');
        this.#allocator.addExtent({
          firstBlock: this.#allocator.totalBlocks,
          blocks: each.blocks,
          highWater: 0,
          virginFrom: 0,
        });
        return;
      case 'reopen':
        return this.#reopen();
    }
  }

  check(): void {
    const count = (...states: State[]): number =>
      this.#states.filter((state) => states.includes(state)).length;
    const { totalBlocks, usedBlocks, heldBlocks, availableBlocks } = this.#allocator;
    expect(totalBlocks).toBe(this.#states.length);
    expect(usedBlocks).toBe(count('used'));
    expect(heldBlocks).toBe(count('chosen', 'freed'));
    expect(availableBlocks).toBe(count('free'));
  }

  async #allocate(count: number, keepFree: number): Promise<void> {
    const free = this.#states.filter((state) => state === 'free').length;
    const choose = () => this.#allocator.allocate(count, keepFree);
    const chosen = await this.#choose(choose);
    expect(chosen === 'full').toBe(free - keepFree < count);
    if (chosen === 'full') return;
    expect(chosen).toHaveLength(count);
    this.#take(chosen);
  }

  /** Consecutive blocks of one extent: all that were asked for, if they are there in a row. */
  async #allocateRun(count: number, hint: number): Promise<void> {
    const free = this.#states.filter((state) => state === 'free').length;
    const chosen = await this.#choose(() => this.#allocator.allocateRun(count, 0, hint));
    expect(chosen === 'full').toBe(free < count);
    if (chosen === 'full') return;
    const blocks = chosen.map(({ block }) => block);
    expect(blocks).toEqual(blocks.map((_, index) => (blocks[0] ?? 0) + index));
    expect(blocks.length).toBe(Math.min(count, Math.max(1, this.#longestRun())));
    this.#take(chosen);
  }

  /** Free blocks in a row below the marks, within a group and an extent. */
  #longestRun(): number {
    let longest = 0;
    for (const { firstBlock, blocks } of this.#allocator.extents) {
      let length = 0;
      for (let block = firstBlock; block < firstBlock + blocks; block += 1) {
        const isFree = this.#states[block] === 'free' && this.#isBelowMark(block);
        if (block % GROUP_BLOCKS === 0 || !isFree) length = 0;
        if (isFree) length += 1;
        longest = Math.max(longest, length);
      }
    }
    return longest;
  }

  #take(chosen: readonly Chosen[]): void {
    for (const { block, virgin } of chosen) {
      expect(this.#states[block]).toBe('free');
      // what was never handed out may be called touched, never the other way round
      if (virgin) expect(this.#touched.has(block)).toBe(false);
      this.#states[block] = 'chosen';
      this.#touched.add(block);
    }
  }

  async #choose(choose: () => Allocation): Promise<Chosen[] | 'full'> {
    for (let tries = 0; tries < 1000; tries += 1) {
      const answer = choose();
      if (answer.kind === 'full') return 'full';
      if (answer.kind === 'missing') await this.#pages.ensure(answer.pages);
      if (answer.kind === 'raise') this.#raise();
      if (answer.kind !== 'blocks') continue;
      for (const { block } of answer.blocks) expect(this.#isBelowMark(block)).toBe(true);
      return answer.blocks;
    }
    throw new Error('it never comes to an end');
  }

  #raise(): void {
    const extent = this.#allocator.extents.find(({ highWater, blocks }) => highWater < blocks);
    expect(extent).toBeDefined();
    extent!.highWater = Math.min(extent!.blocks, extent!.highWater + 4);
  }

  #isBelowMark(block: number): boolean {
    return this.#allocator.extents.some(
      ({ firstBlock, highWater }) => block >= firstBlock && block < firstBlock + highWater,
    );
  }

  async #move(pick: number, from: State, to: State, act: (block: number) => void): Promise<void> {
    const all = [...this.#states.keys()].filter((block) => this.#states[block] === from);
    const block = all[pick % all.length];
    if (block === undefined) return;
    await this.#pages.ensure(this.#allocator.missingFor(block));
    act(block);
    this.#states[block] = to;
  }

  /** What is held is forgotten; all below the marks may hold old bytes. */
  async #reopen(): Promise<void> {
    await this.#store.commit({ pages: [{ pool: 1, images: this.#pages.take() }], rows: [] });
    const extents = this.#allocator.extents.map((extent) => ({
      ...extent,
      virginFrom: extent.highWater,
    }));
    this.#states.forEach((state, block) => {
      if (state !== 'used') this.#states[block] = 'free';
    });
    this.#pages = new MetadataPages(this.#store, 1, 16 * KIB);
    this.#allocator = new Allocator(this.#pages, extents);
    await this.#allocator.open();
  }
}

describe('an allocator', { timeout: 60_000 }, () => {
  it('never hands out a block twice, leaks none, and is full only when it is', async () => {
    const sizes = fc.constantFrom([20], [7, 1, 12], [GROUP_BLOCKS - 5, 10]);
    await fc.assert(
      fc.asyncProperty(sizes, fc.array(command, { maxLength: 80, size: 'max' }), async (s, all) => {
        const world = new World(s);
        for (const each of all) {
          await world.step(each);
          world.check();
        }
      }),
      { numRuns: 60 },
    );
  });
});
