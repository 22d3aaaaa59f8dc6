import { describe, expect, it, vi } from 'vitest';
import { lookup } from '../../../src/disk/allocation-table.ts';
import type { Checkpoint } from '../../../src/copy/checkpoints.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { type Since, changedRuns } from '../../../src/copy/difference.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { remap } from '../../../src/copy/remap.ts';
import {
  beginFill,
  fence,
  finishFill,
  revertFill,
  swapTable,
} from '../../../src/copy/write-back.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { allChanges } from '../../support/compare-differences.ts';
import { restOf, SIZE, type SmallEngine, smallEngine } from '../../support/small-engine.ts';

interface Bench {
  readonly small: SmallEngine;
  readonly disk: Disk;
  readonly write: (first: number, blocks?: number, fill?: number) => Promise<void>;
  readonly discard: (first: number, blocks?: number) => Promise<void>;
  readonly copy: (name: string) => Promise<Copy>;
  /** Deletes a copy that was backed up. */
  readonly checkpoint: (copy: Copy) => Promise<Checkpoint>;
  /** Runs as [kind, first, length]. */
  readonly changes: (newer: Copy, since: Copy | Checkpoint) => Promise<unknown[]>;
}

async function bench(o: { blocks?: number; capacity?: number } = {}): Promise<Bench> {
  const small = await smallEngine({ blocks: o.blocks ?? 64 });
  const disk = await small.disk({ capacityBytes: (o.capacity ?? 100) * SIZE });
  const { copies } = small.engine;
  copies.onBackedUp(() => ({ has: () => true }));
  return {
    small,
    disk,
    write: (first, blocks = 1, fill = 1) =>
      disk.write(first * SIZE, Buffer.alloc(blocks * SIZE, fill)),
    discard: (first, blocks = 1) => disk.discard(first * SIZE, blocks * SIZE),
    copy: (name) => freeze(copies, disk.name, { name }),
    checkpoint: async (copy) => {
      await copies.delete(copy.name);
      await restOf(small.engine);
      return copies.checkpoints.get(copy.id);
    },
    changes: async (newer, older) => {
      const since: Since =
        'record' in older
          ? { kind: 'copy', copy: older }
          : { kind: 'checkpoint', checkpoint: older };
      const runs = await allChanges(newer, since);
      return runs.map(({ kind, first, length }) => [kind, first, length]);
    },
  };
}

describe('the difference between two copies', () => {
  it('is what was written, discarded or made zeros between them, and nothing else', async () => {
    const { write, discard, copy, changes } = await bench();
    await write(0, 8);
    const a = await copy('a');
    await write(2, 2, 2);
    await discard(5);
    await write(6, 1, 0);
    await write(20);
    await write(30);
    await discard(30);
    const b = await copy('b');
    expect(await changes(b, a)).toEqual([
      ['data', 2, 2],
      ['zero', 5, 2],
      ['data', 20, 1],
    ]);
    expect(await changes(a, b)).toEqual([
      ['data', 2, 2],
      ['data', 5, 2],
      ['zero', 20, 1],
    ]);
    expect(await changes(b, b)).toEqual([]);
  });

  it('begins at any block and goes on page by page', async () => {
    const { write, copy } = await bench();
    const a = await copy('a');
    for (const block of [1, 3, 4, 7]) await write(block);
    const b = await copy('b');
    const since: Since = { kind: 'copy', copy: a };
    expect(await changedRuns(b, since, { from: 0, maxRuns: 2 })).toEqual({
      runs: [
        { first: 1, length: 1, kind: 'data' },
        { first: 3, length: 2, kind: 'data' },
      ],
      next: 7,
    });
    expect(await changedRuns(b, since, { from: 4, maxRuns: 2 })).toEqual({
      runs: [
        { first: 4, length: 1, kind: 'data' },
        { first: 7, length: 1, kind: 'data' },
      ],
    });
    expect(await changedRuns(b, since, { from: 8, maxRuns: 2 })).toEqual({ runs: [] });
  });

  it('of a disk that shrank and grew has zeros where it lost data', async () => {
    const { disk, small, write, copy, checkpoint, changes } = await bench({ capacity: 20 });
    await write(0, 12);
    const a = await copy('a');
    const resize = (blocks: number) =>
      small.engine.disks.update('d', { capacityBytes: blocks * SIZE, discard: true });
    await resize(6);
    const b = await copy('b');
    await resize(20);
    await disk.write(15 * SIZE, Buffer.alloc(SIZE, 3));
    const c = await copy('c');
    expect(await changes(b, a)).toEqual([]);
    const wanted = [
      ['zero', 6, 6],
      ['data', 15, 1],
    ];
    expect(await changes(c, a)).toEqual(wanted);
    // all beyond the end of the smaller one is told
    const grown = [
      ['zero', 6, 9],
      ['data', 15, 1],
      ['zero', 16, 4],
    ];
    expect(await changes(c, b)).toEqual(grown);
    expect(await changes(c, await checkpoint(a))).toEqual(wanted);
    expect(await changes(c, await checkpoint(b))).toEqual(grown);
  });

  it('is there between disks that share history, in either direction', async () => {
    const { small, disk, write, copy, changes } = await bench();
    await write(0, 4);
    const a = await copy('a');
    await write(0, 1, 2);
    const b = await copy('b');
    const other = await remap(small.engine.copies, a, { disk: 'e' });
    await other.write(SIZE, Buffer.alloc(SIZE, 3));
    const c = await freeze(small.engine.copies, 'e', { name: 'c' });
    await small.engine.disks.delete('d');
    expect(disk.isDeleted).toBe(true);
    expect(await changes(c, a)).toEqual([['data', 1, 1]]);
    expect(await changes(c, b)).toEqual([['data', 0, 2]]);
    expect(await changes(b, c)).toEqual([['data', 0, 2]]);
  });

  it('of strangers is refused', async () => {
    const { small, copy, changes } = await bench();
    const a = await copy('a');
    await small.disk({ name: 'e' });
    const e = await freeze(small.engine.copies, 'e', { name: 'c' });
    await expect(changes(e, a)).rejects.toMatchObject({ code: 'COPIES_UNRELATED' });
    await small.engine.copies.delete('a');
    await expect(changes(a, a)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('after a restore from an image has all that one of the two has', async () => {
    const { small, disk, write, copy, checkpoint, changes } = await bench();
    const { copies } = small.engine;
    await write(0, 3);
    const a = await copy('a');
    await fence(disk, 'job', false);
    await beginFill(copies, disk, false);
    await small.pool.flush();
    await finishFill(copies, disk, 0, undefined);
    await write(1, 1, 1);
    const b = await copy('b');
    expect(await changes(b, a)).toEqual([
      ['zero', 0, 1],
      ['data', 1, 1],
      ['zero', 2, 1],
    ]);
    // its table knows nothing of what was before
    const gone = await checkpoint(a);
    await expect(changes(b, gone)).rejects.toMatchObject({ code: 'COPIES_UNRELATED' });
  });
});

describe('the difference since a checkpoint', () => {
  it('has what was overwritten after the copy was gone, though its blocks came back', async () => {
    const { small, disk, write, copy, checkpoint, changes } = await bench({ blocks: 4 });
    await write(0, 3);
    const a = await copy('a');
    const placeOf = (block: number) => lookup(small.pool, disk.root, block).block;
    const before = placeOf(1);
    const gone = await checkpoint(a);
    // redirected, so the old place is free, and taken again by the next
    await write(1, 1, 2);
    await disk.flush();
    await restOf(small.engine);
    await write(2, 1, 3);
    await disk.flush();
    const used = [0, 1, 2].map(placeOf);
    await write(9, 1, 4);
    expect([...used, placeOf(9)]).toContain(before);
    const b = await copy('b');
    expect(await changes(b, gone)).toEqual([
      ['data', 1, 2],
      ['data', 9, 1],
    ]);
  });

  it('has a block that was discarded and written again at the very same place', async () => {
    const { small, disk, write, discard, copy, checkpoint, changes } = await bench({ blocks: 2 });
    await write(0, 2);
    const a = await copy('a');
    const { block } = lookup(small.pool, disk.root, 1);
    const gone = await checkpoint(a);
    await discard(1);
    await disk.flush();
    await restOf(small.engine);
    await write(1, 1, 2);
    expect(lookup(small.pool, disk.root, 1).block).toBe(block);
    const b = await copy('b');
    expect(await changes(b, gone)).toEqual([['data', 1, 1]]);
  });

  it('has what was overwritten in place on a full pool', async () => {
    const { small, disk, write, copy, checkpoint, changes } = await bench({ blocks: 2 });
    await write(0, 2);
    const gone = await checkpoint(await copy('a'));
    const before = lookup(small.pool, disk.root, 0).block;
    await write(0, 1, 2);
    expect(lookup(small.pool, disk.root, 0).block).toBe(before);
    expect(await changes(await copy('b'), gone)).toEqual([['data', 0, 1]]);
  });

  it('has what was discarded, also in a leaf that holds nothing else', async () => {
    const { write, discard, copy, checkpoint, changes } = await bench({ capacity: 2000 });
    await write(0, 2);
    await write(1500);
    const gone = await checkpoint(await copy('a'));
    await discard(0);
    await discard(1500);
    await write(1, 1, 0);
    const b = await copy('b');
    expect(await changes(b, gone)).toEqual([
      ['zero', 0, 2],
      ['zero', 1500, 1],
    ]);
  });

  it('is complete after a revert to it, and refused for what the revert left', async () => {
    const { small, disk, write, discard, copy, checkpoint, changes } = await bench();
    const { copies } = small.engine;
    await write(0, 3);
    const a = await copy('a');
    await write(1, 1, 2);
    await discard(2);
    const b = await copy('b');
    await fence(disk, 'job', false);
    await swapTable(copies, disk, a, undefined);
    await write(0, 1, 3);
    const c = await copy('c');
    expect(await changes(c, b)).toEqual([['data', 0, 3]]);
    expect(await changes(c, a)).toEqual([['data', 0, 1]]);
    const [goneA, goneB] = [await checkpoint(a), await checkpoint(b)];
    expect(await changes(c, goneA)).toEqual([['data', 0, 1]]);
    await expect(changes(c, goneB)).rejects.toMatchObject({ code: 'COPIES_UNRELATED' });
  });

  it('is complete after a restore that failed, or that kept what was equal', async () => {
    const { small, disk, write, copy, checkpoint, changes } = await bench();
    const { copies } = small.engine;
    await write(0, 3);
    const gone = await checkpoint(await copy('a'));
    await fence(disk, 'job', false);
    await beginFill(copies, disk, false);
    await revertFill(copies, disk);
    await write(1, 1, 2);
    const b = await copy('b');
    expect(await changes(b, gone)).toEqual([['data', 1, 1]]);
    await fence(disk, 'job', false);
    await beginFill(copies, disk, true);
    await finishFill(copies, disk, 0, undefined);
    await write(2, 1, 2);
    const c = await copy('c');
    expect(await changes(c, gone)).toEqual([['data', 1, 2]]);
    expect(await changes(c, await checkpoint(b))).toEqual([['data', 2, 1]]);
  });

  it('is there on a disk that was made from a later copy, also after a restart', async () => {
    const { small, write, copy, checkpoint, changes } = await bench();
    await write(0, 3);
    const a = await copy('a');
    const b = await copy('b');
    const gone = await checkpoint(a);
    await remap(small.engine.copies, b, { disk: 'e' });
    await small.engine.disks.delete('d');
    await small.engine.copies.delete('b');
    const engine = await small.reopen();
    engine.copies.onBackedUp(() => ({ has: () => true }));
    const other = engine.disks.get('e');
    await other.discard(0, SIZE);
    await other.write(SIZE, Buffer.alloc(SIZE, 2));
    const c = await freeze(engine.copies, 'e', { name: 'c' });
    const wanted = [
      ['zero', 0, 1],
      ['data', 1, 1],
    ];
    expect(engine.copies.checkpoints.get(a.id)).toEqual(gone);
    expect(await changes(c, engine.copies.checkpoints.get(a.id))).toEqual(wanted);
    expect(await changes(c, engine.copies.checkpoints.get(b.id))).toEqual(wanted);
  });
});

describe('the cost of a difference', () => {
  const LEAVES = 300;

  /** A disk with a block in each of many leaves, and nothing of it in memory. */
  async function big() {
    const made = await bench({ blocks: 1000, capacity: LEAVES * 512 });
    for (let leaf = 0; leaf < LEAVES; leaf += 1) await made.write(leaf * 512);
    return made;
  }

  async function nodesRead(small: SmallEngine, work: () => Promise<unknown>): Promise<number> {
    const { pages } = small.pool;
    const looked = new Set<number>();
    const isResident = pages.isResident.bind(pages);
    const spy = vi.spyOn(pages, 'isResident').mockImplementation((kind, number) => {
      if (kind === 'node') looked.add(number);
      return isResident(kind, number);
    });
    await work();
    spy.mockRestore();
    return looked.size;
  }

  it('is one path for one block, between copies and since a checkpoint', async () => {
    const { small, write, copy, checkpoint, changes } = await big();
    const a = await copy('a');
    await write(100 * 512, 1, 2);
    const b = await copy('b');
    const expected = [['data', 100 * 512, 1]];
    const between = await nodesRead(small, async () => {
      expect(await changes(b, a)).toEqual(expected);
    });
    expect(between).toBe(4);
    const gone = await checkpoint(a);
    const since = await nodesRead(small, async () => {
      expect(await changes(b, gone)).toEqual(expected);
    });
    expect(since).toBe(2);
  });

  it('of an untouched disk is at most the root', async () => {
    const { small, copy, checkpoint, changes } = await big();
    const a = await copy('a');
    const b = await copy('b');
    expect(await nodesRead(small, async () => expect(await changes(b, a)).toEqual([]))).toBe(0);
    const gone = await checkpoint(a);
    expect(await nodesRead(small, async () => expect(await changes(b, gone)).toEqual([]))).toBe(1);
  });
});
