import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import type { Clock } from '../../../src/base/clock.ts';
import { quickCheck } from '../../../src/check/quick-check.ts';
import type { MemorySource } from '../../support/memory-source.ts';
import { POOL_NUMBER, StoreBuilder, wordsOf } from '../../support/store-builder.ts';

const SUMMARY = 2 ** 32;

function smallStore(): MemorySource {
  const store = new StoreBuilder([{ blocks: 40_000, highWater: 40_000 }]);
  store.leaf(2, { 0: [0, 1], 1: [35_000, 2] });
  store.inner(3, { 1: 2 });
  store.disk('d', 3, 2, 1024).copy('empty', 0, 1, 1);
  return store.build();
}

/** A clock whose time goes on by `stepMs` at each look. */
function slowClock(stepMs: number): Clock {
  let now = 0n;
  const monotonicNs = (): bigint => {
    now += BigInt(stepMs) * 1_000_000n;
    return now;
  };
  return { ...systemClock, monotonicNs };
}

function codesOf(source: MemorySource): string[] {
  return quickCheck(source, { clock: systemClock }).findings.map(({ code }) => code);
}

describe('a quick check', () => {
  it('finds nothing in a sound store', () => {
    expect(quickCheck(smallStore(), { clock: systemClock })).toEqual({ ok: true, findings: [] });
  });

  it.each<[string, (source: MemorySource) => void]>([
    ['ROW_VALUE', (s) => (s.rows('disks')[0] = { ...s.rows('disks')[0], generation: 0 })],
    ['GROUP_COUNT', (s) => (wordsOf(s, 'bitmap', SUMMARY)[1] = 7)],
    ['NODE_MISSING', (s) => s.pagesOf(POOL_NUMBER, 'node').delete(2)],
    ['NODE_HEIGHT', (s) => (s.rows('disks')[0] = { ...s.rows('disks')[0], root_height: 3 })],
    ['MAPPED_COUNT', (s) => (wordsOf(s, 'node', 2)[40] = 7)],
    ['BIRTH_BEYOND_ROOT', (s) => (wordsOf(s, 'node', 2)[3] = 3)],
    ['BLOCK_OUTSIDE_POOL', (s) => (wordsOf(s, 'node', 2)[2] = 40_001)],
    ['BLOCK_FREE_BUT_HELD', (s) => (wordsOf(s, 'node', 2)[2] = 100)],
    ['PAGE_LENGTH', (s) => s.pagesOf(POOL_NUMBER, 'node').set(3, new Uint8Array(1))],
    ['PAGE_LENGTH', (s) => s.pagesOf(POOL_NUMBER, 'bitmap').set(SUMMARY, new Uint8Array(1))],
  ])('finds %s', (code, damage) => {
    const source = smallStore();
    damage(source);
    expect(new Set(codesOf(source))).toEqual(new Set([code]));
  });

  it('samples nothing when its time is over', () => {
    const source = smallStore();
    wordsOf(source, 'node', 2)[3] = 3;
    expect(quickCheck(source, { clock: slowClock(200) }).ok).toBe(true);
    expect(quickCheck(source, { clock: slowClock(1) }).ok).toBe(false);
  });

  it('takes no row for missing that it has not read', () => {
    const source = smallStore();
    const jobs = source.rows('jobs');
    for (let job = 0; job < 10_001; job += 1) jobs.push({ id: `job-${job}` });
    source.rows('disks')[0] = { ...source.rows('disks')[0], job: 'job-10000' };
    expect(codesOf(source)).toEqual([]);
    jobs.length = 5;
    expect(codesOf(source)).toEqual(['REFERENCE_MISSING']);
  });
});
