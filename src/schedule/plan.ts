/**
 * What a schedule does at a moment: run, leave out, or wait until when. Pure.
 *
 * The wall clock says what is due, the cursor what has been dealt with: every instant up to it was
 * run or left out. Of instants that have passed meanwhile only the last one is looked at; it stands
 * for all of them.
 *
 * Invariants:
 *  1. An instant is due at most once: not at or before the cursor, and not among the recent runs.
 *  2. A run never comes after the next instant, whatever the jitter.
 *  3. The same schedule and instant have the same jitter for ever.
 *  4. A clock that was wrong by more than a day and is put back stops no schedule.
 */
import { createHash } from 'node:crypto';
import type { CronTimes } from './cron.ts';

/** Later than this, an instant counts as missed. */
export const LATE_MS = 60_000;
/** A cursor so far ahead is from a clock that was wrong; less than that is waited for. */
export const CLOCK_BACK_MS = 86_400_000;

export interface Timing {
  /** Id of the schedule. */
  readonly id: string;
  readonly times: CronTimes;
  readonly jitterSeconds: number;
}

export interface Cursor {
  readonly cursorMs: number;
  /** Instants that were run, for when the cursor has to go back. */
  readonly recentMs: readonly number[];
}

export type Plan =
  | { readonly kind: 'due'; readonly instantMs: number; readonly isLate: boolean }
  /** Undefined: no instant comes any more. */
  | { readonly kind: 'wait'; readonly untilMs: number | undefined };

/** The cursor to go on with: it goes back with a clock that was wrong, and is to be kept then. */
export function mended(cursor: Cursor, nowMs: number): Cursor {
  if (cursor.cursorMs <= nowMs + CLOCK_BACK_MS) return cursor;
  return { ...cursor, cursorMs: nowMs };
}

/** @param cursor mended */
export function plan(timing: Timing, cursor: Cursor, nowMs: number): Plan {
  const last = lastDue(timing, nowMs);
  if (last !== undefined && last > cursor.cursorMs && !cursor.recentMs.includes(last)) {
    return { kind: 'due', instantMs: last, isLate: nowMs - startOf(timing, last) > LATE_MS };
  }
  const [next] = upcoming(timing, cursor, nowMs, 1);
  return { kind: 'wait', untilMs: next === undefined ? undefined : startOf(timing, next) };
}

/** The next instants that will be due, without jitter. */
export function upcoming(timing: Timing, cursor: Cursor, nowMs: number, count: number): number[] {
  const found: number[] = [];
  const { times } = timing;
  let at: number | undefined = cursor.cursorMs;
  const due = lastDue(timing, nowMs);
  // what is due before it does not come any more
  if (due !== undefined && due > at) at = due;
  while (found.length < count) {
    at = times.next(at);
    if (at === undefined) break;
    if (!cursor.recentMs.includes(at)) found.push(at);
  }
  return found;
}

/** When an instant is begun: up to `jitterSeconds` later, and before the next one. */
export function startOf({ id, times, jitterSeconds }: Timing, instantMs: number): number {
  if (jitterSeconds === 0) return instantMs;
  const next = times.next(instantMs);
  const gapMs = next === undefined ? Number.POSITIVE_INFINITY : next - instantMs;
  const digest = createHash('sha256').update(`${id} ${instantMs}`).digest();
  const share = digest.readUIntBE(0, 6) / 2 ** 48;
  return instantMs + Math.floor(share * Math.min(jitterSeconds * 1000, gapMs));
}

/** The last instant whose start has come. */
function lastDue(timing: Timing, nowMs: number): number | undefined {
  const last = timing.times.last(nowMs);
  if (last === undefined || startOf(timing, last) <= nowMs) return last;
  return timing.times.last(last - 1);
}
