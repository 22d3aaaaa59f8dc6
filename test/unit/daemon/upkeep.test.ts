import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { makeDefaultPool } from '../../../src/daemon/default-pool.ts';
import { Upkeep } from '../../../src/daemon/upkeep.ts';
import { Meta } from '../../../src/meta/meta.ts';
import { blockFileSystem } from '../../../src/pool/block-file.ts';
import { type Engine, openEngine } from '../../support/engine.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const MIB = 1024 * 1024;

interface World {
  readonly directory: string;
  readonly meta: Meta;
  readonly engine: Engine;
  readonly upkeep: Upkeep;
  readonly failures: string[];
  /** States of pools that were told. */
  readonly states: string[];
}

async function world(): Promise<World> {
  const directory = await temporaryDirectory();
  const meta = await Meta.open({ path: join(directory, 'meta.db') });
  const { storeId, epoch } = meta;
  const engine = await openEngine({ store: meta, fileSystem: blockFileSystem, storeId, epoch });
  const failures: string[] = [];
  const states: string[] = [];
  const upkeep = new Upkeep({
    meta,
    pools: engine.pools,
    copies: engine.copies,
    clock: systemClock,
    databaseCopy: join(directory, 'meta-copy.db'),
    recordsMs: 1000,
    onError: (task) => failures.push(task),
    onState: (pool) => states.push(pool.state),
    beatMs: 3_600_000,
  });
  onTestFinished(async () => {
    await upkeep.stop();
    await engine.close();
    await meta.close();
  });
  return { directory, meta, engine, upkeep, failures, states };
}

function defaultPool(directory: string): { path: string; sizeBytes: number } {
  return { path: join(directory, 'pool-default.dat'), sizeBytes: 8 * MIB };
}

it('a new store gets the default pool once, and never again after its deletion', async () => {
  const { directory, meta, engine } = await world();
  const pool = defaultPool(directory);
  expect(await makeDefaultPool(engine.pools, meta, pool)).toBe(true);
  expect(engine.pools.get('default').files.files[0]?.path).toBe(pool.path);
  expect(statSync(pool.path).blocks * 512).toBeGreaterThanOrEqual(pool.sizeBytes);
  expect(await makeDefaultPool(engine.pools, meta, pool)).toBe(false);
  await engine.pools.delete('default');
  expect(await makeDefaultPool(engine.pools, meta, pool)).toBe(false);
  expect(existsSync(pool.path)).toBe(false);
});

it('a default pool without room is refused with the name of the setting', async () => {
  const { directory, meta, engine } = await world();
  const pool = { ...defaultPool(directory), sizeBytes: 2 ** 47 };
  await expect(makeDefaultPool(engine.pools, meta, pool)).rejects.toMatchObject({
    code: 'HOST_FULL',
    message: expect.stringContaining('SPINDLE_POOL_BYTES') as string,
  });
  expect(existsSync(pool.path)).toBe(false);
  expect(await meta.rows('store', { key: 'default_pool' })).toEqual([]);
});

it('a heartbeat flushes what was written and not flushed', async () => {
  const { directory, meta, engine, upkeep } = await world();
  await makeDefaultPool(engine.pools, meta, defaultPool(directory));
  const { disk } = await engine.disks.create({ name: 'd1', capacityBytes: MIB });
  await disk.write(0, new Uint8Array(65536).fill(7));
  expect(disk.pool.isDirty).toBe(true);
  upkeep.beat();
  await upkeep.stop();
  expect(disk.pool.isDirty).toBe(false);
  const [row] = await meta.rows('disks', { id: disk.id });
  expect(row?.['mapped_blocks']).toBe(1);
});

it('each mark that a pool passes is told once', async () => {
  const { directory, meta, engine, upkeep, states } = await world();
  await makeDefaultPool(engine.pools, meta, defaultPool(directory));
  const { disk } = await engine.disks.create({ name: 'd1', capacityBytes: 8 * MIB });
  upkeep.beat();
  expect(states).toEqual([]);
  await disk.write(0, new Uint8Array(4 * MIB).fill(7));
  await disk.write(4 * MIB, new Uint8Array(2 * MIB).fill(7));
  upkeep.beat();
  upkeep.beat();
  expect(states).toEqual(['low']);
  await disk.write(6 * MIB, new Uint8Array(MIB).fill(7));
  upkeep.beat();
  await disk.discard(0, 8 * MIB);
  await upkeep.stop();
  await disk.flush();
  upkeep.beat();
  expect(states).toEqual(['low', 'full', 'ready']);
});

it('the database is copied, but not again before it changes', async () => {
  const { directory, meta, engine, upkeep, failures } = await world();
  await makeDefaultPool(engine.pools, meta, defaultPool(directory));
  const copy = join(directory, 'meta-copy.db');
  await upkeep.copyNow();
  const first = statSync(copy).ino;
  await upkeep.copyNow();
  expect(statSync(copy).ino).toBe(first);
  await engine.disks.create({ name: 'd1', capacityBytes: MIB });
  await upkeep.copyNow();
  expect(statSync(copy).ino).not.toBe(first);
  const copied = await Meta.open({ path: copy });
  expect(await copied.rows('disks')).toHaveLength(1);
  await copied.close();
  expect(failures).toEqual([]);
});

it('a copy that fails is told and tried again', async () => {
  const { directory, upkeep, failures } = await world();
  await mkdir(join(directory, 'meta-copy.db', 'in-the-way'), { recursive: true });
  await upkeep.copyNow();
  await upkeep.copyNow();
  expect(failures).toEqual(['copy of the metadata', 'copy of the metadata']);
});

it('records of keys go when their time is over, and the database is measured', async () => {
  const { meta, upkeep, failures } = await world();
  const record = (key: string, created_at: number) => ({
    table: 'idempotency',
    key: { scope: 's', key },
    row: { request_digest: 'd', status: 200, headers: '{}', body: null, created_at },
  });
  const nowMs = systemClock.nowMs();
  const rows = [record('old', nowMs - 60_000), record('new', nowMs)];
  await meta.commit({ pages: [], rows });
  for (let beat = 0; beat < 3600; beat += 1) {
    upkeep.beat();
    if (beat % 100 === 0) await upkeep.stop();
  }
  await upkeep.stop();
  const left = await meta.rows('idempotency');
  expect(left.map(({ key }) => key)).toEqual(['new']);
  expect(upkeep.metadataBytes).toBeGreaterThan(4096);
  expect(failures).toEqual([]);
});
