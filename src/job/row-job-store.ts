/**
 * Jobs in the metadata database, through the few calls that `Meta` offers for rows.
 *
 * Meta lists by equal columns and one state at a time; several states are several listings merged,
 * and labels are looked at here. A position in the listing is (created_at, id), and the time in a
 * job's id is its `created_at`, so an id alone tells where a page begins.
 */
import { assert } from '../base/assert.ts';
import { timeOfId } from '../base/clock.ts';
import { decodeJob, encodeJob } from './job-row.ts';
import type { FlatRow } from './job-row.ts';
import type { Job, JobState } from './job.ts';
import { matchesQuery } from './job-store.ts';
import type { JobQuery, JobStore } from './job-store.ts';

/** A row to put, or to delete if `row` is undefined. */
export interface RowEffect {
  readonly table: string;
  readonly key: FlatRow;
  readonly row: FlatRow | undefined;
}

interface Position {
  readonly createdAtMs: number;
  readonly id: string;
}

/** What is asked of the database; `Meta` has it all. */
export interface JobRows {
  rows(table: string, where?: FlatRow): Promise<FlatRow[]>;
  commit(batch: {
    readonly pages: readonly [];
    readonly rows: readonly RowEffect[];
  }): Promise<void>;
  list(
    query: 'jobs',
    options: {
      readonly where: FlatRow;
      readonly after?: Position | undefined;
      readonly limit: number;
      readonly newestFirst?: boolean | undefined;
    },
  ): Promise<{ readonly rows: FlatRow[]; readonly next?: Position }>;
  deleteOlder(table: 'jobs', olderThanMs: number, limit: number): Promise<number>;
}

const MAX_PAGE = 1000;

export class RowJobStore implements JobStore<RowEffect> {
  readonly #rows: JobRows;

  constructor(rows: JobRows) {
    this.#rows = rows;
  }

  async put(job: Job, effects: readonly RowEffect[]): Promise<void> {
    assert(timeOfId(job.id) === job.createdAtMs, 'the id of a job has another time');
    const row: RowEffect = { table: 'jobs', key: { id: job.id }, row: encodeJob(job) };
    await this.#rows.commit({ pages: [], rows: [row, ...effects] });
  }

  async get(id: string): Promise<Job | undefined> {
    const [row] = await this.#rows.rows('jobs', { id });
    return row === undefined ? undefined : decodeJob(row);
  }

  async list(query: JobQuery): Promise<Job[]> {
    const states = query.states ?? [undefined];
    const parts = await Promise.all(states.map((state) => this.#ofState(query, state)));
    const found = parts.flat().sort((a, b) => (a.id < b.id ? 1 : -1));
    return found.slice(0, query.limit);
  }

  removeEnded(beforeMs: number, limit: number): Promise<number> {
    return this.#rows.deleteOlder('jobs', beforeMs, limit);
  }

  async #ofState(query: JobQuery, state: JobState | undefined): Promise<Job[]> {
    const { kind, disk, target, beforeId } = query;
    const where: FlatRow = {
      ...(state !== undefined && { state }),
      ...(kind !== undefined && { kind }),
      ...(disk !== undefined && { disk }),
      ...(target !== undefined && { target }),
    };
    const found: Job[] = [];
    let after: Position | undefined =
      beforeId === undefined ? undefined : { createdAtMs: timeOfId(beforeId), id: beforeId };
    do {
      const limit = Math.min(MAX_PAGE, query.limit);
      const page = await this.#rows.list('jobs', { where, after, limit, newestFirst: true });
      const jobs = page.rows.map(decodeJob).filter((job) => matchesQuery(job, query));
      found.push(...jobs);
      after = page.next;
    } while (after !== undefined && found.length < query.limit);
    return found;
  }
}
