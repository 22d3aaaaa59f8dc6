import { randomBytes } from 'node:crypto';
import {
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRetryable } from '../../../src/api/problem.ts';
import { submitScan } from '../../../src/backup/scan-job.ts';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import type { StorageError } from '../../../src/base/errors.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import type { Job } from '../../../src/job/job.ts';
import { backUp, beginOn, incremental } from '../../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: 16 * KIB });
  const { disk } = await bench.disks.create({ name: 'd1', capacityBytes: 4 * MIB });
  await disk.write(0, randomBytes(MIB));
  await backUp(bench, { name: 'b1', disk: 'd1' });
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

function at(...names: string[]): string {
  return join(dir, 'shelf', ...names);
}

async function scan(): Promise<unknown> {
  const job = await bench.ended(await submitScan(bench.work.backups, 'shelf'));
  expect(job.state).toBe('succeeded');
  return job.result;
}

function stateOf(name: string): string | undefined {
  return bench.work.backups.find(name)?.state;
}

async function durableState(name: string): Promise<unknown> {
  const rows = await bench.meta.rows('backups');
  return rows.find((row) => row['name'] === name)?.['state'];
}

async function setState(name: string, state: 'complete' | 'damaged'): Promise<void> {
  const record = bench.work.backups.get(name);
  record.state = state;
  await bench.work.backups.save(record);
}

async function verify(name: string): Promise<Job> {
  return bench.ended(await submitVerify(bench.work.backups, name));
}

async function restore(name: string): Promise<Job> {
  const request = { method: 'remap', disk: `from-${name}` } as const;
  return bench.ended(await bench.work.restores.fromBackup(name, request));
}

describe('a folder of others on the target', () => {
  it('is not replaced by a backup of its name', async () => {
    await mkdir(at('junk'));
    await writeFile(at('junk', 'manifest.json'), '{');
    const job = await bench.ended(await beginOn(bench, { name: 'junk', disk: 'd1' }));
    expect(job).toMatchObject({
      state: 'failed',
      problem: { code: 'NAME_TAKEN', name: 'junk', target: 'shelf' },
    });
    expect(job.problem?.detail).toContain(at('junk'));
    expect(bench.work.backups.find('junk')).toBeUndefined();
    expect(await readdir(at('junk'))).toEqual(['manifest.json']);
    expect(await readFile(at('junk', 'manifest.json'), 'utf8')).toBe('{');
  });

  it.each(['fails', 'is cancelled'])('with an image keeps that if the backup %s', async (how) => {
    await mkdir(at('junk'));
    await rename(at('b1', 'image.spindle'), at('junk', 'image.spindle'));
    const image = await readFile(at('junk', 'image.spindle'));
    await bench.disks.get('d1').write(0, randomBytes(MIB));
    const begun = await beginOn(bench, { name: 'junk', disk: 'd1' });
    if (how === 'is cancelled') await bench.runner.cancel(begun.id);
    const job = await bench.ended(begun);
    const taken = { state: 'failed', problem: { code: 'NAME_TAKEN', name: 'junk' } };
    expect(job).toMatchObject(how === 'fails' ? taken : { state: 'cancelled' });
    expect(bench.work.backups.find('junk')).toBeUndefined();
    expect(await readdir(at('junk'))).toEqual(['image.spindle']);
    expect((await readFile(at('junk', 'image.spindle'))).equals(image)).toBe(true);
    await scan();
    const later = await bench.ended(await beginOn(bench, { name: 'junk', disk: 'd1' }));
    expect(later).toMatchObject(taken);
  });
});

describe('an image that is a symbolic link', () => {
  it.each([verify, restore])('is not read, and nobody waits for it (%#)', async (read) => {
    await rename(at('b1', 'image.spindle'), at('elsewhere'));
    await symlink(at('elsewhere'), at('b1', 'image.spindle'));
    expect(await read('b1')).toMatchObject({
      state: 'failed',
      problem: { code: 'BACKUP_INCOMPLETE', backup: 'b1', target: 'shelf' },
    });
  });
});

describe('a scan', () => {
  const nothing = { added: [], known: [], removed: [], incomplete: [], unreadable: [] };

  it.each([
    ['image.spindle', 'complete'],
    ['image.spindle', 'damaged'],
    ['manifest.json', 'complete'],
  ] as const)('without %s makes a %s entry incomplete', async (file, before) => {
    await backUp(bench, { name: 'i1', disk: 'd1', ...incremental });
    await setState('b1', before);
    await rename(at('b1', file), at('kept'));
    expect(await scan()).toEqual({ ...nothing, known: ['i1'], incomplete: ['b1'] });
    expect([stateOf('b1'), await durableState('b1')]).toEqual(['incomplete', 'incomplete']);
    expect(bench.work.backups.chains().chainTo(bench.work.backups.get('i1')).missing).toEqual(
      bench.work.backups.get('i1').base,
    );
    for (const base of [{}, { base: 'b1' }]) {
      const next = beginOn(bench, { name: 'i2', disk: 'd1', ...incremental, ...base });
      await expect(next).rejects.toMatchObject({ code: 'BASE_MISSING' });
    }
    expect(await scan()).toEqual({ ...nothing, known: ['i1'], incomplete: ['b1'] });
    await rename(at('kept'), at('b1', file));
    expect(await scan()).toEqual({ ...nothing, known: ['b1', 'i1'] });
    expect([stateOf('b1'), await durableState('b1')]).toEqual(['complete', 'complete']);
  });

  it('without the folder takes the entry out', async () => {
    await rm(at('b1'), { recursive: true });
    expect(await scan()).toEqual({ ...nothing, removed: ['b1'] });
    expect(stateOf('b1')).toBeUndefined();
  });

  it('without the folder makes an entry that a job uses incomplete', async () => {
    const { backups } = bench.work;
    const job = await submitVerify(backups, 'b1');
    await bench.runner.pause(job.id);
    await rm(at('b1'), { recursive: true });
    expect(await scan()).toEqual({ ...nothing, incomplete: ['b1'] });
    expect(stateOf('b1')).toBe('incomplete');
    await backups.endJob(job.id);
    expect(await scan()).toEqual({ ...nothing, removed: ['b1'] });
  });

  it('of an image that is too short calls it damaged, also a new one', async () => {
    const size = bench.work.backups.get('b1').mediumBytes;
    await truncate(at('b1', 'image.spindle'), size - 100_000);
    const reason = `the image has ${size - 100_000} of ${size} bytes`;
    const unreadable = [{ name: 'b1', reason }];
    expect(await scan()).toEqual({ ...nothing, unreadable });
    expect([stateOf('b1'), await durableState('b1')]).toEqual(['damaged', 'damaged']);
    await expect(beginOn(bench, { name: 'i1', disk: 'd1', ...incremental })).rejects.toMatchObject({
      code: 'BASE_MISSING',
    });
    await bench.work.backups.forget(bench.work.backups.get('b1'));
    expect(await scan()).toEqual({ ...nothing, added: ['b1'], unreadable });
    expect(stateOf('b1')).toBe('damaged');
    const request = { method: 'remap', disk: 'd2', onDamage: 'skip' } as const;
    const job = await bench.ended(await bench.work.restores.fromBackup('b1', request));
    expect(job.state).toBe('succeeded');
  });
});

describe('a job that finds no image', () => {
  it.each([
    [verify, 'image.spindle', 'BACKUP_INCOMPLETE'],
    [restore, 'image.spindle', 'BACKUP_INCOMPLETE'],
    [verify, '', 'NOT_FOUND'],
    [restore, '', 'NOT_FOUND'],
  ] as const)('makes the entry incomplete (%#)', async (read, file, code) => {
    await bench.disks.get('d1').write(0, randomBytes(64 * KIB));
    await backUp(bench, { name: 'i1', disk: 'd1', ...incremental });
    await rm(at('b1', file), { recursive: true });
    expect(await read('i1')).toMatchObject({ state: 'failed', problem: { code } });
    expect([stateOf('b1'), await durableState('b1')]).toEqual(['incomplete', 'incomplete']);
    expect(stateOf('i1')).toBe('complete');
  });

  it('as a restore of a short one makes the entry damaged', async () => {
    await truncate(at('b1', 'image.spindle'), 100_000);
    expect(await restore('b1')).toMatchObject({ problem: { code: 'IMAGE_TRUNCATED' } });
    expect([stateOf('b1'), await durableState('b1')]).toEqual(['damaged', 'damaged']);
  });

  it('as the target is not there changes nothing', async () => {
    await rename(at(), join(dir, 'away'));
    const job = await submitVerify(bench.work.backups, 'b1');
    while ((await bench.runner.wait(job.id, 100)).state !== 'waiting');
    await bench.work.backups.endJob(job.id);
    expect(stateOf('b1')).toBe('complete');
  });
});

it('only a backup that is being made is worth another try', async () => {
  const { backups } = bench.work;
  const record = backups.get('b1');
  for (const [state, retryable] of [
    ['creating', true],
    ['incomplete', false],
  ] as const) {
    record.state = state;
    await expect(submitVerify(backups, 'b1')).rejects.toSatisfy((error: StorageError) => {
      return isRetryable(error) === retryable && error.code === 'BACKUP_INCOMPLETE';
    });
  }
  record.state = 'complete';
});
