/**
 * A drive or a cartridge that fails while a job uses it.
 */
import { expect, it, vi } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { VirtualMechanism } from '../../../src/tape/virtual-mechanism.ts';
import { TapeWork } from '../../support/tape-work.ts';
import { digest, makeDisk } from '../../support/work-content.ts';

it('a drive that fails is tried three times, then left alone until hands were there', async () => {
  const work = await TapeWork.make();
  const { bench } = work;
  await work.addCartridges(256 * MIB, 'T1', 'T2');
  await work.label('T1');
  const disk = await makeDisk(bench, 'd1');
  const before = await digest(disk);
  await freeze(bench.copies, 'd1', { name: 'monday' });
  const write = vi.spyOn(VirtualMechanism.prototype, 'write');
  write.mockResolvedValue({ sense: 'medium-error', count: 0 });
  const job = await beginBackup(work.backups, { name: 'b1', copy: 'monday', target: 'vault' });
  await expect
    .poll(async () => (await bench.runner.get(job.id)).log.length, { timeout: 20_000 })
    .toBe(2);
  const { log, waitingFor } = await bench.runner.get(job.id);
  expect(log.map(({ message }) => message)).toEqual([
    'the drive failed (EIO at write)',
    'tried 3 times: waits for hands',
  ]);
  expect(write).toHaveBeenCalledTimes(3);
  const facts = { kind: 'target', target: 'vault', code: 'TARGET_UNAVAILABLE' };
  expect(waitingFor).toMatchObject({ ...facts, reason: 'the drive failed (EIO at write)' });
  expect(waitingFor?.['next']).toContain('clean the drive');
  write.mockRestore();
  await work.media.load('T2');
  await work.needsThis(job, { kind: 'medium', label: 'nightly-1', code: 'MEDIUM_BLANK' });
  expect(await work.serve(job)).toMatchObject({ ended: { state: 'succeeded' } });
  const remap = await bench.work.restores.fromBackup('b1', { method: 'remap', disk: 'd2' });
  expect((await work.serve(remap)).ended).toMatchObject({ state: 'succeeded' });
  expect(await digest(bench.disks.get('d2'))).toBe(before);
});
