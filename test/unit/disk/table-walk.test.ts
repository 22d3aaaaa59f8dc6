import { describe, expect, it } from 'vitest';
import { mappedRuns, nextMapped, selectMapped } from '../../../src/disk/table-walk.ts';
import { SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a walk over a table', () => {
  it('finds what is mapped far apart without looking at what lies between', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 2 ** 53 - 512 });
    const far = (2 ** 53 - 2 ** 20) / SIZE;
    for (const block of [3, 700, far]) await disk.write(block * SIZE, Buffer.alloc(SIZE, 1));
    const rootOf = () => disk.root;
    expect(await nextMapped(small.pool, rootOf, 0)).toBe(3);
    expect(await nextMapped(small.pool, rootOf, 4)).toBe(700);
    expect(await nextMapped(small.pool, rootOf, 701)).toBe(far);
    expect(await nextMapped(small.pool, rootOf, far + 1)).toBeUndefined();
    expect(await nextMapped(small.pool, rootOf, 2 ** 41 - 1)).toBeUndefined();
    for (const [rank, block] of [3, 700, far].entries()) {
      expect(await selectMapped(small.pool, rootOf, rank)).toBe(block);
    }
  });

  it('of an empty table finds nothing', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    const rootOf = () => disk.root;
    expect(await nextMapped(small.pool, rootOf, 0)).toBeUndefined();
    const o = { from: 0, maxRuns: 10, physical: true };
    expect(await mappedRuns(small.pool, rootOf, o)).toEqual([]);
  });

  it('joins neighbours across leaves, and splits them where the places do not follow', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 2000 * SIZE });
    await disk.write(510 * SIZE, Buffer.alloc(4 * SIZE, 1));
    await disk.write(516 * SIZE, Buffer.alloc(SIZE, 1));
    await disk.write(514 * SIZE, Buffer.alloc(SIZE, 1));
    const rootOf = () => disk.root;
    const all = { from: 0, maxRuns: 10 };
    expect(await mappedRuns(small.pool, rootOf, { ...all, physical: false })).toMatchObject([
      { first: 510, length: 5 },
      { first: 516, length: 1 },
    ]);
    expect(await mappedRuns(small.pool, rootOf, { ...all, physical: true })).toEqual([
      { first: 510, length: 4, physical: 0 },
      { first: 514, length: 1, physical: 5 },
      { first: 516, length: 1, physical: 4 },
    ]);
  });

  it('stops at the bounds it was given', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(5 * SIZE, 1));
    await disk.write(7 * SIZE, Buffer.alloc(2 * SIZE, 1));
    const rootOf = () => disk.root;
    const runs = (o: { from: number; to?: number; maxRuns?: number; maxBlocks?: number }) =>
      mappedRuns(small.pool, rootOf, { maxRuns: 10, physical: false, ...o });
    expect(await runs({ from: 2, to: 4 })).toMatchObject([{ first: 2, length: 2 }]);
    expect(await runs({ from: 0, maxRuns: 1 })).toMatchObject([{ first: 0, length: 5 }]);
    expect(await runs({ from: 3, maxBlocks: 3 })).toMatchObject([
      { first: 3, length: 2 },
      { first: 7, length: 1 },
    ]);
    expect(await disk.allocatedRuns(0, 1, false)).toEqual({
      runs: [{ block: 0, length: 5 }],
      next: 7,
    });
    expect(await disk.allocatedRuns(7, 1, true)).toEqual({
      runs: [{ block: 7, length: 2, physicalBlock: 5 }],
    });
  });
});
