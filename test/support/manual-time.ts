/**
 * Time that passes only when a test says so: a clock and a sleep.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';

interface Sleeper {
  readonly atMs: number;
  readonly wake: () => void;
}

export class ManualTime implements Clock {
  #ms: number;
  #randomState = 1;
  readonly #sleepers = new Set<Sleeper>();

  constructor(startMs = 1_700_000_000_000) {
    this.#ms = startMs;
  }

  nowMs(): number {
    return this.#ms;
  }

  monotonicNs(): bigint {
    return BigInt(this.#ms) * 1_000_000n;
  }

  /** Different bytes each time, the same in each test run. */
  random(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 1) {
      this.#randomState = (Math.imul(this.#randomState, 1_664_525) + 1_013_904_223) >>> 0;
      bytes[at] = this.#randomState >>> 24;
    }
    return bytes;
  }

  /** How many sleep now. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  readonly sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const sleeper: Sleeper = {
        atMs: this.#ms + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          signal?.removeEventListener('abort', sleeper.wake);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', sleeper.wake);
    });

  /** Lets the time pass and everything happen that is due meanwhile, in order. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#ms + ms;
    await settle();
    for (;;) {
      const due = [...this.#sleepers].filter(({ atMs }) => atMs <= untilMs);
      const next = due.sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#ms = Math.max(this.#ms, next.atMs);
      next.wake();
      await settle();
    }
    this.#ms = untilMs;
    await settle();
  }
}

/** Everything that can happen without time passing has happened. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 3; round += 1) await turn();
}
