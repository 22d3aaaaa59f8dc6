import { describe, expect, it, vi } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { freezeGroup } from '../../../src/copy/freeze-group.ts';
import { fence, swapTable } from '../../../src/copy/write-back.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { turns } from '../../support/jumpy.ts';
import { effect, metadataFull, RecordingMetadata } from '../../support/rows.ts';
import { readAll, SIZE, type SmallEngine, smallEngine } from '../../support/small-engine.ts';

const full = (byte: number): Buffer => Buffer.alloc(SIZE, byte);

/** Disks a and b in one pool, c in another; a block of 1 in each. */
async function threeDisks(store = new RecordingMetadata()): Promise<{
  small: SmallEngine;
  store: RecordingMetadata;
  disks: readonly [Disk, Disk, Disk];
}> {
  const small = await smallEngine({ store });
  const files = [{ path: '/q', sizeBytes: MIB + 32 * SIZE }];
  await small.engine.pools.create({ name: 'q', blockSizeBytes: SIZE, files });
  const made: Disk[] = [];
  for (const name of ['a', 'b', 'c']) {
    const disk = await small.disk({ name, pool: name === 'c' ? 'q' : 'p' });
    await disk.write(0, full(1));
    await disk.flush();
    made.push(disk);
  }
  const [a, b, c] = made as [Disk, Disk, Disk];
  store.batches.splice(0);
  return { small, store, disks: [a, b, c] };
}

const all = { name: 'g', disks: ['a', 'b', 'c'] };

describe('a freeze of several disks', () => {
  it('moves nothing and keeps the bytes of one moment of each', async () => {
    const { small, disks } = await threeDisks();
    const before = small.files.steps;
    const { copies } = small.engine;
    let nowMs = Date.now();
    vi.spyOn(copies.options.clock, 'nowMs').mockImplementation(() => (nowMs += 1));
    const group = await freezeGroup(copies, { ...all, labels: { l: '1' } });
    expect(small.files.steps).toBe(before);
    for (const disk of disks) await disk.write(0, full(2));
    for (const name of ['g-a', 'g-b', 'g-c']) {
      const copy = copies.get(name);
      expect((await readAll({ read: (at, to) => copy.read('full', at, to) }, 0, SIZE))[5]).toBe(1);
      expect(copy.record).toMatchObject({ groupId: group.id, labels: { l: '1' } });
      expect(copy.record.haltMicroseconds).toBe(group.haltMicroseconds);
      expect(copy.record.frozenAtMs).toBe(group.frozenAtMs);
    }
    expect(group.haltMicroseconds).toBeGreaterThan(0);
    const generations = disks.map(({ generation }) => generation);
    expect(new Set(generations).size).toBe(3);
    await small.rest();
  });

  it('halts all until the slowest operation is over, and nothing later is in it', async () => {
    const { small, disks } = await threeDisks();
    const [a, b, c] = disks;
    small.files.hold('write');
    const slow = a.write(SIZE, full(2));
    await small.files.waiting();
    const frozen = freezeGroup(small.engine.copies, all);
    await turns(2);
    const later = [b.write(SIZE, full(3)), c.write(SIZE, full(3))];
    await turns(2);
    expect([a, b, c].map(({ gate }) => gate.isOpen)).toEqual([false, false, false]);
    expect([b, c].map(({ gate }) => gate.inside)).toEqual([0, 0]);
    small.files.release();
    await Promise.all([frozen, slow, ...later]);
    const used = ['g-a', 'g-b', 'g-c'].map((name) => small.engine.copies.get(name).usedBlocks);
    expect(used).toEqual([2, 1, 1]);
    await small.rest();
  });

  it('is one transaction over all pools, with the group and the effects', async () => {
    for (let hops = 0; hops < 12; hops += 1) {
      const { small, store } = await threeDisks();
      const frozen = freezeGroup(small.engine.copies, all, () => [effect]);
      for (let hop = 0; hop < hops; hop += 1) await Promise.resolve();
      await Promise.all([frozen, ...small.engine.pools.list().map((pool) => pool.flush())]);
      const [first, ...others] = store.batchesOf('copies');
      expect(others).toEqual([]);
      expect(store.batchesOf('groups')).toEqual([first]);
      expect(store.batchesOf('idempotency')).toEqual([first]);
    }
  });

  it('is not seen before it is durable, neither the group nor a copy', async () => {
    const { small, store } = await threeDisks();
    store.hold();
    const { copies } = small.engine;
    const frozen = freezeGroup(copies, all);
    await turns(5);
    expect([copies.list(), copies.groups.list()]).toEqual([[], []]);
    expect(() => copies.groups.get('g')).toThrow('there is no group g');
    store.release();
    const group = await frozen;
    expect(copies.groups.get('g')).toBe(group);
    expect(copies.groups.get(group.id)).toBe(group);
    const engine = await small.reopen();
    expect(engine.copies.groups.list()).toEqual([group]);
    expect(engine.copies.groups.copiesOf(group)).toHaveLength(3);
    await small.rest();
  });

  it('that cannot be committed leaves no copy, name, count or effect', async () => {
    const { small, store } = await threeDisks();
    store.failNextCommit(metadataFull());
    const { copies } = small.engine;
    const frozen = freezeGroup(copies, all, () => [effect]);
    await expect(frozen).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect([copies.list(), copies.groups.list()]).toEqual([[], []]);
    await small.rest();
    await turns(5);
    for (const table of ['idempotency', 'copies', 'groups']) {
      expect(await store.rows(table)).toEqual([]);
    }
    await freezeGroup(copies, all);
    await small.rest();
  });

  it('in which one pool fails leaves nothing in the others', async () => {
    const { small, store, disks } = await threeDisks();
    await disks[2].write(SIZE, full(2));
    small.files.failSync();
    const { copies, pools } = small.engine;
    const frozen = freezeGroup(copies, all);
    await expect(frozen).rejects.toMatchObject({ code: 'POOL_POISONED' });
    expect(pools.get('q').poison).toBeDefined();
    expect(copies.list()).toEqual([]);
    await pools.get('p').flush();
    await disks[0].write(0, full(3));
    await disks[0].flush();
    expect(await store.rows('groups')).toEqual([]);
    const left = (await store.rows('copies')).filter((row) => row['state'] !== 'deleted');
    expect(left).toEqual([]);
    await expect(freezeGroup(copies, all)).rejects.toMatchObject({ code: 'POOL_POISONED' });
    expect(disks.every(({ gate }) => gate.isOpen)).toBe(true);
  });

  it('is refused if one disk goes away meanwhile, and the others go on', async () => {
    const { small, disks } = await threeDisks();
    small.files.hold('write');
    const slow = disks[0].write(SIZE, full(2));
    await small.files.waiting();
    const gone = small.engine.disks.delete('b');
    const frozen = freezeGroup(small.engine.copies, all);
    small.files.release();
    await expect(frozen).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await Promise.all([slow, gone]);
    expect(small.engine.copies.list()).toEqual([]);
    for (const name of ['g', 'g-a', 'g-b', 'g-c']) await small.disk({ name, pool: 'p' });
    await small.rest();
  });

  it('waits for nobody in a circle, whatever else closes the gates', async () => {
    const { small, disks } = await threeDisks();
    const { copies, disks: manager } = small.engine;
    await freeze(copies, 'a', { name: 'old' });
    small.files.hold('write');
    const slow = disks.map((disk) => disk.write(SIZE, full(2)));
    await small.files.waiting(3);
    const work: Promise<PromiseSettledResult<unknown>[]>[] = [];
    const begin = (done: Promise<unknown>): void => {
      work.push(Promise.allSettled([done]));
    };
    for (let number = 0; number < 10; number += 1) {
      const order = number % 2 === 0 ? ['c', 'b', 'a'] : ['a', 'c'];
      begin(freezeGroup(copies, { name: `g${number}`, disks: order }));
      begin(freeze(copies, 'abc'[number % 3]!, { name: `s${number}` }));
      if (number === 4) begin(manager.update('b', { capacityBytes: SIZE, discard: true }));
    }
    await turns(3);
    small.files.release();
    await Promise.all(slow);
    const ends = (await Promise.all(work)).flat();
    const codes = ends.map((end) => (end.status === 'rejected' ? codeOf(end.reason) : 'ok'));
    expect(codes.filter((code) => code !== 'ok')).toEqual([]);
    const meanwhile = freezeGroup(copies, { name: 'cut', disks: ['a', 'b', 'c'] });
    const fenced = fence(disks[1], 'job', true);
    await expect(meanwhile).rejects.toMatchObject({ code: 'DISK_FENCED' });
    await fenced;
    await swapTable(copies, disks[1], copies.get('g0-b'), undefined);
    await freezeGroup(copies, { name: 'last', disks: ['c', 'b', 'a'] });
    expect(disks.every(({ gate }) => gate.isOpen && gate.inside === 0)).toBe(true);
    await small.rest();
  });

  it('reads counts with the gates closed if writers change its roots each time', async () => {
    const { small, disks } = await threeDisks();
    const { nodeCounts } = disks[0].pool;
    const isResident = nodeCounts.isResident.bind(nodeCounts);
    let asked = 0;
    nodeCounts.isResident = (id) => {
      asked += 1;
      // each time the gates are closed they are found to be elsewhere, twice
      const closed = disks.every(({ gate }) => !gate.isOpen);
      return closed && asked < 20 && asked % 4 !== 0 ? false : isResident(id);
    };
    const group = await freezeGroup(small.engine.copies, all);
    expect(group.members).toHaveLength(3);
    await small.rest();
  });
});

describe('a group', () => {
  it('is deleted with all its copies in one transaction', async () => {
    const { small, store } = await threeDisks();
    const { copies } = small.engine;
    await freezeGroup(copies, all);
    await copies.delete('g-b');
    await small.rest();
    store.batches.splice(0);
    await copies.groups.delete('g', {}, [effect]);
    const [first] = store.batchesOf('groups');
    const states = store.batches[first!]!.rows.filter(({ table }) => table === 'copies').map(
      ({ row }) => row?.['state'],
    );
    expect(states).toEqual(['deleted', 'deleted']);
    expect(store.batchesOf('idempotency')).toEqual([first]);
    await small.rest();
    await turns(5);
    expect(await store.rows('copies')).toEqual([]);
    expect(await store.rows('groups')).toEqual([]);
    for (const pool of small.engine.pools.list()) {
      expect(pool.allocator.usedBlocks).toBe(pool.name === 'p' ? 2 : 1);
    }
  });

  it('whose copies are all gone is deleted too', async () => {
    const { small, store } = await threeDisks();
    const { copies } = small.engine;
    await freezeGroup(copies, { name: 'g', disks: ['a'] });
    await copies.delete('g-a');
    await copies.groups.delete('g', {}, [effect]);
    expect(await store.rows('groups')).toEqual([]);
    expect(await store.rows('idempotency')).toHaveLength(1);
  });

  it('of which a copy is read keeps all of them; by force the reader is ended', async () => {
    const { small } = await threeDisks();
    const { copies } = small.engine;
    await freezeGroup(copies, all);
    let release = (): void => undefined;
    release = copies.get('g-c').addUser({ kind: 'x', id: '1', sinceMs: 0, abort: () => release() });
    const refused = copies.groups.delete('g');
    await expect(refused).rejects.toMatchObject({ code: 'COPY_IN_USE' });
    expect(copies.list()).toHaveLength(3);
    const [one, two] = await Promise.allSettled([
      copies.groups.delete('g', { force: true }),
      copies.groups.delete('g', { force: true }),
    ]);
    expect([one.status, two.status].sort()).toEqual(['fulfilled', 'rejected']);
    expect(copies.list()).toEqual([]);
    await small.rest();
  });

  it('whose deletion met a failure between its pools ends whole at the next opening', async () => {
    const { small, store, disks } = await threeDisks();
    const { copies, pools } = small.engine;
    await freezeGroup(copies, all);
    await disks[2].write(SIZE, full(2));
    small.files.failSync();
    await expect(copies.groups.delete('g')).rejects.toMatchObject({ code: 'POOL_POISONED' });
    await pools.get('p').flush();
    expect(await store.rows('groups')).toEqual([]);
    expect((await store.rows('copies')).map((row) => row['name'])).toContain('g-c');
    const engine = await small.reopen().catch(() => small.reopen());
    expect(engine.copies.list()).toEqual([]);
    await small.rest();
    await turns(5);
    expect(await store.rows('copies')).toEqual([]);
  });
});

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
