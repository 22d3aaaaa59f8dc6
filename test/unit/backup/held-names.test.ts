import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { restoreGroupBackup } from '../../../src/backup/group-restore.ts';
import { beginGroupBackup } from '../../../src/backup/group-backup.ts';
import type { RestoreRequest } from '../../../src/backup/restore-plan.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { freezeGroup } from '../../../src/copy/freeze-group.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import type { Job } from '../../../src/job/job.ts';
import { makeDisk } from '../../support/work-content.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

/** A restore from b1 that does not come to its end. */
async function slow(request: RestoreRequest): Promise<Job> {
  return bench.work.restores.fromBackup('b1', { ...request, maxBytesPerSecond: 4096 });
}

function takenBy(job: Job, name: string) {
  return { code: 'NAME_TAKEN', details: { name, job: job.id } };
}

async function cancel(job: Job): Promise<void> {
  await bench.runner.cancel(job.id);
  expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
}

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
  await makeDisk(bench, 'd1');
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

describe('the name of what a restore makes', () => {
  it.each([
    ['remap', { method: 'remap', disk: 'rr' }],
    ['copy', { method: 'copy', copy: 'rr' }],
  ] as const)('is its own from the request on: %s', async (_, request) => {
    const asked = await Promise.allSettled(Array.from({ length: 6 }, () => slow(request)));
    const [made, ...others] = asked.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
    expect(others).toEqual([]);
    const job = made!;
    for (const one of asked) {
      if (one.status === 'rejected') expect(one.reason).toMatchObject(takenBy(job, 'rr'));
    }
    const disk = bench.disks.create({ name: 'rr', capacityBytes: 65536 });
    await expect(disk).rejects.toMatchObject(takenBy(job, 'rr'));
    const copy = freeze(bench.copies, 'd1', { name: 'rr' });
    await expect(copy).rejects.toMatchObject(takenBy(job, 'rr'));
    const group = freezeGroup(bench.copies, { name: 'rr', disks: [{ disk: 'd1' }] });
    await expect(group).rejects.toMatchObject(takenBy(job, 'rr'));
    const renamed = bench.disks.update('d1', { name: 'rr' });
    await expect(renamed).rejects.toMatchObject(takenBy(job, 'rr'));
    const atOnce = bench.work.restores.fromCopy('monday', { method: 'remap', disk: 'rr' });
    await expect(atOnce).rejects.toMatchObject(takenBy(job, 'rr'));
    const upload = bench.work.uploads.begin({ method: 'remap', disk: 'rr' }, undefined);
    await expect(upload).rejects.toMatchObject(takenBy(job, 'rr'));
    await cancel(job);
    const again = await bench.work.restores.fromBackup('b1', request);
    expect(await bench.ended(again)).toMatchObject({ state: 'succeeded' });
    if (request.method === 'remap') await bench.disks.delete('rr');
    else await bench.copies.delete('rr');
    await bench.disks.create({ name: 'rr', capacityBytes: 65536 });
  });

  it('is held for its safety copy as well, and the job can take it', async () => {
    const request = { method: 'write-back', disk: 'd1', safetyCopy: 'before' } as const;
    const job = await slow(request);
    const disk = bench.disks.create({ name: 'before', capacityBytes: 65536 });
    await expect(disk).rejects.toMatchObject(takenBy(job, 'before'));
    await cancel(job);
    const fromBackup = await bench.work.restores.fromBackup('b1', request);
    expect(await bench.ended(fromBackup)).toMatchObject({ state: 'succeeded' });
    await bench.copies.delete('before');
    const fromCopy = await bench.work.restores.fromCopy('monday', request);
    if (!('job' in fromCopy)) throw new Error('a write-back is a job');
    await expect(
      bench.disks.create({ name: 'before', capacityBytes: 65536 }),
    ).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    expect(await bench.ended(fromCopy.job)).toMatchObject({ state: 'succeeded' });
    expect(bench.copies.find('before')).toBeDefined();
  });

  it('is held by a job that waits for its turn, also in the next life', async () => {
    const jobs: Job[] = [];
    for (const disk of ['r0', 'r1', 'r2', 'r3', 'r4', 'r5']) {
      jobs.push(await slow({ method: 'remap', disk }));
    }
    const last = jobs.at(-1)!;
    await bench.runner.pause(jobs[0]!.id);
    await bench.close();
    bench = await openWork(dir);
    await expect(slow({ method: 'remap', disk: 'r5' })).rejects.toMatchObject(takenBy(last, 'r5'));
    const paused = bench.disks.create({ name: 'r0', capacityBytes: 65536 });
    await expect(paused).rejects.toMatchObject(takenBy(jobs[0]!, 'r0'));
    for (const job of jobs) await cancel(job);
    for (const disk of ['r0', 'r5']) await bench.disks.create({ name: disk, capacityBytes: 65536 });
  });

  it('is told with the job of an upload that waits', async () => {
    const parts: Uint8Array[] = [];
    const image = new ImageWriter(bench.copies.get('monday'));
    for await (const part of image.read()) parts.push(Uint8Array.from(part));
    const upload = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, undefined);
    await upload.push(Buffer.concat(parts).subarray(0, 100_000));
    await upload.abort(new StorageError('BODY_TRUNCATED', 'x'));
    const { id } = bench.disks.get('up');
    const disk = bench.disks.create({ name: 'up', capacityBytes: 65536 });
    const details = { name: 'up', id, job: upload.job.id };
    await expect(disk).rejects.toMatchObject({ code: 'NAME_TAKEN', details });
    await cancel(upload.job);
    await bench.disks.create({ name: 'up', capacityBytes: 65536 });
  });

  it('is free again if the job could not be remembered', async () => {
    const effects = (): never => {
      throw new Error('the store failed');
    };
    const request = { method: 'remap', disk: 'rr' } as const;
    await expect(bench.work.restores.fromBackup('b1', request, effects)).rejects.toThrow('store');
    await bench.disks.create({ name: 'rr', capacityBytes: 65536 });
  });

  it('is held for each disk of a group', async () => {
    await makeDisk(bench, 'd2');
    const disks = [{ disk: 'd1' }, { disk: 'd2' }];
    await freezeGroup(bench.copies, { name: 'both', disks });
    const { backups } = bench.work;
    const backup = await beginGroupBackup(backups, { name: 'g', group: 'both', target: 'shelf' });
    expect(await bench.ended(backup)).toMatchObject({ state: 'succeeded' });
    const request = { method: 'remap', name: 'back' } as const;
    const job = await restoreGroupBackup(backups, 'g', { ...request, maxBytesPerSecond: 4096 });
    const second = restoreGroupBackup(backups, 'g', request);
    await expect(second).rejects.toMatchObject(takenBy(job, 'back-d1'));
    const disk = bench.disks.create({ name: 'back-d2', capacityBytes: 65536 });
    await expect(disk).rejects.toMatchObject(takenBy(job, 'back-d2'));
    await cancel(job);
    const writeBack = { method: 'write-back', safetyCopy: 'old' } as const;
    const back = await restoreGroupBackup(backups, 'g', writeBack);
    const copy = freeze(bench.copies, 'd1', { name: 'old-d2' });
    await expect(copy).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    expect(await bench.ended(back)).toMatchObject({ state: 'succeeded' });
    await bench.copies.delete('old-d2');
    await freeze(bench.copies, 'd1', { name: 'old-d2' });
  });
});
