import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { beginFill, fence, unfence } from '../../../src/copy/write-back.ts';
import { writeRange } from '../../../src/disk/write.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a write', () => {
  it('reads back at any offset, and all around it are zeros', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(SIZE + 100, Buffer.alloc(2 * SIZE, 7));
    const found = await readAll(disk, 0, 5 * SIZE);
    const wanted = Buffer.alloc(5 * SIZE);
    wanted.fill(7, SIZE + 100, 3 * SIZE + 100);
    expect(found.equals(wanted)).toBe(true);
    expect(disk.usedBytes).toBe(3 * SIZE);
    await small.rest();
  });

  it('of zeros leaves what is not mapped alone, and unmaps whole blocks', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(4 * SIZE));
    expect(disk.usedBytes).toBe(0);
    await disk.write(0, Buffer.alloc(4 * SIZE, 1));
    await disk.write(SIZE - 10, Buffer.alloc(2 * SIZE));
    expect(disk.usedBytes).toBe(3 * SIZE);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(3);
  });

  it('of zeros is kept as it is where the disk does not detect them', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ detectZeroes: false });
    await disk.write(0, Buffer.alloc(4 * SIZE));
    expect(disk.usedBytes).toBe(4 * SIZE);
  });

  it('goes in place until a freeze, then to a new block, then in place again', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await disk.write(0, Buffer.alloc(SIZE, 2));
    expect(small.pool.allocator.usedBlocks).toBe(1);
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await disk.write(100, Buffer.alloc(50, 3));
    await disk.write(200, Buffer.alloc(50, 4));
    expect(small.pool.allocator.usedBlocks).toBe(2);
    const copy = small.engine.copies.get('c');
    const kept = Buffer.alloc(SIZE);
    await copy.read('full', 0, kept);
    expect(kept.equals(Buffer.alloc(SIZE, 2))).toBe(true);
  });

  it('of more than there is room for changes nothing', async () => {
    const small = await smallEngine({ blocks: 4 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    const write = disk.write(SIZE, Buffer.alloc(4 * SIZE, 2));
    await expect(write).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect((await readAll(disk, 0, 2 * SIZE)).equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    expect(disk.usedBytes).toBe(2 * SIZE);
    await small.rest();
  });

  it('of 4 MiB goes in operations, all of which are there', async () => {
    const small = await smallEngine({ blocks: 300 });
    const disk = await small.disk({ capacityBytes: 2 ** 40 });
    const bytes = Buffer.alloc(4 * MIB, 9);
    await disk.write(511 * SIZE + 5, bytes);
    expect((await readAll(disk, 511 * SIZE + 5, bytes.length)).equals(bytes)).toBe(true);
    await small.rest();
  });
});

describe('a write that waits', () => {
  it('while its disk is deleted fails and changes no copy', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    small.files.hold('read');
    const write = disk.write(100, Buffer.alloc(SIZE, 2));
    await small.files.waiting();
    await small.engine.disks.delete('d');
    const reclaimer = small.engine.disks.reclaimer(small.pool);
    while (await reclaimer.step()) await small.pool.flush();
    small.files.release();
    await expect(write).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const kept = Buffer.alloc(2 * SIZE);
    await small.engine.copies.get('c').read('full', 0, kept);
    expect(kept.equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    await small.rest();
  });

  it('while its disk is fenced fails and changes nothing', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    small.files.hold('read');
    const write = disk.write(100, Buffer.alloc(SIZE, 2));
    await small.files.waiting();
    await fence(disk, 'job', false);
    small.files.release();
    await expect(write).rejects.toMatchObject({ code: 'DISK_FENCED' });
    await unfence(disk);
    expect((await readAll(disk, 0, 2 * SIZE)).equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    await small.rest();
  });

  it('of a restore fails once the disk is given back', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await fence(disk, 'job', false);
    await beginFill(small.engine.copies, disk, true);
    small.files.hold('read');
    const write = writeRange(disk, 100, Buffer.alloc(50, 2));
    await small.files.waiting();
    await unfence(disk);
    small.files.release();
    await expect(write).rejects.toMatchObject({ code: 'DISK_FENCED' });
    expect((await readAll(disk, 0, SIZE)).equals(Buffer.alloc(SIZE, 1))).toBe(true);
  });
});
