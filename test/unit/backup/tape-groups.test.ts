/**
 * Groups on tape: one job over several small cartridges, found by scans in any order, back as a
 * unit.
 */
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { beginGroupBackup } from '../../../src/backup/group-backup.ts';
import { restoreGroupBackup } from '../../../src/backup/group-restore.ts';
import { submitRetention } from '../../../src/backup/retention-job.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freezeGroup } from '../../../src/copy/freeze-group.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { TapeWork, target } from '../../support/tape-work.ts';

const CAPACITY = 2 * MIB;
const DISKS = ['x', 'y', 'z'];

let work: TapeWork;

async function contents(of: Disk): Promise<Buffer> {
  const bytes = Buffer.alloc(CAPACITY);
  await of.read(0, bytes);
  return bytes;
}

/** Changes all disks and backs them up together. @returns what they then held */
async function backUp(name: string, level: 'full' | 'incremental'): Promise<Buffer[]> {
  for (const [index, disk] of DISKS.entries()) {
    const at = level === 'full' ? 0 : index * 100 * KIB;
    const bytes = randomBytes(level === 'full' ? MIB : 150 * KIB);
    await work.bench.disks.get(disk).write(at, bytes);
  }
  await freezeGroup(work.bench.copies, { name: `g-${name}`, disks: DISKS });
  const request = { name, group: `g-${name}`, target: 'vault', level };
  const { ended } = await work.serve(await beginGroupBackup(work.backups, request));
  expect(ended).toMatchObject({ state: 'succeeded', result: { group: name } });
  return Promise.all(DISKS.map((disk) => contents(work.bench.disks.get(disk))));
}

async function expectHeld(disks: readonly string[], held: readonly Buffer[]): Promise<void> {
  for (const [index, name] of disks.entries()) {
    const found = await contents(work.bench.disks.get(name));
    expect(found.equals(held[index]!), name).toBe(true);
  }
}

beforeEach(async () => {
  work = await TapeWork.make({ blockSizeBytes: 16 * KIB });
  for (const name of DISKS) await work.bench.disks.create({ name, capacityBytes: CAPACITY });
  const names = Array.from({ length: 14 }, (_, at) => `T${at + 1}`);
  await work.addCartridges(900 * KIB, ...names);
});

describe('a group on cartridges', () => {
  it('is backed up, scanned in any order, verified, and restored as a unit', async () => {
    await backUp('n1', 'full');
    const held = await backUp('n2', 'incremental');
    const media = (await work.media.list()).filter(({ backups }) => backups.length > 0);
    expect(media.length).toBeGreaterThan(5);
    await work.service.delete('vault', { force: true });
    await work.bench.work.targets.create(target);
    for (const { cartridge } of media.toReversed()) {
      await work.media.load(cartridge ?? '');
      const ended = await work.bench.ended(await submitScan(work.backups, 'vault'));
      expect(ended.state).toBe('succeeded');
    }
    const states = work.backups.list().map(({ name, state }) => `${name} ${state}`);
    const names = ['n1', 'n2'].flatMap((name) => DISKS.map((disk) => `${name}-${disk}`));
    expect(states.sort()).toEqual(names.map((name) => `${name} complete`));
    const verify = await work.serve(await submitVerify(work.backups, 'n2-y'));
    expect(verify.ended).toMatchObject({ state: 'succeeded', result: { ok: true } });
    const remap = { method: 'remap', name: 'old' } as const;
    const made = await work.serve(await restoreGroupBackup(work.backups, 'n2', remap));
    expect(made.ended).toMatchObject({ state: 'succeeded' });
    await expectHeld(
      DISKS.map((disk) => `old-${disk}`),
      held,
    );
    for (const disk of DISKS) await work.bench.disks.get(disk).write(0, Buffer.alloc(MIB, 7));
    const plan = { method: 'write-back' } as const;
    const back = await work.serve(await restoreGroupBackup(work.backups, 'n2', plan));
    expect(back.ended).toMatchObject({ state: 'succeeded' });
    await expectHeld(DISKS, held);
  });

  it('is kept by retention as a unit, with all cartridges that any of it is on', async () => {
    await backUp('n1', 'full');
    const before = (await work.media.list()).filter(({ backups }) => backups.length > 0);
    await backUp('n2', 'full');
    const job = await submitRetention(work.backups, { keepLast: 1 });
    const { result } = await work.bench.ended(job);
    expect(result).toMatchObject({ deletedBackups: 3, keptBackups: 3 });
    for (const { label, keptBecause, backups } of await work.media.list()) {
      expect(backups.every((name) => name.startsWith('n2-'))).toBe(true);
      expect(keptBecause === null).toBe(backups.length === 0);
      // The last one of the first has the beginning of the second.
      const isFree = before.slice(0, -1).some((each) => each.label === label && label !== null);
      if (isFree) expect(keptBecause).toBeNull();
    }
  });
});
