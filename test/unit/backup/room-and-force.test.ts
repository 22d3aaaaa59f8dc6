import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { GIB, KIB, MIB, TIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Job } from '../../../src/job/job.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
  const { disk } = await bench.disks.create({ name: 'd1', capacityBytes: TIB });
  for (let at = 0; at < 24; at += 4) await disk.write(at * MIB, randomBytes(4 * MIB));
  await disk.flush();
  await freeze(bench.copies, 'd1', { name: 'monday' });
  await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
  const job = await beginBackup(bench.work.backups, {
    name: 'b1',
    copy: 'monday',
    target: 'shelf',
  });
  expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

/** A restore that takes its time. */
async function slowly(disk: string, method: 'remap' | 'write-back', pool?: string): Promise<Job> {
  const job = await bench.work.restores.fromBackup('b1', {
    method,
    disk,
    maxBytesPerSecond: MIB,
    ...(pool === undefined ? {} : { pool }),
  });
  while ((bench.disks.find(disk)?.record.job ?? null) === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return job;
}

describe('the room of a restore', () => {
  it('is its own: two that fit only one after the other do not both begin', async () => {
    const files = [{ path: join(dir, 'pools', 'tight.dat'), sizeBytes: 42 * MIB }];
    await bench.pools.create({ name: 'tight', files, preallocate: false });
    const first = await slowly('r1', 'remap', 'tight');
    const second = { method: 'remap', disk: 'r2', pool: 'tight' } as const;
    await expect(bench.work.restores.fromBackup('b1', second)).rejects.toMatchObject({
      code: 'POOL_FULL',
    });
    const request = { name: 'other', pool: 'tight', capacityBytes: GIB };
    const { disk: other } = await bench.disks.create(request);
    // 41 MiB: the restore's 24, at most 8 of them counted twice while a segment is written
    for (let at = 0; at < 8; at += 4) await other.write(at * MIB, randomBytes(4 * MIB));
    const greedy = async (): Promise<void> => {
      for (let at = 8; at < 24; at += 4) await other.write(at * MIB, randomBytes(4 * MIB));
    };
    await expect(greedy()).rejects.toMatchObject({ code: 'POOL_FULL' });
    await bench.runner.update(first.id, { maxBytesPerSecond: null });
    expect(await bench.ended(first)).toMatchObject({ state: 'succeeded' });
    expect(bench.disks.get('r1').reserveBytes).toBe(0);
  });
});

describe('a reservation', () => {
  it('is at most the disk and the free room', async () => {
    const disk = { name: 'd2', capacityBytes: 64 * KIB };
    const refused = (reserveBytes: number, code: string): Promise<void> =>
      expect(bench.disks.create({ ...disk, reserveBytes })).rejects.toMatchObject({ code });
    await refused(2 ** 53 - 1, 'VALIDATION_FAILED');
    await refused(64 * KIB + 1, 'VALIDATION_FAILED');
    const big = { name: 'd3', capacityBytes: TIB, reserveBytes: 2 * GIB };
    await expect(bench.disks.create(big)).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect(bench.pools.get('default').reservedBytes).toBe(0);
    await bench.disks.create({ ...disk, reserveBytes: 64 * KIB });
    await expect(bench.disks.update('d2', { reserveBytes: GIB })).rejects.toMatchObject({
      code: 'VALIDATION_FAILED',
    });
  });
});

describe('a disk that a restore holds', () => {
  it('is in use by its job, and force ends that', async () => {
    const job = await slowly('r1', 'remap');
    await expect(bench.disks.delete('r1')).rejects.toMatchObject({
      code: 'DISK_IN_USE',
      details: { users: [{ kind: 'job', id: job.id }] },
    });
    await bench.disks.delete('r1', { force: true });
    expect(bench.disks.find('r1')).toBeUndefined();
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
  });

  it('can be written back by another restore with force, also from a paused one', async () => {
    const job = await slowly('d1', 'write-back');
    await bench.runner.pause(job.id);
    const request = { method: 'write-back', disk: 'd1' } as const;
    await expect(bench.work.restores.fromCopy('monday', request)).rejects.toMatchObject({
      code: 'DISK_IN_USE',
    });
    const made = await bench.work.restores.fromCopy('monday', { ...request, force: true });
    if (!('job' in made)) throw new Error('a write-back is a job');
    expect(await bench.ended(made.job)).toMatchObject({
      state: 'succeeded',
      result: { capacityBytes: TIB },
    });
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
  });

  it('that is still being made is not ended by a forced write-back', async () => {
    const job = await slowly('r1', 'remap');
    const request = { method: 'write-back', disk: 'r1', force: true } as const;
    await expect(bench.work.restores.fromBackup('b1', request)).rejects.toMatchObject({
      code: 'DISK_FENCED',
    });
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
  });
});
