/**
 * A naive job store in memory that can fail, and that writes down every row it is given.
 */
import { canMove, toJson } from '../../src/job/job.ts';
import type { Job, JobState } from '../../src/job/job.ts';
import { isEndedBefore, matchesQuery } from '../../src/job/job-store.ts';
import type { JobQuery, JobStore } from '../../src/job/job-store.ts';

export class MemoryJobStore implements JobStore<string> {
  readonly jobs = new Map<string, Job>();
  readonly effects: string[] = [];
  /** Every job as it was put. */
  readonly rows: Job[] = [];
  /** How many of the next puts fail. */
  failPuts = 0;
  putCount = 0;
  /** Every change of a state that was put: `id: queued → running`. */
  readonly moves: { readonly id: string; readonly from: JobState; readonly to: JobState }[] = [];

  async put(job: Job, effects: readonly string[]): Promise<void> {
    this.putCount += 1;
    if (this.failPuts > 0) {
      this.failPuts -= 1;
      throw new Error('the store failed');
    }
    const from = this.jobs.get(job.id)?.state;
    if (from !== undefined && from !== job.state) {
      this.moves.push({ id: job.id, from, to: job.state });
    }
    if (JSON.stringify(toJson(job)) !== JSON.stringify(job)) throw new Error('not JSON');
    this.jobs.set(job.id, structuredClone(job));
    this.rows.push(structuredClone(job));
    this.effects.push(...effects);
  }

  async get(id: string): Promise<Job | undefined> {
    return structuredClone(this.jobs.get(id));
  }

  async list(query: JobQuery): Promise<Job[]> {
    const found = [...this.jobs.values()].filter((job) => matchesQuery(job, query));
    found.sort((a, b) => (a.id < b.id ? 1 : -1));
    return structuredClone(found.slice(0, query.limit));
  }

  async removeEnded(beforeMs: number, limit: number): Promise<number> {
    const old = [...this.jobs.values()].filter((job) => isEndedBefore(job, beforeMs));
    for (const { id } of old.slice(0, limit)) this.jobs.delete(id);
    return Math.min(old.length, limit);
  }

  /** The moves that no job may make in one life or between two rows of it. */
  forbiddenMoves(): string[] {
    const wrong = this.moves.filter(({ from, to }) => !isReachable(from, to));
    return wrong.map(({ id, from, to }) => `${id}: ${from} → ${to}`);
  }
}

/** Rows skip states that were left before they were saved: paused and resumed at once … */
function isReachable(from: JobState, to: JobState): boolean {
  const seen = new Set<JobState>([from]);
  for (const state of seen) {
    for (const next of ['queued', 'running', 'waiting', 'paused', 'cancelling'] as const) {
      if (canMove(state, next)) seen.add(next);
    }
  }
  return [...seen].some((state) => canMove(state, to));
}
