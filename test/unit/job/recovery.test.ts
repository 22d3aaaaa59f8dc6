import { describe, expect, it } from 'vitest';
import { newJob } from '../../../src/job/job.ts';
import { JobWorld } from '../../support/job-world.ts';
import { settle } from '../../support/manual-time.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

describe('after the process died', () => {
  it('a running job goes on from its checkpoint', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit({ parameters: { copy: 'monday' } });
    await world.puppet(job).context.checkpoint({ offset: 64 });
    await world.restart();
    expect(world.puppet(job).context.job).toMatchObject({
      state: 'running',
      attempts: 2,
      parameters: { copy: 'monday' },
      checkpoint: { offset: 64 },
    });
    expect(world.stored(job).log.map(({ message }) => message)).toEqual([
      'taken up after a restart (it was running)',
    ]);
  });

  it('a waiting job runs again, and a queued one keeps its turn', async () => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const first = await world.submit();
    const never = Promise.withResolvers<never>().promise;
    void world.puppet(first).context.waitFor({ kind: 'medium' }, never);
    const second = await world.submit();
    const third = await world.submit();
    await world.restart();
    expect(world.stored(first)).toMatchObject({ state: 'running', fruitlessAttempts: 1 });
    expect(world.stored(second).state).toBe('queued');
    world.puppet(first).succeed(1);
    await settle();
    expect(world.stored(second).state).toBe('running');
    expect(world.stored(third).state).toBe('queued');
  });

  it('a job that was being cancelled is cleaned up and ended', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.cancel(job.id);
    expect(world.stored(job).state).toBe('cancelling');
    await world.restart();
    expect(world.stored(job).state).toBe('cancelled');
    expect(world.abandoned).toEqual([job.id]);
    expect(world.puppets).toEqual([]);
  });

  it('a job of an unknown kind fails with the reason', async () => {
    const world = await JobWorld.ready();
    const id = '018bcfe5-6800-7000-8000-000000000000';
    const other = { id, kind: 'constructor', subject: {}, parameters: {}, createdAtMs: 1 };
    await world.store.put(newJob(other), []);
    await world.restart();
    expect(await world.runner.get(id)).toMatchObject({
      state: 'failed',
      problem: { code: 'INTERNAL', detail: 'this version knows no jobs of kind constructor' },
    });
  });

  it('nothing is left running, waiting or cancelling that nobody works on', async () => {
    const world = await JobWorld.ready({ maxRunning: 2 });
    for (let count = 0; count < 5; count += 1) await world.submit();
    await world.restart();
    const states = [...world.store.jobs.values()].map(({ state }) => state);
    expect(states).toEqual(['running', 'running', 'queued', 'queued', 'queued']);
    expect(world.puppets).toHaveLength(2);
  });

  it('again and again at the same point, a job fails at last', async () => {
    const world = await JobWorld.ready({ maxFruitlessAttempts: 5 });
    const job = await world.submit();
    for (let life = 0; life < 3; life += 1) await world.restart();
    await world.puppet(job).context.checkpoint('further');
    for (let life = 0; life < 4; life += 1) await world.restart();
    expect(world.stored(job)).toMatchObject({ state: 'running', attempts: 8 });
    await world.puppet(job).context.checkpoint('further');
    await world.restart();
    expect(world.stored(job)).toMatchObject({ state: 'running' });
    await world.restart();
    expect(world.stored(job)).toMatchObject({ state: 'failed', problem: { code: 'JOB_STALLED' } });
    expect(world.abandoned).toEqual([job.id]);
  });
});

describe('a shutdown', () => {
  it('parks what runs; the next life goes on and counts nothing against it', async () => {
    const world = await JobWorld.ready({ maxFruitlessAttempts: 2 });
    const job = await world.submit();
    for (let life = 0; life < 5; life += 1) {
      await world.runner.shutdown();
      expect(world.stored(job)).toMatchObject({ state: 'queued', fruitlessAttempts: 0 });
      await world.restart();
      expect(world.stored(job).state).toBe('running');
    }
    expect(world.stored(job).attempts).toBe(6);
  });

  it('parks a waiting job too, and leaves a paused one paused', async () => {
    const world = await JobWorld.ready();
    const waiting = await world.submit();
    const never = Promise.withResolvers<never>().promise;
    world
      .puppet(waiting)
      .context.waitFor({ kind: 'medium' }, never)
      .catch((error: unknown) => world.puppet(waiting).fail(error));
    const paused = await world.submit();
    await world.runner.pause(paused.id);
    await world.runner.shutdown();
    expect(world.stored(waiting).state).toBe('queued');
    expect(world.stored(paused).state).toBe('paused');
  });

  it('does not wait for ever', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    const closing = world.runner.shutdown(5000);
    await world.time.advance(5000);
    await closing;
    expect(world.stored(job).state).toBe('running');
    await world.restart();
    expect(world.stored(job)).toMatchObject({ state: 'running', attempts: 2 });
  });

  it('refuses new work', async () => {
    const world = await JobWorld.ready();
    await world.runner.shutdown();
    await world.runner.shutdown();
    await expect(world.submit()).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });

  it('during a clean-up leaves it to the next life', async () => {
    const world = await JobWorld.ready();
    world.abandon = () => new Promise(() => undefined);
    const job = await world.submit();
    await world.runner.cancel(job.id);
    const closing = world.runner.shutdown(5000);
    await world.time.advance(5000);
    await closing;
    await settle();
    expect(world.stored(job).state).toBe('cancelling');
    world.abandon = async () => undefined;
    await world.restart();
    expect(world.stored(job).state).toBe('cancelled');
  });

  it('with a failing store loses no job', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.store.failPuts = 1_000_000;
    await world.runner.shutdown();
    world.store.failPuts = 0;
    await world.restart();
    expect(world.stored(job).state).toBe('running');
  });
});

describe('ended jobs', () => {
  it('are kept ninety days', async () => {
    const world = await JobWorld.ready();
    const old = await world.submit();
    world.puppet(old).succeed(1);
    await world.time.advance(DAY_MS);
    const newer = await world.submit();
    world.puppet(newer).succeed(1);
    const running = await world.submit();
    await world.time.advance(89.5 * DAY_MS);
    expect(await world.runner.prune()).toBe(1);
    expect([...world.store.jobs.keys()].sort()).toEqual([newer.id, running.id]);
    await expect(world.runner.get(old.id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('are pruned by the heartbeat', async () => {
    const world = await JobWorld.ready({ retentionMs: 1000 });
    const job = await world.submit();
    world.puppet(job).succeed(1);
    await world.seconds(3599);
    expect(world.store.jobs.size).toBe(1);
    await world.seconds(2);
    expect(world.store.jobs.size).toBe(0);
  });
});

describe('a list of jobs', () => {
  it('is filtered and paged, newest first', async () => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const jobs = [];
    for (let number = 0; number < 7; number += 1) {
      const disk = number % 2 === 0 ? 'even' : 'odd';
      jobs.push(await world.submit({ disk, labels: { number: String(number) } }));
    }
    const numbers = (items: readonly { labels: Readonly<Record<string, string>> }[]): string =>
      items.map(({ labels }) => labels.number).join('');
    const { runner } = world;
    expect(numbers((await runner.list()).items)).toBe('6543210');
    expect(numbers((await runner.list({ state: 'running' })).items)).toBe('0');
    expect(numbers((await runner.list({ disk: 'odd' })).items)).toBe('531');
    const label = { key: 'number', value: '3' };
    expect(numbers((await runner.list({ label })).items)).toBe('3');
    const first = await runner.list({ disk: 'even', pageSize: 3 });
    expect(numbers(first.items)).toBe('642');
    const { nextPageToken } = first;
    const second = await runner.list({ disk: 'even', pageSize: 3, pageToken: nextPageToken });
    expect(numbers(second.items)).toBe('0');
    expect(second.nextPageToken).toBeUndefined();
    await expect(runner.list({ pageToken: 'x' })).rejects.toMatchObject({
      code: 'VALIDATION_FAILED',
    });
  });

  it('shows the newest figures', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.puppet(job).context.progress({ doneBytes: 77, totalBytes: 100 });
    expect((await world.runner.list()).items[0]).toMatchObject({ doneBytes: 77, totalBytes: 100 });
    expect((await world.runner.get(job.id)).doneBytes).toBe(77);
  });
});
