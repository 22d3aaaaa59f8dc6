import { randomBytes } from 'node:crypto';
import { readdir, rename, rm, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { deleteBackup } from '../../../src/backup/delete-backup.ts';
import { beginGroupBackup } from '../../../src/backup/group-backup.ts';
import { partsDone } from '../../../src/backup/group-members.ts';
import { restoreGroup, restoreGroupBackup } from '../../../src/backup/group-restore.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freezeGroup } from '../../../src/copy/freeze-group.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import type { Job } from '../../../src/job/job.ts';
import { backUp } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 16 * KIB;
const CAPACITY = 4 * MIB;
const DISKS = ['x', 'y', 'z'];

let dir: string;
let bench: WorkBench;
/** What each disk held when the group g was frozen. */
let frozen: Map<string, Buffer>;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: BLOCK });
  const files = [{ path: join(dir, 'pools', 'second.dat'), sizeBytes: 64 * MIB }];
  await bench.pools.create({ name: 'second', files, blockSizeBytes: BLOCK, preallocate: false });
  frozen = new Map();
  for (const name of DISKS) {
    const pool = name === 'z' ? 'second' : 'default';
    const { disk } = await bench.disks.create({ name, capacityBytes: CAPACITY, pool });
    await disk.write(0, randomBytes(MIB));
    await disk.write(2 * MIB, randomBytes(MIB / 2));
    frozen.set(name, await contents(disk));
  }
  await freezeGroup(bench.copies, { name: 'g', disks: DISKS });
  await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

async function contents(disk: Disk): Promise<Buffer> {
  const content = Buffer.alloc(CAPACITY);
  await disk.read(0, content);
  return content;
}

async function expectHolds(disks: readonly string[], wanted: Map<string, Buffer>): Promise<void> {
  for (const [index, name] of disks.entries()) {
    const found = await contents(bench.disks.get(name));
    expect(found.equals(wanted.get(DISKS[index]!)!), name).toBe(true);
  }
}

async function overwrite(): Promise<Map<string, Buffer>> {
  for (const name of DISKS) await bench.disks.get(name).write(MIB / 2, randomBytes(2 * MIB));
  const now = new Map<string, Buffer>();
  for (const name of DISKS) now.set(name, await contents(bench.disks.get(name)));
  return now;
}

async function restart(): Promise<void> {
  await bench.close();
  bench = await openWork(dir);
}

function begin(more: { maxBytesPerSecond?: number } = {}): Promise<Job> {
  return beginGroupBackup(bench.work.backups, { name: 'n', group: 'g', target: 'shelf', ...more });
}

async function backedUp(): Promise<void> {
  expect(await bench.ended(await begin())).toMatchObject({ state: 'succeeded' });
}

/** Waits until the job has done so many of its parts. */
async function untilPart({ id }: Job, part: number): Promise<void> {
  while (partsDone(await bench.runner.get(id)).part < part) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function onMedium(): Promise<string[]> {
  return (await readdir(join(dir, 'shelf'))).filter((name) => name.startsWith('n-')).sort();
}

function states(): string[] {
  return bench.work.backups.ofGroup('n').map(({ name, state }) => `${name} ${state}`);
}

/** How many rows of a table each batch has that has any. */
function watchCommits(): (table: string) => number[] {
  const commit = bench.meta.commit.bind(bench.meta);
  const batches: string[][] = [];
  vi.spyOn(bench.meta, 'commit').mockImplementation(async (batch) => {
    batches.push(batch.rows.map(({ table }) => table));
    await commit(batch);
  });
  return (table) => {
    const counts = batches.map((tables) => tables.filter((each) => each === table).length);
    return counts.filter((count) => count > 0);
  };
}

/** A byte in the middle of a backup's data becomes another. */
async function damage(name: string): Promise<void> {
  const path = join(dir, 'shelf', name, 'image.spindle');
  const bytes = await readFile(path);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  await writeFile(path, bytes);
}

describe('a group backup', () => {
  it('is listed and completed in one transaction each', async () => {
    const rows = watchCommits();
    await backedUp();
    expect(rows('backups')).toEqual([3, 3]);
    expect(states()).toEqual(['n-x complete', 'n-y complete', 'n-z complete']);
  });

  it('goes on after the daemon ended, with nothing complete before the end', async () => {
    const job = await begin({ maxBytesPerSecond: MIB });
    await untilPart(job, 1);
    expect(states()).toEqual(DISKS.map((disk) => `n-${disk} creating`));
    await restart();
    const copy = bench.copies.get('g-z');
    expect(copy.users()).toMatchObject([{ kind: 'job', id: job.id }]);
    await expect(bench.copies.groups.delete('g')).rejects.toMatchObject({ code: 'COPY_IN_USE' });
    expect(partsDone(await bench.runner.get(job.id)).part).toBeGreaterThan(0);
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    const done = await bench.ended(await bench.runner.get(job.id));
    expect(done).toMatchObject({ state: 'succeeded', attempts: 2 });
    expect(states()).toEqual(DISKS.map((disk) => `n-${disk} complete`));
    expect(copy.users()).toEqual([]);
  });

  it('that is cancelled with a part on the medium leaves nothing of any', async () => {
    const job = await begin({ maxBytesPerSecond: MIB });
    await untilPart(job, 1);
    expect(await onMedium()).toContain('n-x');
    await bench.runner.cancel(job.id);
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    expect([await onMedium(), states()]).toEqual([[], []]);
    expect(await bench.meta.rows('backups')).toEqual([]);
    await bench.copies.groups.delete('g');
  });

  it('that is cancelled when all is on the medium has succeeded', async () => {
    const job = await begin({ maxBytesPerSecond: 8 * MIB });
    const { backups } = bench.work;
    // the last commit is the one that makes all complete: before it the job is cancelled
    vi.spyOn(backups, 'saveTogether').mockImplementationOnce(async () => {
      await bench.runner.cancel(job.id);
      throw new StorageError('METADATA_FULL', 'made by the test');
    });
    const ended = await bench.ended(job);
    expect(ended).toMatchObject({ state: 'succeeded', result: { group: 'n' } });
    expect(states()).toEqual(DISKS.map((disk) => `n-${disk} complete`));
  });

  it('that is cancelled while its target is away is listed as incomplete, all of it', async () => {
    const job = await begin({ maxBytesPerSecond: MIB });
    await untilPart(job, 1);
    await rename(join(dir, 'shelf'), join(dir, 'away'));
    await bench.runner.cancel(job.id);
    await bench.ended(job);
    expect(states()).toEqual(DISKS.map((disk) => `n-${disk} incomplete`));
    await rename(join(dir, 'away'), join(dir, 'shelf'));
    const { backups } = bench.work;
    for (const { id } of backups.ofGroup('n')) await deleteBackup(backups, id);
    expect([await onMedium(), states()]).toEqual([[], []]);
  });

  it('that fails takes its parts away, but no foreign backup of that name', async () => {
    await backUp(bench, { name: 'n-y', copy: 'g-y' });
    await bench.work.backups.forget(bench.work.backups.get('n-y'));
    const job = await bench.ended(await begin());
    // of the same copy it is the same image: what is there already counts
    expect(job.state).toBe('succeeded');
    for (const record of bench.work.backups.ofGroup('n')) await bench.work.backups.forget(record);
    for (const name of ['n-x', 'n-z']) await rm(join(dir, 'shelf', name), { recursive: true });
    await overwrite();
    await freezeGroup(bench.copies, { name: 'h', disks: DISKS });
    const again = { name: 'n', group: 'h', target: 'shelf' };
    const failed = await bench.ended(await beginGroupBackup(bench.work.backups, again));
    expect(failed).toMatchObject({ state: 'failed', problem: { code: 'NAME_TAKEN' } });
    expect([await onMedium(), states()]).toEqual([['n-y'], []]);
  });

  it('is found again as one by a scan; without a member it is none', async () => {
    await backedUp();
    const { backups } = bench.work;
    const { id } = backups.ofGroup('n')[0]!.group!;
    await backups.forget(...backups.ofGroup('n'));
    const scan = async (): Promise<Job> => bench.ended(await submitScan(backups, 'shelf'));
    expect(await scan()).toMatchObject({ state: 'succeeded' });
    expect(states()).toEqual(DISKS.map((disk) => `n-${disk} complete`));
    expect(backups.ofGroup(id)).toHaveLength(3);
    await restart();
    const asked = { method: 'remap', name: 'r' } as const;
    const job = await bench.ended(await restoreGroupBackup(bench.work.backups, id, asked));
    expect(job).toMatchObject({ state: 'succeeded' });
    await expectHolds(['r-x', 'r-y', 'r-z'], frozen);
    await rm(join(dir, 'shelf', 'n-y'), { recursive: true });
    await bench.ended(await submitScan(bench.work.backups, 'shelf'));
    const part = restoreGroupBackup(bench.work.backups, 'n', { method: 'remap', name: 's' });
    const missing = { code: 'BACKUP_INCOMPLETE', details: { missing: ['n-y'] } };
    await expect(part).rejects.toMatchObject(missing);
  });
});

describe('a group for whose restore there is no room at the very end', () => {
  it.each(['live copies', 'backups'])('is put back whole, from its %s', async (from) => {
    await backedUp();
    const before = await overwrite();
    const commit = bench.meta.commit.bind(bench.meta);
    let refused = 0;
    vi.spyOn(bench.meta, 'commit').mockImplementation(async (batch) => {
      const isEnd = batch.rows.some(({ table, row }) => table === 'store' && row !== undefined);
      if (!isEnd) return commit(batch);
      refused += 1;
      throw new StorageError('METADATA_FULL', 'made by the test');
    });
    const asked = { method: 'write-back', safetyCopy: 's' } as const;
    const { backups } = bench.work;
    const made =
      from === 'backups'
        ? { job: await restoreGroupBackup(backups, 'n', asked) }
        : await restoreGroup(backups, 'g', asked);
    if (!('job' in made)) throw new Error('no job');
    const job = await bench.ended(made.job);
    expect(job).toMatchObject({ state: 'failed', problem: { code: 'METADATA_FULL' } });
    expect(refused).toBe(1);
    await expectHolds(DISKS, before);
    await restart();
    await expectHolds(DISKS, before);
    expect(bench.copies.internal()).toEqual([]);
    const copies = bench.copies.list().map(({ name }) => name);
    expect(copies.sort()).toEqual(DISKS.map((name) => `g-${name}`));
  });
});

describe('a group back from its backups', () => {
  it('becomes visible in one transaction', async () => {
    await backedUp();
    const rows = watchCommits();
    const asked = { method: 'write-back', safetyCopy: 's' } as const;
    const before = await overwrite();
    const job = await bench.ended(await restoreGroupBackup(bench.work.backups, 'n', asked));
    expect(job.state).toBe('succeeded');
    expect(rows('store')[0]).toBe(1);
    expect(rows('disks').at(-1)).toBe(3);
    await expectHolds(DISKS, frozen);
    for (const name of DISKS) {
      const bytes = Buffer.alloc(CAPACITY);
      await bench.copies.get(`s-${name}`).read('full', 0, bytes);
      expect(bytes.equals(before.get(name)!)).toBe(true);
    }
  });

  it('is put back whole if one of them cannot be restored', async () => {
    await backedUp();
    await damage('n-y');
    const before = await overwrite();
    const { backups } = bench.work;
    const back = await bench.ended(
      await restoreGroupBackup(backups, 'n', { method: 'write-back' }),
    );
    expect(back).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_DAMAGED' } });
    await expectHolds(DISKS, before);
    const asked = { method: 'remap', name: 'r' } as const;
    const made = await bench.ended(await restoreGroupBackup(backups, 'n', asked));
    expect(made.state).toBe('failed');
    expect(bench.disks.list().map(({ name, state }) => `${name} ${state}`)).toEqual(
      DISKS.map((name) => `${name} ready`),
    );
    const around = await bench.ended(
      await restoreGroupBackup(backups, 'n', { ...asked, onDamage: 'skip' }),
    );
    expect(around).toMatchObject({ state: 'succeeded' });
    const disks = (around.result as { disks: { damaged: unknown[] }[] }).disks;
    expect(disks.map(({ damaged }) => damaged.length > 0)).toEqual([false, true, false]);
  });

  it('goes on where it was after the daemon ended, and is not seen before the end', async () => {
    await backedUp();
    const before = await overwrite();
    const asked = { method: 'write-back', maxBytesPerSecond: MIB } as const;
    const job = await restoreGroupBackup(bench.work.backups, 'n', asked);
    await untilPart(job, 1);
    expect(bench.disks.list().map(({ state }) => state)).toEqual(DISKS.map(() => 'fenced'));
    await restart();
    expect(bench.disks.list().map(({ state }) => state)).toEqual(DISKS.map(() => 'fenced'));
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    await expectHolds(DISKS, frozen);
    expect(before.size).toBe(3);
  });

  it('that is cancelled leaves the disks as they were', async () => {
    await backedUp();
    const before = await overwrite();
    const asked = { method: 'write-back', maxBytesPerSecond: MIB } as const;
    const job = await restoreGroupBackup(bench.work.backups, 'n', asked);
    await untilPart(job, 1);
    await bench.runner.cancel(job.id);
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    await expectHolds(DISKS, before);
  });

  it('needs room for all of it together, before anything is written', async () => {
    await backedUp();
    const files = [{ path: join(dir, 'pools', 'tiny.dat'), sizeBytes: 4 * MIB }];
    await bench.pools.create({ name: 'tiny', files, blockSizeBytes: BLOCK, preallocate: false });
    const asked = { method: 'remap', name: 'r', pool: 'tiny' } as const;
    const full = restoreGroupBackup(bench.work.backups, 'n', asked);
    await expect(full).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect(bench.disks.list()).toHaveLength(3);
  });
});

describe('a group back from its live copies', () => {
  it('swaps all tables in one transaction', async () => {
    await overwrite();
    const rows = watchCommits();
    const made = await restoreGroup(bench.work.backups, 'g', { method: 'write-back' });
    if (!('job' in made)) throw new Error('no job');
    expect(await bench.ended(made.job)).toMatchObject({ state: 'succeeded' });
    // each disk is fenced by itself, then all are swapped and free at once, with the mark
    expect(rows('disks').slice(-3)).toEqual([1, 1, 3]);
    expect(rows('store')[0]).toBe(1);
    await expectHolds(DISKS, frozen);
  });

  it('goes on after the daemon ended between the fences and the swap', async () => {
    await overwrite();
    const made = await restoreGroup(bench.work.backups, 'g', { method: 'write-back' });
    if (!('job' in made)) throw new Error('no job');
    await restart();
    const job = await bench.ended(await bench.runner.get(made.job.id));
    expect(job).toMatchObject({ state: 'succeeded', result: { method: 'write-back' } });
    await expectHolds(DISKS, frozen);
  });

  it('makes all disks in one transaction', async () => {
    const rows = watchCommits();
    await restoreGroup(bench.work.backups, 'g', { method: 'remap', name: 'r' });
    expect(rows('disks')).toEqual([3]);
    await expectHolds(['r-x', 'r-y', 'r-z'], frozen);
    await bench.disks.get('r-y').write(0, randomBytes(BLOCK));
    await expectHolds(DISKS, frozen);
  });

  it('is refused whole where one disk lies in another pool or is in use', async () => {
    const before = await overwrite();
    await bench.disks.create({ name: 'w', capacityBytes: CAPACITY, pool: 'second' });
    const { backups } = bench.work;
    const disks = [{ disk: 'x', to: 'w' }];
    const other = restoreGroup(backups, 'g', { method: 'write-back', disks });
    await expect(other).rejects.toMatchObject({ code: 'POOL_MISMATCH' });
    let release = (): void => undefined;
    const user = { kind: 'upload', id: 'u', sinceMs: 0, abort: () => release() };
    release = bench.disks.get('y').addUser(user);
    const used = restoreGroup(backups, 'g', { method: 'write-back' });
    await expect(used).rejects.toMatchObject({ code: 'DISK_IN_USE' });
    await expectHolds(DISKS, before);
    const forced = await restoreGroup(backups, 'g', { method: 'write-back', force: true });
    if (!('job' in forced)) throw new Error('no job');
    expect(await bench.ended(forced.job)).toMatchObject({ state: 'succeeded' });
    await expectHolds(DISKS, frozen);
  });
});
