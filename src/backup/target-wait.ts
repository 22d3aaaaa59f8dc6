/**
 * Waiting for a target that is full or away: the job shows what it waits for and goes on by itself.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isStorageError } from '../base/errors.ts';
import type { JobContext } from '../job/job-run.ts';
import { rfc3339, systemClock } from '../base/clock.ts';
import type { Target } from '../target/target.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { TargetRecord } from './records.ts';

const LOOK_AGAIN_MS = 2000;

/** Runs `work`; after TARGET_FULL or TARGET_UNAVAILABLE waits until it may succeed, and again. */
export async function waitForTarget(
  context: JobContext<RowChange>,
  target: TargetRecord,
  medium: Target,
  work: () => Promise<void>,
): Promise<void> {
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      const full = isStorageError(error, 'TARGET_FULL');
      if (!full && !isStorageError(error, 'TARGET_UNAVAILABLE')) throw error;
      context.log(error.message);
      const freeBefore = full ? await freeOf(medium) : undefined;
      const waitingFor = {
        kind: 'target',
        target: target.name,
        code: error.code,
        since: rfc3339(systemClock.nowMs()),
      };
      await context.waitFor(waitingFor, hasChanged(context.signal, medium, freeBefore));
    }
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
