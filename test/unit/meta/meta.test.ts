import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isUuid, systemClock } from '../../../src/base/clock.ts';
import { Meta } from '../../../src/meta/meta.ts';
import { describeMetadataStore } from '../../contract/metadata-store.ts';
import type { MetadataStoreHarness } from '../../contract/metadata-store.ts';
import { MIB } from '../../../src/base/units.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'meta-'));
  path = join(directory, 'meta.db');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function memoryHarness(store: MemoryMetadata): MetadataStoreHarness {
  return {
    store,
    crash: () => Promise.resolve(memoryHarness(store.crash(Math.floor(store.pending / 2)))),
    close: () => Promise.resolve(),
  };
}

async function metaHarness(file: string): Promise<MetadataStoreHarness> {
  const store = await Meta.open({ path: file, reserveBytes: 4096 });
  return {
    store,
    crash: async () => {
      await store.abandon();
      return await metaHarness(file);
    },
    close: () => store.close(),
  };
}

let files = 0;
describeMetadataStore('SQLite', () => metaHarness(join(directory, `meta-${files++}.db`)));
describeMetadataStore('memory', () => Promise.resolve(memoryHarness(new MemoryMetadata())));

function setGeneration(meta: Meta, value: string): Promise<void> {
  const rows = [{ table: 'store', key: { key: 'generation' }, row: { value } }];
  return meta.commit({ pages: [], rows });
}

describe('opening and closing a store', () => {
  it('a new store has an id of its own, epoch 1 and counts as clean', async () => {
    const meta = await Meta.open({ path });
    expect(isUuid(meta.storeId)).toBe(true);
    expect([meta.epoch, meta.cleanBefore]).toEqual([1, true]);
    await meta.close();
  });

  it('each opening raises the epoch by one and keeps the id', async () => {
    const first = await Meta.open({ path });
    await first.close();
    const second = await Meta.open({ path });
    expect(second.storeId).toBe(first.storeId);
    expect([second.epoch, second.cleanBefore]).toEqual([2, true]);
    await second.close();
  });

  it('a store that was abandoned is unclean at the next opening only', async () => {
    const first = await Meta.open({ path });
    await setGeneration(first, '3');
    await first.abandon();
    const second = await Meta.open({ path });
    expect([second.epoch, second.cleanBefore]).toEqual([2, false]);
    expect(await second.rows('store', { key: 'generation' })).toHaveLength(1);
    await second.close();
    const third = await Meta.open({ path });
    expect(third.cleanBefore).toBe(true);
    await third.close();
  });

  it('closing empties the WAL and leaves the database and its reserve', async () => {
    const meta = await Meta.open({ path });
    await setGeneration(meta, '1');
    expect(existsSync(`${path}-wal`)).toBe(true);
    await meta.close();
    expect(readdirSync(directory).sort()).toEqual(['meta.db', 'meta.reserve']);
  });

  it('the id is made by the clock that was given', async () => {
    const clock = { ...systemClock, random: (length: number) => Buffer.alloc(length, 0xab) };
    const meta = await Meta.open({ path, clock });
    expect(meta.storeId).toMatch(/-7bab-abab-abababababab$/);
    await meta.close();
  });

  it('calls after close are refused with SHUTTING_DOWN', async () => {
    const meta = await Meta.open({ path });
    await meta.close();
    await expect(meta.rows('store')).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    await expect(meta.close()).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });

  it('commits called before close are durable when it resolves', async () => {
    const meta = await Meta.open({ path });
    const commits = ['1', '2', '3'].map((value) => setGeneration(meta, value));
    await meta.close();
    await Promise.all(commits);
    const after = await Meta.open({ path });
    expect(await after.rows('store', { key: 'generation' })).toEqual([
      { key: 'generation', value: '3' },
    ]);
    await after.close();
  });

  it('a directory that does not exist is METADATA_INVALID, with the path', async () => {
    const missing = join(directory, 'none', 'meta.db');
    await expect(Meta.open({ path: missing })).rejects.toMatchObject({
      code: 'METADATA_INVALID',
      details: { path: missing },
    });
  });

  it('the owner that another opening replaced commits nothing and closes in peace', async () => {
    const first = await Meta.open({ path });
    await setGeneration(first, '1');
    const second = await Meta.open({ path });
    await expect(setGeneration(first, '2')).rejects.toMatchObject({
      code: 'OWNER_LOST',
      details: { epoch: 1, found: '2' },
    });
    await setGeneration(second, '3');
    await first.close();
    expect(await second.rows('store', { key: 'generation' })).toEqual([
      { key: 'generation', value: '3' },
    ]);
    await second.close();
    const third = await Meta.open({ path });
    expect(third.cleanBefore).toBe(true);
    await third.close();
  });

  it('a lock that another program holds is STORE_LOCKED until it lets go', async () => {
    const meta = await Meta.open({ path });
    const script =
      "const d = new (require('better-sqlite3'))(process.argv[1]); d.exec('BEGIN IMMEDIATE');" +
      "console.log('held'); process.stdin.on('end', () => d.exec('ROLLBACK')).resume()";
    const child = spawn(process.execPath, ['-e', script, path], { cwd: process.cwd() });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await expect(setGeneration(meta, '1')).rejects.toMatchObject({ code: 'STORE_LOCKED' });
    child.stdin.end();
    await new Promise((resolve) => child.once('exit', resolve));
    await setGeneration(meta, '2');
    await meta.close();
  });

  it('the size of the store grows with what is committed', async () => {
    const meta = await Meta.open({ path });
    const before = await meta.sumBytes();
    const data = new Uint8Array(65_536).fill(1);
    await meta.commit({
      pages: [{ pool: 0, images: [{ kind: 'node', number: 0, data }] }],
      rows: [],
    });
    expect(await meta.sumBytes()).toBeGreaterThan(before + 65_536);
    await meta.close();
  });

  it('the client of SQLite reads the database while the store is open', async () => {
    const meta = await Meta.open({ path });
    await setGeneration(meta, '77');
    const script =
      "const d = new (require('better-sqlite3'))(process.argv[1], { readonly: true });" +
      'console.log(d.prepare("SELECT value FROM store WHERE key = \'generation\'").pluck().get())';
    const { stdout } = spawnSync(process.execPath, ['-e', script, path], { encoding: 'utf8' });
    expect(stdout.trim()).toBe('77');
    await meta.close();
  });
});

it('commits that leave no idle moment keep the WAL within the reserve', async () => {
  const meta = await Meta.open({ path });
  const data = new Uint8Array(4096).fill(7);
  const commits = Array.from({ length: 300 }, (_, batch) => {
    const images = Array.from({ length: 32 }, (__, index) => {
      return { kind: 'node', number: batch * 32 + index, data } as const;
    });
    return meta.commit({ pages: [{ pool: 0, images }], rows: [] });
  });
  await Promise.all(commits);
  expect(statSync(`${path}-wal`).size).toBeLessThan(8 * MIB);
  await meta.close();
});
