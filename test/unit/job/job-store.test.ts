import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { encodeJob, decodeJob } from '../../../src/job/job-row.ts';
import { moved, newJob } from '../../../src/job/job.ts';
import type { FlatRow } from '../../../src/job/job-row.ts';
import { RowJobStore } from '../../../src/job/row-job-store.ts';
import { Meta } from '../../../src/meta/meta.ts';
import { describeJobStore } from '../../contract/job-store.ts';
import { MemoryJobStore } from '../../support/memory-job-store.ts';

describeJobStore('in memory', async () => {
  const store = new MemoryJobStore();
  return {
    store,
    effect: (name) => name,
    hasEffect: async (name) => store.effects.includes(name),
    badEffect: undefined,
    dispose: async () => undefined,
  };
});

describeJobStore('in the metadata database', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'spindle-jobs-'));
  const meta = await Meta.open({ path: join(folder, 'meta.db') });
  return {
    store: new RowJobStore(meta),
    effect: (name) => ({ table: 'store', key: { key: name }, row: { value: 'x' } }),
    hasEffect: async (name) => (await meta.rows('store', { key: name })).length > 0,
    badEffect: { table: 'disks', key: { id: 'x' }, row: {} },
    dispose: async () => {
      await meta.close();
      await rm(folder, { recursive: true });
    },
  };
});

describe('the row of a job', () => {
  const start = { id: 'x', kind: 'k', subject: {}, parameters: null, createdAtMs: 5 };
  const row: FlatRow = { id: 'x', ...encodeJob(moved(newJob(start), { state: 'running' })) };

  it('is read as the job', () => {
    expect(decodeJob(row)).toEqual(moved(newJob(start), { state: 'running' }));
  });

  it.each([
    ['state', 'asleep'],
    ['state', 'waiting'],
    ['state', 'succeeded'],
    ['state', 'failed'],
    ['subject', '[]'],
    ['subject', '{'],
    ['parameters', null],
    ['progress', '{}'],
    ['progress', '{"doneBytes":"1"}'],
    ['log', '{}'],
    ['log', '[{"atMs":1}]'],
    ['labels', '{"a":1}'],
    ['attempts', 'many'],
    ['created_at', null],
    ['id', 7],
  ])('with %s = %j is refused', (column, cell) => {
    expect(() => decodeJob({ ...row, [column]: cell })).toThrow(
      expect.objectContaining({ code: 'METADATA_INVALID' }),
    );
  });

  it.each([
    '{}',
    '{"code":"X","detail":"","retryable":true}',
    '{"code":"INTERNAL","detail":1,"retryable":true}',
    '{"code":"INTERNAL","detail":""}',
  ])('with the problem %s is refused', (problem) => {
    expect(() => decodeJob({ ...row, state: 'failed', ended_at: 1, problem })).toThrow(
      expect.objectContaining({ code: 'METADATA_INVALID' }),
    );
  });
});
