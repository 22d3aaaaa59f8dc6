/**
 * One job that has not ended, in memory: the truth about it in this process, saved as it changes.
 *
 * A change is made in memory at once and then put into the store. If that fails, whoever asked gets
 * the error, the job stays as it is in memory, and `isDirty` says that a save is owed. An end is
 * the exception: it is durable before anyone can see it.
 *
 * Invariants:
 *  1. Puts of one job follow each other, each with the newest state: a row never goes back.
 *  2. A job whose end was seen has that end in the store, and changes no more.
 */
import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { Mutex } from '../base/mutex.ts';
import type { JobStore } from './job-store.ts';
import { isEnd, logged, moved, withFacts } from './job.ts';
import type { Job, JobFacts, JobStatus } from './job.ts';

/** Resolves after the time, or at once when the signal fires; never rejects. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

/** What every part of the runner uses. */
export interface JobTools<Effect> {
  readonly store: JobStore<Effect>;
  readonly clock: Clock;
  readonly sleep: Sleep;
  /** Fires at the end of a shutdown: nothing is tried again after it. */
  readonly stopped: AbortSignal;
  /** An error that no caller gets: a save that is tried again, a bug in a run. */
  readonly onError: (error: unknown, job: Job) => void;
}

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 10_000;

/** 100 ms, 200, 400 … 10 s. @param failures so far, at least 1 */
export function retryDelayMs(failures: number): number {
  return Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 10));
}

export class LiveJob<Effect> {
  readonly #tools: JobTools<Effect>;
  readonly #saving = new Mutex();
  readonly #watchers = new Set<() => void>();
  #job: Job;
  #saved: Job | undefined;
  #saves = 0;

  /** @param saved the job is in the store as it is */
  constructor(job: Job, tools: JobTools<Effect>, saved: boolean) {
    this.#job = job;
    this.#saved = saved ? job : undefined;
    this.#tools = tools;
  }

  get job(): Job {
    return this.#job;
  }

  get id(): string {
    return this.#job.id;
  }

  /** The store has not the newest state, and no save is under way. */
  get isDirty(): boolean {
    return this.#saved !== this.#job && this.#saves === 0;
  }

  /** Into another state, in memory. @param message for the log */
  move(status: JobStatus, message?: string): void {
    assert(!isEnd(status.state), 'an end is made by `end`');
    this.#job = moved(this.#job, status);
    if (message !== undefined) this.log(message);
    this.#notify();
  }

  /** Other facts, in memory. */
  change(facts: Partial<Omit<JobFacts, 'id' | 'kind'>>): void {
    this.#job = withFacts(this.#job, facts);
  }

  log(message: string): void {
    this.#job = logged(this.#job, { atMs: this.#tools.clock.nowMs(), message });
  }

  /** Puts the newest state and the effects, one try. Does nothing if there is nothing to put. */
  save(effects: readonly Effect[] = []): Promise<void> {
    return this.#exclusively(async () => {
      if (this.#saved !== this.#job || effects.length > 0) await this.#put(this.#job, effects);
    });
  }

  /**
   * Saves, again and again until it succeeds or `signal` or the stop of the runner fires.
   * @returns whether it was saved
   */
  saveSurely(effects: readonly Effect[] = [], signal?: AbortSignal): Promise<boolean> {
    const signals = signal === undefined ? [] : [signal];
    return this.#insist(() => this.#put(this.#job, effects), signals);
  }

  /** Ends the job. @returns false if the runner was stopped before the end was durable */
  async end(status: JobStatus): Promise<boolean> {
    assert(isEnd(status.state), 'an end is an end state');
    const isSaved = await this.#insist(async () => {
      const ended = moved(this.#job, status);
      await this.#put(ended, []);
      this.#job = ended;
    }, []);
    this.#notify();
    return isSaved;
  }

  /** Resolves at the next change of state, or when the signal fires. */
  async changed(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const wake = (): void => {
      resolve(undefined);
    };
    this.#watchers.add(wake);
    signal.addEventListener('abort', wake);
    await promise;
    this.#watchers.delete(wake);
    signal.removeEventListener('abort', wake);
  }

  #notify(): void {
    for (const wake of this.#watchers) wake();
  }

  async #put(job: Job, effects: readonly Effect[]): Promise<void> {
    await this.#tools.store.put(job, effects);
    this.#saved = job;
  }

  /** Tries until it succeeds (true), or fails after one of the signals or the stop (false). */
  async #insist(work: () => Promise<void>, signals: readonly AbortSignal[]): Promise<boolean> {
    const stops = [this.#tools.stopped, ...signals];
    const isStopped = (): boolean => stops.some(({ aborted }) => aborted);
    for (let failures = 1; ; failures += 1) {
      try {
        await this.#exclusively(work);
        return true;
      } catch (error) {
        this.#tools.onError(error, this.#job);
        if (isStopped()) return false;
        await this.#tools.sleep(retryDelayMs(failures), AbortSignal.any(stops));
        if (isStopped()) return false;
      }
    }
  }

  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    this.#saves += 1;
    try {
      return await this.#saving.run(work);
    } finally {
      this.#saves -= 1;
    }
  }
}
