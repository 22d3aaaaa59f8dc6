/**
 * Incrementals on tape, each over several small cartridges: backed up, found by scans in any order,
 * restored by each method, and around what is lost.
 */
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { TapeWork, target } from '../../support/tape-work.ts';

const CAPACITY = 4 * MIB;
const BLOCK = 16 * KIB;

let work: TapeWork;
let disk: Disk;
/** What the disk held at each backup. */
let held: Map<string, Buffer>;

async function contents(of: Disk): Promise<Buffer> {
  const bytes = Buffer.alloc(CAPACITY);
  await of.read(0, bytes);
  return bytes;
}

async function backUp(name: string, level: 'full' | 'incremental'): Promise<void> {
  await freeze(work.bench.copies, 'd1', { name: `c-${name}` });
  held.set(name, await contents(disk));
  const { ended } = await work.backUp(name, { copy: `c-${name}`, level });
  expect(ended).toMatchObject({ state: 'succeeded', result: { level } });
}

beforeEach(async () => {
  work = await TapeWork.make({ blockSizeBytes: BLOCK });
  held = new Map();
  ({ disk } = await work.bench.disks.create({ name: 'd1', capacityBytes: CAPACITY }));
  const names = Array.from({ length: 16 }, (_, at) => `T${at + 1}`);
  await work.addCartridges(800 * KIB, ...names);
  await disk.write(0, randomBytes(2 * MIB));
  await backUp('b1', 'full');
  await disk.write(100 * KIB, randomBytes(500 * KIB));
  await disk.write(3 * MIB, randomBytes(300 * KIB));
  await backUp('b2', 'incremental');
  await disk.write(250 * KIB, randomBytes(600 * KIB));
  await disk.discard(1200 * KIB, 200 * KIB);
  await backUp('b3', 'incremental');
});

/** Labels of the cartridges that a backup has bytes on, in their order. */
async function cartridgesOf(...names: readonly string[]): Promise<string[]> {
  const media = await work.media.list();
  const on = media.filter(({ backups }) => backups.some((name) => names.includes(name)));
  return on.flatMap(({ label }) => label ?? []);
}

/** As a new disk. */
async function expectRemap(name: string): Promise<void> {
  const plan = { method: 'remap', disk: `new-${name}` } as const;
  const { ended, asked } = await work.serve(await work.bench.work.restores.fromBackup(name, plan));
  expect(ended).toMatchObject({ state: 'succeeded', result: { damaged: [] } });
  expect((await contents(work.bench.disks.get(plan.disk))).equals(held.get(name)!)).toBe(true);
  // The newest image first, each from its beginning to its end; the headers before.
  const images = work.backups.readableChain(name).map((member) => member.name);
  const once = (await Promise.all(images.map((image) => cartridgesOf(image)))).flat();
  expect(asked.length).toBeLessThanOrEqual(once.length + images.length);
}

async function expectRestored(name: string): Promise<void> {
  await expectRemap(name);
  const { restores } = work.bench.work;
  for (const onlyDiffering of [false, true]) {
    await disk.write(0, Buffer.alloc(MIB, 7));
    const plan = { method: 'write-back', disk: 'd1', onlyDiffering } as const;
    const { ended } = await work.serve(await restores.fromBackup(name, plan));
    expect(ended).toMatchObject({ state: 'succeeded' });
    expect((await contents(disk)).equals(held.get(name)!)).toBe(true);
  }
  const plan = { method: 'copy', copy: `copy-${name}` } as const;
  const { ended } = await work.serve(await restores.fromBackup(name, plan));
  expect(ended).toMatchObject({ state: 'succeeded' });
  const found = Buffer.alloc(CAPACITY);
  await work.bench.copies.get(plan.copy).read('full', 0, found);
  expect(found.equals(held.get(name)!)).toBe(true);
}

/** The cartridges in that order, into an empty catalog. */
async function scanAnew(cartridges: readonly (string | null)[]): Promise<void> {
  await work.service.delete('vault', { force: true });
  expect(work.backups.list()).toEqual([]);
  await work.bench.work.targets.create(target);
  for (const cartridge of cartridges) {
    await work.media.load(cartridge ?? '');
    const ended = await work.bench.ended(await submitScan(work.backups, 'vault'));
    expect(ended.state).toBe('succeeded');
  }
}

const cartridges = async () => (await work.media.list()).map(({ cartridge }) => cartridge);

describe('a chain on cartridges', () => {
  it('is restored by each method, and verified', async () => {
    expect((await cartridgesOf('b1', 'b2', 'b3')).length).toBeGreaterThan(5);
    await expectRestored('b3');
    for (const name of ['b1', 'b2', 'b3']) {
      const { ended } = await work.serve(await submitVerify(work.backups, name));
      expect(ended).toMatchObject({ state: 'succeeded', result: { ok: true } });
    }
  });

  it.each([
    ['backwards', (all: (string | null)[]) => all.toReversed()],
    ['from the middle', (all: (string | null)[]) => [...all.slice(3), ...all.slice(0, 3)]],
  ])('is found by scans %s, and restored', async (_, order) => {
    const all = (await cartridges()).slice(0, (await cartridgesOf('b1', 'b2', 'b3')).length);
    await scanAnew(order(all));
    const found = work.backups.list().map(({ name, state, base }) => [name, state, base?.copyId]);
    const [b1, b2] = ['b1', 'b2'].map((name) => work.backups.get(name).copyId);
    expect(found.sort()).toEqual([
      ['b1', 'complete', undefined],
      ['b2', 'complete', b1],
      ['b3', 'complete', b2],
    ]);
    await expectRemap('b3');
    await expectRemap('b2');
  });

  it('that lost a cartridge in the middle gives all but its bytes, told exactly', async () => {
    const [, lost] = await cartridgesOf('b1');
    work.lost.add(lost!);
    const { restores } = work.bench.work;
    const plan = { method: 'remap', disk: 'd2', onDamage: 'skip' } as const;
    const { ended } = await work.serve(await restores.fromBackup('b3', plan));
    expect(ended.state).toBe('succeeded');
    const { damaged } = ended.result as {
      damaged: { sourceOffset: number; length: number; exact: boolean }[];
    };
    const [was, now] = [held.get('b3')!, await contents(work.bench.disks.get('d2'))];
    const isLost = (at: number): boolean =>
      damaged.some(({ sourceOffset, length }) => {
        return at >= sourceOffset && at < sourceOffset + length;
      });
    for (let at = 0; at < CAPACITY; at += BLOCK) {
      const [before, after] = [was, now].map((bytes) => bytes.subarray(at, at + BLOCK));
      if (isLost(at)) expect(after!.equals(Buffer.alloc(BLOCK)), `lost at ${at}`).toBe(true);
      else expect(after!.equals(before!), `given at ${at}`).toBe(true);
    }
    const lostBytes = damaged.reduce((sum, { length }) => sum + length, 0);
    expect(lostBytes).toBeGreaterThan(0);
    expect(lostBytes).toBeLessThan(700 * KIB);
    expect(damaged.every(({ exact }) => exact)).toBe(true);
    // Nothing is lost that a newer backup has.
    const newer = damaged.filter(({ sourceOffset }) => sourceOffset >= 3 * MIB);
    expect(newer).toEqual([]);
    await expect(
      work.serve(await restores.fromBackup('b3', { method: 'remap', disk: 'd3' })),
    ).resolves.toMatchObject({ ended: { state: 'failed', problem: { code: 'IMAGE_DAMAGED' } } });
  });
});
