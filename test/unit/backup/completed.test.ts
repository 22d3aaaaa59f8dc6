/** A backup is complete when that is durable, and not before. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { beginConsolidate } from '../../../src/backup/consolidate-job.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import type { Job } from '../../../src/job/job.ts';
import type { RowChange } from '../../../src/pool/metadata-store.ts';
import { backUp, beginOn } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: 16 * KIB, poolBytes: 4 * MIB });
  const { disk } = await bench.disks.create({ name: 'd', capacityBytes: MIB });
  await disk.write(0, randomBytes(64 * KIB));
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

function isComplete({ table, row }: RowChange): boolean {
  return table === 'backups' && row?.['state'] === 'complete';
}

/** The store has no room for the next `times` entries that become complete. */
function fullFor(times: number): void {
  const commit = bench.meta.commit.bind(bench.meta);
  let left = times;
  vi.spyOn(bench.meta, 'commit').mockImplementation(async (batch) => {
    if (left > 0 && batch.rows.some(isComplete)) {
      left -= 1;
      throw new StorageError('METADATA_FULL', 'no room');
    }
    return commit(batch);
  });
}

/** States after a restart, by name. */
async function durable(): Promise<Record<string, string>> {
  await bench.close();
  bench = await openWork(dir);
  return Object.fromEntries(bench.work.backups.list().map(({ name, state }) => [name, state]));
}

const kinds: Record<string, () => Promise<Job>> = {
  backup: () => beginOn(bench, { name: 'b', disk: 'd' }),
  consolidate: async () => {
    await backUp(bench, { name: 'a', disk: 'd' });
    return beginConsolidate(bench.work.backups, 'a', { name: 'b' });
  },
};

describe.each(Object.keys(kinds))('an entry that a %s job cannot save', (kind) => {
  it('is complete once it is saved by the clean-up', async () => {
    const begin = kinds[kind]!;
    const job = await begin();
    fullFor(1);
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded', result: { backup: 'b' } });
    expect(bench.work.backups.get('b').state).toBe('complete');
    expect(await durable()).toMatchObject({ b: 'complete' });
  });

  it('is incomplete if the clean-up cannot either, and the job has failed', async () => {
    const begin = kinds[kind]!;
    const job = await begin();
    fullFor(2);
    const problem = { code: 'METADATA_FULL' };
    expect(await bench.ended(job)).toMatchObject({ state: 'failed', problem });
    expect(bench.work.backups.get('b').state).toBe('incomplete');
    expect(await durable()).toMatchObject({ b: 'incomplete' });
  });
});

it('a scan that cannot save what it finds shows nothing of it; the next finds it', async () => {
  await backUp(bench, { name: 'a', disk: 'd' });
  await backUp(bench, { name: 'b', disk: 'd' });
  const { backups } = bench.work;
  await backups.forget(backups.get('a'));
  const b = backups.get('b');
  b.state = 'incomplete';
  await backups.save(b);
  fullFor(4);
  for (const entry of ['first', 'second']) {
    const job = await bench.ended(await submitScan(backups, 'shelf'));
    expect(job, entry).toMatchObject({ state: 'succeeded' });
    const shown = backups.list().map(({ name, state }) => [name, state]);
    expect(
      shown.filter(([, state]) => state === 'complete'),
      entry,
    ).toEqual([]);
  }
  const { version } = b;
  expect(await bench.ended(await submitScan(backups, 'shelf'))).toMatchObject({
    result: { added: ['a'], known: ['b'] },
  });
  expect(b.version).toBe(version);
  expect(await durable()).toEqual({ a: 'complete', b: 'complete' });
});
