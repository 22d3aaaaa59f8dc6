import { describe, expect, it } from 'vitest';
import { assert } from '../../../src/base/assert.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { JobInterrupt } from '../../../src/job/job-run.ts';
import { JobWorld } from '../../support/job-world.ts';
import { settle } from '../../support/manual-time.ts';

const unknownId = '0193a3c5-1c5e-7aaa-8bbb-0123456789ab';

describe('cancel', () => {
  it('stops a running job, cleans up and ends it', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    const asked = await world.runner.cancel(job.id, ['record']);
    expect(asked.state).toBe('cancelling');
    const ended = await world.runner.wait(job.id, 1000);
    expect(ended.state).toBe('cancelled');
    expect(ended.problem).toBeUndefined();
    expect(world.abandoned).toEqual([job.id]);
    expect(world.store.effects).toEqual(['record']);
    expect(world.puppet(job).context.signal.reason).toMatchObject({ reason: 'cancel' });
  });

  it.each(['queued', 'waiting', 'paused'] as const)('ends a %s job', async (state) => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const other = state === 'queued' ? await world.submit() : undefined;
    const job = await world.submit();
    if (state === 'waiting') {
      const never = Promise.withResolvers<never>().promise;
      world
        .puppet(job)
        .context.waitFor({ kind: 'x' }, never)
        .catch(() => undefined);
    }
    if (state === 'paused') await world.runner.pause(job.id);
    await settle();
    expect(world.stored(job).state).toBe(state);
    await world.runner.cancel(job.id);
    await settle();
    expect(world.stored(job).state).toBe('cancelled');
    expect(world.abandoned).toEqual([job.id]);
    expect(other === undefined || world.stored(other).state === 'running').toBe(true);
  });

  it('of a job that has ended answers it unchanged, and keeps the effects', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.puppet(job).succeed(1);
    await settle();
    const ended = world.stored(job);
    expect(await world.runner.cancel(job.id, ['again'])).toEqual(ended);
    expect(world.store.effects).toEqual(['again']);
  });

  it('twice is once', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.cancel(job.id);
    expect((await world.runner.cancel(job.id)).state).toBe('cancelling');
    world.puppet(job).fail(new JobInterrupt('cancel'));
    await settle();
    expect(world.abandoned).toEqual([job.id]);
  });

  it('comes too late for work that is done', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.cancel(job.id);
    world.puppet(job).succeed('done');
    await settle();
    expect(world.stored(job)).toMatchObject({ state: 'succeeded', result: 'done' });
    expect(world.abandoned).toEqual([]);
  });

  it('comes too late for work that the clean-up finds done, also after a crash', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.cancel(job.id);
    // the daemon ended before the end of the job was saved
    world.abandon = async () => ({ result: 'done' });
    await world.restart();
    await settle();
    expect(world.stored(job)).toMatchObject({ state: 'succeeded', result: 'done' });
    const other = await world.submit();
    world.puppet(other).fail(new StorageError('INTERNAL', 'after it was done'));
    await settle();
    expect(world.stored(other)).toMatchObject({ state: 'succeeded', result: 'done' });
    expect(world.stored(other).problem).toBeUndefined();
  });

  it('ends a job whose work does not stop', async () => {
    const world = await JobWorld.ready({ graceMs: 5000, maxRunning: 1 });
    world.isStubborn = true;
    const job = await world.submit();
    const next = await world.submit();
    await world.runner.cancel(job.id);
    await world.seconds(7);
    expect(world.stored(job).state).toBe('cancelled');
    expect(world.stored(next).state).toBe('running');
    const { context } = world.puppet(job);
    await expect(context.checkpoint(7)).rejects.toBeInstanceOf(JobInterrupt);
    expect(() => context.progress({ doneBytes: 1 })).toThrow(JobInterrupt);
    world.puppet(job).succeed('late');
    await settle();
    expect(world.stored(job).state).toBe('cancelled');
  });

  it('tells what the clean-up could not do, and does not wait for ever for it', async () => {
    const world = await JobWorld.ready({ graceMs: 5000 });
    world.abandon = () => new Promise(() => undefined);
    const job = await world.submit();
    await world.runner.cancel(job.id);
    await world.seconds(7);
    expect(world.stored(job)).toMatchObject({
      state: 'cancelled',
      problem: { code: 'JOB_STALLED' },
    });
  });

  it('of an assertion in the work is a failure', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.cancel(job.id);
    await Promise.resolve()
      .then(() => assert(false, 'bug'))
      .catch((error: unknown) => world.puppet(job).fail(error));
    await settle();
    expect(world.stored(job)).toMatchObject({ state: 'failed', problem: { code: 'INTERNAL' } });
  });

  it('of a job that is not there is not found', async () => {
    const world = await JobWorld.ready();
    await expect(world.runner.cancel(unknownId)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('pause and resume', () => {
  it('go on from the checkpoint', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    await world.puppet(job).context.checkpoint({ offset: 4096 });
    expect((await world.runner.pause(job.id)).state).toBe('paused');
    await settle();
    expect(world.stored(job)).toMatchObject({ state: 'paused', attempts: 1, bytesPerSecond: 0 });
    expect((await world.runner.pause(job.id)).state).toBe('paused');
    await world.runner.resume(job.id);
    await settle();
    expect(world.puppets).toHaveLength(2);
    expect(world.puppet(job).context.job).toMatchObject({
      state: 'running',
      attempts: 2,
      checkpoint: { offset: 4096 },
    });
    expect((await world.runner.resume(job.id)).state).toBe('running');
    expect(world.abandoned).toEqual([]);
  });

  it('never have two runs of a job at once', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.pause(job.id);
    await world.runner.resume(job.id);
    await settle();
    expect(world.stored(job).state).toBe('queued');
    expect(world.puppets).toHaveLength(1);
    world.puppet(job).fail(new JobInterrupt('pause'));
    await settle();
    expect(world.puppets).toHaveLength(2);
    expect(world.stored(job).state).toBe('running');
  });

  it('lets work that winds down confirm what it has', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.pause(job.id);
    await world.puppet(job).context.checkpoint(9, ['effect']);
    world.puppet(job).fail(new Error('premature close'));
    await settle();
    expect(world.stored(job)).toMatchObject({ state: 'paused', checkpoint: 9 });
    expect(world.store.effects).toEqual(['effect']);
  });

  it('is durable when it is answered, even while the work winds down', async () => {
    const world = await JobWorld.ready();
    world.isStubborn = true;
    const job = await world.submit();
    await world.runner.pause(job.id);
    await world.restart();
    expect(world.stored(job).state).toBe('paused');
    expect(world.puppets).toEqual([]);
  });

  it('is refused for a job that has ended', async () => {
    const world = await JobWorld.ready();
    const job = await world.submit();
    world.puppet(job).succeed(1);
    await settle();
    for (const verb of ['pause', 'resume'] as const) {
      await expect(world.runner[verb](job.id)).rejects.toMatchObject({ code: 'JOB_STATE' });
    }
    await expect(world.runner.update(job.id, { maxBytesPerSecond: 1 })).rejects.toMatchObject({
      code: 'JOB_STATE',
    });
  });

  it('of a queued job keeps it from starting', async () => {
    const world = await JobWorld.ready({ maxRunning: 1 });
    const first = await world.submit();
    const second = await world.submit();
    await world.runner.pause(second.id);
    world.puppet(first).succeed(1);
    await settle();
    expect(world.puppets).toHaveLength(1);
    await world.runner.resume(second.id);
    await settle();
    expect(world.stored(second).state).toBe('running');
  });
});
