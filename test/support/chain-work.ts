/** Backups of chains, and what they hold according to their images alone. */
import { expect } from 'vitest';
import { type BackupRequest, beginBackup } from '../../src/backup/begin-backup.ts';
import type { BackupRecord } from '../../src/backup/records.ts';
import { ImageFrame } from '../../src/image/format.ts';
import { ImageReader } from '../../src/image/reader.ts';
import { zeroPages } from '../../src/image/zero-pages.ts';
import type { Job, JsonObject } from '../../src/job/job.ts';
import type { WorkBench } from './work.ts';

export const incremental = { level: 'incremental' } as const;

/** To a target `shelf`, which is made if need be. */
export async function beginOn(
  bench: WorkBench,
  request: Omit<BackupRequest, 'target'>,
): Promise<Job> {
  const { targets, backups } = bench.work;
  if (targets.find('shelf') === undefined) {
    await targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
  }
  return beginBackup(backups, { ...request, target: 'shelf' });
}

/** Waits until it is complete. @returns the job's result */
export async function backUp(
  bench: WorkBench,
  request: Omit<BackupRequest, 'target'>,
): Promise<JsonObject> {
  const job = await bench.ended(await beginOn(bench, request));
  expect(job).toMatchObject({ state: 'succeeded', result: { backup: request.name } });
  return job.result as JsonObject;
}

/** The disk at the time of the backup: its images laid over each other as the format page says. */
export async function contentOf(bench: WorkBench, name: string): Promise<Buffer> {
  const { backups } = bench.work;
  let content: Buffer = Buffer.alloc(0);
  for (const member of backups.readableChain(name)) {
    content = await laidOver(bench, content, member);
  }
  return content;
}

async function laidOver(
  bench: WorkBench,
  below: Buffer,
  { targetId, mediumName }: BackupRecord,
): Promise<Buffer> {
  const { targets } = bench.work;
  const bytes = await targets.medium(targets.get(targetId)).open(mediumName);
  try {
    const reader = await ImageReader.open(bytes);
    const { facts } = reader;
    const { blockSizeBytes: size, capacityBytes } = facts;
    const content = Buffer.alloc(capacityBytes);
    below.copy(content);
    for await (const page of zeroPages(bytes, new ImageFrame(facts), 'fail')) {
      if (page.kind === 'bad') throw new Error('a bad page of zero ranges');
      for (let at = 0; at < page.ranges.length; at += 2) {
        const [first = 0, length = 0] = page.ranges.subarray(at, at + 2);
        content.fill(0, first * size, Math.min((first + length) * size, capacityBytes));
      }
    }
    for await (const { sourceBlocks, data } of reader.segments({ onDamage: 'fail' })) {
      sourceBlocks.forEach((block, index) => {
        const end = Math.min(size, capacityBytes - block * size);
        content.set(data.subarray(index * size, index * size + end), block * size);
      });
    }
    return content;
  } finally {
    await bytes.close();
  }
}
