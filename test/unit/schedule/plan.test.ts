import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cronTimes } from '../../../src/schedule/cron.ts';
import {
  type Cursor,
  mended,
  plan,
  startOf,
  type Timing,
  upcoming,
} from '../../../src/schedule/plan.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function timing(cron: string, jitterSeconds = 0, zone = 'UTC'): Timing {
  return { id: 's', times: cronTimes(cron, zone), jitterSeconds };
}

function at(text: string): number {
  return Date.parse(text);
}

function cursor(text: string, recent: readonly string[] = []): Cursor {
  return { cursorMs: at(text), recentMs: recent.map(at) };
}

describe('a plan', () => {
  it('waits until the next instant, and is due from then on', () => {
    const nightly = timing('0 3 * * *');
    const from = cursor('2026-03-01T03:00:00Z');
    const next = at('2026-03-02T03:00:00Z');
    expect(plan(nightly, from, next - 1)).toEqual({ kind: 'wait', untilMs: next });
    expect(plan(nightly, from, next)).toEqual({ kind: 'due', instantMs: next, isLate: false });
    expect(plan(nightly, from, next + 59_000)).toMatchObject({ isLate: false });
    expect(plan(nightly, from, next + 61_000)).toMatchObject({ instantMs: next, isLate: true });
  });

  it('of many instants that were missed is due for the last one only', () => {
    const now = at('2026-03-10T12:00:00Z');
    expect(plan(timing('*/5 * * * * *'), cursor('2020-01-01T00:00:00Z'), now)).toEqual({
      kind: 'due',
      instantMs: now,
      isLate: false,
    });
    expect(plan(timing('0 3 * * *'), cursor('2026-03-01T03:00:00Z'), now)).toEqual({
      kind: 'due',
      instantMs: at('2026-03-10T03:00:00Z'),
      isLate: true,
    });
  });

  it('is not due again for what was dealt with when the clock is put back', () => {
    const hourly = timing('0 * * * *');
    const from = cursor('2026-03-01T12:00:00Z');
    const back = at('2026-03-01T09:30:00Z');
    expect(plan(hourly, from, back)).toEqual({ kind: 'wait', untilMs: at('2026-03-01T13:00:00Z') });
  });

  it('goes on when a clock that was wrong by years is put right, but repeats nothing', () => {
    const nightly = timing('0 3 * * *');
    const late = cursor('2031-05-05T03:00:00Z', ['2026-03-02T03:00:00Z', '2031-05-05T03:00:00Z']);
    const now = at('2026-03-01T12:00:00Z');
    const wrong = mended(late, now);
    expect(wrong).toEqual({ ...late, cursorMs: now });
    expect(mended(late, late.cursorMs - DAY)).toBe(late);
    const next = at('2026-03-03T03:00:00Z');
    expect(plan(nightly, wrong, now)).toEqual({ kind: 'wait', untilMs: next });
    expect(upcoming(nightly, wrong, now, 2)).toEqual([next, next + DAY]);
    expect(plan(nightly, wrong, at('2026-03-02T03:00:00Z'))).toMatchObject({ kind: 'wait' });
  });

  it('has nothing to wait for when no instant comes any more', () => {
    const gone: Timing = {
      id: 's',
      jitterSeconds: 0,
      times: { next: () => undefined, last: () => undefined },
    };
    expect(plan(gone, cursor('2026-03-01T00:00:00Z'), at('2026-03-01T12:00:00Z'))).toEqual({
      kind: 'wait',
      untilMs: undefined,
    });
  });

  it('spreads the starts by the same jitter each time, never beyond the next instant', () => {
    const wide = timing('0 * * * *', 100_000);
    const starts = Array.from({ length: 200 }, (_, hour) => {
      const instant = at('2026-03-01T00:00:00Z') + hour * HOUR;
      const start = startOf(wide, instant);
      expect(start).toBe(startOf(timing('0 * * * *', 100_000), instant));
      expect(start).toBeGreaterThanOrEqual(instant);
      expect(start).toBeLessThan(instant + HOUR);
      return (start - instant) / HOUR;
    });
    const mean = starts.reduce((sum, one) => sum + one, 0) / starts.length;
    expect(mean).toBeGreaterThan(0.4);
    expect(mean).toBeLessThan(0.6);
    const other = { ...wide, id: 'other' };
    expect(startOf(other, at('2026-03-01T00:00:00Z'))).not.toBe(
      startOf(wide, at('2026-03-01T00:00:00Z')),
    );
  });

  it('law: whatever a clock does, nothing is run twice, and one that goes on runs all', () => {
    const crons = fc.constantFrom('*/10 * * * *', '30 2 * * *', '0 */6 * * *', '0 2,3 * * *');
    const zones = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York');
    const steps = fc.array(
      fc.oneof(
        { weight: 20, arbitrary: fc.integer({ min: 1, max: 30 * 60_000 }) },
        { weight: 1, arbitrary: fc.integer({ min: -400 * DAY, max: 400 * DAY }) },
        { weight: 2, arbitrary: fc.integer({ min: -3 * HOUR, max: 3 * HOUR }) },
      ),
      { minLength: 1, maxLength: 50 },
    );
    fc.assert(
      fc.property(crons, zones, fc.nat({ max: 900 }), steps, (cron, zone, jitter, moves) => {
        const own = timing(cron, jitter, zone);
        let now = at('2026-03-28T12:00:00Z');
        let state: Cursor = { cursorMs: now, recentMs: [] };
        const ran: number[] = [];
        const step = (): void => {
          state = mended(state, now);
          const found = plan(own, state, now);
          if (found.kind === 'wait') {
            if (found.untilMs !== undefined) expect(found.untilMs).toBeGreaterThan(now);
            return;
          }
          expect(startOf(own, found.instantMs)).toBeLessThanOrEqual(now);
          ran.push(found.instantMs);
          state = { cursorMs: found.instantMs, recentMs: [...state.recentMs, found.instantMs] };
        };
        for (const move of moves) {
          now += move;
          step();
        }
        expect(new Set(ran).size).toBe(ran.length);
        // from here on the clock is right: each instant that is announced comes, in order
        state = mended(state, now);
        const wanted = upcoming(own, state, now, 4);
        ran.length = 0;
        while (ran.length < 4) {
          const next = plan(own, state, now);
          if (next.kind === 'wait') now = next.untilMs!;
          step();
        }
        expect(ran.filter((one) => wanted.includes(one))).toEqual(wanted.slice(0, ran.length));
      }),
      { numRuns: 60 },
    );
  });
});
