/** Restores and backups that had taken effect when they were cancelled and the daemon ended. */
import { randomBytes } from 'node:crypto';
import { cp, rename } from 'node:fs/promises';
import { join } from 'node:path';
import SqliteDatabase from 'better-sqlite3';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import type { Job } from '../../../src/job/job.ts';
import type { RowChange } from '../../../src/pool/metadata-store.ts';
import { beginOn } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 16 * KIB;

let dir: string;
let bench: WorkBench;
let disk: Disk;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: BLOCK, poolBytes: 4 * MIB });
  ({ disk } = await bench.disks.create({ name: 'd1', capacityBytes: MIB }));
  await disk.write(0, randomBytes(20 * BLOCK));
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
  await removeFolder(`${dir}-cut`);
});

/**
 * Runs the job, and opens the store as it was behind the commit with such a row, the job being
 * cancelled. @returns the job when it has ended in that life
 */
async function cancelledBehind(
  isIt: (row: RowChange) => boolean,
  submit: () => Promise<Job>,
): Promise<Job> {
  const commit = bench.meta.commit.bind(bench.meta);
  let isCut = false;
  const spy = vi.spyOn(bench.meta, 'commit').mockImplementation(async (batch) => {
    await commit(batch);
    if (isCut || !batch.rows.some(isIt)) return;
    isCut = true;
    await cp(dir, `${dir}-cut`, { recursive: true });
  });
  const job = await submit();
  expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
  spy.mockRestore();
  await bench.close();
  await removeFolder(dir);
  await rename(`${dir}-cut`, dir);
  const database = new SqliteDatabase(join(dir, 'meta.db'));
  const sql = `UPDATE jobs SET state = 'cancelling' WHERE id = ?`;
  expect(database.prepare(sql).run(job.id).changes).toBe(1);
  database.close();
  bench = await openWork(dir);
  return bench.ended(job);
}

it('a write-back whose swap was committed has succeeded', async () => {
  await freeze(bench.copies, 'd1', { name: 'monday' });
  const wanted = Buffer.alloc(MIB);
  await disk.read(0, wanted);
  await disk.write(0, randomBytes(BLOCK));
  const request = { method: 'write-back', disk: 'd1' } as const;
  const isMark = ({ table, key }: RowChange): boolean =>
    table === 'store' && String(key['key']).startsWith('restored ');
  const job = await cancelledBehind(isMark, async () => {
    const made = await bench.work.restores.fromCopy('monday', request);
    if (!('job' in made)) throw new Error('a write-back is a job');
    return made.job;
  });
  expect(job).toMatchObject({ state: 'succeeded', result: { disk: 'd1', method: 'write-back' } });
  const found = Buffer.alloc(MIB);
  await bench.disks.get('d1').read(0, found);
  expect(found.equals(wanted)).toBe(true);
});

it('a backup that was complete has succeeded', async () => {
  const isComplete = ({ table, row }: RowChange): boolean =>
    table === 'backups' && row?.['state'] === 'complete';
  const request = { name: 'b1', disk: 'd1' };
  const job = await cancelledBehind(isComplete, () => beginOn(bench, request));
  expect(job).toMatchObject({ state: 'succeeded', result: { backup: 'b1', level: 'full' } });
  expect(bench.work.backups.get('b1').state).toBe('complete');
  expect(bench.copies.internal()).toEqual([]);
});
