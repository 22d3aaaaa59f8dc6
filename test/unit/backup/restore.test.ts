import { randomBytes } from 'node:crypto';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { deleteBackup } from '../../../src/backup/delete-backup.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { GIB, KIB, MIB, TIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import { CopyService } from '../../../src/services/copies.ts';
import { digest, makeDisk } from '../../support/work-content.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

async function makeBackup(name: string, copy: string): Promise<void> {
  if (bench.work.targets.find('shelf') === undefined) {
    await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
  }
  const job = await beginBackup(bench.work.backups, { name, copy, target: 'shelf' });
  expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
}

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

describe('a backup', () => {
  it('holds the bytes of the image of its copy, the same in a second backup', async () => {
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    await makeBackup('b2', 'monday');
    const parts: Uint8Array[] = [];
    for await (const part of new ImageWriter(copy).read()) parts.push(Uint8Array.from(part));
    const image = Buffer.concat(parts);
    const b1 = await readFile(join(dir, 'shelf', 'b1', 'image.spindle'));
    expect(b1.equals(image)).toBe(true);
    expect(b1.equals(await readFile(join(dir, 'shelf', 'b2', 'image.spindle')))).toBe(true);
    const used = copy.usedBlocks * copy.blockSizeBytes;
    expect(image.length).toBeLessThanOrEqual(1.001 * used + 64 * KIB);
  });

  it('of a disk freezes it now and leaves no copy behind', async () => {
    const disk = await makeDisk(bench, 'd1');
    const before = await digest(disk);
    await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
    const job = await beginBackup(bench.work.backups, { name: 'b1', disk: 'd1', target: 'shelf' });
    await disk.write(0, randomBytes(MIB));
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    expect(bench.copies.list()).toEqual([]);
    expect(bench.copies.internal()).toEqual([]);
    const restore = await bench.work.restores.fromBackup('b1', { method: 'remap', disk: 'd2' });
    expect(await bench.ended(restore)).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
  });

  it('leaves a checkpoint of a copy that is gone, as long as there is a backup of it', async () => {
    await makeDisk(bench, 'd1');
    await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
    const job = await beginBackup(bench.work.backups, { name: 'b1', disk: 'd1', target: 'shelf' });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b2', 'monday');
    await makeBackup('b3', 'monday');
    await bench.copies.delete('monday');
    const { checkpoints } = bench.copies;
    const { copyId } = bench.work.backups.get('b1');
    expect(checkpoints.list().map(({ id }) => id)).toEqual([copyId, copy.id]);
    await bench.disks.get('d1').write(65536, randomBytes(65536));
    await freeze(bench.copies, 'd1', { name: 'tuesday' });
    const changes = new CopyService(bench.copies, bench.work.copiers).changes('tuesday', copy.id);
    const wanted = { runs: [{ block: 1, length: 1, kind: 'data' }] };
    expect(await changes.runs(0, 10)).toEqual(wanted);
    await deleteBackup(bench.work.backups, 'b1');
    await deleteBackup(bench.work.backups, 'b2');
    expect(checkpoints.list().map(({ id }) => id)).toEqual([copy.id]);
    // the daemon ended between the entry's end and the checkpoint's
    const { id } = bench.work.backups.get('b3');
    await bench.meta.commit({
      pages: [],
      rows: [{ table: 'backups', key: { id }, row: undefined }],
    });
    await bench.close();
    bench = await openWork(dir);
    expect(bench.copies.checkpoints.list()).toEqual([]);
    expect(await bench.meta.rows('checkpoints')).toEqual([]);
  });

  it('that is damaged fails its verify with the exact range and restores around it', async () => {
    const disk = await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    const file = await open(join(dir, 'shelf', 'b1', 'image.spindle'), 'r+');
    await file.write(Buffer.from('damaged'), 0, 7, 12288 + 65536 * 3 + 99);
    await file.close();
    const verify = await bench.ended(await submitVerify(bench.work.backups, 'b1'));
    const damaged = [{ sourceOffset: 3 * 65536, length: 65536, exact: true }];
    expect(verify).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_DAMAGED', damaged } });
    const failed = await bench.ended(
      await bench.work.restores.fromBackup('b1', { method: 'remap', disk: 'd2' }),
    );
    expect(failed).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_DAMAGED' } });
    expect(bench.disks.find('d2')).toBeUndefined();
    const request = { method: 'remap', disk: 'd3', onDamage: 'skip' } as const;
    const skipped = await bench.ended(await bench.work.restores.fromBackup('b1', request));
    expect(skipped).toMatchObject({ state: 'succeeded', result: { damaged } });
    const lost = Buffer.alloc(65536, 1);
    await bench.disks.get('d3').read(3 * 65536, lost);
    expect(lost.equals(Buffer.alloc(65536))).toBe(true);
    expect(disk.usedBytes - bench.disks.get('d3').usedBytes).toBe(65536);
  });

  it('is found again by a scan when the catalog has lost it', async () => {
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    const record = bench.work.backups.get('b1');
    await bench.work.backups.forget(record);
    const found = await bench.ended(await submitScan(bench.work.backups, 'shelf'));
    expect(found).toMatchObject({ state: 'succeeded', result: { added: ['b1'] } });
    expect(bench.work.backups.get('b1').imageId).toBe(record.imageId);
    await rm(join(dir, 'shelf', 'b1'), { recursive: true });
    const lost = await bench.ended(await submitScan(bench.work.backups, 'shelf'));
    expect(lost).toMatchObject({ state: 'succeeded', result: { removed: ['b1'] } });
  });

  it('is incomplete before the first of its bytes is removed', async () => {
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    const { backups, targets } = bench.work;
    const medium = targets.medium(targets.get('shelf'));
    vi.spyOn(targets, 'medium').mockReturnValue(medium);
    let stateAtRemoval: unknown;
    vi.spyOn(medium, 'remove').mockImplementation(async () => {
      stateAtRemoval = (await bench.meta.rows('backups'))[0]?.['state'];
      throw new StorageError('TARGET_UNAVAILABLE', 'gone just now');
    });
    await expect(deleteBackup(backups, 'b1')).rejects.toMatchObject({ code: 'TARGET_UNAVAILABLE' });
    expect(stateAtRemoval).toBe('incomplete');
    expect(() => backups.readable('b1')).toThrow(
      expect.objectContaining({ code: 'BACKUP_INCOMPLETE' }),
    );
    // nothing was removed: a scan finds it whole
    await bench.ended(await submitScan(backups, 'shelf'));
    expect(backups.readable('b1').state).toBe('complete');
  });

  it('that became complete while a scan was listing stays in the catalog', async () => {
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    const { backups, targets } = bench.work;
    const medium = targets.medium(targets.get('shelf'));
    vi.spyOn(targets, 'medium').mockReturnValue(medium);
    vi.spyOn(medium, 'list').mockImplementation(async function* () {
      // listed before b1 was there
    });
    const scan = await bench.ended(await submitScan(backups, 'shelf'));
    expect(scan).toMatchObject({ state: 'succeeded', result: { removed: [] } });
    expect(backups.readable('b1').state).toBe('complete');
  });
});

describe('a restore', () => {
  it.each(['backup', 'copy'] as const)(
    'by write-back from a %s gives the copy back',
    async (from) => {
      const disk = await makeDisk(bench, 'd1');
      const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
      const wanted = await digest(copy);
      if (from === 'backup') await makeBackup('b1', 'monday');
      await disk.write(5 * MIB, randomBytes(4 * MIB));
      await disk.discard(0, 2 * MIB);
      await disk.flush();
      const changed = await digest(disk);
      const request = { method: 'write-back', disk: 'd1', safetyCopy: 'before' } as const;
      const made =
        from === 'backup'
          ? { job: await bench.work.restores.fromBackup('b1', request) }
          : await bench.work.restores.fromCopy('monday', request);
      if (!('job' in made)) throw new Error('a write-back is a job');
      const job = await bench.ended(made.job);
      expect(job).toMatchObject({ state: 'succeeded', result: { safetyCopy: 'before' } });
      expect(await digest(disk)).toBe(wanted);
      expect(disk.usedBytes).toBe(copy.usedBlocks * copy.blockSizeBytes);
      expect(disk.state).toBe('ready');
      expect(await digest(bench.copies.get('before'))).toBe(changed);
      expect(bench.copies.internal()).toEqual([]);
    },
  );

  it('by write-back of only differing blocks moves no equal block', async () => {
    const disk = await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const wanted = await digest(copy);
    await makeBackup('b1', 'monday');
    await disk.write(5 * MIB, randomBytes(2 * MIB));
    await disk.discard(MIB, MIB);
    await disk.flush();
    const before = disk.pool.allocatedBytes;
    const request = { method: 'write-back', disk: 'd1', onlyDiffering: true } as const;
    const job = await bench.ended(await bench.work.restores.fromBackup('b1', request));
    expect(job).toMatchObject({ state: 'succeeded' });
    expect(await digest(disk)).toBe(wanted);
    expect(disk.usedBytes).toBe(copy.usedBlocks * copy.blockSizeBytes);
    expect(disk.pool.allocatedBytes - before).toBeLessThanOrEqual(MIB);
  });

  it('of only differing blocks leaves nothing behind the end of a smaller source', async () => {
    const capacityBytes = 3 * 64 * KIB + 512;
    const { disk } = await bench.disks.create({ name: 'd1', capacityBytes });
    await disk.write(capacityBytes - 1024, randomBytes(1024));
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    const wanted = Buffer.alloc(8 * 64 * KIB);
    await copy.read('full', 0, wanted.subarray(0, capacityBytes));
    await bench.disks.update('d1', { capacityBytes: wanted.length });
    await disk.write(64 * KIB, randomBytes(5 * 64 * KIB));
    const request = { method: 'write-back', disk: 'd1', onlyDiffering: true } as const;
    await bench.ended(await bench.work.restores.fromBackup('b1', request));
    const bytes = Buffer.alloc(wanted.length);
    await disk.read(0, bytes);
    expect(bytes.equals(wanted)).toBe(true);
    expect(disk.usedBytes).toBe(copy.usedBlocks * copy.blockSizeBytes);
  });

  it('as a copy gives a compact copy with the tables of the original', async () => {
    const disk = await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const wanted = await digest(copy);
    await makeBackup('b1', 'monday');
    await bench.disks.delete('d1');
    const request = { method: 'copy', copy: 'back' } as const;
    const job = await bench.ended(await bench.work.restores.fromBackup('b1', request));
    expect(job).toMatchObject({ state: 'succeeded', result: { copy: 'back' } });
    expect(job.subject).toMatchObject({ backup: 'b1', copy: 'back', method: 'copy' });
    const back = bench.copies.get('back');
    expect(await digest(back)).toBe(wanted);
    expect(back.capacityBytes).toBe(copy.usedBlocks * copy.blockSizeBytes);
    expect(back.record.diskId).toBe(disk.id);
    expect((await back.correspondence(0, 1000)).runs).toEqual(
      (await copy.correspondence(0, 1000)).runs,
    );
    expect(bench.disks.list()).toEqual([]);
  });

  it.each([16 * KIB, MIB])('into a pool of %i byte blocks gives the same bytes', async (size) => {
    await bench.pools.create({
      name: 'other',
      files: [{ path: join(dir, 'pools', 'other.dat'), sizeBytes: GIB }],
      preallocate: false,
      blockSizeBytes: size,
    });
    await makeDisk(bench, 'd1');
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const wanted = await digest(copy);
    await makeBackup('b1', 'monday');
    const request = { method: 'remap', disk: 'd2', pool: 'other' } as const;
    const job = await bench.ended(await bench.work.restores.fromBackup('b1', request));
    expect(job).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(wanted);
    const live = await bench.work.restores.fromCopy('monday', { ...request, disk: 'd3' });
    if (!('job' in live)) throw new Error('another pool needs a job');
    expect(await bench.ended(live.job)).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d3'))).toBe(wanted);
  });

  it('that is cancelled leaves the working disk as it was', async () => {
    const disk = await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    await disk.write(5 * MIB, randomBytes(4 * MIB));
    await disk.flush();
    const changed = await digest(disk);
    const request = { method: 'write-back', disk: 'd1', maxBytesPerSecond: MIB } as const;
    const job = await bench.work.restores.fromBackup('b1', request);
    while (bench.disks.get('d1').state !== 'fenced') await new Promise((r) => setTimeout(r, 5));
    await expect(disk.write(0, Buffer.alloc(1))).rejects.toMatchObject({ code: 'DISK_FENCED' });
    await bench.runner.cancel(job.id);
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    expect(disk.state).toBe('ready');
    expect(await digest(disk)).toBe(changed);
    expect(bench.copies.internal()).toEqual([]);
  });
});

describe('a restore that the pool has no room for after all', () => {
  it('fails with the code of the write and leaves the disk as it was', async () => {
    const { disk } = await bench.disks.create({ name: 'd1', capacityBytes: TIB });
    for (let at = 0; at < 40; at += 4) await disk.write(at * MIB, randomBytes(4 * MIB));
    await disk.flush();
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await makeBackup('b1', 'monday');
    const files = [{ path: join(dir, 'pools', 'tight.dat'), sizeBytes: 42 * MIB }];
    await bench.pools.create({ name: 'tight', files, preallocate: false });
    const { disk: d2 } = await bench.disks.create({
      name: 'd2',
      pool: 'tight',
      capacityBytes: TIB,
    });
    const request = { method: 'write-back', disk: 'd2', maxBytesPerSecond: MIB } as const;
    const job = await bench.work.restores.fromBackup('b1', request);
    while (d2.state !== 'fenced') await new Promise((r) => setTimeout(r, 5));
    const { disk: other } = await bench.disks.create({
      name: 'd3',
      pool: 'tight',
      capacityBytes: TIB,
    });
    await other.write(0, randomBytes(4 * MIB));
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    expect(await bench.ended(job)).toMatchObject({
      state: 'failed',
      problem: { code: 'POOL_FULL' },
    });
    expect(d2).toMatchObject({ state: 'ready', usedBytes: 0 });
  });
});
