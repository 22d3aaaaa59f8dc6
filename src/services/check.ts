/**
 * The check as the interface sees it: a part at once, or everything as a job.
 *
 * Both read one state of the metadata in a thread of their own, beside the work of the store; to
 * what they find come the structure of the database file and pools that a failure has poisoned.
 *
 * Invariant: at most one quick check runs; who asks meanwhile gets its answer.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import { fullCheck, quickCheckTask } from '../check/check-task.ts';
import type { Finding } from '../check/finding.ts';
import type { JobContext } from '../job/job-run.ts';
import type { Job, Json } from '../job/job.ts';
import type { JobRunner } from '../job/runner.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { Meta } from '../meta/meta.ts';
import type { SnapshotTask, SnapshotTaskOptions } from '../meta/snapshot-task.ts';
import { PAGE_BYTES } from '../pool/metadata-pages.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Pools } from '../pool/pools.ts';

export interface CheckServiceOptions {
  readonly meta: Meta;
  readonly pools: Pools;
  /** Runs a task over a snapshot of the database. */
  readonly onSnapshot: <T>(task: SnapshotTask<T>, options?: SnapshotTaskOptions) => Promise<T>;
  readonly runner: () => JobRunner<RowChange>;
}

interface Answer {
  readonly ok: boolean;
  readonly findings: readonly api.Finding[];
}

export class CheckService implements api.Check {
  readonly #o: CheckServiceOptions;
  #quick: Promise<Answer> | undefined;

  constructor(options: CheckServiceOptions) {
    this.#o = options;
  }

  async quick(): Promise<Answer> {
    this.#quick ??= this.#runQuick().finally(() => {
      this.#quick = undefined;
    });
    return this.#quick;
  }

  async start(effects?: Effects<Job>): Promise<Job> {
    return this.#o.runner().submit({ kind: 'check', subject: {}, parameters: {} }, effects);
  }

  /** The job that checks everything. What it finds is its result. */
  get kind(): JobKind<RowChange> {
    return { run: (context) => this.#runFull(context) };
  }

  async #runQuick(): Promise<Answer> {
    const { meta, onSnapshot } = this.#o;
    const [lines, found] = await Promise.all([meta.check(), onSnapshot(quickCheckTask())]);
    return this.#answer(lines, found);
  }

  async #runFull(context: JobContext<RowChange>): Promise<Json> {
    const { meta, onSnapshot } = this.#o;
    const { signal } = context;
    const lines = await meta.check({ deep: true });
    signal.throwIfAborted();
    const found = await onSnapshot(fullCheck(), {
      signal,
      onProgress: ({ done, total }) => {
        context.progress({ doneBytes: done * PAGE_BYTES, totalBytes: total * PAGE_BYTES });
      },
    });
    const { ok, findings } = this.#answer(lines, found);
    if (!ok) context.log(`${findings.length} findings`);
    return { ok, findings: findings.map(({ rule, detail }) => ({ rule, detail })) };
  }

  #answer(lines: readonly string[], found: readonly Finding[]): Answer {
    const findings = [
      ...lines.map((detail) => ({ rule: 'DATABASE', detail })),
      ...found.map(({ code, message }) => ({ rule: code, detail: message })),
      ...this.#failedPools(),
    ];
    return { ok: findings.length === 0, findings };
  }

  #failedPools(): api.Finding[] {
    return this.#o.pools.list().flatMap(({ name, poison, absence }) => {
      if (absence !== undefined) return [{ rule: absence.code, detail: absence.message }];
      if (poison === undefined) return [];
      return [{ rule: 'POOL_POISONED', detail: `pool ${name}: ${poison.message}` }];
    });
  }
}
