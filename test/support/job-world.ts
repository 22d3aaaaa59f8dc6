/**
 * A job runner whose store, time and work are in the hands of a test.
 */
import type { StorageError } from '../../src/base/errors.ts';
import type { Job, Json } from '../../src/job/job.ts';
import type { JobContext } from '../../src/job/job-run.ts';
import type { JobQuery, JobStore } from '../../src/job/job-store.ts';
import { JobRunner } from '../../src/job/runner.ts';
import type { JobRunnerOptions, Submission } from '../../src/job/runner.ts';
import { ManualTime, settle } from './manual-time.ts';
import { MemoryJobStore } from './memory-job-store.ts';

/** One run of the kind `puppet`, ended by the test. It stops when it is asked to. */
export interface Puppet {
  readonly context: JobContext<string>;
  isOver: boolean;
  succeed(result: Json): void;
  fail(error: unknown): void;
}

/** The store as one process sees it: when that is dead, its calls do nothing and never answer. */
class LifeOfStore implements JobStore<string> {
  isOver = false;
  readonly #store: MemoryJobStore;

  constructor(store: MemoryJobStore) {
    this.#store = store;
  }

  put(job: Job, effects: readonly string[]): Promise<void> {
    return this.#alive(() => this.#store.put(job, effects));
  }

  get(id: string): Promise<Job | undefined> {
    return this.#alive(() => this.#store.get(id));
  }

  list(query: JobQuery): Promise<Job[]> {
    return this.#alive(() => this.#store.list(query));
  }

  removeEnded(beforeMs: number, limit: number): Promise<number> {
    return this.#alive(() => this.#store.removeEnded(beforeMs, limit));
  }

  #alive<T>(call: () => Promise<T>): Promise<T> {
    return this.isOver ? new Promise(() => undefined) : call();
  }
}

export class JobWorld {
  readonly time = new ManualTime();
  readonly store = new MemoryJobStore();
  /** Every run so far; those that ended too. */
  puppets: Puppet[] = [];
  /** Puppets do not stop when they are asked to. */
  isStubborn = false;
  readonly abandoned: string[] = [];
  abandon: (job: Job) => Promise<{ readonly result: Json } | undefined> = async () => undefined;
  readonly ended: Job[] = [];
  readonly errors: unknown[] = [];
  runner: JobRunner<string>;
  #life: LifeOfStore;
  readonly #options: Partial<JobRunnerOptions<string>>;

  constructor(options: Partial<JobRunnerOptions<string>> = {}) {
    this.#options = options;
    this.#life = new LifeOfStore(this.store);
    this.runner = this.#start();
  }

  /** A world whose runner has recovered. */
  static async ready(options?: Partial<JobRunnerOptions<string>>): Promise<JobWorld> {
    const world = new JobWorld(options);
    await world.runner.recover();
    return world;
  }

  /** The process dies and the next one begins: runs are gone, the store is there. */
  async restart(): Promise<void> {
    this.puppets = [];
    this.#life.isOver = true;
    this.#life = new LifeOfStore(this.store);
    this.runner = this.#start();
    await this.runner.recover();
    await settle();
  }

  async submit(submission: Partial<Submission> = {}): Promise<Job> {
    const job = await this.runner.submit({
      kind: 'puppet',
      subject: { disk: 'd1' },
      parameters: {},
      ...submission,
    });
    await settle();
    return job;
  }

  /** The newest run of the job. */
  puppet(job: Job): Puppet {
    const found = this.puppets.findLast(({ context }) => context.job.id === job.id);
    if (found === undefined) throw new Error('it does not run');
    return found;
  }

  /** Seconds with a heartbeat each. */
  async seconds(count: number): Promise<void> {
    for (let second = 0; second < count; second += 1) {
      await this.time.advance(1000);
      this.runner.tick();
      await settle();
    }
  }

  stored(job: Job): Job {
    const found = this.store.jobs.get(job.id);
    if (found === undefined) throw new Error('it is not stored');
    return found;
  }

  #start(): JobRunner<string> {
    return new JobRunner<string>({
      store: this.#life,
      kinds: {
        puppet: {
          run: (context) => this.#run(context),
          abandon: async (job) => {
            this.abandoned.push(job.id);
            return this.abandon(job);
          },
        },
      },
      isRetryable: (error: StorageError) => error.code === 'TARGET_FULL',
      clock: this.time,
      sleep: this.time.sleep,
      tickMs: 0,
      onEnd: (job) => this.ended.push(job),
      onError: (error) => this.errors.push(error),
      ...this.#options,
    });
  }

  #run(context: JobContext<string>): Promise<Json> {
    const { promise, resolve, reject } = Promise.withResolvers<Json>();
    const puppet: Puppet = {
      context,
      isOver: false,
      succeed: (result) => {
        puppet.isOver = true;
        resolve(result);
      },
      fail: (error) => {
        puppet.isOver = true;
        reject(error);
      },
    };
    this.puppets.push(puppet);
    context.signal.addEventListener('abort', () => {
      if (!this.isStubborn) puppet.fail(context.signal.reason);
    });
    return promise;
  }
}
