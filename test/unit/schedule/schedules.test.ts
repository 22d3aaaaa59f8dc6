import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import type { ScheduleRequest } from '../../../src/schedule/requested.ts';
import { ScheduleBench } from '../../support/schedule-bench.ts';
import { makeFolder, removeFolder } from '../../support/work.ts';

let dir: string;
let bench: ScheduleBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await ScheduleBench.open(dir, '2026-03-28T12:00:00Z');
  for (const name of ['d1', 'd2']) {
    const { disk } = await bench.bench.disks.create({ name, capacityBytes: 64 * MIB });
    await disk.write(0, randomBytes(MIB));
  }
  await bench.bench.work.targets.create({ name: 'shelf', kind: 'directory', path: 'shelf' });
});

afterEach(async () => {
  expect([...bench.errors, ...bench.bench.errors]).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

async function make(more: Partial<ScheduleRequest> = {}): Promise<void> {
  const base = { name: 's', cron: '0 3 * * *', disks: ['d1'], target: 'shelf' };
  const { group, ...rest } = { ...base, ...more };
  const request = group === undefined ? rest : { ...rest, group, disks: undefined };
  await bench.schedules.create(request as ScheduleRequest);
}

/** The process ends and begins again at this moment. */
async function restart(moment: string): Promise<void> {
  await bench.close();
  bench = await ScheduleBench.open(dir, moment);
  bench.start();
  await bench.idle();
}

function instant(text: string): string {
  return `2026-${text}:00.000Z`;
}

describe('by the clock', () => {
  it('each instant is run once, its backups are named after it, and nothing else is', async () => {
    await make({ cron: '0 3 * * *', disks: ['d1', 'd2'] });
    bench.start();
    await bench.at('2026-03-29T02:59:59Z');
    expect(await bench.runs()).toEqual([]);
    await bench.at('2026-03-29T03:00:00Z');
    await bench.at('2026-03-29T23:00:00Z');
    await bench.at('2026-03-30T03:00:00Z');
    expect(await bench.runs()).toEqual([instant('03-29T03:00'), instant('03-30T03:00')]);
    expect(bench.backups()).toEqual([
      's-20260329-030000-d1',
      's-20260329-030000-d2',
      's-20260330-030000-d1',
      's-20260330-030000-d2',
    ]);
    expect(bench.get('s').progress).toMatchObject({
      lastRun: { state: 'succeeded', scheduledAtMs: Date.parse('2026-03-30T03:00:00Z') },
      lastSkipped: null,
    });
  });

  it('a change of the clock neither doubles nor loses a nightly run', async () => {
    await make({ cron: '30 2 * * *', timeZone: 'Europe/Berlin' });
    bench.start();
    for (const at of ['29T00:30', '29T01:00', '29T01:30', '29T12:00', '30T00:30', '30T12:00']) {
      await bench.at(`2026-03-${at}:00Z`);
    }
    expect(await bench.runs()).toEqual([instant('03-29T01:00'), instant('03-30T00:30')]);
  });

  it('a clock that is put back runs nothing twice; one put forward runs once for all', async () => {
    await make({ cron: '0 * * * *' });
    bench.start();
    await bench.at('2026-03-28T13:00:00Z');
    await bench.at('2026-03-28T14:00:00Z');
    await restart('2026-03-28T12:30:00Z');
    for (const hour of ['13', '14', '15']) await bench.at(`2026-03-28T${hour}:00:00Z`);
    const three = ['13:00', '14:00', '15:00'].map((time) => instant(`03-28T${time}`));
    expect(await bench.runs()).toEqual(three);
    await restart('2026-04-02T08:30:00Z');
    expect(await bench.runs()).toEqual([...three, instant('04-02T08:00')]);
    // it was wrong: back to the day before, where all goes on
    await restart('2026-03-28T16:30:00Z');
    await bench.at('2026-03-28T17:00:00Z');
    expect((await bench.runs()).at(-1)).toBe(instant('03-28T17:00'));
    await bench.at('2026-04-02T08:00:00Z');
    expect((await bench.runs()).filter((at) => at === instant('04-02T08:00'))).toHaveLength(1);
  });

  it('what was missed is caught up with once, or left out', async () => {
    await make({ cron: '0 3 * * *' });
    await make({ name: 't', cron: '0 4 * * *', catchUp: 'skip' });
    await restart('2026-04-10T12:00:00Z');
    expect(await bench.runs()).toEqual([instant('04-10T03:00')]);
    expect(bench.get('t').progress).toMatchObject({
      lastRun: null,
      lastSkipped: { scheduledAtMs: Date.parse('2026-04-10T04:00:00Z'), reason: 'missed' },
    });
    await bench.at('2026-04-11T04:00:00Z');
    expect(await bench.runs()).toEqual(
      ['10T03:00', '11T03:00', '11T04:00'].map((time) => instant(`04-${time}`)),
    );
  });

  it('jitter begins a run later, and names it after the instant', async () => {
    await make({ jitterSeconds: 3600 });
    bench.start();
    await bench.at('2026-03-29T03:00:00Z');
    const wait = bench.time.nowMs();
    expect(await bench.runs()).toEqual([]);
    await bench.at('2026-03-29T04:00:00Z');
    expect(await bench.runs()).toEqual([instant('03-29T03:00')]);
    const { startedAtMs } = bench.get('s').progress.lastRun!;
    expect(startedAtMs).toBeGreaterThan(wait);
    expect(startedAtMs).toBeLessThan(Date.parse('2026-03-29T04:00:00Z'));
  });

  it('one that is not enabled does nothing, and catches up with nothing when it is', async () => {
    await make({ enabled: false });
    bench.start();
    await bench.at('2026-03-30T12:00:00Z');
    await bench.schedules.update('s', { enabled: true });
    await bench.idle();
    expect(await bench.runs()).toEqual([]);
    await bench.at('2026-03-31T03:00:00Z');
    expect(await bench.runs()).toEqual([instant('03-31T03:00')]);
    await bench.schedules.update('s', { cron: '0 5 * * *' });
    await bench.at('2026-03-31T05:00:00Z');
    await bench.schedules.delete('s');
    await bench.at('2026-04-02T12:00:00Z');
    expect(await bench.runs()).toEqual([instant('03-31T03:00'), instant('03-31T05:00')]);
  });
});

describe('a run', () => {
  /** Its backup is so slow that the next instant comes meanwhile. */
  async function slow(overlap: 'skip' | 'queue'): Promise<() => Promise<void>> {
    await make({ cron: '0 * * * *', overlap, maxBytesPerSecond: 1 });
    bench.start();
    await bench.time.advance(Date.parse('2026-03-28T13:00:00Z') - bench.time.nowMs());
    while (!bench.runner.liveJobs().some(({ kind }) => kind === 'backup')) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return async () => {
      await bench.schedules.update('s', { maxBytesPerSecond: null });
      for (const { id, kind } of bench.runner.liveJobs()) {
        if (kind === 'backup') await bench.runner.update(id, { maxBytesPerSecond: null });
      }
      await bench.idle();
    };
  }

  async function hours(...wanted: string[]): Promise<void> {
    for (const hour of wanted) {
      await bench.time.advance(Date.parse(`2026-03-28T${hour}:00:00Z`) - bench.time.nowMs());
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  it('that takes too long lets the next instants be left out', async () => {
    const finish = await slow('skip');
    await hours('14', '15');
    await expect(bench.schedules.run('s')).rejects.toMatchObject({ code: 'JOB_STATE' });
    await finish();
    expect(await bench.runs()).toEqual([instant('03-28T13:00')]);
    expect(bench.get('s').progress.lastSkipped).toEqual({
      scheduledAtMs: Date.parse('2026-03-28T15:00:00Z'),
      reason: 'overlap',
    });
    await bench.at('2026-03-28T16:00:00Z');
    expect(await bench.runs()).toEqual([instant('03-28T13:00'), instant('03-28T16:00')]);
  });

  it('that takes too long lets the last of them wait for its end', async () => {
    const finish = await slow('queue');
    await hours('14', '15');
    expect(bench.get('s').progress.queuedMs).toBe(Date.parse('2026-03-28T15:00:00Z'));
    await finish();
    expect(await bench.runs()).toEqual([instant('03-28T13:00'), instant('03-28T15:00')]);
    expect(bench.get('s').progress).toMatchObject({
      queuedMs: null,
      lastSkipped: { scheduledAtMs: Date.parse('2026-03-28T14:00:00Z'), reason: 'overlap' },
    });
  });

  it('never begins beside one that was asked for in the same turn', async () => {
    await make({ cron: '0 * * * *' });
    await bench.time.advance(Date.parse('2026-03-28T13:00:00Z') - bench.time.nowMs());
    bench.start();
    await Promise.allSettled([bench.schedules.run('s')]);
    await bench.idle();
    expect(await bench.runs()).toHaveLength(1);
    expect(bench.backups()).toHaveLength(1);
  });

  it('does not wait for its turn once the schedule is not enabled any more', async () => {
    const finish = await slow('queue');
    await hours('14');
    const { meta } = bench.bench;
    const commit = meta.commit.bind(meta);
    meta.commit = async (changes) => {
      if (!changes.rows.some(({ table }) => table === 'schedules')) return commit(changes);
      meta.commit = commit;
      await Promise.all([commit(changes), bench.schedules.update('s', { enabled: false })]);
    };
    await hours('15');
    expect(bench.get('s').progress.queuedMs).toBeNull();
    await finish();
    expect(await bench.runs()).toEqual([instant('03-28T13:00')]);
  });

  it('is not begun again by a restart in its middle, and waits for its backup', async () => {
    await slow('queue');
    await hours('14');
    await bench.close();
    bench = await ScheduleBench.open(dir, '2026-03-28T14:20:00Z');
    bench.start();
    for (const { id, kind } of bench.runner.liveJobs()) {
      if (kind === 'backup') await bench.runner.update(id, { maxBytesPerSecond: null });
    }
    await bench.schedules.update('s', { maxBytesPerSecond: null });
    await bench.idle();
    expect(await bench.runs()).toEqual([instant('03-28T13:00'), instant('03-28T14:00')]);
    expect(bench.backups()).toEqual(['s-20260328-130000', 's-20260328-140000']);
    expect(bench.bench.work.backups.list().every(({ state }) => state === 'complete')).toBe(true);
    expect(bench.get('s').progress.lastRun).toMatchObject({ state: 'succeeded' });
  });

  it('that is cancelled ends its backups and is remembered; the next one comes', async () => {
    await slow('skip');
    const run = bench.runner.liveJobs().find(({ kind }) => kind === 'schedule')!;
    await bench.runner.cancel(run.id);
    await bench.idle();
    expect(bench.backups()).toEqual([]);
    expect(bench.get('s').progress.lastRun).toMatchObject({ job: run.id, state: 'cancelled' });
    await bench.schedules.update('s', { maxBytesPerSecond: null });
    await bench.at('2026-03-28T14:00:00Z');
    expect(bench.backups()).toEqual(['s-20260328-140000']);
  });

  it('with a disk that fails backs up the others, tells why, and stops no other run', async () => {
    await make({ disks: ['d1', 'd2'], retention: { keepLast: 1 } });
    bench.start();
    await bench.at('2026-03-29T03:00:00Z');
    const success = bench.get('s').progress.lastSuccessAtMs;
    expect(success).not.toBeNull();
    await bench.bench.disks.delete('d1');
    await bench.at('2026-03-30T03:00:00Z');
    await bench.at('2026-03-31T03:00:00Z');
    const { items } = await bench.runner.list({ kind: 'schedule' });
    expect(items).toHaveLength(3);
    expect(items[0]).toMatchObject({
      state: 'failed',
      problem: {
        code: 'NOT_FOUND',
        backup: 's-20260331-030000-d1',
        backups: [
          { disk: 'd1', state: 'failed', problem: { code: 'NOT_FOUND' } },
          { disk: 'd2', state: 'succeeded', backup: 's-20260331-030000-d2' },
        ],
        retention: { deletedBackups: 1 },
      },
    });
    // nothing is taken from the disk that has no newer backup
    expect(bench.backups()).toEqual(['s-20260329-030000-d1', 's-20260331-030000-d2']);
    expect(bench.get('s').progress).toMatchObject({ lastRun: { state: 'failed' } });
    expect(bench.get('s').progress.lastSuccessAtMs).toBe(success);
  });

  it('of a group freezes all at one instant, backs up as one, and leaves no copies', async () => {
    await make({ group: ['d1', 'd2'], level: 'incremental', retention: { keepLast: 1 } });
    bench.start();
    await bench.at('2026-03-29T03:00:00Z');
    const [run] = (await bench.runner.list({ kind: 'schedule' })).items;
    expect(run).toMatchObject({
      state: 'succeeded',
      result: {
        backups: [
          { disk: 'd1', backup: 's-20260329-030000-d1', state: 'succeeded', level: 'full' },
          { disk: 'd2', backup: 's-20260329-030000-d2', state: 'succeeded', level: 'full' },
        ],
      },
    });
    const { backups } = bench.bench.work;
    const made = backups.list();
    expect(new Set(made.map(({ group }) => group?.name))).toEqual(new Set(['s-20260329-030000']));
    expect(new Set(made.map(({ frozenAtMs }) => frozenAtMs)).size).toBe(1);
    expect(bench.bench.copies.list()).toEqual([]);
    expect(bench.bench.copies.groups.list()).toEqual([]);
    await bench.at('2026-03-30T03:00:00Z');
    // the full ones stay: the increments are built on them
    expect(backups.list().map(({ level }) => level)).toEqual([
      ...['full', 'full', 'incremental', 'incremental'],
    ]);
  });

  it('of a group goes on after a restart, and leaves nothing when it is cancelled', async () => {
    await make({ cron: '0 * * * *', group: ['d1', 'd2'], maxBytesPerSecond: 1 });
    bench.start();
    const begun = async (moment: string): Promise<string> => {
      await bench.time.advance(Date.parse(moment) - bench.time.nowMs());
      while (!bench.runner.liveJobs().some(({ kind }) => kind === 'group-backup')) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return bench.runner.liveJobs().find(({ kind }) => kind === 'schedule')!.id;
    };
    await begun('2026-03-28T13:00:00Z');
    await bench.close();
    bench = await ScheduleBench.open(dir, '2026-03-28T13:20:00Z');
    bench.start();
    const [backup] = bench.runner.liveJobs().filter(({ kind }) => kind === 'group-backup');
    await bench.runner.update(backup!.id, { maxBytesPerSecond: null });
    await bench.idle();
    const both = ['s-20260328-130000-d1', 's-20260328-130000-d2'];
    expect(bench.backups()).toEqual(both);
    expect(bench.get('s').progress.lastRun).toMatchObject({ state: 'succeeded' });
    expect(bench.bench.copies.groups.list()).toEqual([]);
    const run = await begun('2026-03-28T14:00:00Z');
    expect(bench.bench.copies.groups.list()).toHaveLength(1);
    await bench.runner.cancel(run);
    await bench.idle();
    expect(bench.backups()).toEqual(both);
    expect(bench.bench.copies.groups.list()).toEqual([]);
    expect(bench.get('s').progress.lastRun).toMatchObject({ state: 'cancelled' });
  });

  it('keeps what retention says of its own backups, and touches no others', async () => {
    const { beginBackup } = await import('../../../src/backup/begin-backup.ts');
    const own = { name: 'by-hand', disk: 'd1', target: 'shelf' };
    await bench.bench.ended(await beginBackup(bench.bench.work.backups, own));
    await make({ cron: '0 */6 * * *', retention: { keepLast: 2 } });
    bench.start();
    for (const day of ['29', '30']) {
      for (const hour of ['00', '06', '12', '18']) await bench.at(`2026-03-${day}T${hour}:00:00Z`);
    }
    expect(bench.backups()).toEqual(['by-hand', 's-20260330-120000', 's-20260330-180000']);
  });

  it('incremental begins with a full backup and says so; retention keeps its chain', async () => {
    await make({ level: 'incremental', retention: { keepLast: 2 } });
    bench.start();
    const levels: unknown[] = [];
    for (const day of ['29', '30', '31']) {
      await bench.at(`2026-03-${day}T03:00:00Z`);
      const [run] = (await bench.runner.list({ kind: 'schedule' })).items;
      levels.push((run!.result as { backups: { level: string }[] }).backups[0]!.level);
    }
    expect(levels).toEqual(['full', 'incremental', 'incremental']);
    expect(bench.backups()).toEqual([
      's-20260329-030000',
      's-20260330-030000',
      's-20260331-030000',
    ]);
  });
});
