import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RateLimit } from '../../../src/base/rate-limit.ts';
import { ManualTime, settle } from '../../support/manual-time.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

function limitOf(rate: number | null): { time: ManualTime; limit: RateLimit } {
  const time = new ManualTime();
  const limit = new RateLimit({ clock: time, sleep: time.sleep });
  limit.set(rate);
  return { time, limit };
}

/** Takes again and again until the signal fires; counts what it got. */
function taker(limit: RateLimit, bytes: number, signal: AbortSignal): { got: number } {
  const counted = { got: 0 };
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      await limit.take(bytes, signal);
      counted.got += bytes;
    }
  };
  run().catch(() => undefined);
  return counted;
}

const never = new AbortController().signal;

describe('a rate limit', () => {
  it('grants everything at once while there is none', async () => {
    const { limit } = limitOf(null);
    for (let round = 0; round < 100; round += 1) expect(limit.take(MIB, never)).toBeUndefined();
    expect(limit.stepBytes).toBe(MIB);
  });

  it('saves a quarter of a second and lends one step', async () => {
    const { time, limit } = limitOf(MIB);
    await time.advance(3600_000);
    expect(limit.take(256 * KIB, never)).toBeUndefined();
    expect(limit.take(256 * KIB, never)).toBeUndefined();
    const third = limit.take(256 * KIB, never);
    expect(third).toBeInstanceOf(Promise);
    let isGranted = false;
    void third?.then(() => (isGranted = true));
    await time.advance(249);
    expect(isGranted).toBe(false);
    await time.advance(2);
    expect(isGranted).toBe(true);
  });

  it('gives each taker the same share, whatever it takes at a time', async () => {
    const { time, limit } = limitOf(MIB);
    const end = new AbortController();
    const takers = [16 * KIB, 64 * KIB, 256 * KIB, 4 * MIB].map((bytes) =>
      taker(limit, bytes, end.signal),
    );
    await time.advance(400_000);
    end.abort();
    const whole = takers.reduce((sum, { got }) => sum + got, 0);
    expect(whole).toBeGreaterThan(390 * MIB);
    expect(whole).toBeLessThan(404 * MIB);
    // steps are at most 256 KiB, so small takers get their own size in each round
    expect(takers[2]!.got / takers[3]!.got).toBeGreaterThan(0.9);
    expect(takers[2]!.got / takers[3]!.got).toBeLessThan(1.1);
    await settle();
    expect(limit.waiting).toBe(0);
  });

  it('is changed and taken away while takers wait', async () => {
    const { time, limit } = limitOf(4 * KIB);
    let isGranted = false;
    void limit.take(MIB, never)?.then(() => (isGranted = true));
    await time.advance(1000);
    limit.set(512 * KIB);
    await time.advance(700);
    expect(isGranted).toBe(false);
    await time.advance(1200);
    expect(isGranted).toBe(true);
    const more = Array.from({ length: 5 }, async () => limit.take(64 * MIB, never));
    expect(limit.waiting).toBe(5);
    limit.set(null);
    await Promise.all(more);
    expect(limit.waiting).toBe(0);
  });

  it('forgets who leaves, and gives back what that one had', async () => {
    const { time, limit } = limitOf(MIB);
    const leaving = new AbortController();
    const left = limit.take(100 * MIB, leaving.signal);
    const stayed = limit.take(256 * KIB, never);
    await time.advance(500);
    leaving.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    await time.advance(10);
    await stayed;
    expect(limit.waiting).toBe(0);
    await expect(limit.take(MIB, leaving.signal)).rejects.toThrow('gone');
  });

  it('law: never more than rate × time + a burst + one step, and nobody is forgotten', async () => {
    const takes = fc.array(
      fc.record({ bytes: fc.integer({ min: 1, max: 200_000 }), pauseMs: fc.nat({ max: 300 }) }),
      { minLength: 1, maxLength: 40 },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1000, max: 1_000_000 }), takes, async (rate, wanted) => {
        const { time, limit } = limitOf(rate);
        const startMs = time.nowMs();
        let granted = 0;
        let pending = 0;
        for (const { bytes, pauseMs } of wanted) {
          const done = (): void => {
            granted += bytes;
          };
          const turn = limit.take(bytes, never);
          if (turn === undefined) done();
          else {
            pending += 1;
            void turn.then(() => {
              pending -= 1;
              done();
            });
          }
          await time.advance(pauseMs);
          const seconds = (time.nowMs() - startMs) / 1000;
          expect(granted).toBeLessThanOrEqual(rate * (seconds + 0.26) + limit.stepBytes);
        }
        const all = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
        await time.advance(Math.ceil((all / rate) * 1000) + 100 * wanted.length);
        expect(pending).toBe(0);
        expect(granted).toBe(all);
      }),
      { numRuns: 30 },
    );
  });
});
