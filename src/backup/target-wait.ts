/**
 * Waiting for a target that is full or away: the job shows what it waits for and goes on by itself.
 *
 * A drive that fails is tried again at once, as that may have been a cartridge that was changed.
 * If it fails so again and again, with nothing confirmed between, trying wears it out: then the job
 * waits for hands, and says what they have to do.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { rfc3339, systemClock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import type { StorageError } from '../base/errors.ts';
import type { JsonObject } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Target } from '../target/target.ts';
import type { TargetRecord } from './records.ts';
import type { Targets } from './targets.ts';

const LOOK_AGAIN_MS = 2000;
/** So often a drive may fail before it is left alone. */
const MOST_TRIES = 3;
/** Hands at a real drive tell nobody. */
const TRY_AGAIN_MS = 10 * 60_000;

type Context = Pick<JobContext<RowChange>, 'job' | 'signal' | 'log' | 'waitFor'>;

/** Runs `work`; after TARGET_FULL or TARGET_UNAVAILABLE waits until it may succeed, and again. */
export async function waitForTarget(
  context: Context,
  targets: Pick<Targets, 'medium' | 'leases'>,
  target: TargetRecord,
  work: () => Promise<void>,
): Promise<void> {
  const medium = targets.medium(target);
  const troubles = new Troubles();
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      const full = isStorageError(error, 'TARGET_FULL');
      if (!full && !isStorageError(error, 'TARGET_UNAVAILABLE')) throw named(error, target);
      const trouble = troubles.add(error, JSON.stringify(context.job.checkpoint));
      if (trouble.isNew) context.log(error.message);
      const waitingFor = { target: target.name, ...trouble.waitingFor };
      if (target.kind !== 'directory' && trouble.mustRest) {
        context.log(`tried ${MOST_TRIES} times: waits for hands`);
        const hands = targets.leases.nextChange(target);
        await context.waitFor(waitingFor, rest(context.signal, hands));
        troubles.end();
      } else {
        const freeBefore = full ? await freeOf(medium) : undefined;
        await context.waitFor(waitingFor, hasChanged(context.signal, medium, freeBefore));
      }
    }
  }
}

/** Who reads or writes a medium knows its path only; a job names its target. */
function named(error: unknown, { name, path }: TargetRecord): unknown {
  const isByPath = isStorageError(error) && error.details['target'] === path;
  return isByPath ? error.with({ target: name, path }) : error;
}

/** What went wrong since something was confirmed last. */
class Troubles {
  #message = '';
  #confirmed = '';
  #since = '';
  #failures = 0;

  add(error: StorageError, confirmed: string) {
    const { message, code, details } = error;
    if (confirmed !== this.#confirmed) this.end();
    this.#confirmed = confirmed;
    const isNew = this.#message !== message;
    if (isNew) this.#since = rfc3339(systemClock.nowMs());
    this.#message = message;
    this.#failures = details['errno'] === 'EIO' ? this.#failures + 1 : 0;
    const mustRest = this.#failures >= MOST_TRIES;
    const { next } = details;
    const waitingFor: JsonObject = {
      kind: 'target',
      code,
      reason: message,
      ...(typeof next === 'string' ? { next } : {}),
      since: this.#since,
    };
    return { isNew, mustRest, waitingFor };
  }

  end(): void {
    this.#failures = 0;
    this.#message = '';
  }
}

/** Until hands have been at the drive. */
async function rest(signal: AbortSignal, hands: Promise<unknown>): Promise<void> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const over = delay(TRY_AGAIN_MS, undefined, { signal: until, ref: false });
  try {
    await Promise.race([hands, over]);
  } finally {
    stop.abort();
    over.catch(() => undefined);
  }
}

/**
 * Resolves when the target is there and has more room than before. Where nobody knows how much
 * there was or is, only another try tells.
 */
async function hasChanged(
  signal: AbortSignal,
  medium: Target,
  freeBefore: number | undefined,
): Promise<void> {
  for (;;) {
    await delay(LOOK_AGAIN_MS, undefined, { signal });
    const free = await freeOf(medium);
    if (free === -1) continue;
    if (freeBefore === undefined || free === undefined || free > freeBefore) return;
  }
}

/** undefined: not known; -1: it does not answer. */
async function freeOf(medium: Target): Promise<number | undefined> {
  try {
    return await medium.freeBytes();
  } catch {
    return -1;
  }
}
