/**
 * Which jobs run now, and how each run ends. The runner (runner.ts) is its face.
 *
 *  1. A queued job starts when fewer than `maxRunning` run and do not wait, in order of coming;
 *     those in the background have places of their own.
 *  2. A start counts an attempt, saves that, and calls the kind's `run` with a context.
 *  3. `run` resolves: succeeded. It rejects: failed, or, if it was interrupted, what the job's
 *     state asks for: cancelled, paused, queued again.
 *  4. Before a job ends as failed or cancelled, the kind's `abandon` cleans up, or finds that the
 *     work was done: then it has succeeded.
 *
 * Invariants:
 *  1. A job has at most one run at a time.
 *  2. No state lasts for ever that nobody asked for: a run without progress for `stallMs` is
 *     stopped, one that does not stop within `graceMs` is disowned, one that was begun
 *     `maxFruitlessAttempts` times without a new checkpoint is failed, an `abandon` that takes
 *     longer than `graceMs` is not waited for.
 */
import { AssertionError } from '../base/assert.ts';
import { StorageError, isStorageError } from '../base/errors.ts';
import { JobInterrupt, JobRun } from './job-run.ts';
import type { JobContext, Outcome } from './job-run.ts';
import { isEnd, noProgress, problemOf } from './job.ts';
import type { Job, JobProblem, JobStatus, Json } from './job.ts';
import type { JobTools, LiveJob } from './live-job.ts';

/** One kind of work. */
export interface JobKind<Effect = unknown> {
  /** Does the work from `job.checkpoint` on, or from the start if that is null. */
  run(context: JobContext<Effect>): Promise<Json>;
  /**
   * Cleans up before the job ends as failed or cancelled, after its run has ended or if it never
   * ran. May be called again after a crash. With a result it says that the work took effect after
   * all, before it could be stopped: then the job has succeeded.
   */
  abandon?(job: Job): Promise<void> | Promise<{ readonly result: Json } | undefined>;
  /** Long and in no hurry: it takes no place from the other kinds. */
  readonly isBackground?: boolean;
}

export interface SchedulerOptions<Effect> {
  readonly kinds: Readonly<Record<string, JobKind<Effect>>>;
  readonly maxRunning: number;
  readonly maxInBackground: number;
  readonly stallMs: number;
  readonly graceMs: number;
  readonly maxFruitlessAttempts: number;
  readonly isRetryable: (error: StorageError) => boolean;
  readonly onEnd: (job: Job) => void;
}

type Ending =
  | { readonly state: 'succeeded'; readonly result: Json }
  | { readonly state: 'failed'; readonly problem: JobProblem }
  | { readonly state: 'cancelled' };

interface Entry<Effect> {
  readonly live: LiveJob<Effect>;
  readonly lane: Lane<Effect>;
  run: JobRun<Effect> | undefined;
  isFinishing: boolean;
}

/** Jobs that share places: those in the background, or all others. */
interface Lane<Effect> {
  readonly places: number;
  /** In order of coming. */
  readonly queue: Set<Entry<Effect>>;
  /** Those with a run, also one that waits. */
  readonly begun: Set<Entry<Effect>>;
}

export class JobScheduler<Effect> {
  readonly #tools: JobTools<Effect>;
  readonly #options: SchedulerOptions<Effect>;
  /** Every job that has not ended. */
  readonly #entries = new Map<string, Entry<Effect>>();
  readonly #foreground: Lane<Effect>;
  readonly #background: Lane<Effect>;
  /** What is under way: runs and ends. */
  readonly #work = new Set<Promise<void>>();
  #isStopping = false;

  constructor(tools: JobTools<Effect>, options: SchedulerOptions<Effect>) {
    this.#tools = tools;
    this.#options = options;
    this.#foreground = { places: options.maxRunning, queue: new Set(), begun: new Set() };
    this.#background = { places: options.maxInBackground, queue: new Set(), begun: new Set() };
  }

  /** The job if it has not ended. */
  find(id: string): LiveJob<Effect> | undefined {
    const live = this.#entries.get(id)?.live;
    return live === undefined || isEnd(live.job.state) ? undefined : live;
  }

  liveJobs(): Job[] {
    return [...this.#entries.values()].map(({ live }) => live.job);
  }

  /** Takes a job in its state: queued ones will run, cancelling ones are brought to their end. */
  add(live: LiveJob<Effect>): void {
    const kind = this.#kindOf(live);
    const lane = kind?.isBackground === true ? this.#background : this.#foreground;
    const entry: Entry<Effect> = { live, lane, run: undefined, isFinishing: false };
    this.#entries.set(live.id, entry);
    const { state } = live.job;
    if (state === 'cancelling') {
      this.#track(this.#finish(entry, { state: 'cancelled' }));
    } else if (kind === undefined) {
      const message = `this version knows no jobs of kind ${live.job.kind}`;
      this.#track(this.#finish(entry, this.#failure(new StorageError('INTERNAL', message))));
    } else if (state === 'queued') {
      lane.queue.add(entry);
      this.#pump();
    }
  }

  /** Any live state but cancelling → cancelling. */
  cancel(id: string): void {
    this.#change(id, (entry) => {
      entry.lane.queue.delete(entry);
      entry.live.move({ state: 'cancelling' }, 'cancel was asked for');
      if (entry.run === undefined) this.#track(this.#finish(entry, { state: 'cancelled' }));
      else entry.run.interrupt('cancel');
    });
  }

  /** Queued, running, waiting → paused; the work winds down in its own time. */
  pause(id: string): void {
    this.#change(id, (entry) => {
      entry.lane.queue.delete(entry);
      entry.live.move({ state: 'paused' }, 'pause was asked for');
      entry.run?.interrupt('pause');
    });
  }

  /** Paused → queued; it starts when the work of before has wound down. */
  resume(id: string): void {
    this.#change(id, (entry) => {
      entry.live.move({ state: 'queued' }, 'resume was asked for');
      entry.lane.queue.add(entry);
      this.#pump();
    });
  }

  /** Once a second: figures, watchdog, rows that are owed. */
  tick(): void {
    const nowNs = this.#tools.clock.monotonicNs();
    for (const entry of this.#entries.values()) {
      const { live, run } = entry;
      if (run !== undefined && !entry.isFinishing && !run.isDisowned) {
        run.sample(nowNs);
        if (!this.#isStopping) this.#watch(entry, run, nowNs);
      }
      if (live.isDirty) this.#saveOnce(live);
    }
  }

  /** Starts nothing more and asks all runs to park. Resolves when all have, which may be never. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const { queue } of [this.#foreground, this.#background]) queue.clear();
    for (const { run } of this.#entries.values()) run?.interrupt('shutdown');
    while (this.#work.size > 0) await Promise.all(this.#work);
  }

  #change(id: string, act: (entry: Entry<Effect>) => void): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined) act(entry);
  }

  /** Cost: the runs, and those at the head of a queue that begin or cannot yet. */
  #pump(): void {
    for (const lane of [this.#foreground, this.#background]) {
      for (const entry of lane.queue) {
        if (this.#isStopping || !hasPlace(lane)) break;
        // what it did before it was paused may wind down yet
        if (entry.run !== undefined || entry.isFinishing) continue;
        lane.queue.delete(entry);
        this.#start(entry);
      }
    }
  }

  #start(entry: Entry<Effect>): void {
    const { live } = entry;
    const { attempts, fruitlessAttempts, startedAtMs } = live.job;
    if (fruitlessAttempts >= this.#options.maxFruitlessAttempts) {
      const message = `no progress in ${fruitlessAttempts} attempts`;
      this.#track(this.#finish(entry, this.#failure(new StorageError('JOB_STALLED', message))));
      return;
    }
    live.change({
      attempts: attempts + 1,
      fruitlessAttempts: fruitlessAttempts + 1,
      startedAtMs: startedAtMs ?? this.#tools.clock.nowMs(),
    });
    live.move({ state: 'running' });
    entry.run = new JobRun(live, this.#tools, () => {
      this.#pump();
    });
    entry.lane.begun.add(entry);
    this.#track(this.#drive(entry, entry.run));
  }

  /** The attempt is in the store before it begins: a job that kills the daemon is counted. */
  async #drive(entry: Entry<Effect>, run: JobRun<Effect>): Promise<void> {
    const isSaved = await entry.live.saveSurely([], run.signal);
    const kind = this.#kindOf(entry.live);
    const outcome: Outcome =
      isSaved && kind !== undefined
        ? await run.execute((context) => kind.run(context))
        : { error: run.signal.reason };
    if (!run.isDisowned) await this.#settle(entry, run, outcome);
  }

  async #settle(entry: Entry<Effect>, run: JobRun<Effect>, outcome: Outcome): Promise<void> {
    const ending = this.#judge(entry.live, run, outcome);
    entry.live.change(ending === undefined ? noProgress : run.summary());
    if (ending === undefined) await this.#park(entry);
    else await this.#finish(entry, ending);
  }

  /** How the job ends, or undefined if it is to go on another time. */
  #judge(live: LiveJob<Effect>, run: JobRun<Effect>, outcome: Outcome): Ending | undefined {
    if ('result' in outcome) return { state: 'succeeded', result: outcome.result };
    const { error } = outcome;
    const isInterrupted = run.interruptReason !== undefined;
    if (!isInterrupted || error instanceof AssertionError) {
      if (!isStorageError(error)) this.#reportBug(error, live);
      return this.#failure(error);
    }
    if (!(error instanceof JobInterrupt)) live.log(`while it stopped: ${messageOf(error)}`);
    if (live.job.state === 'cancelling') return { state: 'cancelled' };
    if (!run.isStalled) return undefined;
    const seconds = Math.round(this.#options.stallMs / 1000);
    const message = `no progress in ${seconds} seconds`;
    return this.#failure(new StorageError('JOB_STALLED', message));
  }

  /** A run that stopped in good order: the attempt does not count against the job. */
  async #park(entry: Entry<Effect>): Promise<void> {
    const { live } = entry;
    const { state, fruitlessAttempts } = live.job;
    live.change({ fruitlessAttempts: Math.max(0, fruitlessAttempts - 1) });
    if (state === 'running' || state === 'waiting') live.move({ state: 'queued' }, 'parked');
    entry.run = undefined;
    entry.lane.begun.delete(entry);
    this.#pump();
    await live.save().catch((error: unknown) => {
      this.#tools.onError(error, live.job);
    });
  }

  async #finish(entry: Entry<Effect>, ending: Ending): Promise<void> {
    if (entry.isFinishing) return;
    entry.isFinishing = true;
    const { live } = entry;
    const cleanUp = ending.state === 'succeeded' ? undefined : await this.#abandon(live);
    if (ending.state !== 'succeeded' && this.#tools.stopped.aborted) return;
    const isDone = cleanUp !== undefined && 'result' in cleanUp;
    const status = isDone
      ? this.#status({ state: 'succeeded', result: cleanUp.result })
      : this.#status(ending, cleanUp);
    const isDurable = await live.end(status);
    if (!isDurable) return;
    entry.lane.queue.delete(entry);
    entry.lane.begun.delete(entry);
    this.#entries.delete(live.id);
    this.#options.onEnd(live.job);
    this.#pump();
  }

  /** Cleans up, in bounded time. @returns what it could not do, or the result if it was done */
  async #abandon(
    live: LiveJob<Effect>,
  ): Promise<JobProblem | { readonly result: Json } | undefined> {
    const work = this.#kindOf(live)?.abandon?.(live.job);
    if (work === undefined) return undefined;
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#tools.stopped]);
    const deadline = this.#tools.sleep(this.#options.graceMs, signal).then(() => {
      throw new StorageError('JOB_STALLED', 'the clean-up took too long');
    });
    try {
      return (await Promise.race([work, deadline])) ?? undefined;
    } catch (error) {
      live.log(`the clean-up failed: ${messageOf(error)}`);
      this.#tools.onError(error, live.job);
      return problemOf(error, this.#options.isRetryable);
    } finally {
      over.abort();
      deadline.catch(() => undefined);
      work.catch(() => undefined);
    }
  }

  /** What a clean-up could not do is part of why the job ended. */
  #status(ending: Ending, cleanUp?: JobProblem): JobStatus {
    const endedAtMs = this.#tools.clock.nowMs();
    if (cleanUp === undefined || ending.state === 'succeeded') return { ...ending, endedAtMs };
    if (ending.state === 'cancelled') return { ...ending, problem: cleanUp, endedAtMs };
    const { code, detail } = cleanUp;
    return { ...ending, problem: { ...ending.problem, cleanUp: { code, detail } }, endedAtMs };
  }

  #watch(entry: Entry<Effect>, run: JobRun<Effect>, nowNs: bigint): void {
    const { stallMs, graceMs } = this.#options;
    if (run.overdueMs(nowNs) > graceMs) {
      run.disown();
      entry.live.log('the work did not stop in time and was left alone');
      this.#track(this.#settle(entry, run, { error: run.signal.reason }));
    } else if (!run.isStalled && run.idleMs(nowNs) > stallMs) {
      entry.live.log('stopped: no progress');
      run.interrupt('stalled');
    }
  }

  #kindOf(live: LiveJob<Effect>): JobKind<Effect> | undefined {
    const { kinds } = this.#options;
    return Object.hasOwn(kinds, live.job.kind) ? kinds[live.job.kind] : undefined;
  }

  #failure(error: unknown): Ending {
    return { state: 'failed', problem: problemOf(error, this.#options.isRetryable) };
  }

  #reportBug(error: unknown, live: LiveJob<Effect>): void {
    live.log(`internal error: ${messageOf(error)}`);
    this.#tools.onError(error, live.job);
  }

  #saveOnce(live: LiveJob<Effect>): void {
    live.save().catch((error: unknown) => {
      this.#tools.onError(error, live.job);
    });
  }

  #track(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }
}

function hasPlace<Effect>({ places, begun }: Lane<Effect>): boolean {
  let taken = 0;
  for (const { run } of begun) if (run?.isWaiting === false) taken += 1;
  return taken < places;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
