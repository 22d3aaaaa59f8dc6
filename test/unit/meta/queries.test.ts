import * as fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AssertionError } from '../../../src/base/assert.ts';
import { Meta } from '../../../src/meta/meta.ts';
import type { ListOptions, Position } from '../../../src/meta/queries.ts';
import type { Row, RowChange } from '../../../src/pool/metadata-store.ts';

let directory: string;
let meta: Meta;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'meta-'));
  meta = await Meta.open({ path: join(directory, 'meta.db') });
});

afterAll(async () => {
  await meta.close();
  rmSync(directory, { recursive: true });
});

function job(id: string, more: Row): RowChange {
  const texts = [
    'kind',
    'state',
    'subject',
    'parameters',
    'progress',
    'checkpoint',
    'log',
    'labels',
  ];
  const filled = Object.fromEntries(texts.map((name) => [name, '{}']));
  return { table: 'jobs', key: { id }, row: { ...filled, attempts: 0, created_at: 0, ...more } };
}

async function replaceJobs(jobs: readonly RowChange[]): Promise<void> {
  const old = await meta.rows('jobs');
  const gone = old.map(({ id = null }) => ({ table: 'jobs', key: { id }, row: undefined }));
  await meta.commit({ pages: [], rows: [...gone, ...jobs] });
}

async function pagesOfJobs(options: Omit<ListOptions, 'after'>): Promise<string[][]> {
  const pages: string[][] = [];
  let after: Position | undefined;
  do {
    const { rows, next } = await meta.list('jobs', { ...options, after });
    pages.push(rows.map(({ id }) => String(id)));
    after = next;
  } while (after !== undefined);
  return pages;
}

describe('listing', () => {
  it('goes through all rows by time and id, in either direction', async () => {
    const times = [
      ['c', 1],
      ['a', 2],
      ['b', 2],
      ['d', 0],
      ['e', 5],
    ] as const;
    await replaceJobs(times.map(([id, at]) => job(id, { created_at: at })));
    expect(await pagesOfJobs({ where: {}, limit: 2 })).toEqual([['d', 'c'], ['a', 'b'], ['e']]);
    const newest = await pagesOfJobs({ where: {}, limit: 2, newestFirst: true });
    expect(newest).toEqual([['e', 'b'], ['a', 'c'], ['d']]);
  });

  it('has no next page when the last one is exactly full', async () => {
    await replaceJobs([job('a', {}), job('b', {})]);
    expect(await pagesOfJobs({ where: {}, limit: 2 })).toEqual([['a', 'b']]);
  });

  it('neither repeats nor hides rows when others come and go between pages', async () => {
    await replaceJobs(['a', 'b', 'c', 'd'].map((id, at) => job(id, { created_at: at })));
    const first = await meta.list('jobs', { where: {}, limit: 2 });
    const gone = { table: 'jobs', key: { id: 'b' }, row: undefined };
    await meta.commit({ pages: [], rows: [gone, job('aa', { created_at: 0 })] });
    const second = await meta.list('jobs', { where: {}, limit: 2, after: first.next });
    expect(second.rows.map(({ id }) => id)).toEqual(['c', 'd']);
  });

  it('filters by columns and null like a naive filter, page by page', async () => {
    const anyJob = fc.record({
      state: fc.constantFrom('queued', 'failed'),
      kind: fc.constantFrom('backup', 'restore'),
      disk: fc.constantFrom('d1', 'd2', null),
      created_at: fc.nat(4),
    });
    const anyWhere = fc.record(
      {
        state: fc.constant('failed'),
        kind: fc.constant('backup'),
        disk: fc.constantFrom('d1', null),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyJob, { maxLength: 20 }),
        anyWhere,
        fc.integer({ min: 1, max: 7 }),
        fc.boolean(),
        async (jobs, where, limit, newestFirst) => {
          await replaceJobs(jobs.map((row, index) => job(`j${10 + index}`, row)));
          const kept = jobs
            .map((row, index) => ({ ...row, id: `j${10 + index}` }))
            .filter((row: Row) => Object.entries(where).every(([name, cell]) => row[name] === cell))
            .sort((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1))
            .map(({ id }) => id);
          const pages = await pagesOfJobs({ where, limit, newestFirst });
          expect(pages.flat()).toEqual(newestFirst ? kept.reverse() : kept);
          expect(pages.slice(0, -1).every((page) => page.length === limit)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('by a column that is no filter, or with a limit out of range, is a bug', async () => {
    await expect(meta.list('jobs', { where: { log: 'x' }, limit: 5 })).rejects.toThrow(
      AssertionError,
    );
    await expect(meta.list('jobs', { where: {}, limit: 0 })).rejects.toThrow(AssertionError);
    await expect(meta.list('jobs', { where: {}, limit: 1001 })).rejects.toThrow(AssertionError);
  });

  it('of backups works by target', async () => {
    const texts = ['name', 'image_id', 'copy_id', 'copy_name', 'disk_id', 'disk_name', 'level'];
    const more = ['state', 'labels', 'medium_name'];
    const sizes = ['medium_bytes', 'used_bytes', 'source_capacity_bytes', 'block_size_bytes'];
    const numbers = [...sizes, 'version', 'generation', 'frozen_at'];
    const row = {
      ...Object.fromEntries([...texts, ...more].map((name) => [name, 'x'])),
      ...Object.fromEntries(numbers.map((name) => [name, 1])),
    };
    const backups = ['t1', 't2', 't1'].map((target, index) => ({
      table: 'backups',
      key: { id: `b${index}` },
      row: { ...row, target, created_at: index },
    }));
    await meta.commit({ pages: [], rows: backups });
    const { rows } = await meta.list('backups', { where: { target: 't1' }, limit: 5 });
    expect(rows.map(({ id }) => id)).toEqual(['b0', 'b2']);
    expect(rows[0]).toMatchObject({ job: null, verified_at: null, target: 't1' });
  });
});

describe('deleting what is old', () => {
  it('takes ended jobs, the oldest first and no more than asked for', async () => {
    const ends: readonly [string, number | null][] = [
      ['a', 30],
      ['b', 10],
      ['c', 20],
      ['d', null],
      ['e', 40],
    ];
    await replaceJobs(ends.map(([id, end]) => job(id, { ended_at: end })));
    expect(await meta.deleteOlder('jobs', 40, 2)).toBe(2);
    expect((await meta.rows('jobs')).map(({ id }) => id)).toEqual(['a', 'd', 'e']);
    expect(await meta.deleteOlder('jobs', 40, 2)).toBe(1);
    expect(await meta.deleteOlder('jobs', 40, 2)).toBe(0);
    expect((await meta.rows('jobs')).map(({ id }) => id)).toEqual(['d', 'e']);
  });

  it('takes idempotency records by their creation', async () => {
    const record = (key: string, at: number): RowChange => ({
      table: 'idempotency',
      key: { scope: 's', key },
      row: {
        request_digest: 'd',
        status: 201,
        headers: '{}',
        body: Uint8Array.of(1),
        created_at: at,
      },
    });
    await meta.commit({ pages: [], rows: [record('x', 5), record('y', 6), record('z', 7)] });
    expect(await meta.deleteOlder('idempotency', 7, 100)).toBe(2);
    expect((await meta.rows('idempotency')).map(({ key }) => key)).toEqual(['z']);
  });
});
