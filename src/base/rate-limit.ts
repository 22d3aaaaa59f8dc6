/**
 * A limit in bytes per second that many share: a token bucket that lends, with a queue.
 *
 * Bytes are asked for before they are moved. What is asked for is taken in steps; a step is granted
 * once all that was taken before is paid for, and pays by making the next one wait. So a step may
 * be larger than what is saved, and the long-run rate is exact.
 *
 * Invariants:
 *  1. First come, first served, a step at a time: of several takers each gets the same share,
 *     whatever the size of what it asks for.
 *  2. At most `BURST_SECONDS` of the rate are saved for later.
 *  3. A taker whose signal fires leaves the queue at once and has what it got given back.
 *  4. Without a rate everything is granted at once, also to those who wait.
 */
import { assert } from './assert.ts';
import { type Clock, systemClock, systemSleep } from './clock.ts';
import { KIB, MIB } from './units.ts';

/** Up to this much of a second may be spent at once after a rest. */
const BURST_SECONDS = 0.25;
const MIN_STEP_BYTES = 4 * KIB;
const MAX_STEP_BYTES = MIB;
/** A timer is set for no longer than this: a day is as good as for ever. */
const MAX_SLEEP_MS = 86_400_000;

interface Waiter {
  readonly bytes: number;
  readonly grant: () => void;
}

export interface RateLimitTools {
  readonly clock: Clock;
  /** Resolves after the time, or at once when the signal fires; never rejects. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

const realTools: RateLimitTools = { clock: systemClock, sleep: systemSleep };

export class RateLimit {
  readonly #tools: RateLimitTools;
  readonly #queue: Waiter[] = [];
  #bytesPerSecond: number | null = null;
  #tokens = 0;
  #lastNs: bigint;
  #alarm: AbortController | undefined;

  constructor(tools: RateLimitTools = realTools) {
    this.#tools = tools;
    this.#lastNs = tools.clock.monotonicNs();
  }

  /** Null: none. */
  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond;
  }

  /** How many takers wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** What should be moved at a time, so that the rate is felt as even: a quarter of a second. */
  get stepBytes(): number {
    const rate = this.#bytesPerSecond;
    if (rate === null) return MAX_STEP_BYTES;
    const quarter = Math.floor((rate * BURST_SECONDS) / MIN_STEP_BYTES) * MIN_STEP_BYTES;
    return Math.max(MIN_STEP_BYTES, Math.min(MAX_STEP_BYTES, quarter));
  }

  /** Takes effect at once, also for those who wait. @param rate at least 1, or null: none */
  set(rate: number | null): void {
    assert(rate === null || (Number.isSafeInteger(rate) && rate > 0), `rate ${rate ?? ''}`);
    this.#refill();
    this.#bytesPerSecond = rate;
    if (rate === null) this.#tokens = 0;
    this.#serve();
  }

  /**
   * Takes so many bytes. Undefined if they are granted at once, else a promise to wait for.
   * @throws (the promise) the reason of the signal
   */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    if (this.#bytesPerSecond === null || bytes === 0) return undefined;
    this.#refill();
    if (bytes <= this.stepBytes && this.#queue.length === 0 && this.#tokens >= 0) {
      this.#tokens -= bytes;
      return undefined;
    }
    return this.#takeSteps(bytes, signal);
  }

  /** Of what was taken, so much was not moved. */
  giveBack(bytes: number): void {
    if (this.#bytesPerSecond === null || bytes === 0) return;
    this.#refill();
    this.#tokens += bytes;
    this.#serve();
  }

  async #takeSteps(bytes: number, signal: AbortSignal): Promise<void> {
    let taken = 0;
    try {
      while (taken < bytes) {
        const step = Math.min(this.stepBytes, bytes - taken);
        await this.#wait(step, signal);
        taken += step;
      }
    } catch (error) {
      this.giveBack(taken);
      throw error;
    }
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#queue.splice(this.#queue.indexOf(waiter), 1);
        reject(signal.reason as Error);
        this.#serve();
      };
      const waiter: Waiter = {
        bytes,
        grant: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#queue.push(waiter);
      this.#serve();
    });
  }

  /** Grants what may be granted, and sets the alarm for the next. */
  #serve(): void {
    this.#alarm?.abort();
    this.#alarm = undefined;
    this.#refill();
    const rate = this.#bytesPerSecond;
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      if (rate !== null && this.#tokens < 0) break;
      if (rate !== null) this.#tokens -= first.bytes;
      this.#queue.shift();
      first.grant();
    }
    if (rate === null || this.#queue.length === 0) return;
    const alarm = new AbortController();
    this.#alarm = alarm;
    const ms = Math.min(MAX_SLEEP_MS, Math.max(1, Math.ceil((-this.#tokens / rate) * 1000)));
    void this.#tools.sleep(ms, alarm.signal).then(() => {
      if (!alarm.signal.aborted) this.#serve();
    });
  }

  #refill(): void {
    const nowNs = this.#tools.clock.monotonicNs();
    const seconds = Number(nowNs - this.#lastNs) / 1e9;
    this.#lastNs = nowNs;
    const rate = this.#bytesPerSecond;
    if (rate === null) return;
    this.#tokens = Math.min(this.#tokens + seconds * rate, BURST_SECONDS * rate);
  }
}
