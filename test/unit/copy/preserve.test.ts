import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { settle, settleStep } from '../../../src/copy/dedicated/settle.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { remap } from '../../../src/copy/remap.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import type { Pool } from '../../../src/pool/pool.ts';
import { metadataFull } from '../../support/rows.ts';
import { SIZE, type SmallEngine, readAll, smallEngine } from '../../support/small-engine.ts';

const BLOCKS = 8;

interface World {
  readonly small: SmallEngine;
  readonly other: Pool;
  readonly disk: Disk;
  readonly copy: Copy;
}

type Wanted = Parameters<typeof freeze>[2]['dedicated'];

/** A disk with eight blocks of ones, and a dedicated copy of it in the pool `o`. */
async function world(wanted: Wanted, blocks = 64): Promise<World> {
  const small = await smallEngine({ blocks });
  const { pool: other } = await small.engine.pools.create({
    name: 'o',
    blockSizeBytes: SIZE,
    files: [{ path: '/o', sizeBytes: MIB + 64 * SIZE }],
  });
  const disk = await small.disk({ pool: 'p' });
  await disk.write(0, ones());
  const dedicated = { pool: 'o', ...wanted };
  const copy = await freeze(small.engine.copies, 'd', { name: 'c', dedicated });
  return { small, other, disk, copy };
}

function ones(blocks = BLOCKS): Buffer {
  return Buffer.alloc(blocks * SIZE, 1);
}

async function placesOf(disk: Disk): Promise<(number | undefined)[]> {
  const { runs } = await disk.allocatedRuns(0, 100, true);
  return runs.flatMap(({ physicalBlock = 0, length }) =>
    Array.from({ length }, (_, index) => physicalBlock + index),
  );
}

async function expectUnchanged({ copy }: World): Promise<void> {
  expect((await readAll(viewOf(copy), 0, BLOCKS * SIZE)).equals(ones())).toBe(true);
}

function viewOf(copy: Copy) {
  return { read: (offset: number, into: Uint8Array) => copy.read('full', offset, into) };
}

describe('a source that updates an owed block', () => {
  it('redirects: the copy still finds the old one', async () => {
    const one = await world({});
    const before = await placesOf(one.disk);
    await one.disk.write(SIZE, Buffer.alloc(2 * SIZE, 7));
    const after = await placesOf(one.disk);
    expect(after.map((place, index) => place === before[index])).toEqual(
      [true, false, false, true, true, true, true, true], //
    );
    expect(one.copy.dedicated?.owedBlocks).toBe(BLOCKS);
    await expectUnchanged(one);
    await settle(one.small.engine.copies, one.copy, { kind: 'all' });
    await expectUnchanged(one);
    await one.small.rest();
  });

  it('copies first: it keeps its physical order', async () => {
    const one = await world({ preserve: 'copy-first' });
    const before = await placesOf(one.disk);
    await one.disk.write(SIZE + 100, Buffer.alloc(2 * SIZE, 7));
    await one.disk.write(6 * SIZE, Buffer.alloc(512, 8));
    expect(await placesOf(one.disk)).toEqual(before);
    expect(one.copy.dedicated?.owedBlocks).toBe(BLOCKS - 4);
    await expectUnchanged(one);
    await one.small.rest();
    await settle(one.small.engine.copies, one.copy, { kind: 'all' });
    await one.disk.write(0, Buffer.alloc(SIZE, 9));
    expect(await placesOf(one.disk)).toEqual(before);
    await expectUnchanged(one);
    await one.small.reopen();
    const again = { ...one, copy: one.small.engine.copies.get('c') };
    await expectUnchanged(again);
    await one.small.engine.disks.get('d').write(4 * SIZE, Buffer.alloc(SIZE, 9));
    expect(await placesOf(one.small.engine.disks.get('d'))).toEqual(before);
    await expectUnchanged(again);
    await one.small.rest();
  });

  it('copies first, and still redirects what somebody else holds', async () => {
    const one = await world({ preserve: 'copy-first' });
    const { copies } = one.small.engine;
    const shared = await freeze(copies, 'd', { name: 'shared' });
    const before = await placesOf(one.disk);
    await one.disk.write(0, Buffer.alloc(SIZE, 7));
    const after = await placesOf(one.disk);
    expect([after[0] === before[0], after.slice(1)]).toEqual([false, before.slice(1)]);
    expect(one.copy.dedicated?.owedBlocks).toBe(BLOCKS - 1);
    expect((await readAll(viewOf(shared), 0, BLOCKS * SIZE)).equals(ones())).toBe(true);
    await expectUnchanged(one);
    await one.small.rest();
  });

  it('does not overwrite a block that somebody has in hand', async () => {
    const one = await world({ preserve: 'copy-first' });
    const { files } = one.small;
    files.hold('read');
    const reading = readAll(viewOf(one.copy), 0, SIZE);
    await files.waiting();
    files.hold('sync');
    const writing = one.disk.write(0, Buffer.alloc(SIZE, 7));
    let isWritten = false;
    void writing.then(() => {
      isWritten = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isWritten).toBe(false);
    files.release();
    expect((await reading).equals(ones(1))).toBe(true);
    await writing;
    await one.small.rest();
  });

  it('writes on a full pool after its blocks were brought over', async () => {
    for (const preserve of ['redirect', 'copy-first'] as const) {
      const one = await world({ preserve }, BLOCKS);
      expect(one.small.pool.freeBytes).toBe(0);
      await one.disk.write(SIZE, Buffer.alloc(2 * SIZE, 7));
      await expectUnchanged(one);
      expect(one.copy.dedicated?.owedBlocks).toBe(BLOCKS - 2);
      expect((await readAll(one.disk, SIZE, SIZE)).equals(Buffer.alloc(SIZE, 7))).toBe(true);
      await one.small.rest();
    }
  });
});

describe('a block that cannot be preserved', () => {
  it('fails the write: nothing has changed', async () => {
    const one = await world({ preserve: 'copy-first' });
    const { files } = one.small;
    files.failAt(files.steps + 2, 'EIO');
    const writing = one.disk.write(0, Buffer.alloc(SIZE, 7));
    await expect(writing).rejects.toMatchObject({ code: 'POOL_POISONED', details: { copy: 'c' } });
    expect((await readAll(one.disk, 0, BLOCKS * SIZE)).equals(ones())).toBe(true);
    await expectUnchanged(one);
    expect(one.copy.record.state).toBe('ready');
    // the source's pool goes on
    await one.disk.write(20 * SIZE, ones(1));
    await one.disk.flush();
    const engine = await one.small.reopen();
    await engine.disks.get('d').write(0, Buffer.alloc(SIZE, 7));
    await expectUnchanged({ ...one, copy: engine.copies.get('c') });
    await one.small.rest();
  });

  it('or makes the copy invalid, loudly and for ever', async () => {
    const one = await world({ preserve: 'copy-first', onPreserveError: 'invalidate-copy' });
    const { files, engine } = one.small;
    const before = await placesOf(one.disk);
    const reader = { kind: 'test', id: 't', sinceMs: 0, abort: () => undefined };
    const release = one.copy.addUser(reader);
    files.failAt(files.steps + 2, 'EIO');
    await one.disk.write(0, Buffer.alloc(SIZE, 7));
    release();
    expect((await readAll(one.disk, 0, SIZE)).equals(Buffer.alloc(SIZE, 7))).toBe(true);
    expect(await placesOf(one.disk)).toEqual(before);
    await expectInvalid(engine.copies.get('c'), engine);
    expect(engine.copies.get('c').dedicated?.problem).toMatchObject({ code: 'POOL_POISONED' });
    const again = await one.small.reopen();
    await expectInvalid(again.copies.get('c'), again);
    await one.small.rest();
    await again.copies.delete('c');
    await one.small.rest();
    const [source, own] = ['p', 'o'].map((name) => again.pools.get(name).allocator.usedBlocks);
    expect([source, own]).toEqual([BLOCKS, 0]);
  });

  it('because the source cannot be read is no different', async () => {
    const one = await world({ preserve: 'copy-first', onPreserveError: 'invalidate-copy' });
    const { files, engine } = one.small;
    await settleStep(engine.copies, one.copy, { kind: 'range', from: 4, to: 8 });
    files.failAt(files.steps + 1, 'EIO');
    await one.disk.write(0, Buffer.alloc(SIZE, 7));
    expect(one.copy.dedicated?.problem).toMatchObject({ code: 'DATA_UNREADABLE', usedBlocks: 8 });
    await expectInvalid(one.copy, engine);
    await engine.copies.delete('c');
    await one.small.rest();
    expect(one.other.allocator.usedBlocks).toBe(0);
  });

  it('for want of room in the database fails the write, whatever was asked for', async () => {
    const one = await world({ preserve: 'copy-first', onPreserveError: 'invalidate-copy' });
    one.small.store.failNextCommit(metadataFull());
    const writing = one.disk.write(0, Buffer.alloc(SIZE, 7));
    await expect(writing).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect(one.copy.record.state).toBe('ready');
    expect(one.copy.dedicated?.owedBlocks).toBe(BLOCKS);
    await expectUnchanged(one);
    await one.small.rest();
    await one.disk.write(0, Buffer.alloc(SIZE, 7));
    await expectUnchanged(one);
    await one.small.rest();
  });
});

describe('a step that fails', () => {
  it('is undone in both pools when one of them is lost', async () => {
    const one = await world({});
    const { files, engine } = one.small;
    // read, write, and then the sync of the copy's pool
    files.failSync();
    const step = settleStep(engine.copies, one.copy, { kind: 'all' });
    await expect(step).rejects.toMatchObject({ code: 'POOL_POISONED' });
    expect(one.copy.dedicated?.owedBlocks).toBe(BLOCKS);
    await expectUnchanged(one);
    const poisoned = [one.small.pool, one.other].filter(({ poison }) => poison !== undefined);
    expect(poisoned.length).toBe(1);
    for (const pool of [one.small.pool, one.other]) {
      if (pool.poison === undefined) await pool.flush();
    }
    const again = await one.small.reopen();
    const copy = again.copies.get('c');
    await expectUnchanged({ ...one, copy });
    await one.small.rest();
    await settle(again.copies, copy, { kind: 'all' });
    await expectUnchanged({ ...one, copy });
    await one.small.rest();
  });
});

async function expectInvalid(copy: Copy, { copies }: SmallEngine['engine']): Promise<void> {
  const invalid = { code: 'COPY_INVALID', details: { copy: 'c' } };
  const reader = { kind: 'test', id: 't', sinceMs: 0, abort: () => undefined };
  expect([copy.record.state, copy.usedBlocks]).toEqual(['invalid', BLOCKS]);
  expect(() => copy.addUser(reader)).toThrow('invalid');
  await expect(copy.read('full', 0, Buffer.alloc(1))).rejects.toMatchObject(invalid);
  await expect(copy.read('compact', 0, Buffer.alloc(1))).rejects.toMatchObject(invalid);
  await expect(copy.correspondence(0, 1)).rejects.toMatchObject(invalid);
  await expect(copy.allocatedRuns(0, 1, false)).rejects.toMatchObject(invalid);
  await expect(copy.dataBlocks(0, 1)).rejects.toMatchObject(invalid);
  await expect(copy.sourceBlocks(0, 1)).rejects.toMatchObject(invalid);
  await expect(remap(copies, copy, { disk: 'r' })).rejects.toMatchObject(invalid);
  await expect(copies.update('c', { name: 'other' })).rejects.toMatchObject(invalid);
  await expect(settle(copies, copy, { kind: 'all' })).rejects.toMatchObject(invalid);
  expect(copies.list().map(({ name }) => name)).toContain('c');
}
