import { describe, expect, it } from 'vitest';
import { JobInterrupt } from '../../../src/job/job-run.ts';
import { JobWorld } from '../../support/job-world.ts';
import { settle } from '../../support/manual-time.ts';

describe('a store that fails', () => {
  it('does not lose the end of a job', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.store.failPuts = 5;
    world.puppet(job).succeed('kept');
    await settle();
    expect((await world.runner.get(job.id)).state).toBe('running');
    await world.time.advance(10_000);
    expect(world.stored(job)).toMatchObject({ state: 'succeeded', result: 'kept' });
    expect(world.ended).toHaveLength(1);
    expect(world.errors).toHaveLength(5);
  });

  it('is told to who asked, and the request goes on', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.store.failPuts = 1;
    await expect(world.runner.cancel(job.id)).rejects.toThrow('the store failed');
    await world.seconds(2);
    expect(world.stored(job).state).toBe('cancelled');
  });

  it('delays a checkpoint until it is durable', async () => {
    const world = await JobWorld.ready({ stallMs: 5000 });
    const job = await world.submit();
    world.store.failPuts = 8;
    let isDone = false;
    const done = world
      .puppet(job)
      .context.checkpoint(5, ['effect'])
      .then(() => {
        isDone = true;
      });
    await world.time.advance(2000);
    expect(isDone).toBe(false);
    await world.time.advance(60_000);
    await done;
    expect(world.stored(job)).toMatchObject({ state: 'running', checkpoint: 5 });
    expect(world.store.effects).toEqual(['effect']);
  });

  it('does not keep a job from being cancelled at a checkpoint', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    world.store.failPuts = 1_000_000;
    const stuck = world.puppet(job).context.checkpoint(5);
    const refused = expect(stuck).rejects.toBeInstanceOf(JobInterrupt);
    await settle();
    await expect(world.runner.cancel(job.id)).rejects.toThrow('the store failed');
    await refused;
    world.store.failPuts = 0;
    world.puppet(job).fail(new JobInterrupt('cancel'));
    await world.seconds(12);
    expect(world.stored(job).state).toBe('cancelled');
  });

  it('does not let an attempt begin that is not counted', async () => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const first = await world.submit();
    const second = await world.submit();
    world.puppet(first).succeed(1);
    await settle();
    expect(world.puppets).toHaveLength(2);
    const third = await world.submit();
    world.puppet(second).succeed(1);
    world.store.failPuts = 4;
    await settle();
    expect(world.puppets).toHaveLength(2);
    await world.time.advance(5000);
    expect(world.stored(third)).toMatchObject({ state: 'running', attempts: 1 });
  });
});
