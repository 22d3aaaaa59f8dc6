import { describe, expect, it } from 'vitest';
import { JobWorld } from '../../support/job-world.ts';
import { settle } from '../../support/manual-time.ts';

describe('work without progress', () => {
  it('is stopped and failed with the reason', async () => {
    const world = await JobWorld.ready({ stallMs: 60_000 });
    const job = await world.submit();
    world.puppet(job).context.progress({ doneBytes: 10 });
    await world.seconds(59);
    expect(world.stored(job).state).toBe('running');
    await world.seconds(5);
    expect(world.stored(job)).toMatchObject({ state: 'failed', problem: { code: 'JOB_STALLED' } });
    expect(world.abandoned).toEqual([job.id]);
  });

  it('that does not even stop is left alone and failed', async () => {
    const world = await JobWorld.ready({ stallMs: 60_000, graceMs: 5000 });
    world.isStubborn = true;
    const job = await world.submit();
    await world.seconds(70);
    expect(world.stored(job)).toMatchObject({ state: 'failed', problem: { code: 'JOB_STALLED' } });
  });

  it('is not work that progresses, however slowly', async () => {
    const world = await JobWorld.ready({ stallMs: 10_000 });
    const job = await world.submit();
    for (let doneBytes = 1; doneBytes < 20; doneBytes += 1) {
      world.puppet(job).context.progress({ doneBytes });
      await world.seconds(9);
    }
    for (let steps = 1; steps < 5; steps += 1) {
      world.puppet(job).context.progress({});
      await world.seconds(9);
    }
    expect(world.stored(job).state).toBe('running');
    for (let doneBytes = 1; doneBytes < 20; doneBytes += 1) {
      world.puppet(job).context.progress({ doneBytes: 19 });
      world.puppet(job).context.log('still here');
      await world.seconds(1);
    }
    expect(world.stored(job).state).toBe('failed');
  });

  it('is not work that waits or is braked', async () => {
    const world = await JobWorld.ready({ stallMs: 10_000 });
    const job = await world.submit({ maxBytesPerSecond: 100 });
    const { context } = world.puppet(job);
    const medium = Promise.withResolvers<number>();
    const got = context.waitFor({ kind: 'medium' }, medium.promise);
    await world.seconds(100);
    expect(world.stored(job).state).toBe('waiting');
    medium.resolve(1);
    await got;
    const slow = context.throttle(10_000);
    await world.seconds(105);
    await slow;
    expect(world.stored(job).state).toBe('running');
  });

  it('in a paused job that does not wind down ends it too', async () => {
    const world = await JobWorld.ready({ stallMs: 20_000, graceMs: 5000 });
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.pause(job.id);
    await world.seconds(30);
    expect(world.stored(job)).toMatchObject({ state: 'failed', problem: { code: 'JOB_STALLED' } });
  });
});

describe('the figures of a job', () => {
  it('are rate, time left and the share of each stage', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit({ totalBytes: 1000 });
    const { context } = world.puppet(job);
    for (let second = 1; second <= 4; second += 1) {
      context.progress({ doneBytes: second * 100 });
      void context.stage('read').busy(() => world.time.sleep(250));
      context.stage('write').add(800);
      await world.seconds(1);
    }
    expect(world.stored(job)).toMatchObject({
      doneBytes: 400,
      totalBytes: 1000,
      bytesPerSecond: 100,
      etaSeconds: 6,
      stages: [
        { name: 'read', busyPercent: 25 },
        { name: 'write', busyPercent: 80 },
      ],
    });
    world.puppet(job).succeed(null);
    await settle();
    const ended = world.stored(job);
    expect(ended).toMatchObject({ bytesPerSecond: 100, etaSeconds: undefined });
    expect(ended.stages).toHaveLength(2);
  });

  it('are written about once a second, whatever the work reports', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    const before = world.store.putCount;
    for (let doneBytes = 0; doneBytes < 1000; doneBytes += 1) {
      world.puppet(job).context.progress({ doneBytes });
    }
    await world.seconds(3);
    expect(world.store.putCount - before).toBeLessThanOrEqual(4);
    await world.seconds(60);
    const quiet = world.store.putCount;
    await world.seconds(10);
    expect(world.store.putCount - quiet).toBeLessThanOrEqual(1);
  });

  it('keep the last hundred messages', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    for (let count = 1; count <= 250; count += 1) world.puppet(job).context.log(`m${count}`);
    const { log } = await world.runner.get(job.id);
    expect(log).toHaveLength(100);
    expect(log.at(-1)?.message).toBe('m250');
    expect(log[0]?.message).toBe('m151');
  });
});

describe('a limit of the rate', () => {
  it('holds on average and can be changed while it runs', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit({ maxBytesPerSecond: 1000 });
    const { context } = world.puppet(job);
    let taken = 0;
    const work = (async () => {
      for (;;) {
        await context.throttle(100);
        taken += 100;
      }
    })().catch(() => undefined);
    await world.seconds(10);
    expect(taken).toBeGreaterThan(9_500);
    expect(taken).toBeLessThanOrEqual(10_400);
    await world.runner.update(job.id, { maxBytesPerSecond: 100 });
    const before = taken;
    await world.seconds(10);
    expect(taken - before).toBeLessThanOrEqual(1_500);
    expect(taken - before).toBeGreaterThan(500);
    await world.runner.cancel(job.id);
    await work;
  });

  it('that is taken away lets the work go at once', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit({ maxBytesPerSecond: 1 });
    const slow = world.puppet(job).context.throttle(1_000_000);
    await world.seconds(1);
    await world.runner.update(job.id, { maxBytesPerSecond: null });
    await world.seconds(1);
    await slow;
    expect(world.stored(job).maxBytesPerSecond).toBeUndefined();
  });
});
