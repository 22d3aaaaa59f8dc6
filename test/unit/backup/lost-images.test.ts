import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { submitVerify } from '../../../src/backup/verify-job.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import type { Job } from '../../../src/job/job.ts';
import { backUp, beginOn } from '../../support/chain-work.ts';
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
    expect(job).toMatchObject({ state: 'failed', problem: { code: 'NAME_TAKEN', name: 'junk' } });
    expect(job.problem?.detail).toContain(at('junk'));
    expect(bench.work.backups.find('junk')).toBeUndefined();
    expect(await readdir(at('junk'))).toEqual(['manifest.json']);
    expect(await readFile(at('junk', 'manifest.json'), 'utf8')).toBe('{');
  });
});

describe('an image that is a symbolic link', () => {
  it.each([verify, restore])('is not read, and nobody waits for it (%#)', async (read) => {
    await rename(at('b1', 'image.spindle'), at('elsewhere'));
    await symlink(at('elsewhere'), at('b1', 'image.spindle'));
    expect(await read('b1')).toMatchObject({
      state: 'failed',
      problem: { code: 'BACKUP_INCOMPLETE', backup: 'b1' },
    });
  });
});
