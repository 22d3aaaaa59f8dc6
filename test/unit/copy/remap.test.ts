import { describe, expect, it } from 'vitest';
import { freeze } from '../../../src/copy/freeze.ts';
import { remap } from '../../../src/copy/remap.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a disk from a copy', () => {
  it('has its bytes and capacity, moves nothing, and changes neither copy nor source', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 10 * SIZE + 512 });
    await disk.write(SIZE, Buffer.alloc(2 * SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    const made = await remap(small.engine.copies, copy, { disk: 'e', labels: { a: 'b' } });
    expect([made.capacityBytes, made.usedBytes]).toEqual([10 * SIZE + 512, 2 * SIZE]);
    expect(small.pool.allocator.usedBlocks).toBe(2);
    await made.write(SIZE, Buffer.alloc(SIZE, 2));
    await disk.write(2 * SIZE, Buffer.alloc(SIZE, 3));
    const bytes = Buffer.alloc(2 * SIZE);
    await copy.read('full', SIZE, bytes);
    expect(bytes.equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    expect((await readAll(made, 2 * SIZE, SIZE)).equals(Buffer.alloc(SIZE, 1))).toBe(true);
    expect((await readAll(disk, SIZE, SIZE)).equals(Buffer.alloc(SIZE, 1))).toBe(true);
    await small.rest();
  });

  it('shares what the copy had alone, which the figures of both say at once', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    const bytes = async (): Promise<number[]> => {
      await small.rest();
      return Promise.all([disk.exclusiveBytes(), copy.exclusiveBytes()]);
    };
    expect(await bytes()).toEqual([0, 0]);
    await disk.write(0, Buffer.alloc(SIZE, 2));
    expect(await bytes()).toEqual([SIZE, SIZE]);
    const made = await remap(small.engine.copies, copy, { disk: 'e' });
    expect(await bytes()).toEqual([SIZE, 0]);
    expect(await made.exclusiveBytes()).toBe(0);
    await small.engine.copies.delete('c');
    await small.rest();
    expect(await disk.exclusiveBytes()).toBe(SIZE);
    expect(await made.exclusiveBytes()).toBe(SIZE);
  });

  it('lives on when copy and source are deleted', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    const made = await remap(small.engine.copies, copy, { disk: 'e' });
    await small.engine.disks.delete('d');
    await small.engine.copies.delete('c');
    await small.rest();
    expect((await readAll(made, 0, 2 * SIZE)).equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    await small.engine.disks.delete('e');
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(0);
  });

  it('is refused under a name that is taken, or from a copy that is gone', async () => {
    const small = await smallEngine();
    await (await small.disk()).write(0, Buffer.alloc(SIZE, 1));
    const { copies } = small.engine;
    const copy = await freeze(copies, 'd', { name: 'c' });
    const taken = remap(copies, copy, { disk: 'c' });
    await expect(taken).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    const invalid = remap(copies, copy, { disk: 'Not a name' });
    await expect(invalid).rejects.toMatchObject({ code: 'NAME_INVALID' });
    const deleted = copies.delete('c');
    const late = remap(copies, copy, { disk: 'e' });
    await expect(late).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await deleted;
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(1);
  });
});
