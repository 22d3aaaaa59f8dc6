/**
 * The instants that a cron expression names in a time zone. Pure; the only file that knows croner.
 *
 * Instants are whole seconds. If the clock is put forward, a fixed time of the gap (`30 2 * * *`)
 * comes right after it, and repeated ones (`0,30 * * * *`) leave it out. Where it is put back, a
 * fixed time comes once, the first time, and repeated ones come in both hours.
 */
import { Cron } from 'croner';
import { StorageError } from '../base/errors.ts';
import { checkTimeZone } from '../base/time-zone.ts';

const SECOND_MS = 1000;
const NO_EXPRESSION =
  'not five fields (minute, hour, day of month, month, day of week), not six with seconds before ' +
  'them, and not a nickname such as @daily';

export interface CronTimes {
  /** The first instant after this moment, or undefined if there is none any more. */
  next(afterMs: number): number | undefined;
  /** The last instant at or before this moment, or undefined if there was none. */
  last(uptoMs: number): number | undefined;
}

/**
 * Five fields (minute, hour, day of month, month, day of week), six with seconds before them, or
 * a nickname such as `@daily`.
 * @throws VALIDATION_FAILED for another expression, one that names no instant, or no time zone
 */
export function cronTimes(expression: string, timeZone: string): CronTimes {
  checkTimeZone(timeZone);
  const cron = parse(expression, timeZone);
  const times: CronTimes = {
    next: (afterMs) => cron.nextRun(new Date(afterMs))?.getTime(),
    last: (uptoMs) => {
      const end = (Math.floor(uptoMs / SECOND_MS) + 1) * SECOND_MS;
      return cron.previousRuns(1, new Date(end))[0]?.getTime();
    },
  };
  return times;
}

function parse(expression: string, timeZone: string): Cron {
  let cron: Cron | undefined;
  try {
    cron = new Cron(expression, { paused: true, timezone: timeZone, mode: '5-or-6-parts' });
  } catch {
    throw invalid(expression, NO_EXPRESSION);
  }
  // a date is no repetition
  if (cron.getOnce() !== null) throw invalid(expression, 'it is a date');
  return cron;
}

function invalid(expression: string, reason: string): StorageError {
  return new StorageError('VALIDATION_FAILED', `cron: ${expression}: ${reason}`, { field: 'cron' });
}

/** @throws VALIDATION_FAILED if nothing is named from this moment on */
export function checkNames(times: CronTimes, expression: string, nowMs: number): void {
  if (times.next(nowMs) === undefined) throw invalid(expression, 'it names no time to come');
}
