import { describe, expect, it } from 'vitest';
import { Brake, RateMeter, StageMeter } from '../../../src/job/progress.ts';

const MB = 1_000_000;
const at = (seconds: number): bigint => BigInt(Math.round(seconds * 1000)) * 1_000_000n;

describe('a rate meter', () => {
  it('knows nothing before the first second', () => {
    const meter = new RateMeter(0, at(0));
    expect(meter.sample(0, 100, at(0))).toEqual({ bytesPerSecond: 0, etaSeconds: undefined });
  });

  it('tells a steady rate exactly, and the time left', () => {
    const meter = new RateMeter(0, at(0));
    for (let second = 1; second < 10; second += 1) meter.sample(second * MB, 20 * MB, at(second));
    expect(meter.sample(10 * MB, 20 * MB, at(10))).toEqual({ bytesPerSecond: MB, etaSeconds: 10 });
    expect(meter.sample(11 * MB, undefined, at(11)).etaSeconds).toBeUndefined();
    expect(meter.sample(30 * MB, 20 * MB, at(12)).etaSeconds).toBe(0);
  });

  it('follows a change within seconds and forgets the old rate', () => {
    const meter = new RateMeter(0, at(0));
    let done = 0;
    for (let second = 1; second <= 60; second += 1) {
      done += second <= 30 ? 100 : 10;
      meter.sample(done, undefined, at(second));
    }
    expect(meter.sample(done, undefined, at(60)).bytesPerSecond).toBe(10);
  });

  it('goes to zero, without a time left, when nothing moves', () => {
    const meter = new RateMeter(0, at(0));
    meter.sample(1000, 2000, at(1));
    for (let second = 2; second < 90; second += 1) meter.sample(1000, 2000, at(second));
    expect(meter.sample(1000, 2000, at(90))).toEqual({ bytesPerSecond: 0, etaSeconds: undefined });
  });

  it('does not count what an earlier attempt has done', () => {
    const meter = new RateMeter(500 * MB, at(0));
    expect(meter.sample(501 * MB, undefined, at(1)).bytesPerSecond).toBe(MB);
    expect(meter.average(510 * MB, at(5))).toBe(2 * MB);
    expect(new RateMeter(5, at(1)).average(9, at(1))).toBe(0);
  });

  it('begins anew when the work does', () => {
    const meter = new RateMeter(500, at(0));
    expect(meter.sample(0, undefined, at(1)).bytesPerSecond).toBe(0);
    expect(meter.average(100, at(10))).toBe(10);
  });
});

describe('a stage meter', () => {
  it('counts time with any work under way once', () => {
    const meter = new StageMeter('read');
    meter.begin(at(0));
    meter.begin(at(1));
    meter.end(at(2));
    meter.end(at(3));
    expect(meter.percent(at(10), at(10))).toEqual({ name: 'read', busyPercent: 30 });
  });

  it('counts work that is still under way, and each window for itself', () => {
    const meter = new StageMeter('write');
    meter.begin(at(5));
    expect(meter.percent(at(10), at(10)).busyPercent).toBe(50);
    expect(meter.percent(at(1), at(11)).busyPercent).toBe(100);
    meter.end(at(11));
    expect(meter.percent(at(1), at(12)).busyPercent).toBe(0);
    expect(meter.overall(at(12), at(12)).busyPercent).toBe(50);
  });

  it('is never busier than all the time', () => {
    const meter = new StageMeter('compress');
    meter.add(at(9));
    expect(meter.percent(at(1), at(1)).busyPercent).toBe(100);
    expect(meter.overall(0n, at(1)).busyPercent).toBe(0);
  });
});

describe('a brake', () => {
  it('lends a piece and asks for its time afterwards', () => {
    const brake = new Brake(at(0));
    brake.take(1000, 100, at(0));
    expect(brake.delayMs(100, at(0))).toBe(10_000);
    expect(brake.delayMs(100, at(4))).toBe(6000);
    expect(brake.delayMs(200, at(4))).toBe(3000);
    expect(brake.delayMs(200, at(7))).toBe(0);
  });

  it('saves no more than a quarter of a second', () => {
    const brake = new Brake(at(0));
    brake.take(125, 100, at(1000));
    expect(brake.delayMs(100, at(1000))).toBe(1000);
  });

  it('forgives everything where there is no rate', () => {
    const brake = new Brake(at(0));
    brake.take(1000, 1, at(0));
    expect(brake.delayMs(undefined, at(1))).toBe(0);
    expect(brake.delayMs(1, at(1))).toBe(0);
  });
});
