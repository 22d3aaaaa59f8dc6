/** What is dear to work out is worked out for what is shown, not for all that is there. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { pageOf } from '../../../src/api/pages.ts';
import { backupView, scheduleView } from '../../../src/api/views.ts';
import { Chains } from '../../../src/backup/chains.ts';
import type { BackupRecord } from '../../../src/backup/records.ts';
import { MIB } from '../../../src/base/units.ts';
import { BackupService } from '../../../src/services/backups.ts';
import { ScheduleService } from '../../../src/services/schedules.ts';
import { ScheduleBench } from '../../support/schedule-bench.ts';
import { makeFolder, removeFolder } from '../../support/work.ts';

let dir: string;
let bench: ScheduleBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await ScheduleBench.open(dir, '2026-03-28T12:00:00Z');
  await bench.bench.disks.create({ name: 'd', capacityBytes: MIB });
  await bench.bench.work.targets.create({ name: 't', kind: 'directory', path: 't' });
});

afterEach(async () => {
  vi.restoreAllMocks();
  await bench.close();
  await removeFolder(dir);
});

/** The one with this number; each hundred is a chain. */
function entry(number: number): BackupRecord {
  const { disks } = bench.bench.copies.options;
  const before = { copyId: `copy-${number - 1}`, generation: number - 1 };
  const isFull = number % 100 === 0;
  return {
    id: `id-${String(number).padStart(6, '0')}`,
    ...{ name: `b${number}`, mediumName: `b${number}`, imageId: `image-${number}` },
    targetId: bench.bench.work.targets.get('t').id,
    ...{ copyId: `copy-${number}`, copyName: 'c', generation: number },
    ...{ diskId: disks.get('d').id, diskName: 'd' },
    ...{ level: isFull ? 'full' : 'incremental', base: isFull ? null : before },
    ...{ state: 'complete', mediumBytes: 1, usedBytes: 1, dataBytes: 1 },
    ...{ sourceCapacityBytes: MIB, blockSizeBytes: 65536, labels: {}, job: null },
    ...{ frozenAtMs: 0, verifiedAtMs: null, version: 1, createdAtMs: 0 },
  };
}

it('a page of ten thousand backups works out the chains that it shows, each once', () => {
  const { backups } = bench.bench.work;
  for (let number = 0; number < 10_000; number += 1) backups.add(entry(number));
  const service = new BackupService(backups);
  const chainTo = vi.spyOn(Chains.prototype, 'chainTo');
  const found = service.list().filter(({ target, disk }) => target === 't' && disk === 'd');
  const { items } = pageOf('backups', found, { pageSize: 20 }, { view: backupView });
  expect(chainTo).toHaveBeenCalledTimes(20);
  expect(items.map(({ chain }) => chain.length)).toEqual(items.map((_, index) => index + 1));
  expect(items[0]).toMatchObject({ base: null, isChainComplete: true });
  expect(items[1]).toMatchObject({ base: { backup: 'b0' }, isChainComplete: true });
  for (const record of backups.list()) backups.drop(record);
});

it('the next runs of a schedule are worked out when they are shown, once', async () => {
  const { schedules } = bench;
  await schedules.create({ name: 's', cron: '0 3 * * *', disks: ['d'], target: 't' });
  const nextRuns = vi.spyOn(schedules, 'nextRuns');
  const [schedule] = new ScheduleService(schedules, bench.bench.work.backups).list();
  expect(schedule).toMatchObject({ name: 's', lastSuccessAtMs: null });
  expect(nextRuns).not.toHaveBeenCalled();
  expect(scheduleView(schedule!).nextRuns).toHaveLength(5);
  expect(nextRuns).toHaveBeenCalledTimes(1);
});
