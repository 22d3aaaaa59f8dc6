import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
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

it('a write-back above the quota is refused before it begins, one within it is done', async () => {
  const { disks, work, copies } = bench;
  const { disk } = await disks.create({ name: 'd1', capacityBytes: 64 * MIB });
  await disk.write(0, randomBytes(4 * MIB));
  await freeze(copies, 'd1', { name: 'monday' });
  await work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
  const made = await beginBackup(work.backups, { name: 'b1', copy: 'monday', target: 'shelf' });
  expect(await bench.ended(made)).toMatchObject({ state: 'succeeded' });
  await disk.discard(0, 64 * MIB);
  await disk.write(0, randomBytes(MIB));
  await disks.update('d1', { quotaBytes: 4 * MIB - 1 });

  const request = { method: 'write-back', disk: 'd1' } as const;
  const exceeded = { code: 'QUOTA_EXCEEDED' };
  await expect(work.restores.fromBackup('b1', request)).rejects.toMatchObject(exceeded);
  await expect(work.restores.fromCopy('monday', request)).rejects.toMatchObject(exceeded);
  expect(disk).toMatchObject({ state: 'ready', usedBytes: MIB });
  const other = { method: 'remap', disk: 'd2' } as const;
  expect(await bench.ended(await work.restores.fromBackup('b1', other))).toMatchObject({
    state: 'succeeded',
  });
  expect(disks.get('d2').quotaBytes).toBeNull();

  await disks.update('d1', { quotaBytes: 4 * MIB });
  expect(await bench.ended(await work.restores.fromBackup('b1', request))).toMatchObject({
    state: 'succeeded',
  });
  expect(disk.usedBytes).toBe(4 * MIB);
  await expect(disk.write(32 * MIB, Buffer.from([1]))).rejects.toMatchObject(exceeded);
});
