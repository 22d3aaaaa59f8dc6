import { describe, expect, it } from 'vitest';
import {
  change,
  EMPTY_ROOT,
  isPathExclusive,
  missingForChange,
  slotAt,
  span,
  type TableChange,
  type TableRoot,
} from '../../../src/disk/allocation-table.ts';
import { type SmallEngine, smallEngine } from '../../support/small-engine.ts';

async function changed(
  { pool }: SmallEngine,
  root: TableRoot,
  changes: readonly TableChange[],
): Promise<TableRoot> {
  const first = changes[0]!.logical;
  for (;;) {
    const missing = missingForChange(pool, root, first, changes.at(-1)!.logical - first + 1);
    for (const { block } of changes) if (block >= 0) missing.push(...pool.missingForDrop(block));
    if (missing.length === 0) break;
    await pool.pages.ensure(missing);
  }
  for (const { block } of changes) if (block >= 0) pool.allocator.apply(block);
  return change(pool, root, changes);
}

async function mapped(small: SmallEngine, root: TableRoot, logical: number): Promise<TableRoot> {
  const [chosen] = await small.pool.allocate(1);
  return changed(small, root, [{ logical, block: chosen!.block, birth: 1 }]);
}

describe('an allocation table', () => {
  it('is as high as its highest block needs, not as the capacity', async () => {
    const small = await smallEngine();
    let root = await mapped(small, EMPTY_ROOT, 0);
    expect(root).toMatchObject({ height: 1, mapped: 1 });
    root = await mapped(small, root, 512);
    expect(root).toMatchObject({ height: 2, mapped: 2 });
    root = await mapped(small, root, 2 ** 41 - 1);
    expect(root).toMatchObject({ height: 5, mapped: 3 });
    expect(span(5)).toBe(2 ** 45);
    expect([1, 2, 3, 4, 5].map((height) => slotAt(height, 2 ** 41 - 1))).toEqual([
      511, 511, 511, 511, 31,
    ]);
  });

  it('is empty again when all is unmapped, and leaves no node', async () => {
    const small = await smallEngine();
    let root = EMPTY_ROOT;
    const places = [0, 511, 512, 2 ** 18, 2 ** 40];
    for (const logical of places) root = await mapped(small, root, logical);
    for (const logical of places) {
      root = await changed(small, root, [{ logical, block: -1, birth: 0 }]);
    }
    expect(root).toEqual(EMPTY_ROOT);
    await small.pool.flush();
    expect(await small.store.lastPage(small.pool.record.number, 'node')).toBe(-1);
    expect(small.pool.allocator.usedBlocks).toBe(0);
  });

  it('unmaps what was never mapped without making a node', async () => {
    const small = await smallEngine();
    const before = small.pool.nextNodeId;
    const root = await changed(small, EMPTY_ROOT, [{ logical: 7, block: -1, birth: 0 }]);
    expect(root).toBe(EMPTY_ROOT);
    expect(small.pool.nextNodeId).toBe(before);
  });

  it('keeps a leaf of tombstones', async () => {
    const small = await smallEngine();
    const root = await mapped(small, EMPTY_ROOT, 7);
    const unmapped = await changed(small, root, [{ logical: 7, block: -1, birth: 5 }]);
    expect(unmapped).toEqual({ node: root.node, height: 1, mapped: 0 });
  });

  it('copies only the path that it changes when its root is shared', async () => {
    const small = await smallEngine({ blocks: 100 });
    let root = EMPTY_ROOT;
    for (let leaf = 0; leaf < 20; leaf += 1) root = await mapped(small, root, leaf * 512);
    await small.pool.pages.ensure([small.pool.nodeCounts.keyOf(root.node)]);
    small.pool.nodeCounts.add(root.node);
    const before = small.pool.nextNodeId;
    expect(isPathExclusive(small.pool, root, 512)).toBe(false);
    const own = await mapped(small, root, 512);
    expect(small.pool.nextNodeId - before).toBe(2);
    expect(own.node).not.toBe(root.node);
    expect(isPathExclusive(small.pool, own, 512)).toBe(true);
    expect(isPathExclusive(small.pool, own, 1024)).toBe(false);
    expect(small.pool.allocator.usedBlocks).toBe(21);
  });
});
