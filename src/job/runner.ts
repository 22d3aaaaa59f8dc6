/**
 * Jobs as everybody else sees them: submit, look, wait, cancel, pause, resume, and what is to be
 * done at the start and at the end of the daemon. How they are run is in scheduler.ts.
 *
 * Life: construct → `recover` (once, before anything else) → use → `shutdown`.
 *
 * A request changes the job in memory at once and answers when that is in the store, together with
 * the effects it brought (its idempotency record). If the store fails, the request gets the error;
 * what it asked for goes on all the same, and is saved as soon as the store can.
 *
 * Invariants:
 *  1. A job is in the store, with its effects, before it runs or anyone sees it.
 *  2. After `recover` no job of an earlier life is running or waiting: each is queued again, ended,
 *     paused as it was, or being cleaned up.
 *  3. cancel, pause and resume are idempotent.
 */
import { assert } from '../base/assert.ts';
import { isUuid, systemClock, systemSleep, uuidv7 } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { isEnd, liveStates, moved, newJob, noProgress, withFacts } from './job.ts';
import type { Job, JobState, NewJob } from './job.ts';
import { matchesQuery } from './job-store.ts';
import type { JobQuery, JobStore } from './job-store.ts';
import { LiveJob } from './live-job.ts';
import type { JobTools, Sleep } from './live-job.ts';
import { JobScheduler } from './scheduler.ts';
import type { JobKind, SchedulerOptions } from './scheduler.ts';

export interface JobRunnerOptions<Effect> {
  readonly store: JobStore<Effect>;
  readonly kinds: Readonly<Record<string, JobKind<Effect>>>;
  /** Which failures can go away by themselves. */
  readonly isRetryable: (error: StorageError) => boolean;
  readonly clock?: Clock;
  readonly sleep?: Sleep;
  /** Jobs that run at once, those that wait left out. Default 4. */
  readonly maxRunning?: number;
  /** The same for kinds that run in the background, beside the others. Default 4. */
  readonly maxInBackground?: number;
  /** Without progress for this long a run is stopped and failed. Default 10 minutes. */
  readonly stallMs?: number;
  /** How long a cancelled run may take to stop, and a clean-up to end. Default 30 seconds. */
  readonly graceMs?: number;
  /** Attempts without a new checkpoint, ended by a crash, after which a job fails. Default 20. */
  readonly maxFruitlessAttempts?: number;
  /** How long ended jobs are kept. Default 90 days. */
  readonly retentionMs?: number;
  /** Time between calls of `tick`; 0: the owner calls it. Default 1 second. */
  readonly tickMs?: number;
  /** After each end, when it is durable. Must not throw. */
  readonly onEnd?: (job: Job) => void;
  /** Errors that no caller gets: saves that are tried again, bugs of kinds. Must not throw. */
  readonly onError?: (error: unknown, job?: Job) => void;
}

export type Submission = Omit<NewJob, 'id' | 'createdAtMs'>;

/** Effects to commit with the job's row; as a function, it sees the job as it will be. */
export type JobEffects<Effect> = readonly Effect[] | ((job: Job) => readonly Effect[]);

export interface JobFilter {
  readonly state?: JobState | undefined;
  readonly kind?: string | undefined;
  readonly disk?: string | undefined;
  readonly target?: string | undefined;
  readonly label?: { readonly key: string; readonly value?: string | undefined } | undefined;
  /** `nextPageToken` of the page before. */
  readonly pageToken?: string | undefined;
  /** 1 … 1000, default 100. */
  readonly pageSize?: number | undefined;
}

export interface JobPage {
  readonly items: readonly Job[];
  readonly nextPageToken?: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const PRUNE_EVERY_TICKS = 3600;
const PRUNE_STEP = 500;

export class JobRunner<Effect = unknown> {
  readonly #store: JobStore<Effect>;
  readonly #clock: Clock;
  readonly #tools: JobTools<Effect>;
  readonly #scheduler: JobScheduler<Effect>;
  readonly #kinds: Readonly<Record<string, JobKind<Effect>>>;
  readonly #retentionMs: number;
  readonly #tickMs: number;
  readonly #onError: (error: unknown, job?: Job) => void;
  readonly #closing = new AbortController();
  readonly #stopped = new AbortController();
  #phase: 'new' | 'ready' | 'closed' = 'new';
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;
  #lastIdMs = 0;

  constructor(options: JobRunnerOptions<Effect>) {
    this.#store = options.store;
    this.#kinds = options.kinds;
    this.#clock = options.clock ?? systemClock;
    this.#retentionMs = options.retentionMs ?? 90 * DAY_MS;
    this.#tickMs = options.tickMs ?? 1000;
    this.#onError = options.onError ?? (() => undefined);
    this.#tools = {
      store: this.#store,
      clock: this.#clock,
      sleep: options.sleep ?? systemSleep,
      stopped: this.#stopped.signal,
      onError: this.#onError,
    };
    this.#scheduler = new JobScheduler(this.#tools, schedulerOptions(options));
  }

  /**
   * Takes up what the last life left: unended jobs are queued again and go on from their
   * checkpoints, those being cancelled are cleaned up and ended, paused ones stay paused.
   * @returns how many were taken up. @throws what the store throws: then nothing has begun, and
   *   it can be called again
   */
  async recover(): Promise<number> {
    assert(this.#phase === 'new', 'jobs were recovered before');
    const taken: LiveJob<Effect>[] = [];
    for (const job of (await this.#unended()).reverse()) {
      const live = new LiveJob(takenUp(job), this.#tools, true);
      if (live.job !== job) live.log(`taken up after a restart (it was ${job.state})`);
      await live.save();
      taken.push(live);
    }
    for (const live of taken) this.#scheduler.add(live);
    this.#phase = 'ready';
    if (this.#tickMs > 0) {
      this.#timer = setInterval(() => {
        this.tick();
      }, this.#tickMs);
      this.#timer.unref();
    }
    return taken.length;
  }

  /** Queues a job; durable, with the effects, when it resolves. @throws SHUTTING_DOWN */
  async submit(submission: Submission, effects: JobEffects<Effect> = []): Promise<Job> {
    const job = this.prepare(submission);
    await this.#store.put(job, listOf(effects, job));
    this.#scheduler.add(new LiveJob(job, this.#tools, true));
    return job;
  }

  /** A job whose row the caller commits with something else, and then gives to `adopt`. */
  prepare(submission: Submission): Job {
    this.#checkReady();
    assert(Object.hasOwn(this.#kinds, submission.kind), `job kind ${submission.kind}`);
    return newJob({ ...submission, ...this.#nextId() });
  }

  /** A prepared job whose row is durable: it is queued. */
  adopt(job: Job): void {
    // in a shutdown it waits in its row for the next life
    if (this.#phase === 'ready') this.#scheduler.add(new LiveJob(job, this.#tools, true));
  }

  /** @throws NOT_FOUND. Cost: one read if it has ended */
  async get(id: string): Promise<Job> {
    const job = this.#scheduler.find(id)?.job ?? (await this.#store.get(id));
    if (job === undefined) throw new StorageError('NOT_FOUND', 'there is no such job', { job: id });
    return job;
  }

  /** Newest first. @throws VALIDATION_FAILED for a token that is none */
  async list(filter: JobFilter = {}): Promise<JobPage> {
    const { state, kind, disk, target, label, pageToken, pageSize = 100 } = filter;
    assert(pageSize >= 1 && pageSize <= 1000, `page size ${pageSize}`);
    if (pageToken !== undefined && !isUuid(pageToken)) {
      throw new StorageError('VALIDATION_FAILED', 'not a page token', { field: 'pageToken' });
    }
    const states = state === undefined ? undefined : [state];
    const query = { states, kind, disk, target, label, beforeId: pageToken };
    const found = await this.#store.list({ ...query, limit: pageSize + 1 });
    const page = found.slice(0, pageSize);
    const newest = page.map((job) => this.#scheduler.find(job.id)?.job ?? job);
    const items = newest.filter((job) => matchesQuery(job, { ...query, limit: pageSize }));
    const last = page.at(-1);
    return found.length > pageSize && last !== undefined
      ? { items, nextPageToken: last.id }
      : { items };
  }

  /** All jobs that have not ended, oldest first, without I/O. */
  liveJobs(): readonly Job[] {
    return this.#scheduler.liveJobs();
  }

  /**
   * The job when it has ended or waits for something outside, or as it is when the time is over,
   * the signal fires or the daemon shuts down. @throws NOT_FOUND
   * @param known as the asker has seen it: what that waits for is no news
   */
  async wait(id: string, timeoutMs: number, signal?: AbortSignal, known?: Job): Promise<Job> {
    const live = this.#scheduler.find(id);
    if (live === undefined) return this.get(id);
    const over = new AbortController();
    const others = signal === undefined ? [] : [signal];
    const until = AbortSignal.any([over.signal, this.#closing.signal, ...others]);
    void this.#tools.sleep(timeoutMs, until).then(() => {
      over.abort();
    });
    const knownNeed = known && outsideNeed(known);
    while (!isEnd(live.job.state) && !until.aborted) {
      const need = outsideNeed(live.job);
      if (need !== undefined && need !== knownNeed) break;
      await live.changed(until);
    }
    over.abort();
    return live.job;
  }

  /** Ends the job within seconds; one that has ended stays as it is. @throws NOT_FOUND */
  async cancel(id: string, effects: JobEffects<Effect> = []): Promise<Job> {
    return this.#request(id, effects, (job) => {
      if (!isEnd(job.state) && job.state !== 'cancelling') this.#scheduler.cancel(id);
    });
  }

  /** Stops the job until it is resumed. @throws NOT_FOUND, JOB_STATE if it has ended or will */
  async pause(id: string, effects: JobEffects<Effect> = []): Promise<Job> {
    return this.#request(id, effects, (job) => {
      if (isEnd(job.state) || job.state === 'cancelling') throw wrongState(job, 'paused');
      if (job.state !== 'paused') this.#scheduler.pause(id);
    });
  }

  /** Queues a paused job again. @throws NOT_FOUND, JOB_STATE if it has ended or will */
  async resume(id: string, effects: JobEffects<Effect> = []): Promise<Job> {
    return this.#request(id, effects, (job) => {
      if (isEnd(job.state) || job.state === 'cancelling') throw wrongState(job, 'resumed');
      if (job.state === 'paused') this.#scheduler.resume(id);
    });
  }

  /** Takes effect at once, also while it runs. @throws NOT_FOUND, JOB_STATE if it has ended */
  async update(
    id: string,
    change: { readonly maxBytesPerSecond: number | null },
    effects: JobEffects<Effect> = [],
  ): Promise<Job> {
    const rate = change.maxBytesPerSecond ?? undefined;
    assert(rate === undefined || (Number.isSafeInteger(rate) && rate > 0), `rate ${rate ?? ''}`);
    return this.#request(id, effects, (job) => {
      if (isEnd(job.state)) throw wrongState(job, 'changed');
      this.#scheduler.find(id)?.change({ maxBytesPerSecond: rate });
    });
  }

  /** The heartbeat, once a second: figures, watchdog, rows that are owed, retention. */
  tick(): void {
    this.#scheduler.tick();
    if (this.#ticks % PRUNE_EVERY_TICKS === 0) this.prune().catch(this.#onError);
    this.#ticks += 1;
  }

  /** Removes jobs that ended longer ago than they are kept. @returns how many */
  async prune(): Promise<number> {
    const beforeMs = this.#clock.nowMs() - this.#retentionMs;
    let sum = 0;
    for (;;) {
      const count = await this.#store.removeEnded(beforeMs, PRUNE_STEP);
      sum += count;
      if (count < PRUNE_STEP) return sum;
    }
  }

  /**
   * Parks what runs: it goes on from its checkpoint in the next life. Waiters get their answers at
   * once. Runs that do not stop within the time are left to the end of the process. Idempotent.
   */
  async shutdown(timeoutMs = 10_000): Promise<void> {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    this.#closing.abort();
    clearInterval(this.#timer);
    const over = new AbortController();
    const deadline = this.#tools.sleep(timeoutMs, over.signal);
    await Promise.race([this.#scheduler.stop(), deadline]);
    over.abort();
    this.#stopped.abort();
  }

  async #request(id: string, effects: JobEffects<Effect>, act: (job: Job) => void): Promise<Job> {
    this.#checkReady();
    const live = this.#scheduler.find(id);
    if (live !== undefined) {
      act(live.job);
      const { job } = live;
      await live.save(listOf(effects, job));
      return job;
    }
    const ended = await this.get(id);
    act(ended);
    const list = listOf(effects, ended);
    if (list.length > 0) await this.#store.put(ended, list);
    return ended;
  }

  #checkReady(): void {
    assert(this.#phase !== 'new', 'jobs used before recover');
    if (this.#phase === 'closed') throw new StorageError('SHUTTING_DOWN', 'jobs are being parked');
  }

  /** Ids ascend even within a millisecond, so that "newest first" is their order. */
  #nextId(): Pick<Job, 'id' | 'createdAtMs'> {
    const createdAtMs = Math.max(this.#clock.nowMs(), this.#lastIdMs + 1);
    this.#lastIdMs = createdAtMs;
    const id = uuidv7({
      nowMs: () => createdAtMs,
      monotonicNs: () => this.#clock.monotonicNs(),
      random: (length) => this.#clock.random(length),
    });
    return { id, createdAtMs };
  }

  async #unended(): Promise<Job[]> {
    const found: Job[] = [];
    for (;;) {
      const beforeId = found.at(-1)?.id;
      const query: JobQuery = { states: liveStates, limit: PRUNE_STEP, beforeId };
      const page = await this.#store.list(query);
      found.push(...page);
      if (page.length < PRUNE_STEP) return found;
    }
  }
}

function schedulerOptions<Effect>(options: JobRunnerOptions<Effect>): SchedulerOptions<Effect> {
  return {
    kinds: options.kinds,
    maxRunning: options.maxRunning ?? 4,
    maxInBackground: options.maxInBackground ?? 4,
    stallMs: options.stallMs ?? 10 * 60 * 1000,
    graceMs: options.graceMs ?? 30_000,
    maxFruitlessAttempts: options.maxFruitlessAttempts ?? 20,
    isRetryable: options.isRetryable,
    onEnd: options.onEnd ?? (() => undefined),
  };
}

/** A job of an earlier life: what ran or waited is queued; a wait was no fault of the job. */
function takenUp(job: Job): Job {
  if (job.state !== 'running' && job.state !== 'waiting') return job;
  const wasWaiting = job.state === 'waiting';
  const fruitlessAttempts = Math.max(0, job.fruitlessAttempts - (wasWaiting ? 1 : 0));
  return moved(withFacts(job, { ...noProgress, fruitlessAttempts }), { state: 'queued' });
}

/** A medium, a target, a client: that may last. Another job comes to its end by itself. */
function outsideNeed({ state, waitingFor }: Job): string | undefined {
  if (state !== 'waiting' || waitingFor['kind'] === 'job') return undefined;
  return JSON.stringify(waitingFor);
}

function listOf<Effect>(effects: JobEffects<Effect>, job: Job): readonly Effect[] {
  return typeof effects === 'function' ? effects(job) : effects;
}

function wrongState(job: Job, verb: string): StorageError {
  const { id, state } = job;
  return new StorageError('JOB_STATE', `a job that is ${state} cannot be ${verb}`, { id, state });
}
