/**
 * Laws of jobs under random requests, ends of work, failing stores and dying processes.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.ts';
import { StorageError } from '../../src/base/errors.ts';
import { canMove, isEnd, jobStates, moved, newJob } from '../../src/job/job.ts';
import type { Job } from '../../src/job/job.ts';
import type { JobInterrupt } from '../../src/job/job-run.ts';
import { Brake } from '../../src/job/progress.ts';
import { JobWorld } from '../support/job-world.ts';
import type { Puppet } from '../support/job-world.ts';
import { settle } from '../support/manual-time.ts';

const MAX_RUNNING = 2;

type Command =
  | { readonly do: 'submit' | 'restart' | 'shutdown' | 'second' }
  | { readonly do: 'cancel' | 'pause' | 'resume'; readonly job: number }
  | { readonly do: 'succeed' | 'fail' | 'bug' | 'wind-down'; readonly job: number }
  | { readonly do: 'checkpoint'; readonly job: number; readonly value: number }
  | { readonly do: 'store-fails'; readonly times: number };

const onJob = (verbs: readonly Command['do'][]): fc.Arbitrary<Command> =>
  fc.record({ do: fc.constantFrom(...verbs), job: fc.nat(6) }) as fc.Arbitrary<Command>;

const commands = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<Command>({ do: 'submit' }) },
    { weight: 6, arbitrary: onJob(['cancel', 'pause', 'resume', 'resume']) },
    { weight: 6, arbitrary: onJob(['succeed', 'fail', 'bug', 'wind-down', 'wind-down']) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('checkpoint' as const),
        job: fc.nat(6),
        value: fc.nat(3),
      }),
    },
    { weight: 2, arbitrary: fc.constantFrom<Command>({ do: 'restart' }, { do: 'shutdown' }) },
    { weight: 3, arbitrary: fc.constant<Command>({ do: 'second' }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('store-fails' as const),
        times: fc.integer({ min: 1, max: 3 }),
      }),
    },
  ),
  { maxLength: 60, size: 'max' },
);

/** What must be true, whatever happened, kept beside a world. */
class Model {
  readonly jobs: Job[] = [];
  readonly #checkpoints = new Map<string, number>();
  readonly #ends = new Map<string, Job>();
  readonly #world: JobWorld;

  constructor(world: JobWorld) {
    this.#world = world;
  }

  async run(command: Command): Promise<void> {
    const world = this.#world;
    switch (command.do) {
      case 'submit':
        await world.submit().then(
          (job) => this.jobs.push(job),
          () => undefined,
        );
        break;
      case 'restart':
        world.store.failPuts = 0;
        await world.restart();
        break;
      case 'shutdown': {
        const closing = world.runner.shutdown(1000);
        await world.time.advance(1000);
        await closing;
        world.store.failPuts = 0;
        await world.restart();
        break;
      }
      case 'second':
        await world.seconds(1);
        break;
      case 'store-fails':
        world.store.failPuts = command.times;
        break;
      case 'cancel':
      case 'pause':
      case 'resume':
        await this.#request(command.do, command.job);
        break;
      case 'checkpoint':
        await this.#checkpoint(command.job, command.value);
        break;
      case 'succeed':
      case 'fail':
      case 'bug':
      case 'wind-down':
        this.#end(command.do, command.job);
        break;
    }
    await settle();
    this.check();
  }

  /** Brings every job to its end, as users would who have waited long enough. */
  async drain(): Promise<void> {
    const world = this.#world;
    world.store.failPuts = 0;
    for (let round = 0; round < 3 * this.jobs.length + 3; round += 1) {
      for (const job of this.jobs) {
        await world.runner.resume(job.id).catch(() => undefined);
      }
      for (const puppet of this.#running()) {
        if (puppet.context.signal.aborted) puppet.fail(puppet.context.signal.reason);
        else puppet.succeed('drained');
      }
      await world.seconds(15);
      this.check();
    }
  }

  check(): void {
    const { store, runner } = this.#world;
    expect(store.forbiddenMoves()).toEqual([]);
    const runs = this.#running().map(({ context }) => context.job.id);
    expect(new Set(runs).size).toBe(runs.length);
    const starting = runner.liveJobs().filter(({ state }) => state === 'running');
    expect(starting.length).toBeLessThanOrEqual(MAX_RUNNING);
    for (const job of this.jobs) this.#checkJob(store.jobs.get(job.id));
    this.#checkQueue(runner.liveJobs(), runs);
  }

  #checkJob(stored: Job | undefined): void {
    if (stored === undefined) throw new Error('a job is lost');
    const end = this.#ends.get(stored.id);
    if (end !== undefined) expect(stored).toEqual(end);
    if (isEnd(stored.state)) this.#ends.set(stored.id, stored);
    if (stored.state === 'failed') expect(stored.problem).toBeDefined();
    expect(stored.checkpoint ?? undefined).toBe(this.#checkpoints.get(stored.id));
  }

  /** Nobody waits for a place that is free; an end that cannot be saved yet still holds one. */
  #checkQueue(live: readonly Job[], runs: readonly string[]): void {
    if (this.#world.time.sleeping > 0) return;
    const busy = live.filter(({ id, state }) => state === 'running' || runs.includes(id));
    const idle = live.filter(({ id, state }) => state === 'queued' && !runs.includes(id));
    if (busy.length < MAX_RUNNING) expect(idle.map(({ id }) => id)).toEqual([]);
  }

  #running(): Puppet[] {
    return this.#world.puppets.filter(({ isOver }) => !isOver);
  }

  #puppetOf(number: number): Puppet | undefined {
    const job = this.jobs[number % Math.max(1, this.jobs.length)];
    return this.#running().find(({ context }) => context.job.id === job?.id);
  }

  async #request(verb: 'cancel' | 'pause' | 'resume', number: number): Promise<void> {
    const job = this.jobs[number % Math.max(1, this.jobs.length)];
    if (job === undefined) return;
    const answer = await this.#world.runner[verb](job.id).catch((error: unknown) => error);
    if (answer instanceof StorageError) expect(answer.code).toBe('JOB_STATE');
    else if (!(answer instanceof Error)) this.#checkAnswer(verb, (answer as Job).state);
  }

  #checkAnswer(verb: 'cancel' | 'pause' | 'resume', state: Job['state']): void {
    if (verb === 'pause') expect(state).toBe('paused');
    if (verb === 'resume') expect(['queued', 'running', 'waiting']).toContain(state);
    if (verb === 'cancel') expect(state === 'cancelling' || isEnd(state)).toBe(true);
  }

  /** A checkpoint that resolves is in the store, one that rejects may be later. */
  async #checkpoint(number: number, value: number): Promise<void> {
    const puppet = this.#puppetOf(number);
    if (puppet === undefined) return;
    this.#world.store.failPuts = 0;
    await puppet.context.checkpoint(value);
    this.#checkpoints.set(puppet.context.job.id, value);
  }

  #end(how: 'succeed' | 'fail' | 'bug' | 'wind-down', number: number): void {
    const puppet = this.#puppetOf(number);
    if (puppet === undefined) return;
    const { signal } = puppet.context;
    if (how === 'succeed') puppet.succeed({ done: true });
    if (how === 'fail') puppet.fail(new StorageError('TARGET_FULL', 'full'));
    if (how === 'bug') puppet.fail(new AssertionError('bug'));
    if (how === 'wind-down' && signal.aborted) puppet.fail(signal.reason as JobInterrupt);
  }
}

describe('jobs', () => {
  it('are never lost, stuck, run twice at once, or changed after their end', async () => {
    await fc.assert(
      fc.asyncProperty(commands, async (list) => {
        const world = await JobWorld.ready({ maxRunning: MAX_RUNNING, stallMs: 1e9, graceMs: 1e9 });
        world.isStubborn = true;
        const model = new Model(world);
        for (const command of list) await model.run(command);
        await model.drain();
        for (const { id } of model.jobs) expect(isEnd(world.store.jobs.get(id)!.state)).toBe(true);
        expect(world.runner.liveJobs()).toEqual([]);
        const ended = world.ended.map(({ id }) => id);
        expect(new Set(ended).size).toBe(ended.length);
      }),
      { numRuns: 100, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: true },
    );
  });

  it('move only along their transitions, and an end is an end', () => {
    const state = fc.constantFrom(...jobStates);
    fc.assert(
      fc.property(state, state, (from, to) => {
        const start = { id: 'x', kind: 'k', subject: {}, parameters: null, createdAtMs: 0 };
        const job = { ...newJob(start), state: from } as Job;
        const status = { state: to, endedAtMs: 1, result: 1, waitingFor: {} } as unknown as Job;
        if (canMove(from, to)) expect(moved(job, status).state).toBe(to);
        else expect(() => moved(job, status)).toThrow(AssertionError);
        if (isEnd(from)) expect(canMove(from, to)).toBe(false);
      }),
    );
  });
});

describe('a brake', () => {
  it('lets never more through than the rate, a burst and one piece', () => {
    const step = fc.record({ bytes: fc.nat(5000), restMs: fc.nat(2000) });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), fc.array(step), (rate, steps) => {
        let nowMs = 0;
        const nowNs = (): bigint => BigInt(nowMs) * 1_000_000n;
        const brake = new Brake(nowNs());
        let passed = 0;
        for (const { bytes, restMs } of steps) {
          nowMs += restMs;
          brake.take(bytes, rate, nowNs());
          for (let ms = brake.delayMs(rate, nowNs()); ms > 0; ms = brake.delayMs(rate, nowNs())) {
            nowMs += ms;
          }
          passed += bytes;
          expect(passed).toBeLessThanOrEqual((nowMs / 1000) * rate + 0.25 * rate + 1);
        }
      }),
    );
  });
});
