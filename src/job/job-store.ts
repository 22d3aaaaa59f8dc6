/**
 * What jobs need remembered; `meta` implements it, tests have one in memory.
 *
 * Laws (contract suite test/contract/job-store.ts):
 *  1. `put` inserts or replaces, and is durable when it resolves; its effects are committed in the
 *     same transaction: both or neither.
 *  2. Puts take effect in the order of the calls; a read sees every put called before it.
 *  3. `list` is ordered by id, descending (newest first), and complete for its query.
 *  4. A job comes back as it was put.
 *
 * `Effect` is what the store can commit beside a job (rows of other tables: the idempotency record
 * of the request, the backup that the job makes). Nothing here looks into one.
 */
import { isEnd } from './job.ts';
import type { Job, JobState } from './job.ts';

export interface JobQuery {
  /** Any of these; undefined: all. */
  readonly states?: readonly JobState[] | undefined;
  readonly kind?: string | undefined;
  readonly disk?: string | undefined;
  readonly target?: string | undefined;
  /** Has this label, with this value if one is given. */
  readonly label?: { readonly key: string; readonly value?: string | undefined } | undefined;
  /** Only ids below this one: the page after it. */
  readonly beforeId?: string | undefined;
  /** At least 1. */
  readonly limit: number;
}

export interface JobStore<Effect = unknown> {
  put(job: Job, effects: readonly Effect[]): Promise<void>;
  get(id: string): Promise<Job | undefined>;
  list(query: JobQuery): Promise<Job[]>;
  /** Removes at most `limit` ended jobs with endedAtMs < `beforeMs`. @returns how many */
  removeEnded(beforeMs: number, limit: number): Promise<number>;
}

/** True if the job is one that the query asks for, `limit` aside. Pure. */
export function matchesQuery(job: Job, query: JobQuery): boolean {
  const { states, kind, disk, target, label, beforeId } = query;
  if (states !== undefined && !states.includes(job.state)) return false;
  if (kind !== undefined && job.kind !== kind) return false;
  if (disk !== undefined && job.disk !== disk) return false;
  if (target !== undefined && job.target !== target) return false;
  if (beforeId !== undefined && job.id >= beforeId) return false;
  if (label === undefined) return true;
  const value = Object.hasOwn(job.labels, label.key) ? job.labels[label.key] : undefined;
  return value !== undefined && (label.value === undefined || label.value === value);
}

/** True if `removeEnded(beforeMs)` takes it. Pure. */
export function isEndedBefore(job: Job, beforeMs: number): boolean {
  return isEnd(job.state) && job.endedAtMs !== undefined && job.endedAtMs < beforeMs;
}
