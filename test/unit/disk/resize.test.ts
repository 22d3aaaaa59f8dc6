import { describe, expect, it } from 'vitest';
import { freeze } from '../../../src/copy/freeze.ts';
import { turns } from '../../support/jumpy.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a disk that shrinks', () => {
  it('is refused while there is data beyond, mapped or in the last block', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 4 * SIZE });
    const { disks } = small.engine;
    const refusal = { code: 'DISK_HAS_DATA_BEYOND' };
    await disk.write(3 * SIZE, Buffer.alloc(SIZE, 1));
    await expect(disks.update('d', { capacityBytes: SIZE })).rejects.toMatchObject(refusal);
    await disk.discard(3 * SIZE, SIZE);
    await disk.write(SIZE, Buffer.alloc(1024, 1));
    const toLess = { capacityBytes: SIZE + 512 };
    await expect(disks.update('d', toLess)).rejects.toMatchObject(refusal);
    await disks.update('d', { capacityBytes: SIZE + 1024 });
    expect(disk.capacityBytes).toBe(SIZE + 1024);
  });

  it('and grows again reads zeros where data was', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 4 * SIZE });
    await disk.write(0, Buffer.alloc(4 * SIZE, 1));
    await small.engine.disks.update('d', { capacityBytes: SIZE + 512, discard: true });
    await small.engine.disks.update('d', { capacityBytes: 4 * SIZE });
    const wanted = Buffer.alloc(4 * SIZE).fill(1, 0, SIZE + 512);
    expect((await readAll(disk, 0, 4 * SIZE)).equals(wanted)).toBe(true);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(2);
  });

  it('keeps the bytes of its copies', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 4 * SIZE });
    await disk.write(0, Buffer.alloc(4 * SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.disks.update('d', { capacityBytes: SIZE + 512, discard: true });
    const bytes = Buffer.alloc(4 * SIZE);
    await copy.read('full', 0, bytes);
    expect(bytes.equals(Buffer.alloc(4 * SIZE, 1))).toBe(true);
    await small.rest();
  });

  it('loses nothing if its last block must move and the pool is full', async () => {
    const small = await smallEngine({ blocks: 3 });
    const disk = await small.disk({ capacityBytes: 3 * SIZE });
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    const shrink = small.engine.disks.update('d', { capacityBytes: 512, discard: true });
    await expect(shrink).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect(disk.capacityBytes).toBe(3 * SIZE);
    expect((await readAll(disk, 0, 3 * SIZE)).equals(Buffer.alloc(3 * SIZE, 1))).toBe(true);
    await small.rest();
  });

  it('refuses a write beyond that was waiting, and takes nothing of it', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 4 * SIZE });
    const hold = await disk.lock.acquire(0, 4, true);
    const shrink = small.engine.disks.update('d', { capacityBytes: SIZE });
    await turns(1);
    const write = disk.write(2 * SIZE, Buffer.alloc(SIZE, 1));
    const refused = expect(write).rejects.toMatchObject({ code: 'RANGE_NOT_SATISFIABLE' });
    disk.lock.release(hold);
    await Promise.all([shrink, refused]);
    expect(disk.usedBytes).toBe(0);
    await small.rest();
  });
});
