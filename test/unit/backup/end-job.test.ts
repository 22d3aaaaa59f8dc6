/** How backups end jobs of others, and what happens where that cannot be. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { isEnd, type Job } from '../../../src/job/job.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const nothing = (): Promise<void> => Promise.resolve();

let dir: string;
let bench: WorkBench;
/** Lets the runs of jobs of kind `deaf` end, which look at no signal. */
let letGo: (value: null) => void;
let runs = 0;

beforeEach(async () => {
  const { promise, resolve } = Promise.withResolvers<null>();
  letGo = resolve;
  runs = 0;
  const run = (): Promise<null> => {
    runs += 1;
    return promise;
  };
  dir = await makeFolder();
  bench = await openWork(dir, {
    beside: () => ({
      kinds: { deaf: { run } },
      onJobEnd: () => undefined,
      open: nothing,
      settle: nothing,
    }),
  });
});

afterEach(async () => {
  letGo(null);
  await bench.close();
  await removeFolder(dir);
});

/** A job that is under way. */
async function deaf(): Promise<Job> {
  const job = await bench.runner.submit({ kind: 'deaf', subject: {}, parameters: {} });
  await vi.waitFor(() => expect(runs).toBe(1));
  return job;
}

it('who waits for the end of a job is told at once that the daemon shuts down', async () => {
  const { runner, work } = bench;
  const job = await deaf();
  const wait = runner.wait.bind(runner);
  let waits = 0;
  vi.spyOn(runner, 'wait').mockImplementation((...args) => {
    waits += 1;
    if (waits > 1000) throw new Error('it waits without rest');
    return wait(...args);
  });
  const ending = work.backups.endJob(job.id);
  const told = expect(ending).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  await vi.waitFor(() => expect(waits).toBe(1));
  const closing = runner.shutdown();
  await told;
  letGo(null);
  await closing;
  expect(bench.errors).toEqual([]);
});

it('the end of a job is waited for', async () => {
  const { runner, work } = bench;
  const job = await deaf();
  let isOver = false;
  const ending = work.backups.endJob(job.id).then(() => {
    isOver = true;
  });
  await vi.waitFor(async () =>
    expect(await runner.get(job.id)).toMatchObject({ state: 'cancelling' }),
  );
  expect(isOver).toBe(false);
  letGo(null);
  await ending;
  expect(isEnd((await runner.get(job.id)).state)).toBe(true);
});

it('a job that uses a copy and cannot be cancelled leaves no error unhandled', async () => {
  const { runner, work, disks, copies, errors } = bench;
  await disks.create({ name: 'd', capacityBytes: MIB });
  const copy = await freeze(copies, 'd', { name: 'c' });
  work.backups.useCopy(copy, 'job');
  const user = work.backups.copyUser('job');
  const full = new StorageError('METADATA_FULL', 'no room');
  const reason = new StorageError('COPY_IN_USE', 'it is being deleted');
  for (const error of [full, new StorageError('SHUTTING_DOWN', 'late')]) {
    vi.spyOn(runner, 'cancel').mockRejectedValueOnce(error);
    user.abort(reason);
    await new Promise((resolve) => setImmediate(resolve));
  }
  user.abort(reason);
  await new Promise((resolve) => setImmediate(resolve));
  expect(errors).toEqual([full]);
});
