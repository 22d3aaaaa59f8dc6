/**
 * The schedules of a store: made, changed, deleted, and run by the clock or by hand.
 *
 * Life: construct → `open` → (the job runner takes up its jobs) → `settle` → `start` → `stop`.
 * What is due is decided in plan.ts; a run is a job (run-job.ts) that goes its own way.
 * One wake-up is set for all of them (wake-up.ts).
 *
 * Invariants:
 *  1. The job of a run and the progress of its schedule are committed together: of each instant
 *     there is one run at most, whenever the process dies.
 *  2. A schedule has at most one run under way, and at most one that waits for its end.
 *  3. A run that fails is remembered with its reason; the next one comes all the same.
 */
import type { Backups } from '../backup/backups.ts';
import { type Clock, uuidv7 } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { bumpIfChanged } from '../base/version.ts';
import { checkName } from '../disk/names.ts';
import { isEnd, isJsonObject, type Job, textsOf } from '../job/job.ts';
import type { JobRunner } from '../job/runner.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import { cronTimes } from './cron.ts';
import { JobEnds } from './job-ends.ts';
import { type Cursor, mended, plan, type Timing, upcoming } from './plan.ts';
import {
  newProgress,
  passed,
  readSchedule,
  type ScheduleRecord,
  scheduleRow,
  skipped,
  type SkipReason,
} from './records.ts';
import {
  changed,
  type Lookup,
  type SchedulePatch,
  type ScheduleRequest,
  settingsOf,
} from './requested.ts';
import { planJson, runKind, type RunPlan, subjectOf } from './run-job.ts';
import { memberName, runName } from './run-names.ts';
import { LOOK_EVERY_MS, WakeUp } from './wake-up.ts';

export type RowsFor<T> = (made: T) => readonly RowChange[];

export interface SchedulesOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  /** Resolves after the time, or at once when the signal fires; never rejects. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly backups: Backups;
  readonly runner: () => JobRunner<RowChange>;
  /** Errors that no caller gets. */
  readonly onError: (error: unknown) => void;
}

/** After an error: the store is full, or the like. */
const TRY_AGAIN_MS = 5_000;

export class Schedules {
  readonly #o: SchedulesOptions;
  readonly #schedules = new Map<string, ScheduleRecord>();
  readonly #timings = new Map<string, { readonly key: string; readonly timing: Timing }>();
  readonly #creating = new Mutex();
  readonly #ends: JobEnds;
  readonly #wakeUp: WakeUp;

  constructor(options: SchedulesOptions) {
    this.#o = options;
    this.#ends = new JobEnds((id) => options.runner().get(id));
    const { clock, sleep } = options;
    this.#wakeUp = new WakeUp({ clock, sleep, look: (stopped) => this.#lookAtAll(stopped) });
  }

  /** For the job runner. */
  get kind(): JobKind<RowChange> {
    return runKind(this.#o.backups, this.#ends);
  }

  async open(): Promise<void> {
    for (const row of await this.#o.store.rows('schedules')) {
      const record = readSchedule(row);
      this.#schedules.set(record.id, record);
    }
  }

  /** After the jobs were taken up: what ended while nobody looked is remembered. */
  async settle(): Promise<void> {
    for (const record of this.#schedules.values()) {
      const { lastRun } = record.progress;
      if (lastRun?.state !== 'running') continue;
      try {
        const job = await this.#o.runner().get(lastRun.job);
        if (isEnd(job.state)) await this.#ended(record, job);
      } catch (error) {
        if (!isStorageError(error, 'NOT_FOUND')) throw error;
        const problem = { code: error.code, detail: 'the job of the run is gone' };
        const endedAtMs = this.#o.clock.nowMs();
        const gone = { ...lastRun, state: 'failed' as const, endedAtMs, problem };
        record.progress = { ...record.progress, lastRun: gone };
        await this.#save(record);
      }
    }
  }

  start(): void {
    this.#wakeUp.start();
  }

  /** No run is begun any more. */
  async stop(): Promise<void> {
    await this.#wakeUp.stop();
  }

  list(): ScheduleRecord[] {
    return [...this.#schedules.values()];
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): ScheduleRecord {
    const found = this.#schedules.get(ref) ?? this.list().find(({ name }) => name === ref);
    if (found !== undefined) return found;
    throw new StorageError('NOT_FOUND', `there is no schedule ${ref}`, { schedule: ref });
  }

  /** The next instants, without jitter; none while it is not enabled. */
  nextRuns(record: ScheduleRecord, count: number): number[] {
    if (!record.settings.enabled) return [];
    const nowMs = this.#o.clock.nowMs();
    return upcoming(this.#timing(record), mended(record.progress, nowMs), nowMs, count);
  }

  /**
   * Makes a schedule; the same request again answers the one there is.
   * @throws NAME_TAKEN, NAME_INVALID, VALIDATION_FAILED, NOT_FOUND (disk, target)
   */
  async create(
    request: ScheduleRequest,
    effects?: RowsFor<ScheduleRecord>,
  ): Promise<{ schedule: ScheduleRecord; created: boolean }> {
    checkName(request.name);
    return this.#creating.run(async () => {
      const nowMs = this.#o.clock.nowMs();
      const settings = settingsOf(request, this.#lookup(), nowMs);
      const { labels = {} } = request;
      const disks = settings.disks.map(({ id }) => id);
      const creation = JSON.stringify({ ...settings, disks, target: settings.target.id, labels });
      const there = this.list().find(({ name }) => name === request.name);
      if (there?.creation === creation) return { schedule: there, created: false };
      if (there !== undefined) {
        const { name, id } = there;
        throw new StorageError('NAME_TAKEN', `there is a schedule ${name} already`, { name, id });
      }
      const schedule: ScheduleRecord = {
        id: uuidv7(this.#o.clock),
        name: request.name,
        settings,
        progress: newProgress(nowMs),
        labels,
        creation,
        version: 1,
        createdAtMs: nowMs,
      };
      const rows = [scheduleRow(schedule), ...(effects?.(schedule) ?? [])];
      await this.#o.store.commit({ pages: [], rows });
      this.#schedules.set(schedule.id, schedule);
      this.#wakeUp.now();
      return { schedule, created: true };
    });
  }

  /** What is not in the patch stays. @throws as create */
  async update(ref: string, patch: SchedulePatch): Promise<ScheduleRecord> {
    const record = this.get(ref);
    const { settings: before, progress, labels, version } = record;
    const nowMs = this.#o.clock.nowMs();
    const settings = changed(record.name, before, patch, this.#lookup(), nowMs);
    Object.assign(record, { settings, labels: patch.labels ?? labels });
    bumpIfChanged(record, [before, labels], [settings, record.labels]);
    const isNewTime = settings.cron !== before.cron || settings.timeZone !== before.timeZone;
    if (isNewTime || (settings.enabled && !before.enabled)) {
      // what was before is nothing to catch up with
      record.progress = { ...progress, cursorMs: Math.max(nowMs, progress.cursorMs) };
    }
    if (!settings.enabled) record.progress = { ...record.progress, queuedMs: null };
    try {
      await this.#save(record);
    } catch (error) {
      Object.assign(record, { settings: before, labels, version });
      throw error;
    }
    this.#wakeUp.now();
    return record;
  }

  /** A run under way goes on to its end. @throws NOT_FOUND */
  async delete(ref: string): Promise<void> {
    const record = this.get(ref);
    const { id } = record;
    const gone: RowChange = { table: 'schedules', key: { id }, row: undefined };
    // first of all, so that nothing of it is saved any more
    this.#schedules.delete(id);
    try {
      await this.#o.store.commit({ pages: [], rows: [gone] });
      this.#timings.delete(id);
    } catch (error) {
      this.#schedules.set(id, record);
      throw error;
    }
  }

  /** Runs it now, enabled or not. @throws NOT_FOUND, JOB_STATE while a run is under way */
  async run(ref: string, effects?: RowsFor<Job>): Promise<Job> {
    const record = this.get(ref);
    const { lastRun } = record.progress;
    if (lastRun?.state === 'running') {
      throw new StorageError('JOB_STATE', `schedule ${record.name} is running`, {
        id: lastRun.job,
        state: 'running',
      });
    }
    return this.#begin(record, null, effects);
  }

  /** For the runner's `onEnd`. */
  onJobEnd(job: Job): void {
    this.#ends.ended(job);
    const { parameters } = job;
    const of = isJsonObject(parameters) ? parameters['schedule'] : undefined;
    const record = job.kind === 'schedule' && this.#schedules.get(textsOf(of)['id'] ?? '');
    if (record === undefined || record === false) return;
    this.#ended(record, job).catch(this.#o.onError);
  }

  async #ended(record: ScheduleRecord, job: Job): Promise<void> {
    const { progress } = record;
    if (progress.lastRun?.job !== job.id || !isEnd(job.state)) return;
    const { state, endedAtMs = this.#o.clock.nowMs(), problem } = job;
    const lastRun = { ...progress.lastRun, state, endedAtMs, problem: problem ?? null };
    const lastSuccessAtMs = state === 'succeeded' ? endedAtMs : progress.lastSuccessAtMs;
    record.progress = { ...progress, lastRun, lastSuccessAtMs };
    await this.#save(record);
    this.#wakeUp.now();
  }

  /** @returns when the next one is to be begun */
  async #lookAtAll(stopped: AbortSignal): Promise<number> {
    const { clock, onError } = this.#o;
    let untilMs = clock.nowMs() + LOOK_EVERY_MS;
    for (const record of this.list()) {
      try {
        if (stopped.aborted) return untilMs;
        untilMs = Math.min(untilMs, (await this.#look(record)) ?? untilMs);
      } catch (error) {
        if (isStorageError(error, 'SHUTTING_DOWN')) return untilMs;
        onError(error);
        untilMs = Math.min(untilMs, clock.nowMs() + TRY_AGAIN_MS);
      }
    }
    return untilMs;
  }

  /** Does what is due. @returns when the next instant begins, if there is one */
  async #look(record: ScheduleRecord): Promise<number | undefined> {
    for (;;) {
      await this.#mend(record);
      // one turn from here to the decision and what it changes
      if (!this.#schedules.has(record.id)) return undefined;
      const { progress, settings } = record;
      const isRunning = progress.lastRun?.state === 'running';
      if (progress.queuedMs !== null && !isRunning) {
        await this.#begin(record, progress.queuedMs);
        continue;
      }
      const { enabled, catchUp, overlap } = settings;
      if (!enabled) return undefined;
      const found = plan(this.#timing(record), progress, this.#o.clock.nowMs());
      if (found.kind === 'wait') return found.untilMs;
      const { instantMs } = found;
      if (found.isLate && catchUp === 'skip') await this.#skip(record, instantMs, 'missed');
      else if (!isRunning) await this.#begin(record, instantMs);
      else if (overlap === 'skip') await this.#skip(record, instantMs, 'overlap');
      else await this.#queue(record, instantMs);
    }
  }

  async #mend(record: ScheduleRecord): Promise<void> {
    const { cursorMs }: Cursor = mended(record.progress, this.#o.clock.nowMs());
    if (cursorMs === record.progress.cursorMs) return;
    record.progress = { ...record.progress, cursorMs };
    await this.#save(record);
  }

  async #skip(record: ScheduleRecord, instantMs: number, reason: SkipReason): Promise<void> {
    record.progress = passed(skipped(record.progress, instantMs, reason), instantMs);
    await this.#save(record);
  }

  /** It takes the place of one that waits already. */
  async #queue(record: ScheduleRecord, instantMs: number): Promise<void> {
    const { progress } = record;
    const { queuedMs } = progress;
    const left = queuedMs === null ? progress : skipped(progress, queuedMs, 'overlap');
    record.progress = { ...passed(left, instantMs), queuedMs: instantMs };
    await this.#save(record);
  }

  /** @param instantMs null: by hand */
  async #begin(
    record: ScheduleRecord,
    instantMs: number | null,
    effects?: RowsFor<Job>,
  ): Promise<Job> {
    this.get(record.id);
    const startedAtMs = this.#o.clock.nowMs();
    const { progress: before } = record;
    const runPlan = this.#runPlan(record, instantMs, startedAtMs);
    const [only, ...others] = runPlan.members;
    try {
      return await this.#o.runner().submit(
        {
          kind: 'schedule',
          subject: subjectOf(runPlan),
          parameters: planJson(runPlan),
          target: runPlan.target.name,
          ...(others.length === 0 && only !== undefined ? { disk: only.disk.name } : {}),
          labels: record.labels,
        },
        (job) => {
          const dealt = instantMs === null ? before : passed(before, instantMs);
          record.progress = {
            ...dealt,
            queuedMs: instantMs === before.queuedMs ? null : before.queuedMs,
            lastRun: {
              job: job.id,
              scheduledAtMs: instantMs,
              startedAtMs,
              state: 'running',
              endedAtMs: null,
              problem: null,
            },
          };
          return [scheduleRow(record), ...(effects?.(job) ?? [])];
        },
      );
    } catch (error) {
      record.progress = before;
      throw error;
    }
  }

  #runPlan(record: ScheduleRecord, instantMs: number | null, nowMs: number): RunPlan {
    const { settings, name } = record;
    const { disks, isGroup, target, ...rest } = settings;
    const run = runName(name, instantMs ?? nowMs, instantMs === null);
    const { copies, targets } = this.#o.backups.options;
    const members = disks.map(({ id, name: old }) => {
      const disk = { id, name: copies.options.disks.find(id)?.name ?? old };
      return { disk, name: memberName(run, disk, disks.length === 1 && !isGroup) };
    });
    return {
      name: run,
      isGroup,
      schedule: { id: record.id, name },
      scheduledAtMs: instantMs,
      members,
      target: { id: target.id, name: targets.find(target.id)?.name ?? target.name },
      labels: record.labels,
      ...rest,
    };
  }

  #timing({ id, settings }: ScheduleRecord): Timing {
    const { cron, timeZone, jitterSeconds } = settings;
    const key = JSON.stringify([cron, timeZone, jitterSeconds]);
    const known = this.#timings.get(id);
    if (known?.key === key) return known.timing;
    const timing = { id, jitterSeconds, times: cronTimes(cron, timeZone) };
    this.#timings.set(id, { key, timing });
    return timing;
  }

  #lookup(): Lookup {
    const { copies, targets } = this.#o.backups.options;
    const nameOf = ({ id, name }: { id: string; name: string }) => ({ id, name });
    return {
      disk: (ref) => nameOf(copies.options.disks.get(ref)),
      target: (ref) => nameOf(targets.get(ref)),
    };
  }

  /** Does nothing for one that is gone. */
  async #save(record: ScheduleRecord): Promise<void> {
    if (!this.#schedules.has(record.id)) return;
    await this.#o.store.commit({ pages: [], rows: [scheduleRow(record)] });
  }
}
