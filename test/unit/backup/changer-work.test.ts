/**
 * Jobs on tape with a changer: nobody touches a cartridge, until one is not in the library.
 */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { isEnd, type Job } from '../../../src/job/job.ts';
import { TargetService } from '../../../src/services/targets.ts';
import { VirtualLibrary } from '../../../src/tape/virtual-library.ts';
import { digest, makeDisk } from '../../support/work-content.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;
/** Of the disk that is backed up. */
let before: string;

const vault = 'vault';
const media = () => new TargetService(bench.work.backups).media(vault);
const library = () => VirtualLibrary.open(join(dir, vault));

/** Cartridges with those names, labelled, back in their slots. */
async function addLabelled(...names: readonly string[]): Promise<void> {
  for (const name of names) await media().add(name, 4 * MIB);
  for (const name of names) {
    await media().load(name);
    await media().label({ recordBytes: 64 * KIB });
  }
  await media().unload('slot');
}

async function backUp(name: string): Promise<Job> {
  return beginBackup(bench.work.backups, { name, copy: 'monday', target: vault });
}

async function restored(disk: string): Promise<Job> {
  const plan = { method: 'remap', disk } as const;
  return ended(await bench.work.restores.fromBackup('b1', plan));
}

/** Fails if it waits for a cartridge instead. */
async function ended(job: Job): Promise<Job> {
  const isOver = ({ state }: Job): boolean => isEnd(state) || state === 'waiting';
  return vi.waitFor(
    async () => {
      const now = await bench.runner.get(job.id);
      if (!isOver(now)) throw new Error(`it is ${now.state}`);
      expect(now.waitingFor).toBeUndefined();
      return now;
    },
    { timeout: 20_000, interval: 10 },
  );
}

async function waits(job: Job): Promise<Job> {
  return vi.waitFor(
    async () => {
      const now = await bench.runner.get(job.id);
      expect(now.state).toBe('waiting');
      return now;
    },
    { timeout: 20_000, interval: 10 },
  );
}

/** Cartridges in the order in which the job had them loaded. */
function loadedBy({ log }: Job): string[] {
  return log.flatMap(({ message }) => /^changer: (\S+) loaded from slot/.exec(message)?.[1] ?? []);
}

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
  const set = 'nightly';
  const target = {
    name: vault,
    kind: 'virtual-tape',
    path: vault,
    set,
    changer: 'virtual',
  } as const;
  await bench.work.targets.create(target);
  before = await digest(await makeDisk(bench, 'd1'));
  await freeze(bench.copies, 'd1', { name: 'monday' });
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

describe('with a changer', () => {
  it('a backup goes over three cartridges, and comes back, with nobody acting', async () => {
    await addLabelled('T1', 'T2', 'T3');
    const backup = await ended(await backUp('b1'));
    expect(backup).toMatchObject({ state: 'succeeded' });
    expect(loadedBy(backup)).toEqual(['T1', 'T2', 'T3']);
    const restore = await restored('d2');
    expect(restore).toMatchObject({ state: 'succeeded' });
    expect(loadedBy(restore)).toEqual(['T1', 'T2', 'T3']);
    expect(await digest(bench.disks.get('d2'))).toBe(before);
    const verify = await ended(await submitVerify(bench.work.backups, 'b1'));
    expect(verify).toMatchObject({ state: 'succeeded', result: { ok: true } });
  });

  it('a cartridge under a wrong barcode is not written to, and found all the same', async () => {
    await addLabelled('T1', 'T2', 'T3', 'T4', 'T5', 'T6');
    await ended(await backUp('b1'));
    const contents = async (label: string) => {
      const { barcode } = await media().get(label);
      return (await library()).objects(barcode ?? '');
    };
    const labels = ['nightly-1', 'nightly-2', 'nightly-3', 'nightly-4'];
    const written = await Promise.all(labels.slice(0, 3).map(contents));
    // T1 is full, T4 is blank but for its label: their stickers are exchanged.
    const file = (name: string) => join(dir, vault, `${name}.tap`);
    await rename(file('T1'), file('T1').replace('.tap', '.x'));
    await rename(file('T4'), file('T1'));
    await rename(file('T1').replace('.tap', '.x'), file('T4'));
    expect(await ended(await backUp('b2'))).toMatchObject({ state: 'succeeded' });
    expect(await media().get('nightly-1')).toMatchObject({ barcode: 'T4', state: 'full' });
    expect(await media().get('nightly-4')).toMatchObject({ barcode: 'T1' });
    const now = await Promise.all(labels.slice(0, 3).map(contents));
    expect(now.slice(0, 2)).toEqual(written.slice(0, 2));
    expect(now[2]?.slice(0, written[2]?.length)).toEqual(written[2]);
    expect(await restored('d2')).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
  });

  it('a job waits for what is not in the library, by name, and goes on when it comes', async () => {
    await addLabelled('T1', 'T2', 'T3');
    await ended(await backUp('b1'));
    await (await library()).move('T2', { kind: 'shelf' });
    const plan = { method: 'remap', disk: 'd2' } as const;
    const job = await bench.work.restores.fromBackup('b1', plan);
    expect((await waits(job)).waitingFor).toMatchObject({
      kind: 'medium',
      label: 'nightly-2',
      volumeNumber: 2,
    });
    // Started again meanwhile, it waits for the same.
    await bench.close();
    bench = await openWork(dir);
    expect((await waits(job)).waitingFor).toMatchObject({ label: 'nightly-2' });
    expect(await media().import('T2')).toMatchObject({ label: 'nightly-2', place: 'slot' });
    expect(await ended(job)).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
  });

  it('a cartridge that is put into the door is seen without a word', async () => {
    await addLabelled('T1', 'T2');
    const job = await backUp('b1');
    expect((await waits(job)).waitingFor).toMatchObject({ volumeNumber: 3, label: null });
    await media().add('T3', 4 * MIB);
    expect((await media().load('slot:3')).barcode).toBe('T3');
    // Hands are at the drive: what they have loaded stays there until it is labelled.
    await media().label({ recordBytes: 64 * KIB });
    expect(await ended(job)).toMatchObject({ state: 'succeeded' });
    await (await library()).move('T1', { kind: 'shelf' });
    const restore = await bench.work.restores.fromBackup('b1', { method: 'remap', disk: 'd2' });
    expect((await waits(restore)).waitingFor).toMatchObject({ label: 'nightly-1' });
    await (await library()).move('T1', { kind: 'slot', slot: 9 });
    expect(await ended(restore)).toMatchObject({ state: 'succeeded' });
    expect(loadedBy(restore)).toEqual([]);
  });
});
