import { describe, expect, it } from 'vitest';
import { checkTimeZone, periodsIn } from '../../../src/base/time-zone.ts';

describe('periods of an instant', () => {
  it.each([
    [
      'UTC',
      '2026-01-01T00:00:00Z',
      '2026-01-01T00+00:00',
      '2026-01-01',
      '2026-W01',
      '2026-01',
      '2026',
    ],
    [
      'UTC',
      '2027-01-03T23:59:59Z',
      '2027-01-03T23+00:00',
      '2027-01-03',
      '2026-W53',
      '2027-01',
      '2027',
    ],
    [
      'UTC',
      '2024-12-30T12:00:00Z',
      '2024-12-30T12+00:00',
      '2024-12-30',
      '2025-W01',
      '2024-12',
      '2024',
    ],
    ['Asia/Tokyo', '2026-12-31T15:00:00Z', '2027-01-01T00+09:00', '2027-01-01', '2026-W53'],
    ['America/New_York', '2026-07-01T03:30:00Z', '2026-06-30T23-04:00', '2026-06-30', '2026-W27'],
    ['Asia/Kolkata', '2026-05-01T18:29:00Z', '2026-05-01T23+05:30', '2026-05-01', '2026-W18'],
  ])('%s %s', (zone, at, hour, day, week, month = day.slice(0, 7), year = day.slice(0, 4)) => {
    expect(periodsIn(zone)(Date.parse(at))).toEqual({ hour, day, week, month, year });
  });

  it('an hour that is doubled is two, a day without one or with one more is one', () => {
    const of = periodsIn('Europe/Berlin');
    const first = of(Date.parse('2026-10-25T00:30:00Z'));
    const second = of(Date.parse('2026-10-25T01:30:00Z'));
    expect([first.hour, second.hour]).toEqual(['2026-10-25T02+02:00', '2026-10-25T02+01:00']);
    expect(first.day).toBe(second.day);
    const hours = Array.from(
      { length: 30 },
      (_, hour) => Date.parse('2026-03-28T21:00:00Z') + hour * 3.6e6,
    );
    const spring = hours.map(of).filter(({ day }) => day === '2026-03-29');
    expect(spring).toHaveLength(23);
    expect(spring.map(({ hour }) => hour.slice(11, 13))).not.toContain('02');
  });
});

describe('a time zone', () => {
  it('that is none is refused', () => {
    for (const zone of ['Mars/Olympus', '', 'Europe/', '+99:00', '\0']) {
      expect(() => {
        checkTimeZone(zone);
      }).toThrow(expect.objectContaining({ code: 'VALIDATION_FAILED' }));
    }
    checkTimeZone('Europe/Berlin');
    checkTimeZone('UTC');
  });
});
