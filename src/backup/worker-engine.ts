/**
 * The engine as a job worker sees it, and targets opened in a worker.
 */
import { DirectoryTarget } from '../target/file.ts';
import type { Target } from '../target/target.ts';
import { systemClock } from '../base/clock.ts';
import type { BusyMs, CallName, Calls, TargetPlace } from './worker-protocol.ts';

export interface Engine {
  /** Fires when the job is to stop. */
  readonly signal: AbortSignal;
  /** @param transfer buffers that the engine takes over */
  call<Name extends CallName>(
    name: Name,
    args: Calls[Name]['arguments'],
    transfer?: ArrayBuffer[],
  ): Promise<Calls[Name]['answer']>;
}

/**
 * The target for a task of this engine, which is asked for cartridges. A thread that needs no drive
 * does not load what drives take: some MiB of code.
 */
export async function openTarget(
  place: TargetPlace,
  engine: Pick<Engine, 'call'>,
): Promise<Target> {
  if (place.kind === 'directory') return new DirectoryTarget(place.path);
  const { tapeTargetAt } = await import('../target/tape-place.ts');
  return tapeTargetAt(place, async (needed) => {
    await engine.call('medium', [needed]);
  });
}

/** Adds up how long each stage was at work; pieces of one stage that overlap count once. */
export class BusyTimes {
  readonly #stages = new Map<string, { running: number; sinceNs: bigint; ns: bigint }>();

  async time<T>(stage: string, work: () => Promise<T>): Promise<T> {
    const now = systemClock.monotonicNs();
    const times = this.#stages.get(stage) ?? { running: 0, sinceNs: now, ns: 0n };
    this.#stages.set(stage, times);
    if (times.running === 0) times.sinceNs = now;
    times.running += 1;
    try {
      return await work();
    } finally {
      times.running -= 1;
      if (times.running === 0) times.ns += systemClock.monotonicNs() - times.sinceNs;
    }
  }

  /** What was not told yet. */
  take(): BusyMs {
    const now = systemClock.monotonicNs();
    const told: Record<string, number> = {};
    for (const [stage, times] of this.#stages) {
      if (times.running > 0) {
        times.ns += now - times.sinceNs;
        times.sinceNs = now;
      }
      told[stage] = Number(times.ns) / 1e6;
      times.ns = 0n;
    }
    return told;
  }
}
