/**
 * The background copier of dedicated copies: a job of kind `copy-data` for each, which brings owed
 * blocks over in X order, as fast as `maxBytesPerSecond` allows.
 *
 * Its row is committed with its copy's, so a crash leaves both or neither. It keeps nothing but
 * what the copy's tables say: after a restart it goes on with what is owed then. Where a file
 * system or the database has no room it waits; other failures end it with the reason, the copy
 * stays readable, and `start` makes another job.
 *
 * Seed: FIG. 3, step 1305.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isStorageError, StorageError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { type Step, settleStep } from '../copy/dedicated/settle.ts';
import { type Job, type Json, isEnd } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import { encodeJob } from '../job/job-row.ts';
import type { JobRunner } from '../job/runner.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { cancelAlone, subjectText, type JobMade } from './backups.ts';

/** Blocks brought over between two checkpoints: a crash loses nothing of them. */
const CHECKPOINT_BYTES = 64 * MIB;
/** Before another try where there was no room. */
const RETRY_MS = 1000;

export class Copiers {
  readonly kind: JobKind<RowChange>;
  readonly #copies: Copies;
  readonly #runner: () => JobRunner<RowChange>;
  readonly #onError: (error: unknown) => void;
  /** Live job of each copy, by the copy's id. */
  readonly #jobs = new Map<string, string>();

  constructor(o: {
    readonly copies: Copies;
    readonly runner: () => JobRunner<RowChange>;
    readonly onError: (error: unknown) => void;
  }) {
    this.#copies = o.copies;
    this.#runner = o.runner;
    this.#onError = o.onError;
    this.kind = { isBackground: true, run: (context) => this.#run(context) };
    o.copies.onGone = (copy) => {
      this.#end(copy);
    };
  }

  /** Live job that fills a copy, or null. */
  jobOf(copy: Copy): string | null {
    return this.#jobs.get(copy.id) ?? null;
  }

  /** The job of a new copy, and the row to commit with the copy; undefined: nothing is owed. */
  prepare(copy: Copy): { readonly job: Job; readonly row: RowChange } | undefined {
    if (copy.isWhole) return undefined;
    const { maxBytesPerSecond } = copy.dedicated ?? {};
    const job = this.#runner().prepare({
      kind: 'copy-data',
      subject: {
        copy: copy.name,
        copyId: copy.id,
        disk: copy.record.diskName,
        diskId: copy.record.diskId,
        pool: copy.pool.name,
      },
      parameters: { copy: copy.id },
      disk: copy.record.diskName,
      labels: copy.record.labels,
      totalBytes: copy.usedBlocks * copy.blockSizeBytes,
      maxBytesPerSecond,
    });
    this.#jobs.set(copy.id, job.id);
    return { job, row: { table: 'jobs', key: { id: job.id }, row: encodeJob(job) } };
  }

  /** The prepared job's row is durable, or (undefined) will never be. */
  begin(copy: Copy, job: Job | undefined): void {
    if (job === undefined) this.#jobs.delete(copy.id);
    else this.#runner().adopt(job);
    if (copy.isDeleted) this.#end(copy);
  }

  /**
   * Fills a copy whose job has ended before it was done; one that is at it already is answered.
   * @throws JOB_STATE if nothing is owed; COPY_INVALID
   */
  async start(copy: Copy, effects?: JobMade): Promise<Job> {
    copy.assertServed();
    const live = this.#jobs.get(copy.id);
    const runner = this.#runner();
    if (live !== undefined) {
      const job = await runner.get(live);
      if (!isEnd(job.state)) {
        const rows = effects?.(job) ?? [];
        if (rows.length > 0) await this.#copies.options.store.commit({ pages: [], rows });
        return job;
      }
    }
    const made = this.prepare(copy);
    if (made === undefined) {
      throw new StorageError('JOB_STATE', `copy ${copy.name} has all its blocks`, {
        copy: copy.name,
      });
    }
    const rows = [made.row, ...(effects?.(made.job) ?? [])];
    try {
      await this.#copies.options.store.commit({ pages: [], rows });
    } catch (error) {
      this.begin(copy, undefined);
      throw error;
    }
    this.begin(copy, made.job);
    return made.job;
  }

  /** After the runner has taken up its jobs. */
  settle(): void {
    for (const job of this.#runner().liveJobs()) {
      if (job.kind === 'copy-data') this.#jobs.set(subjectText(job, 'copyId'), job.id);
    }
  }

  ended(job: Job): void {
    const copy = subjectText(job, 'copyId');
    if (this.#jobs.get(copy) === job.id) this.#jobs.delete(copy);
  }

  #end(copy: Copy): void {
    const job = this.#jobs.get(copy.id);
    if (job !== undefined) cancelAlone(this.#runner(), job, this.#onError);
  }

  async #run(context: JobContext<RowChange>): Promise<Json> {
    const id = subjectText(context.job, 'copyId');
    const copy = this.#copies.byId(id);
    if (copy === undefined) {
      throw new StorageError('NOT_FOUND', 'the copy was deleted', { copyId: id });
    }
    try {
      await this.#fill(context, copy);
    } finally {
      copy.dedicated?.releaseArena(copy.pool);
    }
    const physicalRuns = await copy.physicalRuns();
    return { copy: copy.name, copyId: copy.id, usedBlocks: copy.usedBlocks, physicalRuns };
  }

  async #fill(context: JobContext<RowChange>, copy: Copy): Promise<void> {
    const stage = context.stage('copy');
    const size = copy.blockSizeBytes;
    let unconfirmed = 0;
    for (;;) {
      const owedBlocks = copy.dedicated?.owedBlocks ?? 0;
      context.progress({
        doneBytes: (copy.usedBlocks - owedBlocks) * size,
        totalBytes: copy.usedBlocks * size,
      });
      if (unconfirmed >= CHECKPOINT_BYTES) {
        await context.checkpoint({ owedBlocks });
        unconfirmed = 0;
      }
      context.signal.throwIfAborted();
      const step = await stage.busy(() => this.#step(context, copy));
      if (step.isDone) return;
      unconfirmed += step.blocks * size;
      await context.throttle(step.blocks * size);
    }
  }

  /** Waits where the file system below or the database has no room. */
  async #step(context: JobContext<RowChange>, copy: Copy): Promise<Step> {
    for (;;) {
      try {
        return await settleStep(this.#copies, copy, { kind: 'all' }, true);
      } catch (error) {
        const isRoom = isStorageError(error, 'HOST_FULL') || isStorageError(error, 'METADATA_FULL');
        if (!isRoom) throw error;
        const waitingFor = { kind: 'room', pool: copy.pool.name, code: error.code };
        await context.waitFor(waitingFor, delay(RETRY_MS, undefined, { ref: false }));
      }
    }
  }
}
