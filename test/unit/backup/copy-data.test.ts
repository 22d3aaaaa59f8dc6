import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/units.ts';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { settleStep } from '../../../src/copy/dedicated/settle.ts';
import type { Job } from '../../../src/job/job.ts';
import { CopyService } from '../../../src/services/copies.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 64 * KIB;
const BYTES = 24 * MIB;

let dir: string;
let bench: WorkBench;
let data: Buffer;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
  const files = [{ path: join(dir, 'pools', 'other.dat'), sizeBytes: 256 * MIB }];
  await bench.pools.create({ name: 'other', files, preallocate: false });
  const { disk } = await bench.disks.create({ name: 'd1', capacityBytes: 64 * MIB });
  data = randomBytes(BYTES);
  for (let at = 0; at < BYTES; at += 4 * MIB) await disk.write(at, data.subarray(at, at + 4 * MIB));
  await disk.flush();
  await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

async function made(more: Record<string, unknown> = {}): Promise<{ copy: Copy; job: Job }> {
  const service = new CopyService(bench.copies, bench.work.copiers);
  const request = { name: 'monday', placement: 'dedicated' as const, pool: 'other', ...more };
  await service.freeze('d1', request);
  const copy = bench.copies.get('monday');
  const job = bench.work.copiers.jobOf(copy);
  return { copy, job: await bench.runner.get(job ?? '') };
}

async function expectData(copy: Copy): Promise<void> {
  const bytes = Buffer.alloc(BYTES);
  await copy.read('compact', 0, bytes);
  expect(bytes.equals(data)).toBe(true);
}

/** How many bytes of a pool were read from its files, from now on. */
function countReads(pool: string): () => number {
  const { files } = bench.pools.get(pool);
  const read = files.read.bind(files);
  let bytes = 0;
  Object.assign(files, {
    read: (first: number, offset: number, into: Uint8Array) => {
      bytes += into.length;
      return read(first, offset, into);
    },
  });
  return () => bytes;
}

describe('the copier of a dedicated copy', () => {
  it('reads each block once, in runs that lie side by side', async () => {
    const reads = countReads('default');
    const { copy, job } = await made();
    expect(await bench.ended(job)).toMatchObject({
      state: 'succeeded',
      doneBytes: BYTES,
      totalBytes: BYTES,
      result: { copy: 'monday', usedBlocks: BYTES / BLOCK, physicalRuns: 1 },
    });
    expect(reads()).toBe(BYTES);
    expect(copy.isWhole).toBe(true);
    expect(bench.copies.contiguity).toEqual({ blocks: BYTES / BLOCK, runs: BYTES / (4 * MIB) });
    expect(bench.pools.get('other').allocator.heldBlocks).toBe(0);
    await expectData(copy);
  });

  it('keeps to a rate that can be changed while it runs', async () => {
    const { copy, job } = await made({ maxBytesPerSecond: 2 * MIB });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(copy.isWhole).toBe(false);
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    await expectData(copy);
  });

  it('pauses, goes on after a restart, and keeps what it has', async () => {
    const { copy, job } = await made({ maxBytesPerSecond: 1 });
    while (copy.dedicated?.owedBlocks === BYTES / BLOCK) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await bench.runner.pause(job.id);
    while (bench.pools.get('other').allocator.heldBlocks > 0) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const owed = copy.dedicated?.owedBlocks ?? 0;
    expect(owed).toBe((BYTES - 4 * MIB) / BLOCK);
    expect(bench.pools.get('other').reservedBytes).toBe(owed * BLOCK);
    await bench.close();
    bench = await openWork(dir);
    const again = bench.copies.get('monday');
    expect(again.dedicated?.owedBlocks).toBe(owed);
    expect((await bench.runner.get(job.id)).state).toBe('paused');
    expect(bench.work.copiers.jobOf(again)).toBe(job.id);
    await bench.runner.resume(job.id);
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    await expectData(again);
  });

  it('ends with the reason where the source cannot be read; another job goes on', async () => {
    const { files } = bench.pools.get('default');
    const read = files.read.bind(files);
    const broken = new Error('broken');
    Object.assign(files, { read: () => Promise.reject(broken) });
    const { job } = await made();
    expect(await bench.ended(job)).toMatchObject({
      state: 'failed',
      problem: { code: 'INTERNAL' },
    });
    expect(bench.errors.splice(0)).toEqual([broken]);
    Object.assign(files, { read });
    const copy = bench.copies.get('monday');
    expect(bench.work.copiers.jobOf(copy)).toBe(null);
    await expectData(copy);
    const again = await bench.work.copiers.start(copy);
    expect(await bench.work.copiers.start(copy)).toMatchObject({ id: again.id });
    expect(await bench.ended(again)).toMatchObject({ state: 'succeeded' });
    await expect(bench.work.copiers.start(copy)).rejects.toMatchObject({ code: 'JOB_STATE' });
  });

  it('takes no place from jobs that somebody waits for', async () => {
    const slow: Job[] = [];
    for (let number = 0; number < 5; number += 1) {
      const { job } = await madeAs(`c${number}`);
      slow.push(job);
    }
    const job = await beginBackup(bench.work.backups, { name: 'b1', disk: 'd1', target: 'shelf' });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    for (const { id } of slow) await bench.runner.cancel(id);
    for (const each of slow) expect((await bench.ended(each)).state).toBe('cancelled');
  });
});

async function madeAs(name: string): Promise<{ job: Job }> {
  const service = new CopyService(bench.copies, bench.work.copiers);
  const o = { placement: 'dedicated' as const, pool: 'other', maxBytesPerSecond: 1 };
  await service.freeze('d1', { name, ...o });
  const job = bench.work.copiers.jobOf(bench.copies.get(name));
  return { job: await bench.runner.get(job ?? '') };
}

describe('a dedicated copy that is not filled yet', () => {
  it('is filled by a backup ahead of the copier: each block is read once', async () => {
    const reads = countReads('default');
    const { copy, job } = await made({ maxBytesPerSecond: 1 });
    const backup = await beginBackup(bench.work.backups, {
      name: 'b1',
      copy: 'monday',
      target: 'shelf',
    });
    expect(await bench.ended(backup)).toMatchObject({ state: 'succeeded' });
    expect(reads()).toBe(BYTES);
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    expect([reads(), copy.isWhole]).toEqual([BYTES, true]);
    const restored = await bench.work.restores.fromBackup('b1', { method: 'remap', disk: 'r1' });
    expect(await bench.ended(restored)).toMatchObject({ state: 'succeeded' });
    const bytes = Buffer.alloc(BYTES);
    await bench.disks.get('r1').read(0, bytes);
    expect(bytes.equals(data)).toBe(true);
  });

  it('gives a disk by a job, and itself back to a disk of its pool', async () => {
    const { copy, job } = await made({ maxBytesPerSecond: 1 });
    const { restores } = bench.work;
    const remapped = await restores.fromCopy('monday', { method: 'remap', disk: 'r1' });
    if (!('job' in remapped)) throw new Error('the table was shared');
    expect(await bench.ended(remapped.job)).toMatchObject({ state: 'succeeded' });
    const bytes = Buffer.alloc(BYTES);
    await bench.disks.get('r1').read(0, bytes);
    expect(bytes.equals(data)).toBe(true);
    expect(copy.isWhole).toBe(false);
    await bench.disks.get('r1').write(0, Buffer.alloc(MIB));
    const back = await restores.fromCopy('monday', { method: 'write-back', disk: 'r1' });
    if (!('job' in back)) throw new Error('a write-back is a job');
    expect(await bench.ended(back.job)).toMatchObject({ state: 'succeeded' });
    await bench.disks.get('r1').read(0, bytes);
    expect([bytes.equals(data), copy.isWhole]).toEqual([true, true]);
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
  });

  it('is made together with its job, or not at all', async () => {
    const commit = bench.meta.commit.bind(bench.meta);
    Object.assign(bench.meta, { commit: () => Promise.reject(new Error('no')) });
    await expect(made()).rejects.toThrow();
    Object.assign(bench.meta, { commit });
    expect(bench.runner.liveJobs()).toEqual([]);
    expect(bench.copies.find('monday')).toBeUndefined();
    bench.errors.splice(0);
  });

  it('hands out nothing that may move', async () => {
    const { copy, job } = await made({ maxBytesPerSecond: 1 });
    await bench.runner.cancel(job.id);
    await bench.ended(job);
    await settleStep(bench.copies, copy, { kind: 'range', from: 0, to: 4 });
    await expect(copy.places(0, BYTES / BLOCK)).rejects.toThrow('in the pool of its copy');
  });
});
