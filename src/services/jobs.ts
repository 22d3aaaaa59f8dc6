/**
 * Jobs as the interface sees them, over the runner.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import type { JobEffects, JobRunner } from '../job/runner.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { viewOfJob } from './job-view.ts';

/** Most jobs that one look at the store reads. */
const PAGE_MAX = 1000;

export interface JobServiceOptions {
  readonly runner: JobRunner<RowChange>;
  /** The id of a disk, or of a target, for a name or an id; what is unknown stays as it is. */
  readonly diskId: (ref: string) => string;
  readonly targetId: (ref: string) => string;
}

export class JobService implements api.Jobs {
  readonly #o: JobServiceOptions;

  constructor(options: JobServiceOptions) {
    this.#o = options;
  }

  async get(id: string): Promise<api.Job> {
    return viewOfJob(await this.#o.runner.get(id));
  }

  async list(query: api.JobQuery): Promise<api.JobPage> {
    const { runner, diskId, targetId } = this.#o;
    const { state, kind, disk, target, label, beforeId, limit } = query;
    const { items, nextPageToken } = await runner.list({
      state,
      kind,
      label,
      disk: disk === undefined ? undefined : diskId(disk),
      target: target === undefined ? undefined : targetId(target),
      pageToken: beforeId,
      pageSize: Math.min(limit, PAGE_MAX),
    });
    const page = { items: items.map(viewOfJob) };
    return nextPageToken === undefined ? page : { ...page, next: nextPageToken };
  }

  live(): readonly api.Job[] {
    return this.#o.runner.liveJobs().map(viewOfJob);
  }

  async wait(id: string, timeoutMs: number, signal?: AbortSignal): Promise<api.Job> {
    return viewOfJob(await this.#o.runner.wait(id, timeoutMs, signal));
  }

  async cancel(id: string, effects?: Effects<api.Job>): Promise<api.Job> {
    return viewOfJob(await this.#o.runner.cancel(id, viewed(effects)));
  }

  async pause(id: string, effects?: Effects<api.Job>): Promise<api.Job> {
    return viewOfJob(await this.#o.runner.pause(id, viewed(effects)));
  }

  async resume(id: string, effects?: Effects<api.Job>): Promise<api.Job> {
    return viewOfJob(await this.#o.runner.resume(id, viewed(effects)));
  }

  async update(
    id: string,
    change: { readonly maxBytesPerSecond: number | null },
  ): Promise<api.Job> {
    return viewOfJob(await this.#o.runner.update(id, change));
  }
}

/** Effects that see the interface's job. */
export function viewed(effects: Effects<api.Job> | undefined): JobEffects<RowChange> {
  return effects === undefined ? [] : (job) => effects(viewOfJob(job));
}
