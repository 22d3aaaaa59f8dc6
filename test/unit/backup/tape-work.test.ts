import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import type { BackupRequest } from '../../../src/backup/begin-backup.ts';
import { beginConsolidate } from '../../../src/backup/consolidate-job.ts';
import { deleteBackup } from '../../../src/backup/delete-backup.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import { isEnd, type Job } from '../../../src/job/job.ts';
import { TargetService } from '../../../src/services/targets.ts';
import { TapeCatalog } from '../../../src/tape/catalog.ts';
import { digest, makeDisk } from '../../support/work-content.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

const media = () => new TargetService(bench.work.backups).media('vault');
const target = { name: 'vault', kind: 'virtual-tape', path: 'vault', set: 'nightly' } as const;

async function addCartridges(...names: readonly string[]): Promise<void> {
  for (const name of names) await media().add(name, 2 * MIB);
}

/** Waits until a job waits for a cartridge, or has ended. */
async function needs(job: Job): Promise<Job> {
  return vi.waitFor(
    async () => {
      const now = await bench.runner.get(job.id);
      expect(now.state === 'waiting' || isEnd(now.state)).toBe(true);
      return now;
    },
    { timeout: 20_000, interval: 10 },
  );
}

/** Hands that load what jobs ask for, label what is new. @returns labels in the order of asking */
async function serve(job: Job): Promise<{ ended: Job; asked: (string | null)[] }> {
  const asked: (string | null)[] = [];
  for (let now = await needs(job); !isEnd(now.state); now = await needs(job)) {
    expect(now.waitingFor).toMatchObject({ kind: 'medium', target: 'vault', set: 'nightly' });
    const label = now.waitingFor?.['label'] ?? null;
    asked.push(typeof label === 'string' ? label : null);
    if (typeof label === 'string') await media().load(label);
    else {
      const blank = (await media().list()).find(({ state }) => state === 'unlabelled');
      await media().load(blank?.cartridge ?? '');
      const made = await media().label({ recordBytes: 64 * KIB });
      expect(now.waitingFor).toMatchObject({ volumeNumber: made.number });
    }
    await vi.waitFor(async () => {
      const { state, waitingFor: next } = await bench.runner.get(job.id);
      const isOther = next?.['label'] !== label;
      expect(state !== 'waiting' || isOther || label === null).toBe(true);
    });
  }
  return { ended: await bench.ended(job), asked };
}

async function backUp(name: string, more: Partial<BackupRequest> = {}) {
  const request = { name, copy: 'monday', target: 'vault', ...more };
  return serve(await beginBackup(bench.work.backups, request));
}

async function imageOf(name: string): Promise<Buffer> {
  const { targets, backups } = bench.work;
  const { mediumBytes } = backups.get(name);
  // What the job reads goes through its own drive; here nobody has to be waited for.
  const bytes = Buffer.alloc(mediumBytes);
  const record = targets.get('vault');
  const { parts } = await catalogBackup(name);
  let at = 0;
  for (const part of parts) {
    const medium = await media().get(part.volumeId);
    await media().load(medium.cartridge ?? '');
    const backup = await targets.medium(record).open(name);
    await backup.read(at, bytes.subarray(at, part.firstOffset + part.dataBytes));
    await backup.close();
    at = part.firstOffset + part.dataBytes;
  }
  return bytes;
}

async function catalogBackup(name: string) {
  const { id } = bench.work.targets.get('vault');
  const state = await new TapeCatalog(join(dir, 'tape-catalogs', `${id}.jsonl`)).read();
  const found = state.byName(name);
  if (found === undefined) throw new Error(`no ${name} in the catalog`);
  return found;
}

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
  await bench.work.targets.create(target);
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

describe('a backup on tape', () => {
  it('over several cartridges is the image, waits for each, and is restored', async () => {
    await addCartridges('T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7', 'T8');
    const disk = await makeDisk(bench, 'd1');
    const before = await digest(disk);
    const copy = await freeze(bench.copies, 'd1', { name: 'monday' });
    const { ended, asked } = await backUp('b1');
    expect(ended).toMatchObject({ state: 'succeeded' });
    expect(asked.length).toBeGreaterThan(2);
    expect(asked.every((label) => label === null)).toBe(true);

    const parts: Uint8Array[] = [];
    for await (const part of new ImageWriter(copy).read()) parts.push(Uint8Array.from(part));
    const image = Buffer.concat(parts);
    await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
    const other = { name: 'b2', copy: 'monday', target: 'shelf' };
    await bench.ended(await beginBackup(bench.work.backups, other));
    const file = await readFile(join(dir, 'shelf', 'b2', 'image.spindle'));
    expect(file.equals(image)).toBe(true);
    expect((await imageOf('b1')).equals(image)).toBe(true);

    await media().load('nightly-1');
    const verify = await serve(await submitVerify(bench.work.backups, 'b1'));
    // Once each, in order.
    const labels = (await media().list()).flatMap(({ label }) => label ?? []);
    expect(verify.asked).toEqual(labels.slice(1));
    expect(verify.ended).toMatchObject({ state: 'succeeded', result: { ok: true } });
    const { restores } = bench.work;
    const remap = await serve(await restores.fromBackup('b1', { method: 'remap', disk: 'd2' }));
    expect(remap.ended).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
    expect(remap.asked).toEqual(labels);
    await disk.write(0, Buffer.alloc(MIB, 7));
    const back = await serve(await restores.fromBackup('b1', { method: 'write-back', disk: 'd1' }));
    expect(back.ended).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d1'))).toBe(before);
    const made = await serve(await restores.fromBackup('b1', { method: 'copy', copy: 'c2' }));
    expect(made.ended).toMatchObject({ state: 'succeeded' });
    expect(bench.copies.get('c2').usedBlocks).toBe(copy.usedBlocks);
  });

  it('is in the catalog again after scans of its cartridges in any order', async () => {
    await addCartridges('T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7', 'T8');
    const disk = await makeDisk(bench, 'd1');
    const before = await digest(disk);
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp('b1');
    const cartridges = (await media().list()).filter(({ volumeId }) => volumeId !== null);
    await new TargetService(bench.work.backups).delete('vault', { force: true });
    expect(bench.work.backups.list()).toEqual([]);
    await bench.work.targets.create(target);
    const results: Job[] = [];
    for (const { cartridge } of cartridges.toReversed()) {
      await media().load(cartridge ?? '');
      results.push(await bench.ended(await submitScan(bench.work.backups, 'vault')));
    }
    for (const job of results) expect(job.state).toBe('succeeded');
    expect(results[0]?.result).toMatchObject({ added: ['b1'], media: [{ set: 'nightly' }] });
    const { restores } = bench.work;
    const remap = await serve(await restores.fromBackup('b1', { method: 'remap', disk: 'd2' }));
    expect(remap.ended).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
    // What was scanned can be written on.
    await addCartridges('T9', 'U1', 'U2', 'U3', 'U4', 'U5', 'U6');
    expect((await backUp('b2')).ended).toMatchObject({ state: 'succeeded' });
  });

  it('of which a cartridge is lost is restored around its bytes, told exactly', async () => {
    await addCartridges('T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7', 'T8');
    const disk = await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp('b1');
    const { restores } = bench.work;
    const plan = { method: 'remap', disk: 'd2', onDamage: 'skip' } as const;
    const job = await restores.fromBackup('b1', plan);
    const lost = 'nightly-2';
    for (let now = await needs(job); !isEnd(now.state); now = await needs(job)) {
      const label = now.waitingFor?.['label'];
      if (typeof label !== 'string') throw new Error('it waits for something else');
      if (label !== lost) await media().load(label);
      else {
        const inUse = { code: 'TARGET_IN_USE', details: { backups: ['b1'] } };
        await expect(media().forget(lost)).rejects.toMatchObject(inUse);
        await media().forget(lost, { force: true });
      }
      await vi.waitFor(async () => {
        const next = await bench.runner.get(job.id);
        expect(next.waitingFor?.['label'] !== label || next.state !== 'waiting').toBe(true);
      });
    }
    const ended = await bench.ended(job);
    expect(ended.state).toBe('succeeded');
    const { damaged } = ended.result as {
      damaged: { sourceOffset: number; length: number; exact: boolean }[];
    };
    expect(damaged.length).toBeGreaterThan(0);
    const bytes = damaged.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeGreaterThan(MIB);
    expect(bytes).toBeLessThan(2 * MIB + 256 * KIB);
    // All that is not told as lost is as it was.
    const restored = bench.disks.get('d2');
    for (let at = 0; at < 51 * MIB; at += 64 * KIB) {
      const isLost = damaged.some((range) => {
        return at < range.sourceOffset + range.length && at + 64 * KIB > range.sourceOffset;
      });
      if (isLost) continue;
      const [was, now] = [Buffer.alloc(64 * KIB), Buffer.alloc(64 * KIB)];
      await disk.read(at, was);
      await restored.read(at, now);
      expect(now.equals(was), `bytes at ${at}`).toBe(true);
    }
  });

  it('goes on after a restart in the middle, and writes nothing twice', async () => {
    await addCartridges('T1', 'T2', 'T3', 'T4', 'T5', 'T6', 'T7', 'T8');
    const disk = await makeDisk(bench, 'd1');
    const before = await digest(disk);
    await freeze(bench.copies, 'd1', { name: 'monday' });
    const request = { name: 'b1', copy: 'monday', target: 'vault' };
    const job = await beginBackup(bench.work.backups, request);
    await needs(job);
    await media().load('T1');
    await media().label({ recordBytes: 64 * KIB });
    await vi.waitFor(async () => {
      const now = await bench.runner.get(job.id);
      expect(now.waitingFor).toMatchObject({ volumeNumber: 2 });
    });
    await bench.close();
    bench = await openWork(dir);
    const { ended } = await serve(await bench.runner.get(job.id));
    expect(ended).toMatchObject({ state: 'succeeded' });
    const { parts, imageBytes } = await catalogBackup('b1');
    const written = parts.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
    expect(written).toBe(imageBytes);
    const { restores } = bench.work;
    const remap = await serve(await restores.fromBackup('b1', { method: 'remap', disk: 'd2' }));
    expect(remap.ended).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
  });

  it('waits for the drive while another job has it, and can be cancelled there', async () => {
    await media().add('T1', 256 * MIB);
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    const { backups } = bench.work;
    const of = { copy: 'monday', target: 'vault' };
    const first = await beginBackup(backups, { name: 'b1', ...of });
    await needs(first);
    const second = await beginBackup(backups, { name: 'b2', ...of });
    const third = await beginBackup(backups, { name: 'b3', ...of });
    for (const job of [second, third]) {
      expect((await needs(job)).waitingFor).toMatchObject({ kind: 'drive', target: 'vault' });
    }
    await bench.runner.cancel(second.id);
    expect(await bench.ended(second)).toMatchObject({ state: 'cancelled' });
    await media().load('T1');
    await media().label({});
    expect(await bench.ended(first)).toMatchObject({ state: 'succeeded' });
    expect(await bench.ended(third)).toMatchObject({ state: 'succeeded' });
    expect((await media().get('T1')).backups).toEqual(['b1', 'b3']);
  });

  it('keeps hands off while it writes', async () => {
    await media().add('T1', 256 * MIB);
    await media().add('T2', 256 * MIB);
    await media().load('T1');
    await media().label({});
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    const request = { name: 'b1', copy: 'monday', target: 'vault', maxBytesPerSecond: 65536 };
    const job = await beginBackup(bench.work.backups, request);
    await vi.waitFor(async () => {
      expect((await bench.runner.get(job.id)).doneBytes).toBeGreaterThan(0);
    });
    const inUse = { code: 'TARGET_IN_USE', details: { job: job.id } };
    await expect(media().load('T2')).rejects.toMatchObject(inUse);
    await expect(media().unload('slot')).rejects.toMatchObject(inUse);
    await expect(media().label({ force: 'nightly-1' })).rejects.toMatchObject(inUse);
    expect((await media().get('T1')).place).toBe('drive');
    await bench.runner.cancel(job.id);
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    expect((await media().load('T2')).place).toBe('drive');
  });

  it('that waits for a cartridge can be cancelled, and the drive is free again', async () => {
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    const of = { copy: 'monday', target: 'vault' };
    const job = await beginBackup(bench.work.backups, { name: 'b1', ...of });
    expect((await needs(job)).waitingFor).toMatchObject({ volumeNumber: 1, label: null });
    await bench.runner.cancel(job.id);
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    expect(bench.work.backups.list()).toEqual([]);
    await media().add('T1', 256 * MIB);
    await media().load('T1');
    await media().label({});
    expect((await backUp('b1')).ended).toMatchObject({ state: 'succeeded' });
  });

  it('waits by name behind cartridges that can hold nothing, until one can', async () => {
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    const of = { copy: 'monday', target: 'vault' };
    const job = await beginBackup(bench.work.backups, { name: 'b1', ...of });
    // The first has no room for a header, the second none for a record of data behind it.
    for (const [cartridge, number, sizeBytes] of [
      ['T1', 1, 100 * KIB],
      ['T2', 2, 160 * KIB],
    ] as const) {
      await needs(job);
      await media().add(cartridge, sizeBytes);
      await media().load(cartridge);
      await media().label({ recordBytes: 64 * KIB });
      await vi.waitFor(
        async () => {
          expect((await bench.runner.get(job.id)).waitingFor).toMatchObject({
            kind: 'medium',
            volumeNumber: number + 1,
            label: null,
            reason: `cartridge nightly-${number} is too small: it has no room for a part`,
          });
        },
        { timeout: 8000 },
      );
    }
    await media().add('T3', 256 * MIB);
    await media().load('T3');
    await media().label({ recordBytes: 64 * KIB });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    expect((await media().list()).map(({ state }) => state)).toEqual([
      'full',
      'full',
      'appendable',
    ]);
  });

  it('that is deleted leaves its cartridge, which then may be labelled anew', async () => {
    await media().add('T1', 256 * MIB);
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await media().load('T1');
    const expiresAtMs = Date.now() + 500;
    await media().label({ expiresAtMs });
    await backUp('b1');
    await vi.waitFor(() => {
      expect(Date.now()).toBeGreaterThan(expiresAtMs);
    });
    await expect(media().label({})).rejects.toMatchObject({ code: 'MEDIUM_UNEXPIRED' });
    await deleteBackup(bench.work.backups, 'b1');
    expect(bench.work.backups.list()).toEqual([]);
    expect((await media().get('T1')).dataBytes).toBeGreaterThan(0);
    const again = await media().label({});
    expect(again).toMatchObject({ label: 'nightly-1', number: 1, dataBytes: 0 });
  });

  it('cannot be consolidated: there is one drive', async () => {
    await media().add('T1', 256 * MIB);
    await makeDisk(bench, 'd1');
    await freeze(bench.copies, 'd1', { name: 'monday' });
    await backUp('b1');
    const work = beginConsolidate(bench.work.backups, 'b1', { name: 'b2' });
    await expect(work).rejects.toMatchObject({ code: 'VALIDATION_FAILED' });
    expect(bench.work.backups.list()).toHaveLength(1);
  });
});
