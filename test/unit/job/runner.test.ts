import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../../src/base/assert.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { textsOf } from '../../../src/job/job.ts';
import type { Job } from '../../../src/job/job.ts';
import type { JobKind } from '../../../src/job/scheduler.ts';
import { JobWorld } from '../../support/job-world.ts';
import { settle } from '../../support/manual-time.ts';

const unknownId = '0193a3c5-1c5e-7aaa-8bbb-0123456789ab';

describe('a job that is submitted', () => {
  it('is in the store with its effects before it runs', async () => {
    const world = await JobWorld.ready();
    const job = await world.runner.submit(
      { kind: 'puppet', subject: { disk: 'd1' }, parameters: { a: 1 } },
      (made) => [`record of ${made.id}`],
    );
    expect(world.store.rows[0]).toEqual(job);
    expect(world.store.effects).toEqual([`record of ${job.id}`]);
    expect(job).toMatchObject({ state: 'queued', attempts: 0, doneBytes: 0, log: [] });
  });

  it('does not exist if the store fails', async () => {
    const world = await JobWorld.ready();
    world.store.failPuts = 1;
    await expect(world.submit()).rejects.toThrow('the store failed');
    expect(world.runner.liveJobs()).toEqual([]);
    expect(world.puppets).toEqual([]);
  });

  it('runs and ends with the result of its work', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    expect(world.stored(job)).toMatchObject({ state: 'running', attempts: 1 });
    world.puppet(job).succeed({ backup: 'b1' });
    const ended = await world.runner.wait(job.id, 1000);
    expect(ended).toMatchObject({ state: 'succeeded', result: { backup: 'b1' } });
    expect(world.stored(job)).toEqual(ended);
    expect(world.ended).toEqual([ended]);
    expect(world.abandoned).toEqual([]);
  });

  it('waits its turn when enough others run', async () => {
    const world = await JobWorld.ready({ maxRunning: 2 });
    const jobs = [await world.submit(), await world.submit(), await world.submit()];
    jobs.push(await world.submit());
    const states = (): string[] => jobs.map((job) => world.stored(job).state);
    expect(states()).toEqual(['running', 'running', 'queued', 'queued']);
    world.puppet(jobs[1]!).succeed(null);
    await settle();
    expect(states()).toEqual(['running', 'succeeded', 'running', 'queued']);
  });

  it('has places of its own in the background, and its turn in the order of coming', async () => {
    const begun: string[] = [];
    const endings: (() => void)[] = [];
    const kind = (isBackground: boolean): JobKind<string> => ({
      isBackground,
      run: async ({ job }) => {
        begun.push(textsOf(job.subject)['name'] ?? '');
        await new Promise<void>((resolve) => endings.push(resolve));
        return null;
      },
    });
    const world = await JobWorld.ready({
      kinds: { now: kind(false), later: kind(true) },
      ...{ maxRunning: 1, maxInBackground: 1 },
    });
    for (const name of ['n1', 'l1', 'l2', 'n2', 'n3', 'l3']) {
      await world.submit({ kind: name.startsWith('n') ? 'now' : 'later', subject: { name } });
    }
    expect(begun).toEqual(['n1', 'l1']);
    for (const next of [1, 0, 2, 3]) {
      endings[next]?.();
      await settle();
    }
    expect(begun).toEqual(['n1', 'l1', 'l2', 'n2', 'l3', 'n3']);
  });

  it('costs the same however many wait for their turn', async () => {
    let looks = 0;
    const kind: JobKind<string> = {
      run: async () => new Promise(() => undefined),
      get isBackground() {
        looks += 1;
        return false;
      },
    };
    const world = await JobWorld.ready({ kinds: { puppet: kind }, maxRunning: 1 });
    const count = 40;
    for (let number = 0; number < count; number += 1) await world.submit();
    expect(looks).toBeLessThanOrEqual(count);
  });

  it('lets others run while it waits for something outside', async () => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const first = await world.submit();
    const second = await world.submit();
    const medium = Promise.withResolvers<string>();
    const waitingFor = { kind: 'medium', volumeNumber: 3 };
    const got = world.puppet(first).context.waitFor(waitingFor, medium.promise);
    await settle();
    expect(world.stored(first)).toMatchObject({ state: 'waiting', waitingFor });
    expect(world.stored(second).state).toBe('running');
    expect((await world.runner.wait(first.id, 60_000)).state).toBe('waiting');
    medium.resolve('tape 3');
    expect(await got).toBe('tape 3');
    await settle();
    expect(world.stored(first).state).toBe('running');
    expect(world.stored(first).waitingFor).toBeUndefined();
  });

  it('is answered when it begins to wait, then not before that changes', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    const medium = Promise.withResolvers<string>();
    const begun = world.runner.wait(job.id, 60_000);
    const { context } = world.puppet(job);
    const got = context.waitFor({ kind: 'medium', volumeNumber: 3 }, medium.promise);
    expect((await begun).state).toBe('waiting');
    const seen: Job[] = [];
    const known = await world.runner.get(job.id);
    const next = world.runner
      .wait(job.id, 60_000, undefined, known)
      .then((answer) => seen.push(answer));
    await settle();
    expect(seen).toEqual([]);
    medium.resolve('tape 3');
    await got;
    await settle();
    expect(seen).toEqual([]);
    const other = context.waitFor(
      { kind: 'medium', volumeNumber: 4 },
      new Promise(() => undefined),
    );
    other.catch(() => undefined);
    await next;
    expect(seen).toMatchObject([{ state: 'waiting', waitingFor: { volumeNumber: 4 } }]);
  });

  it('has an id above those before it, even within a millisecond', async () => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const jobs = [];
    for (let count = 0; count < 20; count += 1) jobs.push(await world.submit());
    const ids = jobs.map(({ id }) => id);
    expect(ids).toEqual([...ids].sort());
    const { items } = await world.runner.list();
    expect(items.map(({ id }) => id)).toEqual([...ids].reverse());
  });
});

describe('a job that fails', () => {
  it('has the code, the facts and the retryability of its error', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world
      .puppet(job)
      .fail(new StorageError('TARGET_FULL', 'no room', { target: 'shelf', code: 1 }));
    await settle();
    expect(world.stored(job)).toMatchObject({
      state: 'failed',
      problem: { code: 'TARGET_FULL', detail: 'no room', retryable: true, target: 'shelf' },
    });
    expect(world.abandoned).toEqual([job.id]);
  });

  it.each<[string, unknown]>([
    ['an assertion', new AssertionError('blocks are missing')],
    ['a type error', new TypeError('x is not a function')],
    ['no error at all', 'a string'],
  ])('by %s is our fault, and says so in its log', async (_, error) => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.puppet(job).fail(error);
    await settle();
    const { problem, log } = world.stored(job);
    expect(problem).toMatchObject({ code: 'INTERNAL', retryable: false });
    expect(log.at(-1)?.message).toContain('internal error');
    expect(world.errors).toHaveLength(1);
  });

  it('fails with its own problem when the clean-up fails too', async () => {
    const world = await JobWorld.ready();
    world.abandon = () => Promise.reject(new StorageError('TARGET_UNAVAILABLE', 'gone'));
    const job = await world.submit();
    world.puppet(job).fail(new StorageError('TARGET_FULL', 'no room'));
    await settle();
    expect(world.stored(job).problem).toMatchObject({
      code: 'TARGET_FULL',
      cleanUp: { code: 'TARGET_UNAVAILABLE', detail: 'gone' },
    });
  });
});

describe('a wait', () => {
  it('is over when its time is', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    const waiting = world.runner.wait(job.id, 30_000);
    await world.time.advance(29_999);
    expect(world.time.sleeping).toBe(1);
    await world.time.advance(1);
    expect((await waiting).state).toBe('running');
    expect(world.time.sleeping).toBe(0);
  });

  it('is over when nobody listens any more, or at a shutdown', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    const gone = new AbortController();
    const waiting = [
      world.runner.wait(job.id, 30_000, gone.signal),
      world.runner.wait(job.id, 30_000),
    ];
    gone.abort();
    expect((await waiting[0])?.state).toBe('running');
    void world.runner.shutdown();
    expect((await waiting[1])?.id).toBe(job.id);
  });

  it('for a job that has ended, or is not there, is none', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.puppet(job).succeed(1);
    await settle();
    expect((await world.runner.wait(job.id, 30_000)).state).toBe('succeeded');
    await expect(world.runner.wait(unknownId, 30_000)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
