import { join } from 'node:path';
import SqliteDatabase from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StorageError, isStorageError } from '../../../src/base/errors.ts';
import type { UploadSession } from '../../../src/backup/uploads.ts';
import { MIB } from '../../../src/base/units.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import { goldenCopy, goldenImage } from '../../support/golden-images.ts';
import { digest, makeDisk } from '../../support/work-content.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

async function imageOf(copy: Copy): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of new ImageWriter(copy).read()) parts.push(Uint8Array.from(part));
  return Buffer.concat(parts);
}

async function fillPool(): Promise<void> {
  const { disk } = await bench.disks.create({ name: 'filler', capacityBytes: 2 ** 33 });
  const bytes = Buffer.alloc(MIB, 7);
  try {
    for (let at = 0; ; at += MIB) await disk.write(at, bytes);
  } catch (error) {
    if (!isStorageError(error, 'POOL_FULL')) throw error;
  }
}

/** As a client does: asks, and goes on where it is told. */
async function continueAnywhere(id: string): Promise<UploadSession> {
  try {
    return await bench.work.uploads.continue(id, 1);
  } catch (error) {
    if (!isStorageError(error, 'RANGE_INVALID')) throw error;
    return bench.work.uploads.continue(id, Number(error.details['receivedBytes']));
  }
}

describe('an upload', () => {
  it.each([
    ['in the middle', 8.5 * MIB, 12288 + 8 * MIB],
    ['behind its last byte', Infinity, 8192],
  ])('that is cut %s goes on where it was confirmed, also in the next life', async (_, to, at0) => {
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const wanted = await digest(copy);
    const image = await imageOf(copy);
    const sentBytes = Math.min(to, image.length);
    const request = { method: 'remap', disk: 'up' } as const;
    const first = await bench.work.uploads.begin(request, image.length);
    for (let at = 0; at < sentBytes; at += 777777) {
      await first.push(image.subarray(at, Math.min(at + 777777, sentBytes)));
    }
    await first.abort(new StorageError('BODY_TRUNCATED', 'x'));
    const { id } = first.job;
    expect(await bench.runner.get(id)).toMatchObject({ state: 'waiting' });
    expect(bench.disks.get('up').state).toBe('restoring');
    await bench.close();
    bench = await openWork(dir);
    while ((await bench.runner.get(id)).state !== 'waiting') {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await expect(bench.work.uploads.continue(id, 1)).rejects.toMatchObject({
      code: 'RANGE_INVALID',
      details: { job: id },
    });
    const second = await continueAnywhere(id);
    expect(second.receivedBytes).toBeGreaterThanOrEqual(at0);
    for (let at = second.receivedBytes; at < image.length; at += MIB) {
      await second.push(image.subarray(at, at + MIB));
    }
    const { restored, job } = await second.finish();
    expect(job.state).toBe('succeeded');
    expect(restored.disk?.name).toBe('up');
    expect(await digest(bench.disks.get('up'))).toBe(wanted);
  });

  it('whose job is paused tells its client, and goes on when it is resumed', async () => {
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const wanted = await digest(copy);
    const image = await imageOf(copy);
    const request = { method: 'remap', disk: 'up' } as const;
    const first = await bench.work.uploads.begin(request, image.length);
    for (let at = 0; at < 8.5 * MIB; at += MIB / 2) {
      await first.push(image.subarray(at, at + MIB / 2));
    }
    const { id } = first.job;
    await bench.runner.pause(id);
    const refused = first.push(image.subarray(8.5 * MIB));
    await expect(refused).rejects.toMatchObject({ code: 'JOB_STATE', details: { job: id } });
    await first.abort(new StorageError('JOB_STATE', 'as the interface does'));
    expect(first.receivedBytes).toBe(12288 + 8 * MIB);
    expect(await bench.runner.get(id)).toMatchObject({ state: 'paused' });
    await bench.runner.resume(id);
    while ((await bench.runner.get(id)).state !== 'waiting') {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const second = await bench.work.uploads.continue(id, first.receivedBytes);
    await second.push(image.subarray(first.receivedBytes));
    expect((await second.finish()).job.state).toBe('succeeded');
    expect(await digest(bench.disks.get('up'))).toBe(wanted);
  });

  it('into a disk that is asked for by its id is found by its name', async () => {
    const disk = await makeDisk(bench, 'd1');
    const image = await imageOf(await freeze(bench.copies, 'd1', { name: 'monday' }));
    const request = { method: 'write-back', disk: disk.id } as const;
    const { job } = await bench.work.uploads.begin(request, image.length);
    expect(job.subject).toMatchObject({ disk: 'd1', diskId: disk.id });
    const { items } = await bench.runner.list({ disk: 'd1' });
    expect(items.map(({ id }) => id)).toEqual([job.id]);
    await bench.runner.cancel(job.id);
  });

  it('whose request fails by itself ends as failed with that code', async () => {
    await makeDisk(bench, 'd1');
    const image = await imageOf(await freeze(bench.copies, 'd1', { name: 'monday' }));
    const session = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, image.length);
    await session.push(image.subarray(0, 9 * MIB));
    await session.abort(new StorageError('INTERNAL', 'an error of the request'));
    await session.abort(new StorageError('INTERNAL', 'once more'));
    const job = await bench.ended(session.job);
    expect(job).toMatchObject({ state: 'failed', problem: { code: 'INTERNAL' } });
    expect(bench.disks.find('up')).toBeUndefined();
  });

  it('that finds no room ends as failed with POOL_FULL, not as cancelled', async () => {
    await makeDisk(bench, 'd1');
    const image = await imageOf(await freeze(bench.copies, 'd1', { name: 'monday' }));
    await fillPool();
    const session = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, undefined);
    const refused = session.push(image);
    await expect(refused).rejects.toMatchObject({ code: 'POOL_FULL' });
    await session.abort(new StorageError('POOL_FULL', 'as the interface does'));
    const job = await bench.ended(session.job);
    expect(job).toMatchObject({ state: 'failed', problem: { code: 'POOL_FULL' } });
    expect(bench.disks.find('up')).toBeUndefined();
  });

  it('that an earlier version has begun goes on: it knew full images only', async () => {
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const wanted = await digest(copy);
    const image = await imageOf(copy);
    const first = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, image.length);
    await first.push(image.subarray(0, 8.5 * MIB));
    await first.abort(new StorageError('BODY_TRUNCATED', 'x'));
    const { id } = first.job;
    await bench.close();
    const database = new SqliteDatabase(join(dir, 'meta.db'));
    const added = ['base', 'zeroRanges', 'copyBlocks'].map((name) => `'$.upload.facts.${name}'`);
    const sql = `UPDATE jobs SET checkpoint = json_remove(checkpoint, ${added.join()})`;
    expect(database.prepare(sql).run().changes).toBe(1);
    database.close();
    bench = await openWork(dir);
    while ((await bench.runner.get(id)).state !== 'waiting') {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const second = await continueAnywhere(id);
    expect(second.receivedBytes).toBe(12288 + 8 * MIB);
    await second.push(image.subarray(second.receivedBytes));
    expect((await second.finish()).job.state).toBe('succeeded');
    expect(await digest(bench.disks.get('up'))).toBe(wanted);
  });

  it('that is begun again with its key takes the place of the one before', async () => {
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const [wanted, image] = [await digest(copy), await imageOf(copy)];
    const request = { method: 'remap', disk: 'up' } as const;
    const key = { place: 'p', digest: 'd' };
    const begin = (other = {}): Promise<UploadSession> =>
      bench.work.uploads.begin(request, undefined, { ...key, ...other });
    const first = await begin();
    await first.push(image.subarray(0, 8.5 * MIB));
    // the daemon ends meanwhile
    await bench.close();
    bench = await openWork(dir);
    const reused = { code: 'IDEMPOTENCY_KEY_REUSED', details: { job: first.job.id } };
    await expect(begin({ digest: 'e' })).rejects.toMatchObject(reused);
    const taken = { code: 'NAME_TAKEN', details: { job: first.job.id } };
    await expect(begin({ place: 'q' })).rejects.toMatchObject(taken);
    await bench.runner.pause(first.job.id);
    const paused = { code: 'JOB_STATE', details: { job: first.job.id, state: 'paused' } };
    await expect(begin()).rejects.toMatchObject(paused);
    await bench.runner.resume(first.job.id);
    const second = await begin();
    expect(await bench.runner.get(first.job.id)).toMatchObject({ state: 'cancelled' });
    expect(second.receivedBytes).toBe(0);
    await second.push(image);
    expect((await second.finish()).job.state).toBe('succeeded');
    expect(await digest(bench.disks.get('up'))).toBe(wanted);
    await bench.disks.delete('up');
    await (await begin()).abort(new StorageError('INTERNAL', 'the key of what ended is free'));
  });

  it('of which nothing comes any more fails, and all is as before', async () => {
    await makeDisk(bench, 'd1');
    const image = await imageOf(await freeze(bench.copies, 'd1', { name: 'monday' }));
    await bench.close();
    bench = await openWork(dir, { uploadWaitMs: 700 });
    const session = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, undefined);
    await session.push(image.subarray(0, 8.5 * MIB));
    await session.abort(new StorageError('BODY_TRUNCATED', 'x'));
    const { id } = session.job;
    const [{ pool }] = bench.disks.list() as [Disk];
    expect(pool.reservedBytes).toBeGreaterThan(0);
    const waiting = await bench.runner.get(id);
    expect(waiting.waitingFor).toMatchObject({ kind: 'upload', until: expect.any(String) });
    // who connects and sends nothing keeps nothing alive
    await new Promise((resolve) => setTimeout(resolve, 400));
    const idle = await bench.work.uploads.continue(id, session.receivedBytes);
    await idle.abort(new StorageError('BODY_TRUNCATED', 'x'));
    const again = await bench.runner.get(id);
    expect(again.waitingFor?.['until']).toBe(waiting.waitingFor?.['until']);
    const problem = { code: 'BODY_TRUNCATED', detail: expect.stringContaining('nothing came for') };
    await vi.waitFor(async () => {
      expect(await bench.runner.get(id)).toMatchObject({ state: 'failed', problem });
    }, 5000);
    expect(bench.disks.find('up')).toBeUndefined();
    expect(pool.reservedBytes).toBe(0);
    await bench.disks.create({ name: 'up', capacityBytes: 65536 });
    await expect(bench.work.uploads.continue(id, 0)).rejects.toMatchObject({ code: 'JOB_STATE' });
  });

  it('of an incremental image names the base that is missing, and leaves nothing', async () => {
    const session = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, undefined);
    const refused = session.push(goldenImage('image-v1-incremental'));
    const { copyId, generation } = goldenCopy('image-v1-small').facts;
    const details = { reason: 'upload', base: { copyId, generation } };
    await expect(refused).rejects.toMatchObject({ code: 'BASE_MISSING', details });
    expect(await bench.ended(session.job)).toMatchObject({ state: 'failed' });
    expect(bench.disks.find('up')).toBeUndefined();
  });

  it('of a damaged image fails and leaves nothing', async () => {
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const image = await imageOf(copy);
    image[5 * MIB] = (image[5 * MIB] ?? 0) ^ 1;
    const session = await bench.work.uploads.begin({ method: 'remap', disk: 'up' }, undefined);
    const send = async (): Promise<void> => {
      for (let at = 0; at < image.length; at += MIB) {
        await session.push(image.subarray(at, at + MIB));
      }
      await session.finish();
    };
    await expect(send()).rejects.toMatchObject({ code: 'IMAGE_DAMAGED' });
    expect(await bench.ended(session.job)).toMatchObject({ state: 'failed' });
    expect(bench.disks.find('up')).toBeUndefined();
  });
});
