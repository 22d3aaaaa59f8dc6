/**
 * Wall-clock time in a time zone of the IANA data base: what people call an hour, a day, a week.
 */
import { StorageError } from './errors.ts';

const DAY_MS = 86_400_000;

/** Names of the periods in which an instant lies; equal names, same period. */
export interface Periods {
  /** With its offset: an hour that a change of the clock doubles is two. */
  readonly hour: string;
  readonly day: string;
  /** ISO 8601: it begins on Monday. */
  readonly week: string;
  readonly month: string;
  readonly year: string;
}

/** @throws VALIDATION_FAILED if there is no such time zone */
export function checkTimeZone(timeZone: string, field = 'timeZone'): void {
  try {
    formatOf(timeZone);
  } catch {
    throw new StorageError('VALIDATION_FAILED', `${field}: there is no time zone ${timeZone}`, {
      field,
    });
  }
}

/** @throws RangeError for a zone that is none: check it first */
export function periodsIn(timeZone: string): (ms: number) => Periods {
  const format = formatOf(timeZone);
  return (ms) => {
    const parts = new Map(format.formatToParts(ms).map(({ type, value }) => [type, value]));
    const of = (type: Intl.DateTimeFormatPartTypes): string => parts.get(type) ?? '';
    const month = `${of('year')}-${of('month')}`;
    const day = `${month}-${of('day')}`;
    return {
      hour: `${day}T${of('hour')}${of('timeZoneName').replace('GMT', '')}`,
      day,
      week: weekOf(Number(of('year')), Number(of('month')), Number(of('day'))),
      month,
      year: of('year'),
    };
  };
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    timeZoneName: 'longOffset',
  });
}

/** The week belongs to the year in which its Thursday lies. */
function weekOf(year: number, month: number, day: number): string {
  const date = Date.UTC(year, month - 1, day);
  const weekday = (new Date(date).getUTCDay() + 6) % 7;
  const thursday = date + (3 - weekday) * DAY_MS;
  const yearOfWeek = new Date(thursday).getUTCFullYear();
  const week = 1 + Math.floor((thursday - Date.UTC(yearOfWeek, 0, 1)) / (7 * DAY_MS));
  return `${yearOfWeek}-W${String(week).padStart(2, '0')}`;
}
