/**
 * The engine with backups and jobs over a real database and real files in a temporary folder.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Work } from '../../src/backup/work.ts';
import { systemClock } from '../../src/base/clock.ts';
import { GIB } from '../../src/base/units.ts';
import { Copies } from '../../src/copy/copies.ts';
import { Disks } from '../../src/disk/disks.ts';
import { Generations } from '../../src/disk/generations.ts';
import { Names } from '../../src/disk/names.ts';
import { isEnd, type Job } from '../../src/job/job.ts';
import { RowJobStore } from '../../src/job/row-job-store.ts';
import { JobRunner } from '../../src/job/runner.ts';
import type { JobKind } from '../../src/job/scheduler.ts';
import { Meta } from '../../src/meta/meta.ts';
import { blockFileSystem } from '../../src/pool/block-file.ts';
import type { RowChange } from '../../src/pool/metadata-store.ts';
import { Pools } from '../../src/pool/pools.ts';

export interface WorkBench {
  readonly dir: string;
  readonly meta: Meta;
  readonly pools: Pools;
  readonly disks: Disks;
  readonly copies: Copies;
  readonly work: Work;
  readonly runner: JobRunner<RowChange>;
  readonly errors: unknown[];
  /** Waits for the end of a job. */
  ended(job: Job): Promise<Job>;
  /** Closes in order; the folder stays. */
  close(): Promise<void>;
}

/** Something beside the backups that has jobs and rows of its own. */
export interface Beside {
  readonly kinds: Readonly<Record<string, JobKind<RowChange>>>;
  onJobEnd(job: Job): void;
  open(): Promise<void>;
  settle(): Promise<void>;
}

export async function makeFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'spindle-work-'));
}

export async function removeFolder(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true });
}

/** Opens what the folder holds; a fresh one gets a sparse pool `default`. */
export async function openWork(
  dir: string,
  o: {
    poolBytes?: number;
    blockSizeBytes?: number;
    uploadWaitMs?: number;
    beside?: (parts: { meta: Meta; work: Work; runner: () => JobRunner<RowChange> }) => Beside;
  } = {},
): Promise<WorkBench> {
  const errors: unknown[] = [];
  const onError = (error: unknown): void => {
    errors.push(error);
  };
  const meta = await Meta.open({ path: join(dir, 'meta.db') });
  const names = new Names();
  const generations = new Generations();
  const clock = systemClock;
  const base = { store: meta, clock, names, generations, onError };
  const { storeId, epoch } = meta;
  const pools = new Pools({ store: meta, storeId, epoch, clock, fileSystem: blockFileSystem });
  const endJob = (job: string): Promise<void> => work.backups.endJob(job);
  const disks = new Disks({ ...base, pools, endJob });
  const copies = new Copies({ ...base, pools, disks });
  const resolvePath = (path: string): Promise<string> => Promise.resolve(join(dir, path));
  const work: Work = new Work({
    store: meta,
    clock,
    copies,
    resolvePath,
    catalogs: join(dir, 'tape-catalogs'),
    onError,
    runner: () => runner,
    ...(o.uploadWaitMs === undefined ? {} : { uploadWaitMs: o.uploadWaitMs }),
  });
  const beside = o.beside?.({ meta, work, runner: () => runner });
  const runner: JobRunner<RowChange> = new JobRunner<RowChange>({
    store: new RowJobStore(meta),
    kinds: { ...work.kinds, ...beside?.kinds },
    isRetryable: () => false,
    onError,
    onEnd: (job) => {
      work.onJobEnd(job);
      beside?.onJobEnd(job);
    },
  });
  await pools.open();
  await disks.open();
  await copies.open();
  await work.open();
  await beside?.open();
  await runner.recover();
  await work.settle();
  await beside?.settle();
  if (pools.list().length === 0) {
    await mkdir(join(dir, 'pools'), { recursive: true });
    await pools.create({
      name: 'default',
      files: [{ path: join(dir, 'pools', 'pool.dat'), sizeBytes: o.poolBytes ?? GIB }],
      preallocate: false,
      ...(o.blockSizeBytes === undefined ? {} : { blockSizeBytes: o.blockSizeBytes }),
    });
  }
  return {
    dir,
    meta,
    pools,
    disks,
    copies,
    work,
    runner,
    errors,
    async ended(job) {
      let now = job;
      while (!isEnd(now.state)) now = await runner.wait(job.id, 1000);
      return now;
    },
    async close() {
      await runner.shutdown();
      await disks.stop();
      await copies.stop();
      await pools.close();
      await meta.close();
    },
  };
}
