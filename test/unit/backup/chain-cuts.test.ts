/**
 * The daemon ends at every commit of the life of a chain: each time the store is copied as it lies
 * on disk, opened, and everything has to come to a good end.
 */
import { randomBytes } from 'node:crypto';
import { cp, rename } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { beginConsolidate } from '../../../src/backup/consolidate-job.ts';
import { deleteBackup } from '../../../src/backup/delete-backup.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import type { Job } from '../../../src/job/job.ts';
import { backUp, beginOn, contentOf, incremental } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 16 * KIB;
const CAPACITY = MIB;

let dir: string;
let bench: WorkBench;
let disk: Disk;
const contents = new Map<string, Buffer>();

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: BLOCK, poolBytes: 4 * MIB });
  ({ disk } = await bench.disks.create({ name: 'd1', capacityBytes: CAPACITY }));
  await disk.write(0, randomBytes(20 * BLOCK));
  await remember('mon');
  await backUp(bench, { name: 'mon', disk: 'd1' });
  await disk.write(3 * BLOCK, randomBytes(2 * BLOCK));
  await disk.discard(10 * BLOCK, 4 * BLOCK);
});

afterEach(async () => {
  await removeFolder(dir);
});

async function remember(name: string): Promise<void> {
  const content = Buffer.alloc(CAPACITY);
  await disk.read(0, content);
  contents.set(name, content);
}

/** Copies the store before every commit of some work, and behind it; then closes it. */
async function cuts(work: () => Promise<void>): Promise<string[]> {
  const made: string[] = [];
  const commit = bench.meta.commit.bind(bench.meta);
  let last = Promise.resolve();
  const copy = async (): Promise<void> => {
    const to = `${dir}-cut${made.length}`;
    made.push(to);
    await cp(dir, to, { recursive: true });
  };
  const spy = vi.spyOn(bench.meta, 'commit').mockImplementation((batch) => {
    const next = last.then(copy).then(() => commit(batch));
    last = next.catch(() => undefined);
    return next;
  });
  await work();
  spy.mockRestore();
  await last;
  await copy();
  expect(bench.errors).toEqual([]);
  await bench.close();
  return made;
}

/** What must hold whenever the daemon ended. @returns names of the backups that are there */
async function prove(folder: string): Promise<string[]> {
  // the rows name the paths of the original
  await removeFolder(dir);
  await rename(folder, dir);
  const opened = await openWork(dir);
  try {
    for (const job of opened.runner.liveJobs()) {
      expect(await opened.ended(job)).toMatchObject({ state: 'succeeded' });
    }
    const { backups } = opened.work;
    const names = backups.list().map(({ name, state }) => {
      if (state !== 'complete') return `${name} ${state}`;
      return name;
    });
    for (const { name, state } of backups.list()) {
      if (state !== 'complete') continue;
      expect((await contentOf(opened, name)).equals(contents.get(name)!)).toBe(true);
    }
    const copyIds = new Set(backups.list().map(({ copyId }) => copyId));
    const checkpoints = opened.copies.checkpoints.list().map(({ id }) => id);
    expect(new Set(checkpoints)).toEqual(copyIds);
    expect(opened.copies.internal()).toEqual([]);
    // the next one is complete, too
    const now = opened.disks.get('d1');
    await now.write(7 * BLOCK, randomBytes(BLOCK));
    const content = Buffer.alloc(CAPACITY);
    await now.read(0, content);
    await backUp(opened, { name: 'next', disk: 'd1', ...incremental });
    expect((await contentOf(opened, 'next')).equals(content)).toBe(true);
    expect(opened.errors).toEqual([]);
    return names;
  } finally {
    await opened.close();
  }
}

async function succeeded(job: Job): Promise<void> {
  expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
}

describe('whenever the daemon ends', { timeout: 120_000 }, () => {
  it('an incremental backup becomes complete, or was never begun', async () => {
    await remember('tue');
    const made = await cuts(async () => {
      await succeeded(await beginOn(bench, { name: 'tue', disk: 'd1', ...incremental }));
    });
    const seen: string[][] = [];
    for (const folder of made) seen.push(await prove(folder));
    expect(seen.length).toBeGreaterThan(4);
    expect(seen[0]).toEqual(['mon']);
    expect(seen.at(-1)).toEqual(['mon', 'tue']);
    const first = seen.findIndex((names) => names.length === 2);
    for (const names of seen.slice(first)) expect(names).toEqual(['mon', 'tue']);
  });

  it('a consolidated backup becomes complete, or was never begun', async () => {
    await remember('tue');
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    contents.set('whole', contents.get('tue')!);
    const made = await cuts(async () => {
      await succeeded(await beginConsolidate(bench.work.backups, 'tue', { name: 'whole' }));
    });
    const seen: string[][] = [];
    for (const folder of made) seen.push(await prove(folder));
    expect(seen[0]).toEqual(['mon', 'tue']);
    expect(seen.at(-1)).toEqual(['mon', 'tue', 'whole']);
    expect(new Set(seen.map(String)).size).toBe(2);
  });

  it('a cascade leaves chains without holes', async () => {
    await remember('tue');
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    await disk.write(0, randomBytes(BLOCK));
    await remember('wed');
    await backUp(bench, { name: 'wed', disk: 'd1', ...incremental });
    // one that is built on none of the others
    await remember('full');
    await backUp(bench, { name: 'full', disk: 'd1' });
    const made = await cuts(() => deleteBackup(bench.work.backups, 'mon', { cascade: true }));
    const seen: string[][] = [];
    for (const folder of made) seen.push(await prove(folder));
    expect(seen[0]).toEqual(['mon', 'tue', 'wed', 'full']);
    expect(seen.at(-1)).toEqual(['full']);
    for (const names of seen) {
      const whole = names.filter((name) => !name.includes(' '));
      expect(['mon,tue,wed,full', 'mon,tue,full', 'mon,full', 'full']).toContain(String(whole));
    }
  });
});
