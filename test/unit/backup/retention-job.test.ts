import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { beginBackup } from '../../../src/backup/begin-backup.ts';
import {
  carryOut,
  planRetention,
  readState,
  resultJson,
  stateJson,
  submitRetention,
} from '../../../src/backup/retention-job.ts';
import { MIB } from '../../../src/base/units.ts';
import type { Json } from '../../../src/job/job.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

let dir: string;
let bench: WorkBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir);
  const { disk } = await bench.disks.create({ name: 'd1', capacityBytes: 64 * MIB });
  await disk.write(0, randomBytes(4 * MIB));
  await bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
  for (const name of ['b1', 'b2', 'b3', 'b4']) {
    const job = await beginBackup(bench.work.backups, { name, disk: 'd1', target: 'shelf' });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
  }
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

function names(): string[] {
  return bench.work.backups.list().map(({ name }) => name);
}

it('leaves a backup that a restore reads, and deletes the others', async () => {
  const { backups, restores } = bench.work;
  const reading = await restores.fromBackup('b2', {
    method: 'remap',
    disk: 'd2',
    maxBytesPerSecond: 1,
  });
  const job = await bench.ended(await submitRetention(backups, { keepLast: 1 }));
  expect(job).toMatchObject({
    state: 'succeeded',
    result: { deletedBackups: 2, left: [{ backup: 'b2', code: 'BACKUP_IN_USE' }] },
  });
  expect(names()).toEqual(['b2', 'b4']);
  await bench.runner.update(reading.id, { maxBytesPerSecond: null });
  expect(await bench.ended(reading)).toMatchObject({ state: 'succeeded' });
});

it('fails with the reason when the target is away, and what is gone is told', async () => {
  const shelf = join(dir, 'shelf');
  await rename(shelf, `${shelf}-away`);
  const job = await bench.ended(await submitRetention(bench.work.backups, { keepLast: 1 }));
  expect(job).toMatchObject({
    state: 'failed',
    problem: { code: 'TARGET_UNAVAILABLE', backup: 'b3', deleted: [] },
  });
  expect(names()).toHaveLength(4);
  await rename(`${shelf}-away`, shelf);
  const again = await bench.ended(await submitRetention(bench.work.backups, { keepLast: 1 }));
  expect(again).toMatchObject({ state: 'succeeded', result: { deletedBackups: 3 } });
});

it('goes on after a restart in the middle, and its result names all that was deleted', async () => {
  const { backups } = bench.work;
  const matching = backups.matching.bind(backups);
  let isHeld = false;
  const { promise: held, resolve: letGo } = Promise.withResolvers<undefined>();
  backups.matching = async (target, body) => {
    if (isHeld) await held;
    isHeld = true;
    return matching(target, body);
  };
  const job = await submitRetention(backups, { keepLast: 1 });
  while (names().length > 3) await new Promise((resolve) => setTimeout(resolve, 5));
  const closing = bench.close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  letGo(undefined);
  await closing;
  bench = await openWork(dir);
  const ended = await bench.ended(job);
  expect(ended).toMatchObject({ state: 'succeeded', result: { deletedBackups: 3 } });
  expect(names()).toEqual(['b4']);
});

const context = {
  signal: new AbortController().signal,
  log: () => undefined,
  progress: () => undefined,
};

it('ends a deletion that a crash has cut, and leaves other incomplete ones alone', async () => {
  const { backups } = bench.work;
  const [b1, b2] = [backups.get('b1'), backups.get('b2')];
  b1.state = 'incomplete';
  b2.state = 'incomplete';
  const going = [{ id: b2.id, backup: 'b2', reason: 'old' }];
  const before = { deletedBackups: 1, deleted: [{ backup: 'b0', reason: 'old' }], going };
  const plan = planRetention(backups, { keepLast: 1 });
  const result = await carryOut(backups, plan, context, before, async () => undefined);
  expect(result.deleted.map(({ backup }) => backup)).toEqual(['b0', 'b2', 'b3']);
  expect(result.deletedBackups).toBe(3);
  expect(names()).toEqual(['b1', 'b4']);
});

it('counts each deletion, also the last one before a crash', async () => {
  const { backups } = bench.work;
  const plan = planRetention(backups, { keepLast: 1 });
  let stored: Json = null;
  const attempt = (): ReturnType<typeof carryOut> =>
    carryOut(backups, plan, context, readState(stored), async (state) => {
      stored = stateJson(state);
    });
  const forget = backups.forget.bind(backups);
  let deletions = 0;
  backups.forget = async (...records) => {
    await forget(...records);
    deletions += 1;
    if (deletions === 2) throw new Error('the process ends');
  };
  await expect(attempt()).rejects.toThrow('the process ends');
  const result = resultJson(await attempt());
  expect(result).toMatchObject({ deletedBackups: 3, keptBackups: 1 });
  expect(result['deleted']).toMatchObject(['b3', 'b2', 'b1'].map((backup) => ({ backup })));
});

it('writes so much of its progress as it deletes, however much that is', async () => {
  const { backups } = bench.work;
  const last = backups.get('b4');
  const count = 150;
  for (let number = 1; number <= count; number += 1) {
    const name = `old-${number}`;
    const id = `00000000-0000-7000-8000-${String(number).padStart(12, '0')}`;
    backups.add({ ...last, id, name, mediumName: name, copyId: id, generation: -number });
  }
  const plan = planRetention(backups, { keepLast: 4 });
  let bytes = 0;
  const result = await carryOut(backups, plan, context, readState(null), async (state) => {
    bytes += JSON.stringify(stateJson(state)).length;
  });
  expect(result.deleted).toHaveLength(count);
  expect(bytes).toBeLessThan(count * 500);
  expect(readState(stateJson({ ...readState(null), deletedBackups: 5000 }))).toMatchObject({
    deletedBackups: 5000,
  });
});
