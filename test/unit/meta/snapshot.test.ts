import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import SqliteDatabase from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { fullCheck, quickCheckTask } from '../../../src/check/check-task.ts';
import type { CheckSource } from '../../../src/check/source.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { Meta } from '../../../src/meta/meta.ts';
import { runOnSnapshot } from '../../../src/meta/snapshot-task.ts';
import { Snapshot } from '../../../src/meta/snapshot.ts';
import { checkEngine } from '../../support/check-engine.ts';
import type { Engine } from '../../support/engine.ts';
import { openEngine } from '../../support/engine.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'snapshot-'));
  path = join(directory, 'meta.db');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function put(meta: Meta, number: number, byte: number): Promise<void> {
  const images = [{ kind: 'node' as const, number, data: new Uint8Array(4096).fill(byte) }];
  return meta.commit({ pages: [{ pool: 1, images }], rows: [] });
}

/** A store with a disk, a copy and changes since. */
async function engineOn(meta: Meta): Promise<Engine> {
  const engine = await openEngine({ store: meta, fileSystem: new FaultyFileSystem() });
  await engine.pools.create({ name: 'p', files: [{ path: '/p0', sizeBytes: 20 * MIB }] });
  const { disk } = await engine.disks.create({ name: 'd', capacityBytes: 2 ** 40 });
  await disk.write(0, Buffer.alloc(MIB, 1));
  await disk.write(2 ** 39, Buffer.alloc(MIB, 1));
  await freeze(engine.copies, 'd', { name: 'c' });
  await disk.write(0, Buffer.alloc(100_000, 2));
  await disk.flush();
  return engine;
}

describe('a snapshot', () => {
  it('stays as it was while others commit', async () => {
    const meta = await Meta.open({ path });
    await put(meta, 5, 1);
    const snapshot = Snapshot.open(path);
    const source: CheckSource = snapshot;
    await put(meta, 5, 2);
    await put(meta, 6, 2);
    expect(snapshot.page(1, 'node', 5)?.at(0)).toBe(1);
    expect(source.lastPage(1, 'node')).toBe(5);
    snapshot.close();
    const later = Snapshot.open(path);
    expect(later.page(1, 'node', 5)?.at(0)).toBe(2);
    expect(later.page(1, 'node', 7)).toBeUndefined();
    later.close();
    await meta.close();
  });

  it('gives pages of one pool and kind in order, from a number on and up to one', async () => {
    const meta = await Meta.open({ path });
    const images = [7, 3, 2 ** 33, 0].map((number) => ({
      kind: 'bitmap' as const,
      number,
      data: Uint8Array.of(1),
    }));
    await meta.commit({
      pages: [
        { pool: 0, images },
        { pool: 8, images: images.slice(0, 1) },
      ],
      rows: [],
    });
    const snapshot = Snapshot.open(path);
    const numbers = (from: number, end: number, limit: number): number[] =>
      snapshot.pages(0, 'bitmap', { from, end, limit }).map(({ number }) => number);
    expect(numbers(0, 2 ** 40, 99)).toEqual([0, 3, 7, 2 ** 33]);
    expect(numbers(1, 8, 99)).toEqual([3, 7]);
    expect(numbers(0, 2 ** 40, 2)).toEqual([0, 3]);
    expect(snapshot.lastPage(0, 'bitmap')).toBe(2 ** 33);
    expect([snapshot.poolsOf('bitmap'), snapshot.poolsOf('node')]).toEqual([[0, 8], []]);
    snapshot.close();
    await meta.close();
  });

  it('gives the asked columns of rows, and the copies that have checksums', async () => {
    const meta = await Meta.open({ path });
    const rows = ['b', 'a', 'b'].map((copy, segment) => ({
      table: 'checksums',
      key: { copy, segment },
      row: { crcs: Uint8Array.of(9) },
    }));
    await meta.commit({ pages: [], rows });
    const snapshot = Snapshot.open(path);
    expect(snapshot.copiesWithChecksums()).toEqual(['a', 'b']);
    expect(snapshot.copiesWithChecksums(1)).toEqual(['a']);
    expect(snapshot.rows('checksums', ['segment', 'copy'])).toEqual([
      { segment: 1, copy: 'a' },
      { segment: 0, copy: 'b' },
      { segment: 2, copy: 'b' },
    ]);
    expect(snapshot.rows('checksums', ['copy'], 1)).toEqual([{ copy: 'a' }]);
    snapshot.close();
    await meta.close();
  });

  it('is refused of a file that is not there, or is no database of ours', () => {
    expect(() => Snapshot.open(path)).toThrow(/metadata database/);
    const other = new SqliteDatabase(path);
    other.exec('CREATE TABLE t (a)');
    other.close();
    expect(() => Snapshot.open(path)).toThrow(/another program/);
  });
});

describe('a check in a thread', () => {
  it('finds nothing in a sound store in use, nor in a copy of its database', async () => {
    const meta = await Meta.open({ path });
    const engine = await engineOn(meta);
    const progress: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }): void => {
      progress.push(done / total);
    };
    expect(await runOnSnapshot(path, fullCheck(), { onProgress })).toEqual([]);
    expect(await runOnSnapshot(path, quickCheckTask())).toEqual([]);
    expect(await checkEngine(engine, meta)).toEqual([]);
    const copy = join(directory, 'copy.db');
    await meta.copyTo(copy);
    expect(await runOnSnapshot(copy, fullCheck())).toEqual([]);
    await engine.close();
    await meta.close();
    expect(await runOnSnapshot(path, fullCheck())).toEqual([]);
  });

  it('tells what it finds', async () => {
    const meta = await Meta.open({ path });
    const engine = await engineOn(meta);
    const pool = engine.pools.get('p').record.number;
    const data = new Uint8Array(4096);
    data[4 * 900] = 1;
    const images = [{ kind: 'block-count' as const, number: 0, data }];
    await meta.commit({ pages: [{ pool, images }], rows: [] });
    const codes = (await runOnSnapshot(path, fullCheck())).map(({ code }) => code);
    expect(new Set(codes)).toEqual(new Set(['BLOCK_COUNT']));
    expect(await runOnSnapshot(path, fullCheck({ maxFindings: 1 }))).toHaveLength(1);
    await engine.close();
    await meta.close();
  });

  it('ends when cancelled, before and while it runs', async () => {
    const meta = await Meta.open({ path });
    const cancelled = expect.objectContaining({ code: 'CANCELLED' }) as Error;
    const before = runOnSnapshot(path, fullCheck(), { signal: AbortSignal.abort() });
    await expect(before).rejects.toEqual(cancelled);
    const end = new AbortController();
    const module = new URL('../../support/endless-task.ts', import.meta.url);
    const onProgress = (): void => {
      end.abort();
    };
    const task = { module, data: undefined, parse: (result: unknown) => result };
    const running = runOnSnapshot(path, task, { signal: end.signal, onProgress });
    await expect(running).rejects.toEqual(cancelled);
    await meta.close();
  });

  it('gives the error of a database that cannot be read', async () => {
    const missing = runOnSnapshot(join(directory, 'none.db'), fullCheck());
    await expect(missing).rejects.toMatchObject({ code: 'METADATA_INVALID' });
  });
});
