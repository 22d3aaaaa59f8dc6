import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkNames, cronTimes } from '../../../src/schedule/cron.ts';

function after(expression: string, zone: string, from: string, count: number): string[] {
  const times = cronTimes(expression, zone);
  const found: string[] = [];
  let at: number | undefined = Date.parse(from);
  while (found.length < count && at !== undefined) {
    at = times.next(at);
    if (at !== undefined) found.push(new Date(at).toISOString().replace(':00.000Z', ''));
  }
  return found;
}

describe('a cron expression', () => {
  it('that is none is refused in our own words', () => {
    for (const wrong of ['soon', '* * *', '61 * * * *', '* * * * * * *']) {
      expect(() => cronTimes(wrong, 'UTC')).toThrow(/^cron: .*: not five fields \(minute, hour/);
    }
  });

  it('names instants of its time zone', () => {
    expect(after('0 3 * * MON', 'Asia/Tokyo', '2026-11-29T00:00:00Z', 2)).toEqual([
      '2026-11-29T18:00',
      '2026-12-06T18:00',
    ]);
    expect(after('*/20 * * * *', 'UTC', '2026-11-29T23:30:00Z', 2)).toEqual([
      '2026-11-29T23:40',
      '2026-11-30T00:00',
    ]);
    expect(after('@monthly', 'UTC', '2026-11-29T00:00:00Z', 1)).toEqual(['2026-12-01T00:00']);
  });

  it('with a fixed time comes once a day, also where the clock is put forward or back', () => {
    expect(after('30 2 * * *', 'Europe/Berlin', '2026-03-28T00:00:00Z', 3)).toEqual([
      '2026-03-28T01:30',
      '2026-03-29T01:00',
      '2026-03-30T00:30',
    ]);
    expect(after('30 2 * * *', 'Europe/Berlin', '2026-10-24T00:00:00Z', 3)).toEqual([
      '2026-10-24T00:30',
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ]);
  });

  it('that repeats leaves the missing hour out, and comes in both of a doubled one', () => {
    expect(after('0 * * * *', 'Europe/Berlin', '2026-03-28T23:30:00Z', 3)).toEqual([
      '2026-03-29T00:00',
      '2026-03-29T01:00',
      '2026-03-29T02:00',
    ]);
    expect(after('0 * * * *', 'Europe/Berlin', '2026-10-24T23:30:00Z', 3)).toEqual([
      '2026-10-25T00:00',
      '2026-10-25T01:00',
      '2026-10-25T02:00',
    ]);
  });

  it.each([
    ['', 'UTC'],
    ['* * *', 'UTC'],
    ['60 * * * *', 'UTC'],
    ['* * * * * * *', 'UTC'],
    ['2026-12-01T00:00:00', 'UTC'],
    ['@reboot', 'UTC'],
    ['every day', 'UTC'],
    ['0 3 * * *', 'Mars/Olympus'],
  ])('%j in %s is refused', (expression, zone) => {
    expect(() => cronTimes(expression, zone)).toThrow(
      expect.objectContaining({ code: 'VALIDATION_FAILED' }),
    );
  });

  it('that names nothing to come is refused', () => {
    const times = cronTimes('0 0 30 2 *', 'UTC');
    expect(() => {
      checkNames(times, '0 0 30 2 *', Date.parse('2026-11-29T00:00:00Z'));
    }).toThrow('no time to come');
    expect(times.last(Date.parse('2026-11-29T00:00:00Z'))).toBeUndefined();
  });

  it('law: what comes next and what came last are the same instants', () => {
    const expressions = [
      '*/5 * * * *',
      '30 2 * * *',
      '0 1,2,3 * * *',
      '15 */3 * * SUN',
      '0 4 1 * *',
    ];
    const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe'];
    const moments = fc.integer({
      min: Date.parse('2026-01-01T00:00:00Z'),
      max: Date.parse('2027-12-31T00:00:00Z'),
    });
    fc.assert(
      fc.property(
        fc.constantFrom(...expressions),
        fc.constantFrom(...zones),
        moments,
        (expression, zone, ms) => {
          const times = cronTimes(expression, zone);
          const next = times.next(ms)!;
          expect(next).toBeGreaterThan(ms);
          expect(times.last(next)).toBe(next);
          expect(times.last(next + 999)).toBe(next);
          expect(times.last(next - 1)).toBeLessThanOrEqual(ms);
          const last = times.last(ms)!;
          expect(last).toBeLessThanOrEqual(ms);
          expect(times.next(last)).toBe(next);
        },
      ),
      { numRuns: 400 },
    );
  });
});
