/**
 * A drive or a cartridge that fails while a job uses it.
 */
import { expect, it, vi } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { systemClock, uuidv7 } from '../../../src/base/clock.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { alignedBuffer } from '../../../src/base/aligned-memory.ts';
import { encodeLabel } from '../../../src/tape/label.ts';
import type { VolumeLabel } from '../../../src/tape/label.ts';
import { crc32, saltedCrc32 } from '../../../src/base/checksum.ts';
import { VirtualLibrary } from '../../../src/tape/virtual-library.ts';
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

/** A label as somebody else has written it. */
function labelRecord(change: Partial<VolumeLabel>, version = 1): Buffer {
  const record = encodeLabel({
    volumeId: uuidv7(systemClock),
    label: 'nightly-7',
    set: 'nightly',
    setId: uuidv7(systemClock),
    number: 7,
    previousVolumeId: null,
    recordBytes: 64 * KIB,
    labelledAtMs: systemClock.nowMs(),
    expiresAtMs: null,
    ...change,
  });
  record.writeUInt32LE(version, 8);
  const crc = crc32(
    record.subarray(128),
    saltedCrc32('spindle tape record', record.subarray(0, 124)),
  );
  record.writeUInt32LE(crc, 124);
  return record;
}

/** A cartridge with records of somebody else, in a slot. */
async function bring(work: TapeWork, name: string, records: readonly Buffer[]): Promise<void> {
  const library = await VirtualLibrary.open(`${work.dir}/vault`);
  await library.addCartridge(name, 4 * MIB);
  await library.load(name);
  const drive = await library.device().open('write');
  for (const record of records) {
    const bytes = alignedBuffer(record.length);
    record.copy(bytes);
    await drive.write(bytes);
  }
  await drive.close();
  await library.unload();
  await library.close();
}

it('a job writes to no cartridge that is not one of its set, and waits by name', async () => {
  const work = await TapeWork.make();
  const { bench, media } = work;
  const others: readonly (readonly [string, string, string, readonly Buffer[]])[] = [
    ['T1', 'MEDIUM_BLANK', 'the cartridge is blank', []],
    ['T2', 'MEDIUM_FOREIGN', 'a record of 80 bytes', [Buffer.alloc(80, 'VOL1')]],
    ['T3', 'MEDIUM_FOREIGN', 'a record of 10240 bytes', [Buffer.alloc(10240), Buffer.alloc(10240)]],
    ['T4', 'MEDIUM_FOREIGN', 'a record of more than 1 MiB', [Buffer.alloc(2 * MIB)]],
    ['T5', 'MEDIUM_FOREIGN', 'no label that can be used', [labelRecord({}, 0)]],
    ['T6', 'MEDIUM_UNSUPPORTED', 'newer version', [labelRecord({}, 2)]],
    ['T7', 'MEDIUM_WRONG', 'is of set weekly', [labelRecord({ set: 'weekly' })]],
    ['T8', 'MEDIUM_WRONG', 'not in the catalog: scan it first', [labelRecord({})]],
  ];
  for (const [name, , , records] of others) await bring(work, name, records);
  await makeDisk(bench, 'd1');
  await freeze(bench.copies, 'd1', { name: 'monday' });
  const job = await beginBackup(work.backups, { name: 'b1', copy: 'monday', target: 'vault' });
  await work.needsThis(job, { code: 'MEDIUM_ABSENT' });
  for (const [name, code, reason, records] of others) {
    const library = await VirtualLibrary.open(`${work.dir}/vault`);
    const before = await library.objects(name);
    await media.load(name);
    await work.needsThis(job, {
      kind: 'medium',
      set: 'nightly',
      volumeNumber: 1,
      label: null,
      code,
      reason: expect.stringContaining(reason),
    });
    expect(await library.objects(name)).toEqual(before);
    expect(before).toHaveLength(records.length === 0 ? 0 : records.length + 1);
  }
  await media.add('T9', 64 * MIB);
  const slide = async (writeProtected: boolean): Promise<void> => {
    await (await VirtualLibrary.open(`${work.dir}/vault`)).change('T9', { writeProtected });
  };
  await slide(true);
  await media.load('T9');
  await work.needsThis(job, { kind: 'medium', code: 'MEDIUM_READ_ONLY' });
  await slide(false);
  await work.label('T9');
  expect((await work.serve(job)).ended).toMatchObject({ state: 'succeeded' });
  expect((await media.get('T9')).backups).toEqual(['b1']);
});

it('a scan that a waiting job asks for has the drive meanwhile, and the job goes on', async () => {
  const work = await TapeWork.make();
  const { bench, media } = work;
  await bring(work, 'T1', [labelRecord({ setId: uuidv7(systemClock) })]);
  await media.load('T1');
  await makeSmall(work);
  const of = { copy: 'monday', target: 'vault' };
  const first = await beginBackup(work.backups, { name: 'b1', ...of });
  await work.needsThis(first, { kind: 'medium', reason: expect.stringContaining('scan it first') });
  const second = await beginBackup(work.backups, { name: 'b2', ...of });
  await work.needsThis(second, { kind: 'drive' });
  const scan = await bench.ended(await submitScan(work.backups, 'vault'));
  expect(scan).toMatchObject({ state: 'succeeded', result: { media: [{ label: 'nightly-7' }] } });
  for (const job of [first, second]) {
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
  }
  expect((await media.get('T1')).backups).toEqual(['b1', 'b2']);
});

it('a scan waits for a job that uses the drive, and comes in its turn', async () => {
  const work = await TapeWork.make();
  const { bench } = work;
  await work.addCartridges(64 * MIB, 'T1');
  await work.label('T1');
  await makeSmall(work);
  const of = { copy: 'monday', target: 'vault', maxBytesPerSecond: 500 * KIB };
  const first = await beginBackup(work.backups, { name: 'b1', ...of });
  await expect.poll(async () => (await bench.runner.get(first.id)).doneBytes).toBeGreaterThan(0);
  const scan = await submitScan(work.backups, 'vault');
  await work.needsThis(scan, { kind: 'drive', target: 'vault' });
  expect(await bench.ended(first)).toMatchObject({ state: 'succeeded' });
  expect(await bench.ended(scan)).toMatchObject({ result: { known: ['b1'] } });
});

async function makeSmall(work: TapeWork): Promise<void> {
  const { disk } = await work.bench.disks.create({ name: 'd1', capacityBytes: MIB });
  await disk.write(0, Buffer.alloc(300 * KIB, 7));
  await freeze(work.bench.copies, 'd1', { name: 'monday' });
}
