import { describe, expect, it } from 'vitest';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

const exceeded = { code: 'QUOTA_EXCEEDED' };

function ones(blocks: number): Buffer {
  return Buffer.alloc(blocks * SIZE, 1);
}

async function limited(quotaBlocks: number, blocks = 64) {
  const small = await smallEngine({ blocks });
  const disk = await small.disk();
  await small.engine.disks.update('d', { quotaBytes: quotaBlocks * SIZE });
  return { small, disk };
}

describe('a quota', () => {
  it('refuses what would map more, before anything changes', async () => {
    const { small, disk } = await limited(4);
    await disk.write(0, ones(3));
    const write = disk.write(2 * SIZE, Buffer.alloc(3 * SIZE, 2));
    await expect(write).rejects.toMatchObject({
      ...exceeded,
      details: { disk: 'd', quotaBytes: 4 * SIZE, usedBytes: 3 * SIZE, neededBytes: 2 * SIZE },
    });
    const found = await readAll(disk, 0, 6 * SIZE);
    expect(found.equals(Buffer.concat([ones(3), Buffer.alloc(3 * SIZE)]))).toBe(true);
    await disk.write(3 * SIZE, ones(1));
    await expect(disk.write(50 * SIZE, Buffer.alloc(1, 1))).rejects.toMatchObject(exceeded);
    expect(disk.quota.promisedBlocks).toBe(0);
    await small.rest();
  });

  it('lets what is mapped be overwritten, also with a copy, and zeros be written', async () => {
    const { small, disk } = await limited(4);
    await disk.write(0, ones(4));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await disk.write(0, Buffer.alloc(4 * SIZE, 9));
    await disk.write(4 * SIZE, Buffer.alloc(2 * SIZE));
    expect(disk.usedBytes).toBe(4 * SIZE);
    await disk.discard(0, SIZE);
    await disk.write(5 * SIZE, ones(1));
    await expect(disk.write(6 * SIZE, ones(1))).rejects.toMatchObject(exceeded);
    await small.rest();
  });

  it('below what is mapped takes nothing away', async () => {
    const { small, disk } = await limited(8);
    await disk.write(0, ones(6));
    await small.engine.disks.update('d', { quotaBytes: 2 * SIZE });
    await disk.write(0, Buffer.alloc(6 * SIZE, 3));
    await expect(disk.write(6 * SIZE, ones(1))).rejects.toMatchObject(exceeded);
    await disk.discard(0, 5 * SIZE);
    await disk.write(6 * SIZE, ones(1));
    await small.engine.disks.update('d', { quotaBytes: 0 });
    await expect(disk.write(0, ones(1))).rejects.toMatchObject(exceeded);
    await small.engine.disks.update('d', { quotaBytes: null });
    await disk.write(0, ones(5));
    await small.rest();
  });

  it('comes before the room of the pool', async () => {
    const { small, disk } = await limited(3, 4);
    await expect(disk.write(0, ones(10))).rejects.toMatchObject(exceeded);
    await small.engine.disks.update('d', { quotaBytes: 20 * SIZE });
    await expect(disk.write(0, ones(10))).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect(disk.quota.promisedBlocks).toBe(0);
    await disk.write(0, ones(4));
    await small.rest();
  });

  it('is exact when many write at once', async () => {
    const { small, disk } = await limited(20);
    const writes = Array.from({ length: 30 }, (_, block) => disk.write(block * SIZE, ones(1)));
    const outcomes = await Promise.allSettled(writes);
    const done = outcomes.filter(({ status }) => status === 'fulfilled');
    expect(done).toHaveLength(20);
    expect(disk.usedBytes).toBe(20 * SIZE);
    expect(disk.quota.promisedBlocks).toBe(0);
    await small.rest();
  });

  it('ends its promises with a write that fails', async () => {
    const { small, disk } = await limited(10);
    const mend = failWrites(disk);
    await expect(disk.write(0, ones(2))).rejects.toThrow('the write failed');
    mend();
    expect(disk.quota.promisedBlocks).toBe(0);
    await disk.write(0, ones(10));
    await small.rest();
  });

  it('and the rate are there after the store is opened anew', async () => {
    const { small, disk } = await limited(7);
    await small.engine.disks.update('d', { maxBytesPerSecond: 1000 });
    expect(disk.rate.bytesPerSecond).toBe(1000);
    const engine = await small.reopen();
    const again = engine.disks.get('d');
    expect(again).toMatchObject({ quotaBytes: 7 * SIZE, maxBytesPerSecond: 1000 });
    expect(again.rate.bytesPerSecond).toBe(1000);
    await small.rest();
  });
});

/** The pool's writes fail. @returns puts it right again */
function failWrites(disk: Disk): () => void {
  const { files } = disk.pool;
  const write = files.write.bind(files);
  files.write = () => Promise.reject(new Error('the write failed'));
  return () => {
    files.write = write;
  };
}
