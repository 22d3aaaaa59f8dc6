import { describe, expect, it } from 'vitest';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Reclaimer } from '../../../src/disk/reclaimer.ts';
import { openEngine } from '../../support/engine.ts';
import { turns } from '../../support/jumpy.ts';
import { metadataFull } from '../../support/rows.ts';
import { restOf, SIZE, type SmallEngine, smallEngine } from '../../support/small-engine.ts';

/** A disk of many leaves, each with a few blocks. */
async function wideDisk(small: SmallEngine, leaves: number): Promise<void> {
  const disk = await small.disk({ capacityBytes: 2 ** 40 });
  for (let leaf = 0; leaf < leaves; leaf += 1) {
    await disk.write(leaf * 512 * SIZE, Buffer.alloc(2 * SIZE, 1));
  }
  await disk.flush();
}

/** Waits at most 3 seconds. */
async function untilIdle(reclaimer: Reclaimer): Promise<void> {
  for (let wait = 0; !reclaimer.isIdle && wait < 300; wait += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(reclaimer.isIdle).toBe(true);
}

describe('what a deleted disk held', () => {
  it('is told as an upper bound and comes back in short steps, by itself', async () => {
    const small = await smallEngine({ blocks: 100 });
    await wideDisk(small, 20);
    const reclaimer = small.engine.disks.reclaimer(small.pool);
    await small.engine.disks.delete('d');
    expect(reclaimer.pendingBlocks).toBeGreaterThan(0);
    expect(reclaimer.pendingBlocks).toBeLessThanOrEqual(40);
    await untilIdle(reclaimer);
    expect(reclaimer.pendingBlocks).toBe(0);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(0);
    expect(await small.store.rows('dead_roots')).toEqual([]);
  });

  it('comes back after a restart at any point of it, even after crashes', async () => {
    const small = await smallEngine({ blocks: 100 });
    await wideDisk(small, 20);
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.disks.get('d').write(0, Buffer.alloc(3 * SIZE, 2));
    await small.engine.disks.delete('d');
    let { engine } = small;
    let { store } = small;
    for (let epoch = 2; epoch < 12; epoch += 1) {
      await turns(epoch % 4);
      await engine.disks.stop();
      await engine.pools.get('p').flush();
      store = store.crash();
      small.files.crash();
      engine = await openEngine({ store, fileSystem: small.files, epoch });
      if (epoch === 6) await engine.copies.delete('c');
    }
    await restOf(engine);
    expect(engine.pools.get('p').allocator.usedBlocks).toBe(0);
    expect(engine.errors).toEqual([]);
  });

  it('is given back once where copies share it in part', async () => {
    const small = await smallEngine({ blocks: 100 });
    await wideDisk(small, 10);
    const { copies, disks } = small.engine;
    for (const name of ['a', 'b', 'c']) {
      await freeze(copies, 'd', { name });
      await disks.get('d').write(3 * 512 * SIZE, Buffer.alloc(SIZE, 2));
    }
    expect(small.pool.allocator.usedBlocks).toBe(23);
    const deletions = [copies.delete('b'), disks.delete('d'), copies.delete('a')];
    await Promise.all(deletions);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(20);
    await copies.delete('c');
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(0);
  });

  it('goes on when the metadata have room again', async () => {
    const small = await smallEngine({ blocks: 1400, cacheBytes: 2 ** 22 });
    await wideDisk(small, 600);
    const reclaimer = small.engine.disks.reclaimer(small.pool);
    const deleted = small.engine.disks.delete('d');
    await deleted;
    small.store.failNextCommit(metadataFull());
    for (let wait = 0; small.engine.errors.length === 0 && wait < 2000; wait += 1) await turns(1);
    expect(small.engine.errors).toMatchObject([{ code: 'METADATA_FULL' }]);
    expect(reclaimer.isIdle).toBe(false);
    await untilIdle(reclaimer);
    await restOf(small.engine);
    expect(small.pool.allocator.usedBlocks).toBe(0);
  });

  it('is not forgotten if it dies at the moment in which the work ends', async () => {
    const small = await smallEngine({ blocks: 40 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await small.disk({ name: 'e' });
    const reclaimer = small.engine.disks.reclaimer(small.pool);
    const step = reclaimer.step.bind(reclaimer);
    let late = true;
    reclaimer.step = async () => {
      const more = await step();
      if (!more && late) {
        late = false;
        small.pool.nodeCounts.add(disk.root.node);
        reclaimer.add(disk.root);
      }
      return more;
    };
    small.pool.nodeCounts.add(disk.root.node);
    reclaimer.add(disk.root);
    await turns(3);
    await untilIdle(reclaimer);
    expect(late).toBe(false);
    await small.rest();
  });
});
