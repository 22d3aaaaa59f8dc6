import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSource } from '../../../src/backup/backup-source.ts';
import { poolPlaces } from '../../../src/backup/backup-job.ts';
import { runTask } from '../../../src/backup/worker-client.ts';
import { KIB, MIB, TIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { ImageLayout } from '../../../src/image/format.ts';
import { backUp, incremental } from '../../support/chain-work.ts';
import { restoreProgram } from '../../support/restore-program.ts';
import { digest } from '../../support/work-content.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const { run, restored } = restoreProgram();
let dir: string;
let bench: WorkBench;
let disk: Disk;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

/** A full backup of some MiB, and changes of `changed` MiB here and there. */
async function changedDisk(changed: number, capacityBytes: number): Promise<void> {
  ({ disk } = await bench.disks.create({ name: 'd1', capacityBytes }));
  for (let at = 0; at < 48; at += 4) await disk.write(at * MIB, randomBytes(4 * MIB));
  await backUp(bench, { name: 'full', disk: 'd1' });
  for (let done = 0; done < changed; done += 1) {
    await disk.write(done * MIB + 100 * KIB, randomBytes(MIB - 100 * KIB));
    if (done % 3 === 0) await disk.discard(done * MIB, 64 * KIB);
  }
}

function imageFile(name: string): string {
  return join(dir, 'shelf', name, 'image.spindle');
}

describe('an increment too large for the engine’s thread', () => {
  it('is written by a thread of its own, and restored', async () => {
    await changedDisk(44, TIB);
    const before = await digest(disk);
    const made = await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    expect(made['mediumBytes']).toBeGreaterThan(32 * MIB);
    const request = { method: 'remap', disk: 'd2' } as const;
    const job = await bench.ended(await bench.work.restores.fromBackup('tue', request));
    expect(job).toMatchObject({ state: 'succeeded' });
    expect(await digest(bench.disks.get('d2'))).toBe(before);
    expect(bench.disks.get('d2').usedBytes).toBe(disk.usedBytes);
  });
});

describe('an incremental image', () => {
  it('goes on from any confirmed offset with the same bytes', async () => {
    await changedDisk(20, TIB);
    const copy = await freeze(bench.copies, 'd1', { name: 'tuesday' });
    await backUp(bench, { name: 'tue', copy: 'tuesday', ...incremental });
    const image = await readFile(imageFile('tue'));
    const { backups, targets } = bench.work;
    const shelf = targets.get('shelf');
    const { signal } = new AbortController();
    const source = await openSource(backups, backups.get('tue'), copy, signal);
    const { facts, ...answers } = source;
    const layout = new ImageLayout(facts);
    expect(layout.zeroPages).toBe(1);
    const offsets = [
      layout.tableOffset,
      layout.zeroPagesOffset,
      layout.segmentOffset(0),
      layout.segmentOffset(1),
      layout.trailerOffset,
    ];
    for (const [index, offset] of offsets.entries()) {
      const name = `cut${index}`;
      const sink = await targets.medium(shelf).createBackup(name);
      await sink.write([image.subarray(0, offset)]);
      expect(await sink.confirm()).toBe(offset);
      await sink.abort(true);
      await runTask(
        {
          kind: 'backup',
          target: targets.place(shelf),
          name,
          resumeFrom: offset,
          facts,
          pool: poolPlaces(copy),
          manifest: {},
        },
        {
          ...answers,
          keep: async (segment, checksums) => {
            await source.keep(segment, checksums);
            return undefined;
          },
          progress: () => undefined,
          confirmed: () => undefined,
        },
        signal,
      );
      expect((await readFile(imageFile(name))).equals(image)).toBe(true);
    }
  });

  it('is restored with its base by the program that knows the format only', async () => {
    await changedDisk(6, 64 * MIB);
    await backUp(bench, { name: 'tue', disk: 'd1', ...incremental });
    await disk.write(50 * MIB, randomBytes(MIB));
    await disk.discard(0, 2 * MIB);
    await backUp(bench, { name: 'wed', disk: 'd1', ...incremental });
    const files = ['wed', 'full', 'tue'].map(imageFile);
    expect(run(['restore', ...files, 'disk.raw']).status).toBe(0);
    const content = Buffer.alloc(64 * MIB);
    await disk.read(0, content);
    expect(restored('disk.raw').equals(content)).toBe(true);
  });
});
