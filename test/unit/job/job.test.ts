import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../../src/base/assert.ts';
import { StorageError } from '../../../src/base/errors.ts';
import {
  isEnd,
  jobStates,
  logged,
  moved,
  newJob,
  problemOf,
  toJson,
} from '../../../src/job/job.ts';
import type { Job } from '../../../src/job/job.ts';

const fresh = newJob({ id: 'x', kind: 'backup', subject: {}, parameters: {}, createdAtMs: 5 });
const running = moved(fresh, { state: 'running' });
const never = (): boolean => false;

describe('the state of a job', () => {
  it('has what belongs to it and nothing of the one before', () => {
    const waiting = moved(running, { state: 'waiting', waitingFor: { kind: 'medium' } });
    expect(waiting.waitingFor).toEqual({ kind: 'medium' });
    const again = moved(waiting, { state: 'running' });
    expect(again.waitingFor).toBeUndefined();
    const ended = moved(again, { state: 'succeeded', endedAtMs: 9, result: 1 });
    expect(ended).toMatchObject({ state: 'succeeded', endedAtMs: 9, result: 1 });
    expect(ended.problem).toBeUndefined();
  });

  it('leads to an end from everywhere, and from an end nowhere', () => {
    for (const state of jobStates) {
      const job = { ...fresh, state } as Job;
      const end = (): Job => moved(job, { state: 'cancelled', endedAtMs: 1 });
      if (isEnd(state)) expect(end).toThrow(AssertionError);
      else expect(end().state).toBe('cancelled');
    }
  });

  it.each([
    ['queued', 'waiting'],
    ['paused', 'running'],
    ['cancelling', 'running'],
    ['cancelling', 'queued'],
    ['running', 'running'],
  ] as const)('does not go from %s to %s', (from, to) => {
    const job = { ...fresh, state: from } as Job;
    expect(() => moved(job, { state: to, waitingFor: {} } as never)).toThrow(AssertionError);
  });
});

describe('the log of a job', () => {
  it('cuts a message that is too long', () => {
    const { log } = logged(fresh, { atMs: 7, message: 'x'.repeat(5000) });
    expect(log).toEqual([{ atMs: 7, message: 'x'.repeat(1000) }]);
  });
});

describe('the problem of a job', () => {
  it('has the facts of its error, which cannot pass for its code', () => {
    const details = { code: 'X', retryable: true, pool: 'p', range: { offset: 1 }, no: undefined };
    expect(problemOf(new StorageError('POOL_FULL', 'full', details), never)).toEqual({
      code: 'POOL_FULL',
      detail: 'full',
      retryable: false,
      pool: 'p',
      range: { offset: 1 },
    });
  });

  it('of a bug tells nothing of the inside', () => {
    const problem = problemOf(new Error('secret'), () => true);
    expect(problem).toMatchObject({ code: 'INTERNAL', retryable: false });
    expect(JSON.stringify(problem)).not.toContain('secret');
  });
});

describe('a value as JSON', () => {
  it('is what JSON can say of it', () => {
    expect(toJson({ a: undefined, b: new Date(0), c: [undefined, 1] })).toEqual({
      b: '1970-01-01T00:00:00.000Z',
      c: [null, 1],
    });
    expect(toJson(undefined)).toBeNull();
    expect(toJson(() => 1)).toBeNull();
  });
});
