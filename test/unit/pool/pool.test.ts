import { describe, expect, it } from 'vitest';
import { GIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Row } from '../../../src/pool/metadata-store.ts';
import { openEngine } from '../../support/engine.ts';
import { turns } from '../../support/jumpy.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';
import { metadataFull } from '../../support/rows.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

async function markOf(store: MemoryMetadata, extent = 0): Promise<unknown> {
  const rows: Row[] = await store.rows('pool_extents');
  return rows[extent]?.['high_water'];
}

describe('a full pool', () => {
  it('gives a freed block only when its free is durable and its readers have left', async () => {
    const small = await smallEngine({ blocks: 2 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    small.files.hold('read');
    const bytes = Buffer.alloc(2 * SIZE);
    const read = disk.read(0, bytes);
    await small.files.waiting();
    await disk.discard(0, 2 * SIZE);
    let written = false;
    const write = disk.write(5 * SIZE, Buffer.alloc(2 * SIZE, 2)).then(() => {
      written = true;
    });
    await turns(20);
    expect(written).toBe(false);
    small.files.release();
    await Promise.all([read, write]);
    expect(bytes.equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    await small.rest();
  });

  it('answers at once if nothing that is being given back could help', async () => {
    const small = await smallEngine({ blocks: 2 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    await disk.flush();
    const before = small.store.commits;
    const write = disk.write(5 * SIZE, Buffer.alloc(SIZE, 2));
    await expect(write).rejects.toMatchObject({
      code: 'POOL_FULL',
      details: { pool: 'p', neededBytes: SIZE, freeBytes: 0 },
    });
    expect(small.store.commits).toBe(before);
    expect(small.pool.state).toBe('full');
  });

  it('leaves free what is reserved while a request waits for frees', async () => {
    const small = await smallEngine({ blocks: 4 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(4 * SIZE, 1));
    await disk.discard(0, 2 * SIZE);
    let reserved = 0;
    const allocated = expect(small.pool.allocate(1, () => reserved)).rejects.toMatchObject({
      code: 'POOL_FULL',
    });
    reserved = 2;
    await allocated;
    expect(await small.pool.allocate(1, () => 1)).toHaveLength(1);
  });

  it('takes back what a deleted disk held before it refuses', async () => {
    const small = await smallEngine({ blocks: 600 });
    const disk = await small.disk({ capacityBytes: 2 ** 40 });
    for (let leaf = 0; leaf < 6; leaf += 1) {
      await disk.write(leaf * 512 * SIZE, Buffer.alloc(100 * SIZE, leaf + 1));
    }
    const other = await small.disk({ name: 'e', capacityBytes: 2 ** 40 });
    const deleted = small.engine.disks.delete('d');
    // its gate is closed first, for as many turns as that takes
    while (small.engine.disks.find('d') !== undefined) await Promise.resolve();
    await other.write(0, Buffer.alloc(200 * SIZE, 9));
    await deleted;
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(200);
  });

  it('rewrites what only the disk holds, with its birth durable before', async () => {
    const small = await smallEngine({ blocks: 3 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await expect(disk.write(0, Buffer.alloc(10, 2))).rejects.toMatchObject({ code: 'POOL_FULL' });
    await small.engine.copies.delete('c');
    await small.rest();
    const commits = small.store.commits;
    await disk.write(0, Buffer.alloc(3 * SIZE, 3));
    expect(small.store.commits).toBeGreaterThan(commits);
    expect((await readAll(disk, 0, 3 * SIZE)).equals(Buffer.alloc(3 * SIZE, 3))).toBe(true);
    await small.rest();
  });

  it('overwrites no adopted block before its birth is durable, even after a failure', async () => {
    const small = await smallEngine({ blocks: 3 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.copies.delete('c');
    await small.rest();
    small.store.failNextCommit(metadataFull());
    const failed = disk.write(0, Buffer.alloc(SIZE, 2));
    await expect(failed).rejects.toMatchObject({ code: 'METADATA_FULL' });
    small.store.hold();
    const write = disk.write(0, Buffer.alloc(SIZE, 3));
    await turns(10);
    const found = await readAll(disk, 0, SIZE);
    expect(found.equals(Buffer.alloc(SIZE, 1))).toBe(true);
    small.store.release();
    await write;
    expect((await readAll(disk, 0, SIZE)).equals(Buffer.alloc(SIZE, 3))).toBe(true);
  });
});

describe('the mark of what may have been written', () => {
  it('is durable before a block above it is used, and lowered at a clean end', async () => {
    const small = await smallEngine({ blocks: 64 });
    const disk = await small.disk();
    expect(await markOf(small.store)).toBe(0);
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    expect(await markOf(small.store)).toBe(64);
    await small.reopen();
    expect(await markOf(small.store)).toBe(3);
  });

  it('goes up in steps of 1 GiB', async () => {
    const store = new MemoryMetadata();
    const small = await smallEngine({ store, blocks: (3 * GIB) / SIZE });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    expect(await markOf(store)).toBe(GIB / SIZE);
  });

  it('stays durable when the pool grows while it is raised', async () => {
    const small = await smallEngine({ blocks: 8 });
    const disk = await small.disk();
    small.store.hold();
    const write = disk.write(0, Buffer.alloc(2 * SIZE, 1));
    await turns(2);
    const files = [{ path: '/p', sizeBytes: MIB + 20 * SIZE }];
    const grown = small.engine.pools.update('p', { files });
    await turns(2);
    small.store.release();
    await Promise.all([write, grown]);
    await disk.write(2 * SIZE, Buffer.alloc(15 * SIZE, 2));
    const { extents } = small.pool.allocator;
    expect(await markOf(small.store)).toBe(extents[0]!.highWater);
    expect(extents[0]!.blocks).toBe(20);
    await small.rest();
  });

  it('makes every block below it dirty after a crash: no old bytes are seen', async () => {
    const small = await smallEngine({ blocks: 64 });
    const disk = await small.disk({ detectZeroes: false });
    await disk.flush();
    await disk.write(0, Buffer.alloc(20 * SIZE, 0xaa));
    await small.pool.files.sync();
    const store = small.store.crash();
    small.files.crash();
    const engine = await openEngine({ store, fileSystem: small.files, epoch: 2 });
    const again = engine.disks.get('d');
    expect(again.usedBytes).toBe(0);
    for (let block = 0; block < 20; block += 1) {
      await again.write(block * SIZE + 1000, Buffer.alloc(10, 1));
    }
    const found = await readAll(again, 0, 20 * SIZE);
    expect(found.includes(0xaa)).toBe(false);
  });
});

describe('a pool that is closed', () => {
  it('gives up its files even if the last commit fails', async () => {
    const small = await smallEngine();
    await (await small.disk()).write(0, Buffer.alloc(SIZE, 1));
    small.store.failNextCommit(metadataFull());
    await expect(small.engine.close()).rejects.toMatchObject({ code: 'METADATA_FULL' });
    const { store, files } = small;
    const engine = await openEngine({ store, fileSystem: files, epoch: 2 });
    expect(engine.disks.list()).toHaveLength(1);
  });

  it('begins nothing new', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    const closed = small.pool.close();
    const write = disk.write(SIZE, Buffer.alloc(SIZE, 1));
    const refused = expect(write).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    await Promise.all([closed, refused]);
  });
});

describe('a pool that fails', () => {
  it('refuses writes and flushes after a failed write, and goes on reading', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await disk.flush();
    small.files.failAt(small.files.steps + 1);
    const poisoned = { code: 'POOL_POISONED' };
    await expect(disk.write(0, Buffer.alloc(SIZE, 2))).rejects.toMatchObject(poisoned);
    await expect(disk.write(SIZE, Buffer.alloc(SIZE, 2))).rejects.toMatchObject(poisoned);
    // also what would change nothing
    await expect(disk.write(5 * SIZE, Buffer.alloc(SIZE))).rejects.toMatchObject(poisoned);
    await expect(disk.discard(5 * SIZE, SIZE)).rejects.toMatchObject(poisoned);
    await expect(disk.flush()).rejects.toMatchObject(poisoned);
    await expect(freeze(small.engine.copies, 'd', { name: 'c' })).rejects.toMatchObject(poisoned);
    expect(small.pool.state).toBe('poisoned');
    await readAll(disk, 0, 2 * SIZE);
    await small.engine.close();
    const { store, files } = small;
    const engine = await openEngine({ store, fileSystem: files, epoch: 2 });
    await engine.disks.get('d').write(0, Buffer.alloc(SIZE, 3));
    await engine.disks.get('d').flush();
  });

  it('is not tried again after a failed sync', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    small.files.failSync();
    const poisoned = { code: 'POOL_POISONED' };
    await expect(disk.flush()).rejects.toMatchObject(poisoned);
    await expect(disk.flush()).rejects.toMatchObject(poisoned);
    expect((await readAll(disk, 0, SIZE)).equals(Buffer.alloc(SIZE, 1))).toBe(true);
  });

  it('for want of room below refuses that write only, and gives its blocks back', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await disk.flush();
    small.files.failAt(small.files.steps + 1, 'ENOSPC');
    const write = disk.write(SIZE, Buffer.alloc(2 * SIZE, 2));
    await expect(write).rejects.toMatchObject({ code: 'HOST_FULL' });
    expect(disk.usedBytes).toBe(SIZE);
    await disk.write(SIZE, Buffer.alloc(2 * SIZE, 3));
    const wanted = Buffer.concat([Buffer.alloc(SIZE, 1), Buffer.alloc(2 * SIZE, 3)]);
    expect((await readAll(disk, 0, 3 * SIZE)).equals(wanted)).toBe(true);
    await small.rest();
  });

  it('on a read names the range and goes on', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    small.files.failAt(small.files.steps + 1);
    await expect(disk.read(0, Buffer.alloc(SIZE))).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      details: { path: '/p', position: MIB, length: SIZE },
    });
    expect(small.pool.state).toBe('ready');
    await disk.write(0, Buffer.alloc(SIZE, 2));
    await small.rest();
  });

  it('keeps everything pending while the metadata have no room', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    await disk.discard(SIZE, SIZE);
    for (let time = 0; time < 3; time += 1) {
      small.store.failNextCommit(metadataFull());
      await expect(disk.flush()).rejects.toMatchObject({ code: 'METADATA_FULL' });
    }
    expect(small.pool.state).toBe('ready');
    await disk.write(2 * SIZE, Buffer.alloc(SIZE, 4));
    await small.rest();
    const engine = await small.reopen();
    const found = await readAll(engine.disks.get('d'), 0, 3 * SIZE);
    const parts = [1, 0, 4].map((byte) => Buffer.alloc(SIZE, byte));
    expect(found.equals(Buffer.concat(parts))).toBe(true);
  });
});
