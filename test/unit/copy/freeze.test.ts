import { describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { freeze, freezeInternal } from '../../../src/copy/freeze.ts';
import { turns } from '../../support/jumpy.ts';
import { effect, metadataFull, RecordingMetadata } from '../../support/rows.ts';
import { SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a freeze', () => {
  it('moves nothing and keeps the bytes of its moment', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(SIZE, Buffer.alloc(2 * SIZE, 1));
    await disk.flush();
    const before = small.files.steps;
    const copy = await freeze(small.engine.copies, 'd', { name: 'c', labels: { a: 'b' } });
    expect(small.files.steps).toBe(before);
    expect(small.pool.allocator.usedBlocks).toBe(2);
    await disk.write(SIZE, Buffer.alloc(2 * SIZE, 2));
    const bytes = Buffer.alloc(2 * SIZE);
    await copy.read('full', SIZE, bytes);
    expect(bytes.equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    await copy.read('compact', 0, bytes);
    expect(bytes.equals(Buffer.alloc(2 * SIZE, 1))).toBe(true);
    expect([copy.capacityBytes, copy.usedBlocks]).toEqual([2 * SIZE, 2]);
    await small.rest();
  });

  it('of an empty disk gives a copy of no blocks', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    await disk.write(0, Buffer.alloc(SIZE, 1));
    expect([copy.capacityBytes, copy.usedBlocks]).toEqual([0, 0]);
    await copy.read('compact', 0, Buffer.alloc(0));
    const bytes = Buffer.alloc(SIZE, 9);
    await copy.read('full', 0, bytes);
    expect(bytes.equals(Buffer.alloc(SIZE))).toBe(true);
    expect(await copy.correspondence(0, 10)).toEqual({ runs: [] });
    await small.rest();
  });

  it('waits for the operations inside the gate, and later ones wait for it', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    small.files.hold('write');
    const before = disk.write(0, Buffer.alloc(SIZE, 1));
    await small.files.waiting();
    const frozen = freeze(small.engine.copies, 'd', { name: 'c' });
    await turns(2);
    const after = disk.write(SIZE, Buffer.alloc(SIZE, 2));
    await turns(2);
    expect(disk.gate.inside).toBe(1);
    small.files.release();
    const [copy] = await Promise.all([frozen, before, after]);
    expect(copy.usedBlocks).toBe(1);
    expect(disk.usedBytes).toBe(2 * SIZE);
    await small.rest();
  });

  it('is not seen by others before it is durable', async () => {
    const small = await smallEngine();
    await small.disk();
    small.store.hold();
    const frozen = freeze(small.engine.copies, 'd', { name: 'c' });
    await turns(3);
    expect(small.engine.copies.list()).toEqual([]);
    expect(() => small.engine.copies.get('c')).toThrow(StorageError);
    small.store.release();
    const copy = await frozen;
    expect(small.engine.copies.get('c')).toBe(copy);
  });

  it('that cannot be committed leaves no copy, name, count or effect', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await disk.flush();
    small.store.failNextCommit(metadataFull());
    const { copies } = small.engine;
    const frozen = freeze(copies, 'd', { name: 'c' }, () => [effect]);
    await expect(frozen).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect(copies.list()).toEqual([]);
    await small.rest();
    await turns(5);
    expect(await small.store.rows('idempotency')).toEqual([]);
    expect(await small.store.rows('copies')).toEqual([]);
    await freeze(copies, 'd', { name: 'c' }, () => [effect]);
    expect(await small.store.rows('idempotency')).toHaveLength(1);
    await small.rest();
  });

  it('commits its effects in the batch of the copy, whatever is flushed beside it', async () => {
    for (let hops = 0; hops < 12; hops += 1) {
      const store = new RecordingMetadata();
      const small = await smallEngine({ store });
      await small.disk();
      const frozen = freeze(small.engine.copies, 'd', { name: 'c' }, () => [effect]);
      for (let hop = 0; hop < hops; hop += 1) await Promise.resolve();
      await Promise.all([frozen, small.pool.flush()]);
      expect(store.batchesOf('copies')).toEqual(store.batchesOf('idempotency'));
    }
  });

  it('for inner use has no name and is not listed', async () => {
    const small = await smallEngine();
    await small.disk();
    const copy = await freezeInternal(small.engine.copies, 'd', { backup: 'b' });
    expect(small.engine.copies.list()).toEqual([]);
    expect(small.engine.copies.byId(copy.id)).toBe(copy);
    const engine = await small.reopen();
    expect(engine.copies.internal()).toHaveLength(1);
  });

  it('gives the 1000th copy the same reads as the first', async () => {
    const small = await smallEngine({ blocks: 8 });
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    for (let number = 1; number <= 100; number += 1) {
      await freeze(small.engine.copies, 'd', { name: `c${number}` });
    }
    await disk.write(0, Buffer.alloc(SIZE, 2));
    const bytes = Buffer.alloc(SIZE);
    for (const name of ['c1', 'c100']) {
      await small.engine.copies.get(name).read('full', 0, bytes);
      expect(bytes.equals(Buffer.alloc(SIZE, 1))).toBe(true);
    }
    for (let number = 100; number >= 1; number -= 1) {
      await small.engine.copies.delete(`c${number}`);
    }
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(1);
  });
});
