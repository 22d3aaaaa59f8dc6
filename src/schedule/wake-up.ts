/**
 * The one wake-up of all schedules: looks, sleeps until something begins, looks again.
 *
 * When to sleep until is computed anew from the wall clock each time, so nothing drifts; it is
 * never longer than `LOOK_EVERY_MS`, so a wall clock that jumps is noticed.
 */
import type { Clock } from '../base/clock.ts';

export const LOOK_EVERY_MS = 30_000;

export interface WakeUpOptions {
  readonly clock: Clock;
  /** Resolves after the time, or at once when the signal fires; never rejects. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Does what is due; never rejects. @returns when to look again at the latest */
  readonly look: (stopped: AbortSignal) => Promise<number>;
}

export class WakeUp {
  readonly #o: WakeUpOptions;
  readonly #stopped = new AbortController();
  #again = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: WakeUpOptions) {
    this.#o = options;
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** Looks again at once: something has changed. */
  now(): void {
    this.#again.abort();
  }

  /** Resolves when nothing is looked at any more. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, sleep, look } = this.#o;
    const { signal: stopped } = this.#stopped;
    while (!stopped.aborted) {
      // a change while it looks is looked at after that
      this.#again = new AbortController();
      const untilMs = await look(stopped);
      const ms = Math.min(LOOK_EVERY_MS, Math.max(1, untilMs - clock.nowMs()));
      await sleep(ms, AbortSignal.any([this.#again.signal, stopped]));
    }
  }
}
