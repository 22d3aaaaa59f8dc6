/** Schedules of the fakes: made, changed and run by hand; no clock runs them. */
import type { Effects } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/work-services.ts';
import { StorageError } from '../../src/base/errors.ts';
import { bumpIfChanged } from '../../src/base/version.ts';
import { isEnd, type Job, type Json } from '../../src/job/job.ts';
import { cronTimes } from '../../src/schedule/cron.ts';
import type { ScheduleSettings } from '../../src/schedule/records.ts';
import { changed, type Lookup, settingsOf } from '../../src/schedule/requested.ts';
import { runName } from '../../src/schedule/run-names.ts';
import type { FakeBackups, FakeTargets } from './fake-backups.ts';
import type { FakeDisks } from './fake-disks.ts';
import type { FakeJobs } from './fake-jobs.ts';
import { find } from './fake-world.ts';
import type { FakeWorld } from './fake-world.ts';

interface FakeSchedule {
  readonly id: string;
  readonly name: string;
  settings: ScheduleSettings;
  labels: Readonly<Record<string, string>>;
  readonly creation: string;
  version: number;
  readonly createdAtMs: number;
  lastRun: api.ScheduleRun | null;
  lastSuccessAtMs: number | null;
}

interface Parts {
  readonly world: FakeWorld;
  readonly jobs: FakeJobs;
  readonly disks: FakeDisks;
  readonly targets: FakeTargets;
  readonly backups: FakeBackups;
}

export class FakeSchedules implements api.Schedules {
  readonly #o: Parts;
  readonly #schedules = new Map<string, FakeSchedule>();

  constructor(parts: Parts) {
    this.#o = parts;
  }

  async create(
    request: api.CreateSchedule,
    effects?: Effects<api.Schedule>,
  ): Promise<api.ScheduleMade> {
    const { world } = this.#o;
    const createdAtMs = world.clock.nowMs();
    const settings = settingsOf(request, this.#lookup(), createdAtMs);
    const { name, labels = {} } = request;
    const creation = JSON.stringify({ settings, labels });
    const there = [...this.#schedules.values()].find((one) => one.name === name);
    if (there?.creation === creation) return { schedule: this.#view(there), created: false };
    if (there !== undefined) throw new StorageError('NAME_TAKEN', 'taken', { name, id: there.id });
    const made = { id: world.id(), name, settings, labels, creation, version: 1, createdAtMs };
    const schedule = { ...made, lastRun: null, lastSuccessAtMs: null };
    this.#schedules.set(schedule.id, schedule);
    await world.commit(effects, this.#view(schedule));
    return { schedule: this.#view(schedule), created: true };
  }

  get(ref: string): api.Schedule {
    return this.#view(this.#get(ref));
  }

  list(): readonly api.Schedule[] {
    return [...this.#schedules.values()].map((schedule) => this.#view(schedule));
  }

  async update(ref: string, change: api.UpdateSchedule): Promise<api.Schedule> {
    const one = this.#get(ref);
    const nowMs = this.#o.world.clock.nowMs();
    const before = [one.settings, one.labels];
    one.settings = changed(one.name, one.settings, change, this.#lookup(), nowMs);
    one.labels = change.labels ?? one.labels;
    bumpIfChanged(one, before, [one.settings, one.labels]);
    return this.#view(one);
  }

  async delete(ref: string): Promise<void> {
    this.#schedules.delete(this.#get(ref).id);
  }

  async run(ref: string, effects?: Effects<Job>): Promise<Job> {
    const one = this.#get(ref);
    const { world, jobs } = this.#o;
    if (one.lastRun?.state === 'running') throw new StorageError('JOB_STATE', 'it is running');
    const startedAtMs = world.clock.nowMs();
    const begun = { scheduledAtMs: null, startedAtMs, endedAtMs: null, problem: null };
    return jobs.submit(
      {
        kind: 'schedule',
        subject: { schedule: one.name, target: one.settings.target.name },
        work: () => this.#runNow(one, startedAtMs),
      },
      (job) => {
        one.lastRun = { ...begun, job: job.id, state: 'running' };
        return effects?.(job) ?? [];
      },
    );
  }

  async #runNow(one: FakeSchedule, startedAtMs: number): Promise<Json> {
    const { backups, jobs, world } = this.#o;
    const { disks, isGroup, target } = one.settings;
    const run = runName(one.name, startedAtMs, true);
    const made: Json[] = [];
    try {
      for (const disk of disks) {
        const name = disks.length === 1 && !isGroup ? run : `${run}-${disk.name}`;
        const labels = { ...one.labels, schedule: one.name };
        const job = await backups.create({ name, disk: disk.id, target: target.id, labels });
        while (!isEnd((await jobs.runner.wait(job.id, 1000)).state));
        made.push({ disk: disk.name, backup: name, job: job.id, state: 'succeeded' });
      }
      one.lastSuccessAtMs = world.clock.nowMs();
      this.#end(one, 'succeeded', null);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#end(one, 'failed', { code: error.code, detail: error.message });
      throw error;
    }
    return { scheduledAt: null, backups: made };
  }

  #end(one: FakeSchedule, state: 'succeeded' | 'failed', problem: object | null): void {
    if (one.lastRun === null) return;
    const endedAtMs = this.#o.world.clock.nowMs();
    one.lastRun = { ...one.lastRun, state, endedAtMs, problem: problem && { ...problem } };
  }

  #get(ref: string): FakeSchedule {
    return find(this.#schedules, ref, 'schedule');
  }

  #lookup(): Lookup {
    const { disks, targets } = this.#o;
    const nameOf = ({ id, name }: { id: string; name: string }) => ({ id, name });
    return {
      disk: (ref) => nameOf(disks.get(ref)),
      target: (ref) => nameOf(targets.get(ref)),
    };
  }

  #view(schedule: FakeSchedule): api.Schedule {
    const { settings, ...rest } = schedule;
    const { target, disks, ...fields } = settings;
    const times = cronTimes(settings.cron, settings.timeZone);
    const nextRunsMs: number[] = [];
    let at = settings.enabled ? times.next(this.#o.world.clock.nowMs()) : undefined;
    for (; at !== undefined && nextRunsMs.length < 5; at = times.next(at)) nextRunsMs.push(at);
    return {
      ...rest,
      ...fields,
      disks,
      target: target.name,
      targetId: target.id,
      nextRunsMs,
      queuedMs: null,
      lastSkipped: null,
    };
  }
}
