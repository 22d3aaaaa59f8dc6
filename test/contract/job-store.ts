/**
 * The contract of job stores as tests.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { moved, newJob, withFacts } from '../../src/job/job.ts';
import type { Job, JobStatus } from '../../src/job/job.ts';
import type { JobQuery, JobStore } from '../../src/job/job-store.ts';

export interface JobStoreHarness<Effect> {
  readonly store: JobStore<Effect>;
  /** Something that can be committed beside a job, and whether it is there. */
  effect(name: string): Effect;
  hasEffect(name: string): Promise<boolean>;
  /** An effect with which no commit succeeds, or undefined if there is none. */
  readonly badEffect: Effect | undefined;
  dispose(): Promise<void>;
}

const START_MS = 1_700_000_000_000;

function idOf(number: number): string {
  const time = (START_MS + number).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-${String(number).padStart(12, '0')}`;
}

function jobOf(number: number, more: Partial<Parameters<typeof newJob>[0]> = {}): Job {
  const createdAtMs = START_MS + number;
  const fixed = { id: idOf(number), createdAtMs, kind: 'backup', subject: { backup: 'b' } };
  return newJob({ ...fixed, parameters: { copy: 'c' }, ...more });
}

const ends: JobStatus[] = [
  { state: 'succeeded', endedAtMs: 10, result: { mediumBytes: 2 ** 52, list: [1, null, 'ä'] } },
  {
    state: 'failed',
    endedAtMs: 20,
    problem: { code: 'TARGET_FULL', detail: 'x', retryable: true, target: 't', nested: { a: [1] } },
  },
  { state: 'cancelled', endedAtMs: 30 },
  {
    state: 'cancelled',
    endedAtMs: 40,
    problem: { code: 'JOB_STALLED', detail: '', retryable: false },
  },
  { state: 'succeeded', endedAtMs: 50, result: null },
];

export function describeJobStore<Effect>(
  name: string,
  make: () => Promise<JobStoreHarness<Effect>>,
): void {
  describe(`the job store ${name}`, () => {
    let harness: JobStoreHarness<Effect>;
    let store: JobStore<Effect>;
    const numbers = async (query: Partial<JobQuery>): Promise<number[]> => {
      const found = await store.list({ limit: 100, ...query });
      return found.map(({ createdAtMs }) => createdAtMs - START_MS);
    };

    beforeEach(async () => {
      harness = await make();
      store = harness.store;
    });

    afterEach(() => harness.dispose());

    it('gives a job back as it was put', async () => {
      const rich = withFacts(jobOf(1, { disk: 'd', target: 't', labels: { a: 'b', c: '' } }), {
        doneBytes: 5,
        totalBytes: 10,
        bytesPerSecond: 3,
        etaSeconds: 2,
        stages: [{ name: 'read', busyPercent: 50 }],
        attempts: 4,
        fruitlessAttempts: 2,
        startedAtMs: START_MS + 3,
        log: [{ atMs: 1, message: 'm' }],
        checkpoint: { offset: 2 ** 40, more: [true] },
        maxBytesPerSecond: 7,
      });
      const waitingFor = { kind: 'medium', volumeNumber: 3 };
      const running = moved(rich, { state: 'running' });
      const waiting = moved(running, { state: 'waiting', waitingFor });
      const ended = ends.map((end) => moved(running, end));
      for (const job of [jobOf(2), rich, running, waiting, ...ended]) {
        await store.put(job, []);
        expect(await store.get(job.id)).toEqual(job);
        expect(await store.list({ limit: 9 })).toContainEqual(job);
      }
    });

    it('knows no job that was never put', async () => {
      expect(await store.get(idOf(1))).toBeUndefined();
      expect(await store.list({ limit: 5 })).toEqual([]);
    });

    it('lists newest first, page after page', async () => {
      for (const number of [3, 1, 5, 2, 4]) await store.put(jobOf(number), []);
      expect(await numbers({})).toEqual([5, 4, 3, 2, 1]);
      expect(await numbers({ limit: 2 })).toEqual([5, 4]);
      expect(await numbers({ limit: 2, beforeId: idOf(4) })).toEqual([3, 2]);
      expect(await numbers({ limit: 2, beforeId: idOf(2) })).toEqual([1]);
      expect(await numbers({ limit: 2, beforeId: idOf(1) })).toEqual([]);
    });

    it('lists what the query asks for', async () => {
      await store.put(jobOf(1, { kind: 'verify', disk: 'd1', labels: { a: '1' } }), []);
      await store.put(moved(jobOf(2, { disk: 'd1', target: 't1' }), { state: 'running' }), []);
      await store.put(
        moved(jobOf(3, { target: 't1', labels: { a: '2' } }), { state: 'paused' }),
        [],
      );
      await store.put(moved(jobOf(4, { labels: { a: '1', b: 'x' } }), ends[2]!), []);
      expect(await numbers({ kind: 'verify' })).toEqual([1]);
      expect(await numbers({ disk: 'd1' })).toEqual([2, 1]);
      expect(await numbers({ disk: 'd1', target: 't1' })).toEqual([2]);
      expect(await numbers({ states: ['running', 'queued', 'paused'] })).toEqual([3, 2, 1]);
      expect(await numbers({ states: ['running', 'queued', 'paused'], limit: 2 })).toEqual([3, 2]);
      expect(await numbers({ states: ['cancelled'] })).toEqual([4]);
      expect(await numbers({ label: { key: 'a' } })).toEqual([4, 3, 1]);
      expect(await numbers({ label: { key: 'a', value: '1' } })).toEqual([4, 1]);
      expect(await numbers({ label: { key: 'a', value: '1' }, limit: 1 })).toEqual([4]);
      expect(await numbers({ label: { key: 'a', value: '1' }, beforeId: idOf(4) })).toEqual([1]);
      expect(await numbers({ label: { key: 'toString' } })).toEqual([]);
    });

    it('keeps what is put last, and sees every put called before', async () => {
      const job = jobOf(1);
      const puts = [1, 2, 3, 4].map((attempts) => store.put(withFacts(job, { attempts }), []));
      expect((await store.get(job.id))?.attempts).toBe(4);
      await Promise.all(puts);
    });

    it('commits effects with the job, or neither', async () => {
      await store.put(jobOf(1), [harness.effect('one'), harness.effect('two')]);
      expect(await harness.hasEffect('one')).toBe(true);
      expect(await harness.hasEffect('two')).toBe(true);
      if (harness.badEffect === undefined) return;
      const bad = store.put(jobOf(2), [harness.effect('three'), harness.badEffect]);
      await expect(bad).rejects.toThrow();
      expect(await store.get(idOf(2))).toBeUndefined();
      expect(await harness.hasEffect('three')).toBe(false);
    });

    it('removes jobs by their end, and no other', async () => {
      for (const [index, end] of ends.entries()) {
        await store.put(moved(moved(jobOf(index), { state: 'running' }), end), []);
      }
      await store.put(jobOf(9), []);
      expect(await store.removeEnded(10, 100)).toBe(0);
      expect(await store.removeEnded(31, 2)).toBe(2);
      expect(await store.removeEnded(31, 2)).toBe(1);
      expect(await store.removeEnded(31, 2)).toBe(0);
      expect(await numbers({})).toEqual([9, 4, 3]);
    });
  });
}
