import { describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { turns } from '../../support/jumpy.ts';
import { openEngine } from '../../support/engine.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';
import { metadataFull, RecordingMetadata } from '../../support/rows.ts';
import { restOf, SIZE, smallEngine } from '../../support/small-engine.ts';

describe('deleting a copy', () => {
  it('gives back what only it held, in any order', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    const { copies } = small.engine;
    for (const [number, name] of ['a', 'b', 'c'].entries()) {
      await disk.write(number * SIZE, Buffer.alloc(2 * SIZE, number + 1));
      await freeze(copies, 'd', { name });
    }
    expect(small.pool.allocator.usedBlocks).toBe(6);
    await copies.delete('b');
    await restOf(small.engine);
    expect(small.pool.allocator.usedBlocks).toBe(5);
    await small.engine.disks.delete('d');
    await copies.delete('a');
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(4);
  });

  it('twice at once by force gives its blocks back once', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    const { copies } = small.engine;
    const copy = await freeze(copies, 'd', { name: 'c' });
    const leave = copy.addUser({ kind: 'k', id: 'u', sinceMs: 0, abort: () => leave() });
    const both = await Promise.allSettled([
      copies.delete('c', { force: true }),
      copies.delete('c', { force: true }),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(3);
  });

  it('is refused while it is used; by force its users end and nobody else begins', async () => {
    const small = await smallEngine();
    await small.disk();
    const { copies } = small.engine;
    const copy = await freeze(copies, 'd', { name: 'c' });
    const user = { kind: 'job', id: 'u', sinceMs: 0, abort: () => undefined };
    let aborted = 0;
    const leave = copy.addUser({
      ...user,
      abort: () => {
        aborted += 1;
      },
    });
    await expect(copies.delete('c')).rejects.toMatchObject({ code: 'COPY_IN_USE' });
    const deleted = copies.delete('c', { force: true });
    await turns(2);
    expect(() => copy.addUser(user)).toThrow(StorageError);
    leave();
    await deleted;
    expect(aborted).toBe(1);
    expect(() => copy.addUser(user)).toThrow(StorageError);
  });

  it('under a read keeps the blocks until the read has them, by either view', async () => {
    for (const view of ['full', 'compact'] as const) {
      const small = await smallEngine({ blocks: 4 });
      const disk = await small.disk();
      await disk.write(0, Buffer.alloc(2 * SIZE, 1));
      const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
      await small.engine.disks.delete('d');
      small.files.hold('read');
      const bytes = Buffer.alloc(2 * SIZE);
      const read = copy.read(view, 0, bytes);
      await small.files.waiting();
      await small.engine.copies.delete('c');
      const other = await small.disk({ name: 'e' });
      await other.write(0, Buffer.alloc(2 * SIZE, 2));
      const write = other.write(2 * SIZE, Buffer.alloc(2 * SIZE, 3));
      await turns(20);
      small.files.release();
      await read;
      await write;
      expect(bytes.equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
      await small.rest();
    }
  });
});

describe('changing a copy', () => {
  it('for which there is no room leaves what it was, under its name alone', async () => {
    const small = await smallEngine();
    await small.disk();
    const { copies } = small.engine;
    const copy = await freeze(copies, 'd', { name: 'c', labels: { a: '1' } });
    small.store.failNextCommit(metadataFull());
    const update = copies.update('c', { name: 'b', labels: {} });
    await expect(freeze(copies, 'd', { name: 'c' })).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    await expect(update).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect([copy.name, copy.record.labels]).toEqual(['c', { a: '1' }]);
    expect(copies.get('c')).toBe(copy);
    await freeze(copies, 'd', { name: 'b' });
    await small.rest();
    const engine = await small.reopen();
    expect(engine.copies.get('c').record.labels).toEqual({ a: '1' });
    await engine.copies.update('c', { name: 'e' });
    await freeze(engine.copies, 'd', { name: 'c' });
  });
});

describe('checksums of a copy', () => {
  it('cost its deletion nothing if there never were any, else go with it', async () => {
    const store = new RecordingMetadata();
    const small = await smallEngine({ store });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    const { copies } = small.engine;
    for (const name of ['read', 'unread', 'old']) await freeze(copies, 'd', { name });
    await copies.get('read').keepChecksums(0, new Uint32Array(1));
    for (const name of ['unread', 'read']) await copies.delete(name);
    await turns(5);
    const removed = (): unknown[] => {
      const rows = store.batches.flatMap((batch) => batch.rows);
      return rows.filter((row) => row.table === 'checksums' && row.row === undefined);
    };
    expect(removed()).toHaveLength(1);
    // of an earlier life it is not known
    const engine = await small.reopen();
    await engine.copies.delete('old');
    await turns(5);
    expect(removed()).toHaveLength(2);
  });

  const crcs = Uint32Array.from([1, 2, 3]);

  it('are kept, found again after a restart, and go with the copy', async () => {
    const small = await smallEngine();
    await (await small.disk()).write(0, Buffer.alloc(SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    await copy.keepChecksums(0, crcs);
    expect(await copy.knownChecksums(0)).toEqual(crcs);
    const engine = await small.reopen();
    expect(await engine.copies.get('c').knownChecksums(0)).toEqual(crcs);
    await engine.copies.delete('c');
    await turns(5);
    expect(await small.store.rows('checksums')).toEqual([]);
    expect(await small.store.rows('copies')).toEqual([]);
  });

  it('that could not be written are written later', async () => {
    const small = await smallEngine();
    await (await small.disk()).write(0, Buffer.alloc(SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    await copy.keepChecksums(0, crcs);
    small.store.failNextCommit(new StorageError('METADATA_FULL', 'made by the test'));
    const { checksums } = small.engine.copies;
    await expect(checksums.write()).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await checksums.write();
    expect(await small.store.rows('checksums')).toHaveLength(1);
  });

  it('of a deleted copy do not come back with a write that was waiting', async () => {
    const small = await smallEngine();
    await (await small.disk()).write(0, Buffer.alloc(SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    const { checksums } = small.engine.copies;
    small.store.hold();
    await checksums.keep('other', 0, crcs);
    const first = checksums.write();
    await copy.keepChecksums(0, crcs);
    const second = checksums.write();
    await turns(1);
    const deleted = small.engine.copies.delete('c');
    small.store.release();
    await Promise.all([first, second, deleted]);
    await turns(5);
    expect(await small.store.rows('checksums', { copy: copy.id })).toEqual([]);
  });
});

describe('a store with a copy that was being deleted', () => {
  it('opens even if the pool is gone, and ends the deletion', async () => {
    const small = await smallEngine();
    await small.disk();
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.close();
    const [row] = await small.store.rows('copies');
    const { id, ...rest } = row!;
    const store = new MemoryMetadata();
    const deleted = { table: 'copies', key: { id: id! }, row: { ...rest, state: 'deleted' } };
    await store.commit({ pages: [], rows: [deleted] });
    const engine = await openEngine({ store, fileSystem: small.files });
    await engine.copies.stop();
    await engine.close();
    const again = await openEngine({ store, fileSystem: small.files });
    await turns(3);
    await again.close();
    expect(await store.rows('copies')).toEqual([]);
  });

  it('lets a pool be deleted only when nothing of its copies is left', async () => {
    const small = await smallEngine();
    await small.disk();
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.disks.delete('d');
    await small.engine.copies.delete('c');
    await small.engine.pools.delete('p');
    expect(await small.store.rows('copies')).toEqual([]);
    await small.engine.pools.create({
      name: 'q',
      blockSizeBytes: SIZE,
      files: [{ path: '/q', sizeBytes: 2 * MIB }],
    });
    await small.disk({ name: 'e' });
    await small.rest();
  });
});
