import { describe, expect, it, vi } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { commitEndings, endRestoring } from '../../../src/copy/endings.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { beginFill, fence, finishFill, swapTables } from '../../../src/copy/write-back.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { writeRange } from '../../../src/disk/write.ts';
import { effect, metadataFull } from '../../support/rows.ts';
import { readAll, SIZE, smallEngine, type SmallEngine } from '../../support/small-engine.ts';

interface World {
  readonly small: SmallEngine;
  readonly disk: Disk;
  readonly copy: Copy;
}

/** A disk of twos in a pool of its own, with a copy of ones; it is fenced. */
async function fenced(small: SmallEngine, pool = 'p', name = 'd'): Promise<World> {
  const { copies } = small.engine;
  const disk = await small.disk({ name, pool, capacityBytes: 8 * SIZE });
  await disk.write(0, Buffer.alloc(4 * SIZE, 1));
  const copy = await freeze(copies, name, { name: `${name}-copy` });
  await disk.write(0, Buffer.alloc(4 * SIZE, 2));
  await fence(disk, 'job', false);
  await disk.flush();
  return { small, disk, copy };
}

async function expectBytes(disk: Disk, value: number): Promise<void> {
  expect(new Set(await readAll(disk, 0, 4 * SIZE))).toEqual(new Set([value]));
}

async function expectFenced(disk: Disk): Promise<void> {
  expect([disk.state, disk.fencedBy]).toEqual(['fenced', 'job']);
  const code = { code: 'DISK_FENCED', details: { job: 'job' } };
  await expect(disk.read(0, Buffer.alloc(1))).rejects.toMatchObject(code);
  await expect(disk.write(0, Buffer.alloc(1))).rejects.toMatchObject(code);
}

/** As a user who has waited for the end of the job. */
async function lift({ small, disk }: World): Promise<void> {
  disk.record.state = 'ready';
  disk.record.job = null;
  disk.changed();
  await small.pool.flush();
}

/** The ways a write-back ends; with and without a copy of what was there. */
const ends = [undefined, 's'].flatMap((safetyCopy) => [
  {
    what: `a swap of tables (safety copy: ${safetyCopy ?? 'none'})`,
    safetyCopy,
    prepare: () => Promise.resolve(),
    end: ({ small, disk, copy }: World) =>
      swapTables(small.engine.copies, [{ disk, copy, safetyCopy }], [effect]),
  },
  {
    what: `a fill (safety copy: ${safetyCopy ?? 'none'})`,
    safetyCopy,
    prepare: async ({ small, disk }: World) => {
      await beginFill(small.engine.copies, disk, false);
      await writeRange(disk, 0, Buffer.alloc(4 * SIZE, 1));
      await disk.flush();
    },
    end: ({ small, disk }: World) =>
      finishFill(small.engine.copies, disk, 8 * SIZE, safetyCopy, [effect]),
  },
]);

describe.each(ends)('the end of $what', ({ prepare, end, safetyCopy }) => {
  it('is seen by nobody before it is durable', async () => {
    const world = await fenced(await smallEngine());
    const { small, disk } = world;
    await prepare(world);
    small.store.hold();
    const done = end(world);
    await new Promise((resolve) => setImmediate(resolve));
    await expectFenced(disk);
    expect(small.engine.copies.list().map(({ name }) => name)).toEqual(['d-copy']);
    await expect(small.engine.disks.delete('d')).rejects.toMatchObject({ code: 'DISK_IN_USE' });
    small.store.release();
    await done;
    await expectBytes(disk, 1);
    const names = ['d-copy', ...(safetyCopy === undefined ? [] : [safetyCopy])];
    expect(small.engine.copies.list().map(({ name }) => name)).toEqual(names);
    await small.rest();
  });

  it('for which there is no room changes nothing, and can be tried again', async () => {
    const world = await fenced(await smallEngine());
    const { small, disk } = world;
    await prepare(world);
    const before = { ...disk.record };
    small.store.failNextCommit(metadataFull());
    const other = small.pool.flush().catch(() => undefined);
    await expect(end(world)).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await other;
    await small.rest();
    await expectFenced(disk);
    expect(disk.record).toEqual(before);
    expect(await small.store.rows('idempotency')).toEqual([]);
    const [row] = await small.store.rows('disks');
    expect(row).toMatchObject({ state: 'fenced', root_node: before.root.node });
    if (safetyCopy !== undefined) small.engine.copies.options.names.assertFree(safetyCopy);
    await end(world);
    await expectBytes(disk, 1);
    await small.rest();
    const engine = await small.reopen();
    await expectBytes(engine.disks.get('d'), 1);
    expect(engine.copies.internal()).toEqual([]);
    await small.rest();
    for (const copy of engine.copies.list()) await engine.copies.delete(copy.name);
    await engine.disks.delete('d');
    await small.rest();
    expect(engine.pools.get('p').allocator.usedBlocks).toBe(0);
  });

  it('that cannot be synced is none, for who reads the disk after the next start', async () => {
    const world = await fenced(await smallEngine());
    const { small, disk } = world;
    await prepare(world);
    await writeRange(disk, 6 * SIZE, Buffer.alloc(SIZE, 9));
    small.files.failSync();
    await expect(end(world)).rejects.toMatchObject({ code: 'POOL_POISONED' });
    await expectFenced(disk);
    small.files.crash();
    const engine = await small.reopen();
    await expectFenced(engine.disks.get('d'));
  });
});

describe('a fill that the power cuts off after its end', () => {
  it('leaves nothing of what was there before', async () => {
    const world = await fenced(await smallEngine());
    const { small, disk } = world;
    await beginFill(small.engine.copies, disk, false);
    await writeRange(disk, 0, Buffer.alloc(4 * SIZE, 1));
    // the old root goes in a batch of its own
    const drop = vi.spyOn(small.engine.copies, 'drop').mockImplementation(() => undefined);
    await finishFill(small.engine.copies, disk, 8 * SIZE, undefined);
    expect(drop).toHaveBeenCalledTimes(1);
    expect(small.engine.copies.internal()).toHaveLength(1);
    const engine = await small.reopen();
    expect(engine.copies.internal()).toEqual([]);
    await expectBytes(engine.disks.get('d'), 1);
    await small.rest();
    expect(engine.pools.get('p').allocator.usedBlocks).toBe(8);
  });
});

describe('the end of a restore to a new disk', () => {
  it('for which there is no room leaves it restoring', async () => {
    const small = await smallEngine();
    const { copies, disks } = small.engine;
    const o = { name: 'n', capacityBytes: SIZE, reserveBytes: SIZE, job: 'job' };
    const disk = await disks.make(small.pool, { ...o, state: 'restoring' });
    small.store.failNextCommit(metadataFull());
    const ended = commitEndings(copies, [endRestoring(disk)], [effect]);
    expect(disk.state).toBe('restoring');
    await expect(ended).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect(disk.record).toMatchObject({ state: 'restoring', job: 'job', reserveBytes: SIZE });
    await commitEndings(copies, [endRestoring(disk)]);
    expect(disk.record).toMatchObject({ state: 'ready', job: null, reserveBytes: 0 });
    await small.rest();
  });
});

describe('the end of write-backs in two pools', () => {
  async function two(): Promise<{ small: SmallEngine; worlds: readonly World[] }> {
    const small = await smallEngine();
    const files = [{ path: '/o', sizeBytes: MIB + 64 * SIZE }];
    await small.engine.pools.create({ name: 'o', blockSizeBytes: SIZE, files });
    const worlds = [await fenced(small), await fenced(small, 'o', 'e')];
    return { small, worlds };
  }

  it.each(['p', 'o'])('is none if pool %s fails: the other takes its part back', async (bad) => {
    const { small, worlds } = await two();
    for (const { disk } of worlds) {
      if (disk.pool.name === bad) await writeRange(disk, 6 * SIZE, Buffer.alloc(SIZE, 9));
    }
    small.files.failSync();
    const swaps = worlds.map(({ disk, copy }) => {
      return { disk, copy, safetyCopy: `${disk.name}-safe` };
    });
    const swapped = swapTables(small.engine.copies, swaps, [effect]);
    const others = worlds.map(({ disk }) => disk.pool.flush().catch(() => undefined));
    await expect(swapped).rejects.toMatchObject({ code: 'POOL_POISONED' });
    await Promise.all(others);
    for (const { disk } of worlds) await expectFenced(disk);
    const good = worlds.find(({ disk }) => disk.pool.name !== bad)!;
    await good.disk.pool.flush();
    expect(await small.store.rows('idempotency')).toEqual([]);
    small.files.crash();
    const engine = await small.reopen();
    for (const { disk } of worlds) {
      const again = engine.disks.get(disk.name);
      await expectFenced(again);
      await lift({ ...good, disk: again, small: { ...small, pool: again.pool } });
      await expectBytes(again, 2);
    }
    expect(engine.copies.list().map(({ name }) => name)).toEqual(['d-copy', 'e-copy']);
  });
});
