import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import {
  change,
  childOf,
  EMPTY_ROOT,
  entryAt,
  FAN_OUT,
  leafEnd,
  lookup,
  mappedBelow,
  missingForChange,
  missingForLookup,
  type TableRoot,
} from '../../src/disk/allocation-table.ts';
import { exclusiveBlocks } from '../../src/disk/exclusive-blocks.ts';
import { mappedRuns, nextMapped, selectMapped } from '../../src/disk/table-walk.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { type SmallEngine, smallEngine } from '../support/small-engine.ts';

interface Entry {
  readonly block: number;
  readonly birth: number;
}

interface Tree {
  root: TableRoot;
  readonly entries: Map<number, Entry>;
}

type Command =
  | { do: 'change'; tree: number; at: number; kinds: ('map' | 'unmap' | 'tombstone' | 'skip')[] }
  | { do: 'share' | 'drop'; tree: number }
  | { do: 'flush' };

/** Where trees begin, end and grow taller. */
const logical = fc
  .tuple(
    fc.constantFrom(0, 512, 2 ** 18, 2 ** 27, 2 ** 32, 2 ** 36, 2 ** 41 - 8),
    fc.integer({ min: -6, max: 7 }),
  )
  .map(([base, shift]) => Math.max(0, base + shift));

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('change' as const),
      tree: fc.nat(5),
      at: logical,
      kinds: fc.array(fc.constantFrom('map', 'map', 'unmap', 'tombstone', 'skip'), {
        minLength: 1,
        maxLength: 5,
      }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('share', 'drop'), tree: fc.nat(5) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('flush' as const) }) },
);

class World {
  readonly #small: SmallEngine;
  readonly #pool: Pool;
  readonly #trees: Tree[] = [{ root: EMPTY_ROOT, entries: new Map() }];
  #birth = 1;

  constructor(small: SmallEngine) {
    this.#small = small;
    this.#pool = small.pool;
  }

  async step(each: Command): Promise<void> {
    if (each.do === 'flush') return this.#pool.flush();
    const tree = this.#trees[each.tree % this.#trees.length];
    if (tree === undefined) {
      this.#trees.push({ root: EMPTY_ROOT, entries: new Map() });
      return;
    }
    if (each.do === 'change') return this.#change(tree, each.at, each.kinds);
    if (each.do === 'share') return this.#share(tree);
    return this.#drop(tree);
  }

  async #share(tree: Tree): Promise<void> {
    if (this.#trees.length >= 5) return;
    const { nodeCounts, pages } = this.#pool;
    const { node } = tree.root;
    if (node !== 0) {
      await pages.ensure([nodeCounts.keyOf(node)]);
      nodeCounts.add(node);
    }
    this.#trees.push({ root: tree.root, entries: new Map(tree.entries) });
  }

  async #drop(tree: Tree): Promise<void> {
    this.#trees.splice(this.#trees.indexOf(tree), 1);
    const reclaimer = this.#small.engine.disks.reclaimer(this.#pool);
    reclaimer.add(tree.root);
    while (await reclaimer.step());
  }

  async #change(
    tree: Tree,
    at: number,
    kinds: readonly ('map' | 'unmap' | 'tombstone' | 'skip')[],
  ): Promise<void> {
    this.#birth += 1;
    const changes: { logical: number; block: number; birth: number }[] = [];
    for (const [index, kind] of kinds.entries()) {
      const logical = at + index;
      if (kind === 'skip' || logical >= leafEnd(at) || logical >= 2 ** 41) continue;
      if (kind === 'map') {
        const [chosen] = await this.#pool.allocate(1);
        changes.push({ logical, block: chosen!.block, birth: this.#birth });
      } else if (kind === 'unmap') changes.push({ logical, block: -1, birth: 0 });
      else if (tree.entries.has(logical)) {
        changes.push({ logical, block: -1, birth: this.#birth });
      }
    }
    const first = changes[0]?.logical;
    if (first === undefined) return;
    const count = changes.at(-1)!.logical - first + 1;
    for (;;) {
      const missing = missingForChange(this.#pool, tree.root, first, count);
      for (const { block } of changes) {
        if (block >= 0) missing.push(...this.#pool.missingForDrop(block));
      }
      if (missing.length === 0) break;
      await this.#pool.pages.ensure(missing);
    }
    for (const { block } of changes) if (block >= 0) this.#pool.allocator.apply(block);
    tree.root = change(this.#pool, tree.root, changes);
    for (const { logical, block, birth } of changes) {
      if (block >= 0) tree.entries.set(logical, { block, birth });
      else tree.entries.delete(logical);
    }
  }

  async check(): Promise<void> {
    for (const tree of this.#trees) await this.#checkTree(tree);
    await this.#checkCounts();
  }

  async #checkTree({ root, entries }: Tree): Promise<void> {
    const pool = this.#pool;
    const mapped = [...entries.keys()].sort((a, b) => a - b);
    expect(root.mapped).toBe(mapped.length);
    const rootOf = (): TableRoot => root;
    const runs = await mappedRuns(pool, rootOf, { from: 0, maxRuns: 1000, physical: true });
    const found = runs.flatMap(({ first, length, physical }) =>
      Array.from({ length }, (_, at) => [first + at, physical + at]),
    );
    expect(found).toEqual(mapped.map((at) => [at, entries.get(at)!.block]));
    for (const [rank, at] of mapped.entries()) {
      expect(await selectMapped(pool, rootOf, rank)).toBe(at);
      expect(await nextMapped(pool, rootOf, at)).toBe(at);
      expect(await nextMapped(pool, rootOf, at + 1)).toBe(mapped[rank + 1]);
      for (const near of [at - 1, at, at + 1]) {
        if (near < 0) continue;
        const wanted = entries.get(near)?.block ?? -1;
        for (;;) {
          const missing = missingForLookup(pool, root, near, 1);
          if (missing.length === 0) break;
          await pool.pages.ensure(missing);
        }
        const entry = lookup(pool, root, near);
        expect(entry.block).toBe(wanted);
        if (wanted >= 0) expect(entry.birth).toBe(entries.get(near)!.birth);
      }
    }
    const holders = this.#holders();
    const own = [...entries.values()].filter(({ block }) => holders.get(block) === 1).length;
    expect(await exclusiveBlocks(pool, rootOf)).toBe(own);
  }

  /** How many trees hold each block. */
  #holders(): Map<number, number> {
    const holders = new Map<number, number>();
    for (const { entries } of this.#trees) {
      for (const { block } of entries.values()) holders.set(block, (holders.get(block) ?? 0) + 1);
    }
    return holders;
  }

  /** Every count is the number of parents and roots, or of leaves; every sum is right. */
  async #checkCounts(): Promise<void> {
    const nodes = new Map<number, number>();
    const blocks = new Map<number, number>();
    const mapped = new Map<number, number>();
    const visit = async (node: number, height: number): Promise<number> => {
      if (node === 0) return 0;
      const known = nodes.get(node) ?? 0;
      nodes.set(node, known + 1);
      if (known > 0) return mapped.get(node)!;
      await this.#pool.pages.ensure([{ kind: 'node', number: node }]);
      const words = this.#pool.pages.page('node', node);
      let sum = 0;
      let isEmpty = true;
      for (let slot = 0; slot < FAN_OUT; slot += 1) {
        if (height === 1) {
          const { block, birth } = entryAt(words, slot);
          if (block >= 0) blocks.set(block, (blocks.get(block) ?? 0) + 1);
          if (block >= 0) sum += 1;
          if (block >= 0 || birth !== 0) isEmpty = false;
        } else if (childOf(words, slot) !== 0) {
          const below = await visit(childOf(words, slot), height - 1);
          expect(mappedBelow(words, slot)).toBe(below);
          sum += below;
          isEmpty = false;
        } else expect(mappedBelow(words, slot)).toBe(0);
      }
      expect(isEmpty).toBe(false);
      mapped.set(node, sum);
      return sum;
    };
    for (const { root } of this.#trees) {
      expect(await visit(root.node, root.height)).toBe(root.mapped);
    }
    const { nodeCounts, blockCounts, pages, allocator } = this.#pool;
    for (const [node, count] of nodes) {
      await pages.ensure([nodeCounts.keyOf(node)]);
      expect(nodeCounts.extra(node)).toBe(count - 1);
    }
    for (const [block, count] of blocks) {
      await pages.ensure([blockCounts.keyOf(block)]);
      expect(blockCounts.extra(block)).toBe(count - 1);
    }
    expect(allocator.usedBlocks).toBe(blocks.size);
  }
}

describe('allocation tables that share nodes', { timeout: 60_000 }, () => {
  it('are naive maps, with counts of all that holds a node or block', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { maxLength: 40, size: 'max' }),
        fc.constantFrom(16 * KIB, 1024 * KIB),
        async (commands, cacheBytes) => {
          const world = new World(await smallEngine({ blocks: 300, cacheBytes }));
          for (const each of commands) await world.step(each);
          await world.check();
        },
      ),
      { numRuns: 120 },
    );
  });
});
