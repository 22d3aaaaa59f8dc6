import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { deleteBackup } from '../../../src/backup/delete-backup.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { remap } from '../../../src/copy/remap.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { backUp, beginOn, contentOf, incremental } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 16 * KIB;
const CAPACITY = 4 * MIB;

let dir: string;
let bench: WorkBench;
let disk: Disk;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: BLOCK });
  ({ disk } = await bench.disks.create({ name: 'd1', capacityBytes: CAPACITY }));
  await disk.write(0, randomBytes(MIB));
  await disk.write(2 * MIB, randomBytes(MIB / 2));
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

async function now(of: Disk = disk): Promise<Buffer> {
  const content = Buffer.alloc(of.capacityBytes);
  await of.read(0, content);
  return content;
}

/** The images of the backup give what the disk holds now. */
async function expectComplete(name: string, of: Disk = disk): Promise<void> {
  const content = await contentOf(bench, name);
  expect(content.equals(await now(of))).toBe(true);
}

async function restart(): Promise<void> {
  await bench.close();
  bench = await openWork(dir);
  disk = bench.disks.get('d1');
}

function dataBytes(name: string): number {
  return bench.work.backups.get(name).dataBytes;
}

describe('an incremental backup is complete', () => {
  it('after its base copy was deleted and blocks were overwritten in place', async () => {
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp(bench, { name: 'full', copy: 'monday' });
    await bench.copies.delete('monday');
    await disk.write(3 * BLOCK, randomBytes(BLOCK));
    await disk.write(3 * BLOCK + 5, randomBytes(100));
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    await expectComplete('tue');
    expect(dataBytes('tue')).toBe(BLOCK);
  });

  it('after a discard and a write that gets the same place in the pool again', async () => {
    const files = [{ path: join(dir, 'pools', 'tiny.dat'), sizeBytes: 2 * MIB }];
    await bench.pools.create({ name: 'tiny', files, blockSizeBytes: BLOCK, preallocate: false });
    const tiny = { pool: 'tiny', capacityBytes: CAPACITY };
    ({ disk } = await bench.disks.create({ name: 'small', ...tiny }));
    await disk.write(0, randomBytes(10 * BLOCK));
    await freeze(bench.copies, 'small', { name: 'monday' });
    await backUp(bench, { name: 'full', copy: 'monday' });
    await bench.copies.delete('monday');
    const { disk: filler } = await bench.disks.create({ name: 'filler', ...tiny });
    const fill = async (): Promise<void> => {
      for (let at = 0; ; at += 1) await filler.write(at * BLOCK, randomBytes(BLOCK));
    };
    await expect(fill()).rejects.toMatchObject({ code: 'POOL_FULL' });
    const placeOf = async (): Promise<number | undefined> =>
      (await disk.allocatedRuns(5, 1, true)).runs[0]?.physicalBlock;
    const before = await placeOf();
    await disk.discard(5 * BLOCK, BLOCK);
    await disk.flush();
    await disk.write(5 * BLOCK, randomBytes(BLOCK));
    expect(await placeOf()).toBe(before);
    await backUp(bench, { name: 'tue', disk: 'small', ...incremental });
    await expectComplete('tue');
    expect(dataBytes('tue')).toBe(BLOCK);
  });

  it('after the disk was reverted: built on what it was reverted to', async () => {
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp(bench, { name: 'mon', copy: 'monday' });
    await disk.write(0, randomBytes(5 * BLOCK));
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    const request = { method: 'write-back', disk: 'd1' } as const;
    const made = await bench.work.restores.fromCopy('monday', request);
    if ('job' in made) await bench.ended(made.job);
    await disk.write(7 * BLOCK, randomBytes(BLOCK));
    await backUp(bench, { name: 'wed', disk: 'd1', ...incremental });
    await expectComplete('wed');
    expect(dataBytes('wed')).toBe(BLOCK);
    const { copyId } = bench.work.backups.get('mon');
    expect(bench.work.backups.get('wed').base?.copyId).toBe(copyId);
    await expect(
      beginOn(bench, { name: 'thu', disk: 'd1', ...incremental, base: 'tue' }),
    ).rejects.toMatchObject({ code: 'BASE_MISSING', details: { reason: 'unrelated' } });
  });

  it.each([
    ['grew', [6 * MIB]],
    ['shrank', [MIB]],
    ['shrank and grew again', [MIB / 2, CAPACITY]],
    ['shrank to a part of a block', [MIB - 512]],
  ])('after the disk %s', async (_, sizes) => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    for (const capacityBytes of sizes) {
      await bench.disks.update('d1', { capacityBytes, discard: true });
    }
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    await expectComplete('tue');
    await disk.write(disk.capacityBytes - 512, randomBytes(512));
    await backUp(bench, { name: 'wed', disk: 'd1', ...incremental });
    await expectComplete('wed');
  });

  it('of a disk that was made from a copy: built on a backup of that', async () => {
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp(bench, { name: 'full', copy: 'monday' });
    const other = await remap(bench.copies, bench.copies.get('monday'), { disk: 'd2' });
    await other.write(MIB, randomBytes(BLOCK));
    await backUp(bench, { name: 'of-d2', disk: 'd2', ...incremental });
    await expectComplete('of-d2', other);
    expect(dataBytes('of-d2')).toBe(BLOCK);
  });

  it('after restarts, with the copy and without it', async () => {
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp(bench, { name: 'full', copy: 'monday' });
    await disk.write(0, randomBytes(BLOCK));
    await disk.discard(2 * MIB, 4 * BLOCK);
    await restart();
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    await expectComplete('tue');
    await bench.copies.delete('monday');
    await restart();
    await disk.write(BLOCK, randomBytes(BLOCK));
    await backUp(bench, { name: 'wed', disk: 'd1', ...incremental });
    await expectComplete('wed');
    await backUp(bench, { name: 'of-full', disk: 'd1', ...incremental, base: 'full' });
    await expectComplete('of-full');
    expect(dataBytes('wed')).toBe(BLOCK);
    expect(dataBytes('of-full')).toBe(2 * BLOCK);
  });
});

describe('an incremental backup', () => {
  it('of an untouched disk is metadata only', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    const result = await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    expect(result).toMatchObject({ level: 'incremental', dataBytes: 0, mediumBytes: 8192 });
    await expectComplete('tue');
    expect(bench.work.backups.get('tue').usedBytes).toBe(bench.work.backups.get('full').usedBytes);
  });

  it('of a trimmed disk is small', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    await disk.discard(0, CAPACITY);
    const result = await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    expect(result).toMatchObject({ usedBytes: 0, dataBytes: 0, mediumBytes: 12288 });
    await expectComplete('tue');
    expect((await contentOf(bench, 'tue')).equals(Buffer.alloc(CAPACITY))).toBe(true);
  });

  it('does not change while the disk does', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    await disk.write(0, randomBytes(BLOCK));
    const before = await now();
    const job = await beginOn(bench, { name: 'tue', disk: 'd1', ...incremental });
    await disk.write(0, randomBytes(MIB));
    await disk.discard(2 * MIB, MIB);
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    expect((await contentOf(bench, 'tue')).equals(before)).toBe(true);
  });

  it('may come before its base was dropped, and while that is dropped', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    await disk.write(0, randomBytes(MIB));
    const tue = await beginOn(bench, { name: 'tue', disk: 'd1', ...incremental });
    // tue is not complete: wed is built on full
    await disk.write(MIB, randomBytes(BLOCK));
    const wed = await beginOn(bench, { name: 'wed', disk: 'd1', ...incremental });
    for (const job of [tue, wed]) {
      expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    }
    await expectComplete('wed');
    const { copyId } = bench.work.backups.get('full');
    expect(bench.work.backups.get('wed').base?.copyId).toBe(copyId);
  });
});

describe('the base of an incremental backup', () => {
  it('is refused if nothing is known of its history any more', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    const { backups } = bench.work;
    await backups.forget(backups.get('full'));
    expect(bench.copies.checkpoints.list()).toEqual([]);
    await bench.ended(await submitScan(backups, 'shelf'));
    const request = { name: 'tue', disk: 'd1', ...incremental };
    await expect(beginOn(bench, request)).rejects.toMatchObject({
      code: 'BASE_MISSING',
      details: { reason: 'unrelated' },
    });
    expect(bench.copies.internal()).toEqual([]);
    const result = await backUp(bench, { ...request, onMissingBase: 'full' });
    expect(result).toMatchObject({ level: 'full', baseMissing: 'unrelated' });
    await expectComplete('tue');
  });

  it('is found again by a scan while its copy lives', async () => {
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp(bench, { name: 'full', copy: 'monday' });
    await disk.write(0, randomBytes(BLOCK));
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    const { backups } = bench.work;
    const before = [backups.get('full'), backups.get('tue')];
    for (const record of before) await backups.forget(record);
    await bench.ended(await submitScan(backups, 'shelf'));
    for (const record of before) {
      const { id, job, version } = backups.get(record.name);
      expect(backups.get(record.name)).toEqual({ ...record, id, job, version });
    }
    await expectComplete('tue');
    await disk.write(0, randomBytes(BLOCK));
    await backUp(bench, { name: 'wed', disk: 'd1', ...incremental, base: 'monday' });
    await expectComplete('wed');
  });

  it('on another target does not serve', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    const { targets, backups } = bench.work;
    await targets.create({ name: 'other', kind: 'directory', path: 'other' });
    const request = { name: 'tue', disk: 'd1', target: 'other', ...incremental };
    await expect(beginBackup(backups, request)).rejects.toMatchObject({
      code: 'BASE_MISSING',
      details: { reason: 'no-backup', target: 'other' },
    });
    await expect(beginBackup(backups, { ...request, base: 'full' })).rejects.toMatchObject({
      code: 'BASE_MISSING',
    });
  });

  it('is not deleted under the job that builds on it, and goes with it by force', async () => {
    await backUp(bench, { name: 'full', disk: 'd1' });
    await disk.write(0, randomBytes(MIB));
    const slow = { name: 'tue', disk: 'd1', ...incremental, maxBytesPerSecond: 1 };
    const job = await beginOn(bench, slow);
    const { backups } = bench.work;
    await expect(deleteBackup(backups, 'full')).rejects.toMatchObject({
      code: 'BACKUP_NEEDED',
      details: { neededBy: [{ name: 'tue' }] },
    });
    const cascade = { cascade: true };
    await expect(deleteBackup(backups, 'full', cascade)).rejects.toMatchObject({
      code: 'BACKUP_IN_USE',
    });
    await deleteBackup(backups, 'full', { ...cascade, force: true });
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    expect(backups.list()).toEqual([]);
    expect(bench.copies.internal()).toEqual([]);
    expect(bench.copies.checkpoints.list()).toEqual([]);
  });
});
