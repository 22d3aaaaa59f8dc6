import { describe, expect, it, vi } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { openEngine } from '../../support/engine.ts';
import { SIZE, smallEngine } from '../../support/small-engine.ts';

const all = () => ({ has: () => true });

describe('the checkpoint of a copy', () => {
  it('is left if it was backed up, in the transaction that deletes it', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    const { copies } = small.engine;
    const copy = await freeze(copies, 'd', { name: 'c' });
    const other = await freeze(copies, 'd', { name: 'other' });
    copies.onBackedUp(() => new Set([copy.id]));
    const commit = vi.spyOn(small.store, 'commit');
    await copies.delete('c');
    const batch = commit.mock.calls
      .map(([each]) => each)
      .find(({ rows }) =>
        rows.some(({ table, row }) => table === 'copies' && row?.['state'] === 'deleted'),
      );
    const row = batch?.rows.find(({ table }) => table === 'checkpoints');
    expect(row).toMatchObject({
      key: { id: copy.id },
      row: { generation: copy.record.generation },
    });
    await copies.delete('other');
    expect(copies.checkpoints.byId(other.id)).toBeUndefined();
    const known = copies.checkpoints.get(copy.id);
    expect(known).toMatchObject({ diskId: disk.id, diskName: 'd', capacityBytes: 100 * SIZE });
    const engine = await small.reopen();
    expect(engine.copies.checkpoints.list({ diskId: disk.id })).toEqual([known]);
    expect(engine.copies.checkpoints.list({ diskId: 'another' })).toEqual([]);
    expect(() => engine.copies.checkpoints.get(other.id)).toThrow(StorageError);
    await small.rest();
  });

  it('is not there if the deletion is cut, and the copy is', async () => {
    const small = await smallEngine();
    await small.disk();
    const { copies } = small.engine;
    copies.onBackedUp(all);
    const copy = await freeze(copies, 'd', { name: 'c' });
    small.store.hold();
    void copies.delete('c').catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (const kept of [0, 1]) {
      const store = small.store.crash(kept);
      const rows = await Promise.all(['copies', 'checkpoints'].map((table) => store.rows(table)));
      const live = rows[0]?.filter(({ state }) => state !== 'deleted') ?? [];
      expect([live.length, rows[1]?.length]).toEqual(kept === 0 ? [1, 0] : [0, 1]);
      expect(rows[kept]?.[0]?.['id']).toBe(copy.id);
    }
    small.store.release();
  });

  it('goes when nothing needs it, also while its row is on its way', async () => {
    const small = await smallEngine();
    await small.disk();
    const { copies } = small.engine;
    const needed = new Set<string>();
    copies.onBackedUp(() => needed);
    for (const name of ['a', 'b']) needed.add((await freeze(copies, 'd', { name })).id);
    await copies.delete('a');
    await copies.pruneCheckpoints();
    expect(await small.store.rows('checkpoints')).toHaveLength(1);
    const deleted = copies.delete('b');
    needed.clear();
    await Promise.all([deleted, copies.pruneCheckpoints()]);
    expect(copies.checkpoints.list()).toEqual([]);
    expect(await small.store.rows('checkpoints')).toEqual([]);
    await small.rest();
  });

  it('keeps its generation from being given out again', async () => {
    const small = await smallEngine();
    await small.disk();
    small.engine.copies.onBackedUp(all);
    for (let freezes = 0; freezes < 5; freezes += 1) {
      const { name } = await freeze(small.engine.copies, 'd', { name: `c${freezes}` });
      await small.engine.copies.delete(name);
    }
    const newest = Math.max(
      ...small.engine.copies.checkpoints.list().map(({ generation }) => generation),
    );
    await small.engine.disks.delete('d');
    await small.reopen();
    expect((await small.disk()).generation).toBeGreaterThan(newest);
    await small.rest();
  });

  it('makes its disk leave tombstones, after a restart too, as long as it is there', async () => {
    const small = await smallEngine();
    await small.disk();
    small.engine.copies.onBackedUp(all);
    await freeze(small.engine.copies, 'd', { name: 'c' });
    await small.engine.copies.delete('c');
    expect(small.engine.disks.get('d').keepsTombstones).toBe(true);
    const engine = await small.reopen();
    expect(engine.disks.get('d').keepsTombstones).toBe(true);
    await engine.copies.pruneCheckpoints();
    const after = await small.reopen();
    expect(after.disks.get('d').keepsTombstones).toBe(false);
  });

  it('and disks and copies of rows from before there were lineages go on', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'old' });
    await small.engine.close();
    for (const table of ['disks', 'copies']) {
      for (const { id, ...row } of await small.store.rows(table)) {
        const change = { table, key: { id: id ?? null }, row: { ...row, lineage: null } };
        await small.store.commit({ pages: [], rows: [change] });
      }
    }
    const engine = await openEngine({ store: small.store, fileSystem: small.files, epoch: 2 });
    small.engine = engine;
    engine.copies.onBackedUp(all);
    const [old] = engine.copies.list();
    await engine.disks.get('d').write(SIZE, Buffer.alloc(SIZE, 1));
    const fresh = await freeze(engine.copies, 'd', { name: 'new' });
    const { lineage } = fresh.record;
    expect(lineage).toEqual([{ line: fresh.record.generation, upTo: fresh.record.generation }]);
    expect(old?.record.lineage).not.toEqual(lineage);
    await small.rest();
  });
});
