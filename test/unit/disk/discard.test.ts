import { describe, expect, it } from 'vitest';
import { freeze } from '../../../src/copy/freeze.ts';
import { lookup } from '../../../src/disk/allocation-table.ts';
import { discardRange } from '../../../src/disk/discard.ts';
import { resizeDisk } from '../../../src/disk/resize.ts';
import { turns } from '../../support/jumpy.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a discard', () => {
  it('unmaps whole blocks and zeroes the mapped parts at both ends', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(4 * SIZE, 1));
    await disk.discard(100, 3 * SIZE);
    const wanted = Buffer.alloc(4 * SIZE, 1).fill(0, 100, 3 * SIZE + 100);
    expect((await readAll(disk, 0, 4 * SIZE)).equals(wanted)).toBe(true);
    expect(disk.usedBytes).toBe(2 * SIZE);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(2);
  });

  it('of parts of a hole maps nothing', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.discard(100, SIZE + 200);
    await disk.discard(100, 50);
    expect(disk.usedBytes).toBe(0);
  });

  it('of a huge range costs what is mapped in it', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 2 ** 53 - 512 });
    await disk.write(2 ** 52, Buffer.alloc(SIZE, 1));
    const before = small.files.steps;
    await disk.discard(0, disk.capacityBytes);
    expect(disk.usedBytes).toBe(0);
    expect(small.files.steps - before).toBeLessThan(3);
  });

  it('unmaps the last block if it ends with the disk', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: SIZE + 512 });
    await disk.write(0, Buffer.alloc(SIZE + 512, 1));
    await disk.discard(SIZE, 512);
    expect(disk.usedBytes).toBe(SIZE);
  });

  it('loses nothing beyond its range if the disk grows meanwhile', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: SIZE + 512 });
    await disk.write(SIZE, Buffer.alloc(512, 1));
    await disk.flush();
    const hold = await disk.lock.acquire(1, 2, true);
    const discard = discardRange(disk, SIZE, 512);
    const grow = resizeDisk(disk, 3 * SIZE, false, () => undefined);
    // the write waits for the lock before the discard does
    const write = disk.write(SIZE + 512, Buffer.alloc(512, 2));
    disk.lock.release(hold);
    await Promise.all([discard, grow, write]);
    const wanted = Buffer.concat([Buffer.alloc(512), Buffer.alloc(512, 2)]);
    expect((await readAll(disk, SIZE, 1024)).equals(wanted)).toBe(true);
    await small.rest();
  });

  it('is remembered while a copy exists that has the block, and only then', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    await disk.discard(0, SIZE);
    expect(lookup(small.pool, disk.root, 0)).toEqual({ block: -1, birth: 0 });
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await disk.write(SIZE, Buffer.alloc(SIZE));
    await disk.discard(0, 2 * SIZE);
    expect(lookup(small.pool, disk.root, 0)).toEqual({ block: -1, birth: 0 });
    expect(lookup(small.pool, disk.root, 1)).toEqual({ block: -1, birth: disk.generation });
    const engine = await small.reopen();
    expect(engine.disks.get('d').keepsTombstones).toBe(true);
    await engine.copies.delete('c');
    expect(engine.disks.get('d').keepsTombstones).toBe(false);
    await small.rest();
  });

  it('waits for a write under way in its blocks, which nobody else gets before', async () => {
    const small = await smallEngine({ blocks: 1 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await disk.flush();
    small.files.hold('write');
    const write = disk.write(0, Buffer.alloc(SIZE, 2));
    await small.files.waiting();
    let discarded = false;
    const discard = disk.discard(0, SIZE).then(() => {
      discarded = true;
    });
    await turns(10);
    expect(discarded).toBe(false);
    small.files.release();
    await Promise.all([write, discard]);
    await disk.write(SIZE, Buffer.alloc(SIZE, 3));
    expect((await readAll(disk, SIZE, SIZE)).equals(Buffer.alloc(SIZE, 3))).toBe(true);
    await small.rest();
  });

  it('of a part that needs a new block on a full pool is refused', async () => {
    const small = await smallEngine({ blocks: 2 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await expect(disk.discard(0, 100)).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect((await readAll(disk, 0, 2 * SIZE)).equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    await disk.discard(0, SIZE);
    expect(disk.usedBytes).toBe(SIZE);
    await small.rest();
  });
});
