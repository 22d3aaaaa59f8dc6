import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { openEngine } from '../../support/engine.ts';
import { turns } from '../../support/jumpy.ts';
import { metadataFull, RecordingMetadata } from '../../support/rows.ts';
import { readAll, SIZE, smallEngine } from '../../support/small-engine.ts';

const second = {
  name: 'q',
  blockSizeBytes: SIZE,
  files: [{ path: '/q', sizeBytes: MIB + 8 * SIZE }],
};

describe('creating a pool', () => {
  it('twice with the same request gives the same pool, with another is refused', async () => {
    const { engine } = await smallEngine();
    const [first, again] = await Promise.all([
      engine.pools.create(second),
      engine.pools.create(second),
    ]);
    expect([again.pool === first.pool, first.created, again.created]).toEqual([true, true, false]);
    const other = engine.pools.create({ ...second, lowWaterPercent: 50 });
    await expect(other).rejects.toMatchObject({ code: 'NAME_TAKEN' });
  });

  it('that cannot be committed leaves neither pool nor file', async () => {
    const small = await smallEngine();
    small.store.failNextCommit(metadataFull());
    const made = small.engine.pools.create(second);
    await expect(made).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect(small.files.has('/q')).toBe(false);
    expect(small.engine.pools.list()).toHaveLength(1);
    await small.engine.pools.create(second);
    await small.rest();
  });

  it('refuses marks in the wrong order, also later', async () => {
    const { engine } = await smallEngine();
    const marks = { lowWaterPercent: 96, criticalPercent: 95 };
    const made = engine.pools.create({ ...second, ...marks });
    await expect(made).rejects.toMatchObject({ code: 'VALIDATION_FAILED' });
    const changed = engine.pools.update('p', { lowWaterPercent: 96 });
    await expect(changed).rejects.toMatchObject({ code: 'VALIDATION_FAILED' });
    await engine.pools.update('p', { lowWaterPercent: 96, criticalPercent: 97 });
  });
});

describe('a pool on a device', () => {
  it('shows nothing of the old bytes, also after it has grown and was opened again', async () => {
    const small = await smallEngine();
    small.files.addDevice('/dev/a', MIB + 8 * SIZE);
    small.files.addDevice('/dev/b', MIB + 8 * SIZE);
    const files = [{ path: '/dev/a', sizeBytes: MIB + 6 * SIZE }];
    await small.engine.pools.create({ name: 'q', blockSizeBytes: SIZE, files });
    const disk = await small.disk({ pool: 'q' });
    const touch = async (block: number): Promise<void> => {
      const { disks } = small.engine;
      await disks.get('d').write(block * SIZE + 1000, Buffer.alloc(10, 1));
      const wanted = Buffer.alloc(SIZE).fill(1, 1000, 1010);
      expect((await readAll(disks.get('d'), block * SIZE, SIZE)).equals(wanted)).toBe(true);
    };
    for (let block = 0; block < 5; block += 1) await touch(block);
    const more = [
      { path: '/dev/a', sizeBytes: MIB + 8 * SIZE },
      { path: '/dev/b', sizeBytes: MIB + 8 * SIZE },
    ];
    await small.engine.pools.update('q', { files: more });
    for (let block = 5; block < 10; block += 1) await touch(block);
    await small.reopen();
    for (let block = 10; block < 16; block += 1) await touch(block);
    expect(disk.pool.name).toBe('q');
    await small.rest();
  });
});

describe('deleting a pool', () => {
  it('is refused while a disk or copy lives in it', async () => {
    const small = await smallEngine();
    await small.disk();
    const inUse = { code: 'POOL_IN_USE' };
    await expect(small.engine.pools.delete('p')).rejects.toMatchObject(inUse);
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.disks.delete('d');
    await expect(small.engine.pools.delete('p')).rejects.toMatchObject(inUse);
    expect(small.engine.pools.get('p')).toBe(small.pool);
  });

  it('while a disk is being made in it does one of the two', async () => {
    for (let hops = 0; hops < 15; hops += 1) {
      const small = await smallEngine();
      const deleted = small.engine.pools.delete('p');
      for (let hop = 0; hop < hops; hop += 1) await turns(hops > 10 ? 1 : 0);
      const both = await Promise.allSettled([deleted, small.disk()]);
      expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      const pools = await small.store.rows('pools');
      expect(await small.store.rows('disks')).toHaveLength(pools.length);
    }
  });

  it('waits for what is being given back; the next pool begins with empty tables', async () => {
    const small = await smallEngine({ blocks: 200 });
    const disk = await small.disk({ capacityBytes: 2 ** 40 });
    await disk.write(0, Buffer.alloc(100 * SIZE, 1));
    await disk.write(2 ** 39, Buffer.alloc(100 * SIZE, 1));
    await small.engine.disks.delete('d');
    await small.engine.pools.delete('p');
    expect(small.files.has('/p')).toBe(false);
    const { pool } = await small.engine.pools.create(second);
    expect(pool.record.number).toBe(small.pool.record.number);
    expect(pool.allocator.usedBlocks).toBe(0);
    const other = await small.disk({ name: 'e' });
    await other.write(0, Buffer.alloc(8 * SIZE, 2));
    expect((await readAll(other, 0, 8 * SIZE)).equals(Buffer.alloc(8 * SIZE, 2))).toBe(true);
    await small.rest();
  });

  it('that cannot be committed leaves the pool', async () => {
    const small = await smallEngine();
    small.store.failNextCommit(metadataFull());
    const deleted = small.engine.pools.delete('p');
    await expect(deleted).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await (await small.disk()).write(0, Buffer.alloc(SIZE, 1));
    await small.rest();
  });
});

describe('opening the pools', () => {
  it('finds them, their names and marks, and what is in them', async () => {
    const small = await smallEngine();
    await small.engine.pools.create({ ...second, lowWaterPercent: 30 });
    await small.engine.pools.update('q', { name: 'r', criticalPercent: 40 });
    const disk = await small.disk({ pool: 'r' });
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    expect(disk.pool.state).toBe('low');
    const engine = await small.reopen();
    const pool = engine.pools.get('r');
    expect([pool.record.lowWaterPercent, pool.record.criticalPercent]).toEqual([30, 40]);
    expect([pool.allocatedBytes, pool.freeBytes]).toEqual([3 * SIZE, 5 * SIZE]);
    await small.rest();
  });

  it('fails if none of them can be opened, and leaves no file open', async () => {
    const small = await smallEngine();
    const files = second.files.flatMap((file) => [file, { ...file, path: '/r' }]);
    await small.engine.pools.create({ ...second, files });
    await small.engine.close();
    const { store, files: fileSystem } = small;
    fileSystem.truncate('/p', 2 * SIZE);
    fileSystem.truncate('/r', 2 * SIZE);
    const opened = openEngine({ store, fileSystem, epoch: 2 });
    await expect(opened).rejects.toMatchObject({ code: 'POOL_FILE_INVALID' });
    const file = await fileSystem.open('/q');
    await file.close();
  });

  it('fails if the headers of one are newer than its row, whatever the others are', async () => {
    const small = await smallEngine();
    await small.engine.pools.create(second);
    await small.engine.close();
    const { store, files: fileSystem } = small;
    const before = store.crash();
    await (await openEngine({ store: store.crash(), fileSystem, epoch: 2 })).close();
    fileSystem.truncate('/p', 2 * SIZE);
    const opened = openEngine({ store: before, fileSystem, epoch: 2 });
    await expect(opened).rejects.toMatchObject({ code: 'METADATA_OLDER_THAN_POOL' });
  });
});

describe('growing a pool', () => {
  it('gives room at once, in longer and in new files, which a restart finds', async () => {
    const small = await smallEngine({ blocks: 2 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    const more = disk.write(2 * SIZE, Buffer.alloc(5 * SIZE, 2));
    await expect(more).rejects.toMatchObject({ code: 'POOL_FULL' });
    const files = [
      { path: '/p', sizeBytes: MIB + 4 * SIZE },
      { path: '/p2', sizeBytes: MIB + 3 * SIZE },
    ];
    await small.engine.pools.update('p', { files });
    await disk.write(2 * SIZE, Buffer.alloc(5 * SIZE, 2));
    await small.rest();
    const engine = await small.reopen();
    const wanted = Buffer.concat([Buffer.alloc(2 * SIZE, 1), Buffer.alloc(5 * SIZE, 2)]);
    expect((await readAll(engine.disks.get('d'), 0, 7 * SIZE)).equals(wanted)).toBe(true);
    expect(engine.pools.get('p').freeBytes).toBe(0);
  });

  it('that cannot be committed can be tried again', async () => {
    const small = await smallEngine({ blocks: 2 });
    const files = [{ path: '/p2', sizeBytes: MIB + 3 * SIZE }];
    small.store.failNextCommit(metadataFull());
    const grown = small.engine.pools.update('p', { files });
    await expect(grown).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await (await small.disk()).write(0, Buffer.alloc(2 * SIZE, 1));
    await small.engine.pools.update('p', { files });
    expect(small.pool.capacityBytes).toBe(5 * SIZE);
    await small.engine.disks.get('d').write(2 * SIZE, Buffer.alloc(3 * SIZE, 1));
    await small.rest();
    await small.reopen();
  });

  it('that cannot be committed leaves rows with which the store opens', async () => {
    const small = await smallEngine({ blocks: 2 });
    const files = [{ path: '/p', sizeBytes: MIB + 9 * SIZE }];
    small.store.failNextCommit(metadataFull());
    const grown = small.engine.pools.update('p', { files });
    await expect(grown).rejects.toMatchObject({ code: 'METADATA_FULL' });
    // raises the mark of the extent that did not become longer
    await (await small.disk()).write(0, Buffer.alloc(2 * SIZE, 1));
    await small.rest();
    const engine = await small.reopen();
    expect(engine.pools.get('p').capacityBytes).toBe(2 * SIZE);
    await engine.pools.update('p', { files });
    await engine.disks.get('d').write(2 * SIZE, Buffer.alloc(7 * SIZE, 1));
    await small.rest();
  });

  it('while a mark is raised leaves rows of files and extents that fit', async () => {
    for (let step = 0; step < 12; step += 1) await growBesideWrite(step);
  });
});

async function growBesideWrite(pause: number): Promise<void> {
  const store = new RecordingMetadata();
  const small = await smallEngine({ blocks: 2, store });
  const disk = await small.disk();
  const files = [{ path: '/p', sizeBytes: MIB + 9 * SIZE }];
  const grown = small.engine.pools.update('p', { files });
  await turns(Math.floor(pause / 4));
  for (let hop = 0; hop < pause % 4; hop += 1) await Promise.resolve();
  await Promise.all([grown, disk.write(0, Buffer.alloc(SIZE, 1))]);
  let fileBlocks = 2;
  for (const change of store.batches.flatMap(({ rows }) => rows)) {
    if (change.table === 'pool_files') {
      fileBlocks = (Number(change.row?.['size_bytes']) - MIB) / SIZE;
    }
    if (change.table !== 'pool_extents') continue;
    expect(change.row?.['blocks']).toBe(fileBlocks);
  }
  await small.rest();
}
