import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { beginConsolidate } from '../../../src/backup/consolidate-job.ts';
import { deleteBackup } from '../../../src/backup/delete-backup.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { ImageReader } from '../../../src/image/reader.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import type { Job } from '../../../src/job/job.ts';
import { backUp, beginOn, incremental } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 16 * KIB;
const CAPACITY = 4 * MIB;
const days = ['mon', 'tue', 'wed'] as const;

let dir: string;
let bench: WorkBench;
let disk: Disk;
/** The disk at each backup. */
let contents: Record<string, Buffer>;

/** A full backup of `mon`, then `tue` and `wed` upon it; copies of all are gone. */
beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: BLOCK });
  contents = {};
  ({ disk } = await bench.disks.create({ name: 'd1', capacityBytes: CAPACITY }));
  await disk.write(0, randomBytes(MIB));
  await disk.write(2 * MIB, randomBytes(MIB));
  for (const day of days) {
    if (day === 'tue') {
      await disk.write(3 * BLOCK, randomBytes(2 * BLOCK));
      await disk.discard(2 * MIB, 8 * BLOCK);
    } else if (day === 'wed') {
      await disk.write(4 * BLOCK, randomBytes(2 * BLOCK));
      await disk.write(2 * MIB + BLOCK, randomBytes(BLOCK));
      await disk.discard(10 * BLOCK, BLOCK);
    }
    contents[day] = await contentNow(disk);
    await backUp(bench, { name: day, disk: 'd1', ...(day === 'mon' ? {} : incremental) });
  }
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

async function contentNow(of: Disk): Promise<Buffer> {
  const content = Buffer.alloc(of.capacityBytes);
  await of.read(0, content);
  return content;
}

async function succeeded(job: Job): Promise<Job> {
  const ended = await bench.ended(job);
  expect(ended).toMatchObject({ state: 'succeeded' });
  return ended;
}

function imageFile(name: string): string {
  return join(dir, 'shelf', name, 'image.spindle');
}

/** Flips a byte of block X of an image. */
async function damage(name: string, block: number): Promise<void> {
  const file = await open(imageFile(name), 'r+');
  try {
    const { size } = await file.stat();
    const bytes = {
      sizeBytes: size,
      read: async (offset: number, into: Uint8Array): Promise<void> => {
        await file.read(into, 0, into.length, offset);
      },
    };
    const { layout } = await ImageReader.open(bytes);
    const data = layout.segmentOffset(0) + layout.segmentHeadBytes(0) + block * BLOCK + 7;
    const byte = Buffer.alloc(1);
    await bytes.read(data, byte);
    byte.writeUInt8(byte.readUInt8() ^ 255);
    await file.write(byte, 0, 1, data);
  } finally {
    await file.close();
  }
}

describe('a restore from a chain', () => {
  it.each(days)('gives the disk as it was on %s, by each method', async (day) => {
    const { restores } = bench.work;
    const wanted = contents[day]!;
    const used = bench.work.backups.get(day).usedBytes;
    await succeeded(await restores.fromBackup(day, { method: 'remap', disk: 'd2' }));
    const made = bench.disks.get('d2');
    expect((await contentNow(made)).equals(wanted)).toBe(true);
    expect(made.usedBytes).toBe(used);
    await succeeded(await restores.fromBackup(day, { method: 'copy', copy: 'back' }));
    const copy = bench.copies.get('back');
    const content = Buffer.alloc(CAPACITY);
    await copy.read('full', 0, content);
    expect(content.equals(wanted)).toBe(true);
    expect(copy.usedBlocks * BLOCK).toBe(used);
    for (const onlyDiffering of [false, true]) {
      await disk.write(MIB, randomBytes(MIB));
      const back = { method: 'write-back', disk: 'd1', onlyDiffering } as const;
      await succeeded(await restores.fromBackup(day, back));
      expect((await contentNow(disk)).equals(wanted)).toBe(true);
      expect(disk.usedBytes).toBe(used);
    }
  });

  it('goes around damage of any member, and names exactly what is lost', async () => {
    // of tue the block at place 3 lives on, that at 4 was written again on wed
    await damage('tue', 0);
    await damage('tue', 1);
    await damage('mon', 20);
    const { restores } = bench.work;
    const request = { method: 'remap', disk: 'd2' } as const;
    const failed = await bench.ended(await restores.fromBackup('wed', request));
    expect(failed).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_DAMAGED' } });
    expect(bench.disks.find('d2')).toBeUndefined();
    const skip = { ...request, onDamage: 'skip' } as const;
    const job = await succeeded(await restores.fromBackup('wed', skip));
    const lost = [3, 20].map((block) => {
      return { sourceOffset: block * BLOCK, length: BLOCK, exact: true };
    });
    expect(job.result).toMatchObject({ damaged: lost });
    const wanted = Buffer.from(contents['wed']!);
    for (const { sourceOffset, length } of lost) {
      wanted.fill(0, sourceOffset, sourceOffset + length);
    }
    expect((await contentNow(bench.disks.get('d2'))).equals(wanted)).toBe(true);
  });

  it('is refused without a member, and done once that is back', async () => {
    const { backups, restores } = bench.work;
    const away = join(dir, 'away');
    await rename(join(dir, 'shelf', 'tue'), away);
    await succeeded(await submitScan(backups, 'shelf'));
    const request = { method: 'remap', disk: 'd2' } as const;
    const { copyId, generation } = backups.get('wed').base!;
    await expect(restores.fromBackup('wed', request)).rejects.toMatchObject({
      code: 'BACKUP_INCOMPLETE',
      details: { backup: 'wed', missing: { copyId, generation } },
    });
    const verify = await bench.ended(await submitVerify(backups, 'wed'));
    expect(verify).toMatchObject({ state: 'failed', problem: { code: 'BACKUP_INCOMPLETE' } });
    expect(backups.get('wed').state).toBe('complete');
    await rename(away, join(dir, 'shelf', 'tue'));
    await succeeded(await submitScan(backups, 'shelf'));
    await succeeded(await restores.fromBackup('wed', request));
    expect((await contentNow(bench.disks.get('d2'))).equals(contents['wed']!)).toBe(true);
  });

  it('holds all members while it runs', async () => {
    const { backups, restores } = bench.work;
    const slow = { method: 'remap', disk: 'd2', maxBytesPerSecond: 1 } as const;
    const job = await restores.fromBackup('wed', slow);
    const options = { cascade: true };
    for (const day of days) {
      const all = deleteBackup(backups, day, options);
      await expect(all).rejects.toMatchObject({ code: 'BACKUP_IN_USE' });
    }
    await bench.close();
    bench = await openWork(dir);
    const again = deleteBackup(bench.work.backups, 'mon', options);
    await expect(again).rejects.toMatchObject({ code: 'BACKUP_IN_USE' });
    await deleteBackup(bench.work.backups, 'mon', { ...options, force: true });
    expect(await bench.ended(job)).toMatchObject({ state: 'cancelled' });
    expect(bench.work.backups.list()).toEqual([]);
  });
});

describe('a catalog that was lost', () => {
  it('whose deletion was cut does not come back by a scan without its base', async () => {
    const states = (): string[] =>
      bench.work.backups.list().map(({ name, state }) => `${name} ${state}`);
    const cut = async (name: string): Promise<void> => {
      const record = bench.work.backups.get(name);
      record.state = 'incomplete';
      await bench.work.backups.save(record);
    };
    // newest first: both were begun, and nothing of them is gone
    await cut('wed');
    await cut('tue');
    await bench.ended(await submitScan(bench.work.backups, 'shelf'));
    expect(states()).toEqual(['mon complete', 'tue complete', 'wed complete']);
    await cut('wed');
    await cut('tue');
    await deleteBackup(bench.work.backups, 'tue');
    await bench.ended(await submitScan(bench.work.backups, 'shelf'));
    expect(states()).toEqual(['mon complete', 'wed incomplete']);
  });

  it('is deleted with what is built on it, also what is begun meanwhile', async () => {
    const { backups, targets } = bench.work;
    const medium = targets.medium(targets.get('shelf'));
    let goOn: (() => void) | undefined;
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const slow = new Proxy(medium, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        const call = value.bind(target) as (...given: unknown[]) => unknown;
        return name === 'readManifest' ? (key: string) => held.then(() => call(key)) : call;
      },
    });
    const given = vi.spyOn(targets, 'medium').mockReturnValueOnce(slow);
    const deletion = deleteBackup(backups, 'wed', { cascade: true, force: true });
    await vi.waitFor(() => {
      expect(given).toHaveBeenCalled();
    });
    const thu = await beginOn(bench, { name: 'thu', disk: 'd1', ...incremental });
    goOn?.();
    await deletion;
    expect(backups.list().map(({ name }) => name)).toEqual(['mon', 'tue']);
    expect(['cancelled', 'succeeded']).toContain((await bench.ended(thu)).state);
  });

  it('is deleted with what is built on it, also what a cut deletion has left', async () => {
    const wed = bench.work.backups.get('wed');
    wed.state = 'incomplete';
    await bench.work.backups.save(wed);
    await deleteBackup(bench.work.backups, 'tue', { cascade: true });
    expect(bench.work.backups.list().map(({ name }) => name)).toEqual(['mon']);
  });

  it('comes back with its chains by a scan, and everything can be restored', async () => {
    const { backups, restores } = bench.work;
    const before = backups.list();
    for (const record of before) await backups.forget(record);
    await succeeded(await submitScan(backups, 'shelf'));
    for (const record of before) {
      const { id, job, version } = backups.get(record.name);
      expect(backups.get(record.name)).toEqual({ ...record, id, job, version });
    }
    await succeeded(await restores.fromBackup('wed', { method: 'remap', disk: 'd2' }));
    expect((await contentNow(bench.disks.get('d2'))).equals(contents['wed']!)).toBe(true);
  });
});

describe('a verify of a member', () => {
  it('proves its image, and tells its chain', async () => {
    const job = await succeeded(await submitVerify(bench.work.backups, 'wed'));
    expect(job.result).toMatchObject({ ok: true, blocks: 3, chain: [...days] });
  });

  it('fails if another member is known to be damaged, or is cut', async () => {
    const { backups } = bench.work;
    await damage('tue', 0);
    await succeeded(await submitVerify(backups, 'wed'));
    const tue = await bench.ended(await submitVerify(backups, 'tue'));
    const damaged = [{ sourceOffset: 3 * BLOCK, length: BLOCK, exact: true }];
    expect(tue).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_DAMAGED', damaged } });
    const wed = await bench.ended(await submitVerify(backups, 'wed'));
    expect(wed).toMatchObject({
      state: 'failed',
      problem: { code: 'IMAGE_DAMAGED', damagedMember: 'tue' },
    });
    expect(backups.get('wed').state).toBe('complete');
    expect(backups.get('tue').state).toBe('damaged');
    const file = await open(imageFile('mon'), 'r+');
    await file.truncate(MIB);
    await file.close();
    const cut = await bench.ended(await submitVerify(backups, 'wed'));
    expect(cut).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_TRUNCATED' } });
  });

  it('is no base any more once it is damaged', async () => {
    const { backups } = bench.work;
    await damage('tue', 0);
    await bench.ended(await submitVerify(backups, 'tue'));
    const result = await backUp(bench, { name: 'thu', disk: 'd1', ...incremental });
    expect(result).toMatchObject({ base: { copyId: backups.get('mon').copyId } });
    const named = { name: 'fri', disk: 'd1', ...incremental, base: 'wed' } as const;
    await expect(backUp(bench, named)).rejects.toMatchObject({
      code: 'BASE_MISSING',
      details: { reason: 'damaged' },
    });
  });
});

describe('a consolidated backup', () => {
  it('has the bytes of a full backup of the copy, without the source', async () => {
    const { backups, restores } = bench.work;
    const copy = await freeze(bench.copies, 'd1', { name: 'thursday' });
    await backUp(bench, { name: 'thu', copy: 'thursday', ...incremental });
    const parts: Uint8Array[] = [];
    for await (const part of new ImageWriter(copy).read()) parts.push(Uint8Array.from(part));
    await bench.copies.delete('thursday');
    await bench.disks.delete('d1');
    const job = await succeeded(await beginConsolidate(backups, 'thu', { name: 'whole' }));
    expect(job.result).toMatchObject({ backup: 'whole', level: 'full' });
    expect((await readFile(imageFile('whole'))).equals(Buffer.concat(parts))).toBe(true);
    const { copyId, usedBytes } = backups.get('thu');
    const facts = { copyId, usedBytes, dataBytes: usedBytes, level: 'full', base: null };
    expect(backups.get('whole')).toMatchObject({ ...facts, state: 'complete' });
    await deleteBackup(backups, 'mon', { cascade: true });
    expect(backups.list().map(({ name }) => name)).toEqual(['whole']);
    await succeeded(await submitVerify(backups, 'whole'));
    await succeeded(await restores.fromBackup('whole', { method: 'remap', disk: 'd2' }));
    expect((await contentNow(bench.disks.get('d2'))).equals(contents['wed']!)).toBe(true);
  });

  it('serves as the base in place of its chain', async () => {
    const { backups } = bench.work;
    await succeeded(await beginConsolidate(backups, 'tue', { name: 'whole' }));
    expect(backups.readableChain('wed').map(({ name }) => name)).toEqual(['whole', 'wed']);
    await deleteBackup(backups, 'tue');
    await deleteBackup(backups, 'mon');
    await succeeded(await restoreTo('wed', 'd2'));
    expect((await contentNow(bench.disks.get('d2'))).equals(contents['wed']!)).toBe(true);
  });

  it('is not made of damaged members', async () => {
    const { backups } = bench.work;
    await damage('mon', 0);
    const job = await bench.ended(await beginConsolidate(backups, 'wed', { name: 'whole' }));
    expect(job).toMatchObject({ state: 'failed', problem: { code: 'IMAGE_DAMAGED' } });
    expect(backups.find('whole')).toBeUndefined();
  });

  it('goes on after a restart, and leaves nothing if it is cancelled', async () => {
    const slow = { name: 'whole', maxBytesPerSecond: 1 };
    const job = await beginConsolidate(bench.work.backups, 'wed', slow);
    await bench.close();
    bench = await openWork(dir);
    await bench.runner.update(job.id, { maxBytesPerSecond: null });
    await succeeded(job);
    const image = await readFile(imageFile('whole'));
    const next = await beginConsolidate(bench.work.backups, 'wed', { ...slow, name: 'second' });
    await bench.runner.cancel(next.id);
    expect(await bench.ended(next)).toMatchObject({ state: 'cancelled' });
    expect(bench.work.backups.find('second')).toBeUndefined();
    await rm(join(dir, 'shelf', 'whole'), { recursive: true });
    await succeeded(await submitScan(bench.work.backups, 'shelf'));
    await succeeded(await beginConsolidate(bench.work.backups, 'wed', { name: 'whole' }));
    expect((await readFile(imageFile('whole'))).equals(image)).toBe(true);
  });
});

describe('an incremental image', () => {
  it('that is uploaded alone is refused', async () => {
    const image = await readFile(imageFile('tue'));
    const { uploads } = bench.work;
    const session = await uploads.begin({ method: 'remap', disk: 'd2' }, image.length);
    const sent = (async () => {
      await session.push(image);
      await session.finish();
    })();
    const { base } = bench.work.backups.get('tue');
    await expect(sent).rejects.toMatchObject({
      code: 'BASE_MISSING',
      details: { reason: 'upload', base },
    });
    expect(await bench.ended(session.job)).toMatchObject({ state: 'failed' });
    expect(bench.disks.find('d2')).toBeUndefined();
  });

  it('is the same after the job was begun anew', async () => {
    await disk.write(0, randomBytes(40 * BLOCK));
    const copy = await freeze(bench.copies, 'd1', { name: 'thursday' });
    await backUp(bench, { name: 'thu', copy: copy.name, ...incremental, base: 'wed' });
    const request = { name: 'again', copy: copy.name, ...incremental, base: 'wed' } as const;
    await bench.copies.update('thursday', { name: 'renamed' });
    await bench.close();
    bench = await openWork(dir);
    await backUp(bench, { ...request, copy: 'renamed' });
    const [thu, again] = [await readFile(imageFile('thu')), await readFile(imageFile('again'))];
    expect(thu.equals(again)).toBe(true);
  });
});

async function restoreTo(backup: string, name: string): Promise<Job> {
  return bench.work.restores.fromBackup(backup, { method: 'remap', disk: name });
}
