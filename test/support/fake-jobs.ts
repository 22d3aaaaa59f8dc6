/**
 * Jobs of the fakes: the real runner over a store in memory, one kind that does what it was given.
 */
import type { Effects, RecordStore } from '../../src/api/service-types.ts';
import type { Clock } from '../../src/base/clock.ts';
import type { JobContext } from '../../src/job/job-run.ts';
import type { Job, Json } from '../../src/job/job.ts';
import { jobKinds } from '../../src/job/job.ts';
import { isEndedBefore, matchesQuery } from '../../src/job/job-store.ts';
import type { JobQuery, JobStore } from '../../src/job/job-store.ts';
import { JobRunner } from '../../src/job/runner.ts';
import type { RowChange } from '../../src/pool/metadata-store.ts';

class MemoryJobs implements JobStore<RowChange> {
  readonly #records: RecordStore;
  readonly #jobs = new Map<string, Job>();

  constructor(records: RecordStore) {
    this.#records = records;
  }

  async put(job: Job, effects: readonly RowChange[]): Promise<void> {
    if (effects.length > 0) await this.#records.commit({ pages: [], rows: effects });
    this.#jobs.set(job.id, structuredClone(job));
  }

  async get(id: string): Promise<Job | undefined> {
    return structuredClone(this.#jobs.get(id));
  }

  async list(query: JobQuery): Promise<Job[]> {
    const found = [...this.#jobs.values()].filter((job) => matchesQuery(job, query));
    found.sort((a, b) => (a.id < b.id ? 1 : -1));
    return structuredClone(found.slice(0, query.limit));
  }

  async removeEnded(beforeMs: number, limit: number): Promise<number> {
    const old = [...this.#jobs.values()].filter((job) => isEndedBefore(job, beforeMs));
    for (const { id } of old.slice(0, limit)) this.#jobs.delete(id);
    return Math.min(old.length, limit);
  }
}

export type Work = (context: JobContext<RowChange>) => Promise<Json>;

export interface FakeSubmission {
  readonly kind: string;
  readonly subject: Readonly<Record<string, string>>;
  readonly maxBytesPerSecond?: number | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly work: Work;
  /** After it has failed or was cancelled. */
  readonly abandon?: () => void;
}

export class FakeJobs {
  readonly runner: JobRunner<RowChange>;
  readonly #works = new Map<string, FakeSubmission>();
  #next: FakeSubmission | undefined;

  constructor(records: RecordStore, clock: Clock) {
    const kind = {
      run: async (context: JobContext<RowChange>) => this.#workOf(context.job).work(context),
      abandon: async (job: Job) => {
        this.#workOf(job).abandon?.();
      },
    };
    this.runner = new JobRunner<RowChange>({
      store: new MemoryJobs(records),
      kinds: Object.fromEntries(jobKinds.map((name) => [name, kind])),
      isRetryable: () => false,
      clock,
      tickMs: 0,
    });
  }

  async submit(submission: FakeSubmission, effects?: Effects<Job>): Promise<Job> {
    const { kind, subject, labels = {}, maxBytesPerSecond } = submission;
    this.#next = submission;
    const { disk, target } = subject;
    return this.runner.submit(
      { kind, subject, parameters: null, disk, target, labels, maxBytesPerSecond },
      (job) => {
        this.#works.set(job.id, submission);
        return effects?.(job) ?? [];
      },
    );
  }

  #workOf({ id }: Job): FakeSubmission {
    return this.#works.get(id) ?? this.#next!;
  }
}
