import { describe, expect, it, vi } from 'vitest';
import {
  change,
  EMPTY_ROOT,
  FAN_OUT,
  missingForChange,
  type TableChange,
  type TableRoot,
} from '../../../src/disk/allocation-table.ts';
import {
  type ChangeKind,
  type TableInSpace,
  walkChanges,
} from '../../../src/disk/table-difference.ts';
import { INNER_BYTES, OLD_INNER_BYTES, PAGE_BYTES } from '../../../src/pool/metadata-pages.ts';
import type { Pool } from '../../../src/pool/pool.ts';
import { smallEngine } from '../../support/small-engine.ts';

const EVERYTHING = { from: 0, to: 2 ** 41 };

function source(space: Pool, root: TableRoot): TableInSpace {
  return { space, root };
}

async function changesOf(
  newer: readonly TableInSpace[],
  older: readonly TableInSpace[] | number,
  range = EVERYTHING,
): Promise<[number, ChangeKind][]> {
  const found: [number, ChangeKind][] = [];
  const since = typeof older === 'number' ? older : () => older;
  await walkChanges({ newer: () => newer, since }, range, (logical, kind) => {
    found.push([logical, kind]);
    return true;
  });
  return found;
}

async function changed(
  pool: Pool,
  root: TableRoot,
  changes: readonly TableChange[],
): Promise<TableRoot> {
  const first = changes[0]?.logical ?? 0;
  const count = (changes.at(-1)?.logical ?? 0) - first + 1;
  for (;;) {
    const missing = missingForChange(pool, root, first, count);
    if (missing.length === 0) return change(pool, root, changes);
    await pool.pages.ensure(missing);
  }
}

async function shared(pool: Pool, root: TableRoot): Promise<TableRoot> {
  await pool.pages.ensure([pool.nodeCounts.keyOf(root.node)]);
  pool.nodeCounts.add(root.node);
  return root;
}

/** 16 Mi blocks, born in generation 1: one full leaf, held by every slot of one node. */
async function huge(pool: Pool, innerBytes = INNER_BYTES): Promise<TableRoot> {
  const { pages, nodeCounts } = pool;
  await pages.ensure([nodeCounts.keyOf(pool.nextNodeId), nodeCounts.keyOf(pool.nextNodeId + 3)]);
  const leaf = pages.create('node', pool.takeNodeId(), PAGE_BYTES);
  for (let slot = 0; slot < FAN_OUT; slot += 1) leaf.words.set([slot + 1, 1], slot * 2);
  let node = leaf.number;
  let mapped = FAN_OUT;
  for (const children of [FAN_OUT, 64]) {
    const page = pages.create('node', pool.takeNodeId(), innerBytes);
    for (let slot = 0; slot < children; slot += 1) {
      page.words[slot * 2] = node;
      page.words[FAN_OUT * 2 + slot] = mapped;
      if (innerBytes === INNER_BYTES) page.words[FAN_OUT * 3 + slot] = 1;
      if (slot > 0) nodeCounts.add(node);
    }
    node = page.number;
    mapped *= children;
  }
  return { node, height: 3, mapped };
}

async function nodesRead(pool: Pool, work: () => Promise<unknown>): Promise<number> {
  const looked = new Set<number>();
  const isResident = pool.pages.isResident.bind(pool.pages);
  const spy = vi.spyOn(pool.pages, 'isResident').mockImplementation((kind, number) => {
    if (kind === 'node') looked.add(number);
    return isResident(kind, number);
  });
  await work();
  spy.mockRestore();
  return looked.size;
}

describe('a table of 16 Mi blocks', () => {
  it('that nobody touched is compared by its root alone', async () => {
    const { pool } = await smallEngine();
    const table = source(pool, await huge(pool));
    const between = () => changesOf([table], [table]);
    const since = () => changesOf([table], 1);
    expect(await between()).toEqual([]);
    expect(await since()).toEqual([]);
    expect(await nodesRead(pool, between)).toBe(0);
    expect(await nodesRead(pool, since)).toBe(1);
  });

  it('in which one block changed is compared by one path', async () => {
    const { pool } = await smallEngine({ blocks: 1024 });
    const old = await shared(pool, await huge(pool));
    const at = 9_999_999;
    const root = await changed(pool, old, [{ logical: at, block: 1000, birth: 2 }]);
    const [newer, older] = [source(pool, root), source(pool, old)];
    const between = () => changesOf([newer], [older]);
    const since = () => changesOf([newer], 1);
    expect(await between()).toEqual([[at, 'data']]);
    expect(await since()).toEqual([[at, 'data']]);
    expect(await nodesRead(pool, between)).toBe(6);
    expect(await nodesRead(pool, since)).toBe(3);
  });

  it('is compared with nothing in many turns, so that others go on', async () => {
    const { pool } = await smallEngine();
    const table = source(pool, await huge(pool));
    let turns = 0;
    let isDone = false;
    const turn = (): void => {
      turns += 1;
      if (!isDone) setImmediate(turn);
    };
    setImmediate(turn);
    let count = 0;
    const compared = { newer: () => [table], since: () => [source(pool, EMPTY_ROOT)] };
    await walkChanges(compared, EVERYTHING, () => {
      count += 1;
      return true;
    });
    isDone = true;
    expect(count).toBe(2 ** 24);
    expect(turns).toBeGreaterThanOrEqual(2 ** 24 / FAN_OUT / 64);
  });

  it('from before nodes had bounds is read, and has bounds where it is changed', async () => {
    const { pool } = await smallEngine({ blocks: 1024 });
    const old = await shared(pool, await huge(pool, OLD_INNER_BYTES));
    const root = await changed(pool, old, [{ logical: 5, block: 1000, birth: 2 }]);
    expect(await changesOf([source(pool, root)], 1)).toEqual([[5, 'data']]);
    expect(await changesOf([source(pool, root)], 2, { from: 0, to: FAN_OUT })).toEqual([]);
    const { words } = pool.pages.page('node', root.node);
    expect(words.byteLength).toBe(INNER_BYTES);
    // what lies below is not known, so it is looked at
    expect([...words.subarray(FAN_OUT * 3, FAN_OUT * 3 + 65)]).toEqual([
      ...Array.from({ length: 64 }, () => 2 ** 32 - 1),
      0,
    ]);
  });
});

describe('tables', () => {
  it('of different heights are compared where both are', async () => {
    const { pool } = await smallEngine({ blocks: 1024 });
    const low = await shared(
      pool,
      await changed(pool, EMPTY_ROOT, [
        { logical: 1, block: 1, birth: 1 },
        { logical: 2, block: 2, birth: 1 },
      ]),
    );
    const tall = await changed(pool, low, [{ logical: 2 ** 40, block: 3, birth: 2 }]);
    const both = await shared(pool, tall);
    const taller = await changed(pool, both, [{ logical: 2, block: -1, birth: 3 }]);
    const [a, b, c] = [low, tall, taller].map((root) => source(pool, root));
    const [one, two, three] = [a!, b!, c!];
    expect(await changesOf([two], [one])).toEqual([[2 ** 40, 'data']]);
    expect(await changesOf([one], [two])).toEqual([[2 ** 40, 'zero']]);
    expect(await changesOf([three], [one])).toEqual([
      [2, 'zero'],
      [2 ** 40, 'data'],
    ]);
    expect(await changesOf([three], 1)).toEqual([
      [2, 'zero'],
      [2 ** 40, 'data'],
    ]);
    expect(await changesOf([three], 2)).toEqual([[2, 'zero']]);
    expect(await changesOf([three], [])).toEqual([
      [1, 'data'],
      [2 ** 40, 'data'],
    ]);
    const beyond = { from: 3, to: 2 ** 40 };
    expect(await changesOf([three], [one], beyond)).toEqual([]);
  });

  it('of one side are taken together: what moves between them is no change', async () => {
    const { pool } = await smallEngine({ blocks: 1024 });
    const entry = (logical: number, block: number, birth = 1): TableChange => {
      return { logical, block, birth };
    };
    const whole = await changed(pool, EMPTY_ROOT, [entry(1, 1), entry(2, 2), entry(3, 3)]);
    const owed = await changed(pool, EMPTY_ROOT, [entry(2, 4), entry(4, -1, 2)]);
    const own = await changed(pool, EMPTY_ROOT, [entry(1, 5), entry(3, 6, 2)]);
    const parts = [source(pool, owed), source(pool, own)];
    expect(await changesOf(parts, [source(pool, whole)])).toEqual([[3, 'data']]);
    expect(await changesOf([source(pool, whole)], parts)).toEqual([[3, 'data']]);
    expect(await changesOf(parts, 1)).toEqual([
      [3, 'data'],
      [4, 'zero'],
    ]);
  });
});
