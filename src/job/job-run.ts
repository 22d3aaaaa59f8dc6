/**
 * One attempt of a job: what its work is given, and what the runner can do to it.
 *
 * Work is stopped by its signal; the signal's reason is a JobInterrupt that says why. It may wind
 * down, confirm, checkpoint, and then rejects (with the reason or anything else) or, if it was
 * nearly done, resolves. Work that does not stop in time is disowned: its context refuses all, and
 * what it does later counts for nothing.
 *
 * Invariants:
 *  1. `checkpoint` is durable when it resolves.
 *  2. Lack of progress is counted only while the work itself is at it: not while it waits, is
 *     braked, or has a checkpoint being saved.
 */
import { assert } from '../base/assert.ts';
import type { JobTools, LiveJob } from './live-job.ts';
import { noProgress } from './job.ts';
import type { Job, JobProgress, Json, JsonObject } from './job.ts';
import { Brake, RateMeter, StageMeter } from './progress.ts';

export type InterruptReason = 'cancel' | 'pause' | 'shutdown' | 'stalled';

/** The reason of a job's signal. */
export class JobInterrupt extends Error {
  readonly reason: InterruptReason;

  constructor(reason: InterruptReason) {
    super(`interrupted: ${reason}`);
    this.name = 'AbortError';
    this.reason = reason;
  }
}

/** Time accounting of one stage of the work; cheap enough to be called for each MiB. */
export interface JobStageMeter {
  /** Counts the time until the work settles; pieces may overlap. */
  busy<T>(work: () => Promise<T>): Promise<T>;
  /** Time that was measured elsewhere, in a worker thread. */
  add(busyMs: number): void;
}

/** What the work of a job is given. */
export interface JobContext<Effect = unknown> {
  /** As it is now; `checkpoint` and `parameters` say where to begin. */
  readonly job: Job;
  /** Its reason is a JobInterrupt. */
  readonly signal: AbortSignal;
  /**
   * Remembers how far the work has come, with effects in the same transaction; durable when it
   * resolves. Works also after an interrupt. @throws the reason if the store failed until then
   */
  checkpoint(value: Json, effects?: readonly Effect[]): Promise<void>;
  /**
   * Absolute figures. Costs nothing: rows are written about once a second. Without any: a step was
   * done that no figure tells of, so the job is not stuck.
   */
  progress(figures: { readonly doneBytes?: number; readonly totalBytes?: number }): void;
  stage(name: string): JobStageMeter;
  log(message: string): void;
  /**
   * Waits for something outside (a medium, room on the target): the job shows as waiting and lets
   * others run. @throws the reason at an interrupt; what the promise rejects with
   */
  waitFor<T>(waitingFor: JsonObject, promise: Promise<T>): Promise<T>;
  /** Takes this many bytes and waits as `maxBytesPerSecond` asks. @throws the reason */
  throttle(bytes: number): Promise<void>;
}

type Figures = Pick<JobProgress, 'bytesPerSecond' | 'etaSeconds' | 'stages'>;

function areSame(a: Figures, b: Figures): boolean {
  if (a.bytesPerSecond !== b.bytesPerSecond || a.etaSeconds !== b.etaSeconds) return false;
  return JSON.stringify(a.stages) === JSON.stringify(b.stages);
}

export type Outcome = { readonly result: Json } | { readonly error: unknown };

const MS = 1_000_000;
/** How long a brake looks away: a change of the rate is felt within this. */
const BRAKE_SLICE_MS = 250;

export class JobRun<Effect> implements JobContext<Effect> {
  readonly #live: LiveJob<Effect>;
  readonly #tools: JobTools<Effect>;
  readonly #controller = new AbortController();
  readonly #stages = new Map<string, StageMeter>();
  readonly #waits: JsonObject[] = [];
  readonly #onWaiting: () => void;
  readonly #brake: Brake;
  readonly #rate: RateMeter;
  readonly #startNs: bigint;
  #sampleNs: bigint;
  #progressNs: bigint;
  /** Things under way that are no lack of progress. */
  #excuses = 0;
  #mustStopSinceNs: bigint | undefined;
  #isStalled = false;
  #isDisowned = false;

  /** @param onWaiting called when it begins or ends to wait */
  constructor(live: LiveJob<Effect>, tools: JobTools<Effect>, onWaiting: () => void) {
    const nowNs = tools.clock.monotonicNs();
    this.#live = live;
    this.#tools = tools;
    this.#onWaiting = onWaiting;
    this.#brake = new Brake(nowNs);
    this.#rate = new RateMeter(live.job.doneBytes, nowNs);
    this.#startNs = nowNs;
    this.#sampleNs = nowNs;
    this.#progressNs = nowNs;
  }

  get job(): Job {
    return this.#live.job;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isWaiting(): boolean {
    return this.#waits.length > 0;
  }

  /** It was stopped because it made no progress. */
  get isStalled(): boolean {
    return this.#isStalled;
  }

  get isDisowned(): boolean {
    return this.#isDisowned;
  }

  /** Why it was interrupted first, or undefined. */
  get interruptReason(): InterruptReason | undefined {
    const reason: unknown = this.signal.reason;
    return reason instanceof JobInterrupt ? reason.reason : undefined;
  }

  /** Asks the work to stop. After `cancel` and `stalled` its time runs out. */
  interrupt(reason: InterruptReason): void {
    if (reason === 'stalled') this.#isStalled = true;
    const isFinal = reason === 'cancel' || reason === 'stalled';
    if (isFinal) this.#mustStopSinceNs ??= this.#tools.clock.monotonicNs();
    this.#controller.abort(new JobInterrupt(reason));
  }

  /** From now on the work counts for nothing. */
  disown(): void {
    this.#isDisowned = true;
  }

  /** Runs the work to its end; never rejects. */
  async execute(work: (context: JobContext<Effect>) => Promise<Json>): Promise<Outcome> {
    try {
      this.signal.throwIfAborted();
      return { result: await work(this) };
    } catch (error) {
      return { error };
    }
  }

  /** How long it has been asked to stop for good, 0 if it was not. */
  overdueMs(nowNs: bigint): number {
    const since = this.#mustStopSinceNs;
    return since === undefined ? 0 : Number(nowNs - since) / MS;
  }

  /** How long it has made no progress that it should have made. */
  idleMs(nowNs: bigint): number {
    if (this.#excuses > 0) this.#progressNs = nowNs;
    return Number(nowNs - this.#progressNs) / MS;
  }

  /** Rate, time left and stages of late. Call about once a second. */
  sample(nowNs: bigint): void {
    const windowNs = nowNs - this.#sampleNs;
    if (windowNs <= 0n) return;
    this.#sampleNs = nowNs;
    const { doneBytes, totalBytes } = this.job;
    const stages = [...this.#stages.values()].map((stage) => stage.percent(windowNs, nowNs));
    const { bytesPerSecond, etaSeconds } = this.#rate.sample(doneBytes, totalBytes, nowNs);
    const figures = { bytesPerSecond, etaSeconds, stages };
    if (!areSame(figures, this.job)) this.#live.change(figures);
  }

  /** The figures of the whole attempt. */
  summary(): Figures {
    const nowNs = this.#tools.clock.monotonicNs();
    const wholeNs = nowNs - this.#startNs;
    const stages = [...this.#stages.values()].map((stage) => stage.overall(wholeNs, nowNs));
    const bytesPerSecond = this.#rate.average(this.job.doneBytes, nowNs);
    return { ...noProgress, bytesPerSecond, stages };
  }

  async checkpoint(value: Json, effects: readonly Effect[] = []): Promise<void> {
    this.#checkOwned();
    const isNew = JSON.stringify(value) !== JSON.stringify(this.job.checkpoint);
    if (isNew) {
      this.#live.change({ checkpoint: value, fruitlessAttempts: 0 });
      this.#progressed();
    }
    const isSaved = await this.#excused(() => this.#live.saveSurely(effects, this.signal));
    if (!isSaved) throw this.signal.reason ?? new JobInterrupt('shutdown');
  }

  progress(figures: { readonly doneBytes?: number; readonly totalBytes?: number }): void {
    this.#checkOwned();
    const { doneBytes, totalBytes } = this.job;
    const isFurther = figures.doneBytes !== undefined && figures.doneBytes !== doneBytes;
    if (isFurther || Object.keys(figures).length === 0) this.#progressed();
    this.#live.change({
      doneBytes: figures.doneBytes ?? doneBytes,
      totalBytes: figures.totalBytes ?? totalBytes,
    });
  }

  stage(name: string): JobStageMeter {
    const meter = this.#stages.get(name) ?? new StageMeter(name);
    this.#stages.set(name, meter);
    const { clock } = this.#tools;
    return {
      busy: async (work) => {
        meter.begin(clock.monotonicNs());
        try {
          return await work();
        } finally {
          meter.end(clock.monotonicNs());
        }
      },
      add: (busyMs) => {
        meter.add(BigInt(Math.round(busyMs * MS)));
      },
    };
  }

  log(message: string): void {
    this.#checkOwned();
    this.#live.log(message);
  }

  async waitFor<T>(waitingFor: JsonObject, promise: Promise<T>): Promise<T> {
    promise.catch(() => undefined); // it may reject after an interrupt, when nobody listens
    this.#checkOwned();
    this.signal.throwIfAborted();
    this.#waits.push(waitingFor);
    this.#showWaiting();
    try {
      return await this.#excused(() => this.#untilInterrupted(promise));
    } finally {
      this.#waits.splice(this.#waits.indexOf(waitingFor), 1);
      this.#progressed();
      this.#showWaiting();
    }
  }

  async throttle(bytes: number): Promise<void> {
    const { clock, sleep } = this.#tools;
    this.#brake.take(bytes, this.job.maxBytesPerSecond, clock.monotonicNs());
    await this.#excused(async () => {
      for (;;) {
        this.signal.throwIfAborted();
        const delayMs = this.#brake.delayMs(this.job.maxBytesPerSecond, clock.monotonicNs());
        if (delayMs === 0) return;
        await sleep(Math.min(delayMs, BRAKE_SLICE_MS), this.signal);
      }
    });
  }

  #progressed(): void {
    this.#progressNs = this.#tools.clock.monotonicNs();
  }

  /** Shows the newest wait, or that it runs; a job that was asked to stop stays as it is. */
  #showWaiting(): void {
    const { state } = this.job;
    if (this.isDisowned || (state !== 'running' && state !== 'waiting')) return;
    const waitingFor = this.#waits.at(-1);
    if (state === 'waiting') this.#live.move({ state: 'running' });
    if (waitingFor !== undefined) this.#live.move({ state: 'waiting', waitingFor });
    this.#live.save().catch((error: unknown) => {
      this.#tools.onError(error, this.job);
    });
    this.#onWaiting();
  }

  async #untilInterrupted<T>(promise: Promise<T>): Promise<T> {
    const { promise: interrupted, reject } = Promise.withResolvers<never>();
    const stop = (): void => {
      reject(this.signal.reason);
    };
    this.signal.addEventListener('abort', stop);
    try {
      return await Promise.race([promise, interrupted]);
    } finally {
      this.signal.removeEventListener('abort', stop);
    }
  }

  async #excused<T>(work: () => Promise<T>): Promise<T> {
    this.#excuses += 1;
    try {
      return await work();
    } finally {
      this.#excuses -= 1;
      if (this.#excuses === 0) this.#progressed();
    }
  }

  #checkOwned(): void {
    if (!this.#isDisowned) return;
    assert(this.signal.aborted, 'a disowned run was not interrupted');
    throw this.signal.reason;
  }
}
