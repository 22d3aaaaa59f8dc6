/**
 * Retention of backups on tape: what it deletes frees cartridges, what it keeps keeps them, with
 * all that a kept backup is built on.
 */
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { submitRetention } from '../../../src/backup/retention-job.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { TapeWork, target } from '../../support/tape-work.ts';

const CAPACITY = 4 * MIB;
const incremental = { level: 'incremental' } as const;

let work: TapeWork;
let disk: Disk;

beforeEach(async () => {
  work = await TapeWork.make();
  ({ disk } = await work.bench.disks.create({ name: 'd1', capacityBytes: CAPACITY }));
  await work.addCartridges(64 * MIB, 'T1', 'T2', 'T3', 'T4');
});

async function contents(of: Disk): Promise<Buffer> {
  const bytes = Buffer.alloc(CAPACITY);
  await of.read(0, bytes);
  return bytes;
}

/** Changes the disk and backs it up to a cartridge of its own. @returns what it then held */
async function day(name: string, cartridge: string, more = {}): Promise<Buffer> {
  await disk.write(0, randomBytes(200 * KIB));
  await freeze(work.bench.copies, 'd1', { name: `c-${name}` });
  const media = await work.media.list();
  if (media.find((each) => each.cartridge === cartridge)?.volumeId === null) {
    await work.label(cartridge);
  } else await work.media.load(cartridge);
  const { ended } = await work.backUp(name, { copy: `c-${name}`, ...more });
  expect(ended).toMatchObject({ state: 'succeeded' });
  return contents(disk);
}

const kept = async () => (await work.media.list()).map(({ keptBecause }) => keptBecause);

describe('retention on tape', () => {
  it('frees the cartridges of what it deletes, never one that a kept backup needs', async () => {
    await day('b1', 'T1');
    await day('b2', 'T2', incremental);
    await day('b3', 'T3');
    const last = await day('b4', 'T4', incremental);
    const needed = ['b1', 'b2', 'b3', 'b4'].map((name) => `needed by ${name}`);
    expect(await kept()).toEqual(needed);
    const job = await submitRetention(work.backups, { keepLast: 1, target: 'vault' });
    expect(await work.bench.ended(job)).toMatchObject({
      state: 'succeeded',
      result: {
        deletedBackups: 2,
        keptBackups: 2,
        deleted: [{ backup: 'b2' }, { backup: 'b1' }],
        canBeLabelled: ['nightly-1', 'nightly-2'].map((label) => ({ target: 'vault', label })),
      },
    });
    expect(await kept()).toEqual([null, null, ...needed.slice(2)]);
    for (const name of ['T3', 'T4']) {
      await work.media.load(name);
      await expect(work.media.label({})).rejects.toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    }
    for (const name of ['T1', 'T2']) expect((await work.label(name)).dataBytes).toBe(0);
    // The chain is whole.
    const { restores } = work.bench.work;
    const remap = await work.serve(
      await restores.fromBackup('b4', { method: 'remap', disk: 'd2' }),
    );
    expect(remap.ended).toMatchObject({ state: 'succeeded' });
    expect((await contents(work.bench.disks.get('d2'))).equals(last)).toBe(true);
  });

  it('keeps a cartridge on which one of several backups stays', async () => {
    await day('b1', 'T1');
    await day('b2', 'T1');
    await work.bench.ended(await submitRetention(work.backups, { keepLast: 1 }));
    expect(await kept()).toMatchObject(['needed by b2', ...Array<null>(3).fill(null)]);
    await work.media.load('T1');
    await expect(work.media.label({})).rejects.toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
  });

  it('is not undone by scans, and what a new catalog finds is kept', async () => {
    await day('b1', 'T1');
    await day('b2', 'T2');
    await work.bench.ended(await submitRetention(work.backups, { keepLast: 1 }));
    await work.media.load('T1');
    const scan = async () => work.bench.ended(await submitScan(work.backups, 'vault'));
    expect((await scan()).result).toMatchObject({ added: [], media: [{ parts: 1 }] });
    expect(await kept()).toMatchObject([null, 'needed by b2', null, null]);
    await work.service.delete('vault', { force: true });
    await work.bench.work.targets.create(target);
    expect((await scan()).result).toMatchObject({ added: ['b1'] });
    expect((await work.media.get('T1')).keptBecause).toBe('needed by b1');
  });
});
