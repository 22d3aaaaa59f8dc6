/**
 * What a job of several backups or disks knows of its parts: which entries it makes, and a context
 * for each part, so that the work of one backup or restore runs as a part of it.
 *
 * The job's checkpoint is `{part, doneBytes, done, of}`: the part under way, the bytes and results
 * of those before it, and the part's own checkpoint.
 */
import { isJsonObject, type Job, type Json, type JsonObject } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
import type { BackupRecord } from './records.ts';

/** The entries that a group backup makes, in order; those that are gone are left out. */
export function membersOf(backups: Backups, job: Job): BackupRecord[] {
  const ids = isJsonObject(job.parameters) ? job.parameters['backups'] : undefined;
  if (!Array.isArray(ids)) return [];
  return ids
    .map((id) => (typeof id === 'string' ? backups.find(id) : undefined))
    .filter((record) => record !== undefined);
}

/** After a restart: the copies that the job reads are its again. */
export function useMembersAgain(backups: Backups, job: Job): void {
  for (const { copyId } of membersOf(backups, job)) {
    const copy = backups.options.copies.byId(copyId);
    if (copy !== undefined) backups.useCopy(copy, job.id);
  }
}

/** How far a job of several parts is. */
export interface PartsDone {
  /** The part to go on with. */
  readonly part: number;
  /** Bytes of the parts before it. */
  readonly doneBytes: number;
  /** What each of them gave. */
  readonly done: readonly Json[];
}

export function partsDone(job: Job): PartsDone {
  const { checkpoint } = job;
  const none = { part: 0, doneBytes: 0, done: [] };
  if (checkpoint === null || !isJsonObject(checkpoint)) return none;
  const { part, doneBytes, done } = checkpoint;
  if (typeof part !== 'number' || typeof doneBytes !== 'number') return none;
  return { part, doneBytes, done: Array.isArray(done) ? done : [] };
}

function checkpointOf({ part, doneBytes, done }: PartsDone, of: Json): JsonObject {
  return { part, doneBytes, done: [...done], of };
}

/** Remembers that all parts before `done.part` are complete. */
export async function savePart(context: JobContext<RowChange>, done: PartsDone): Promise<void> {
  await context.checkpoint(checkpointOf(done, null));
}

/** The job as one part sees it: a checkpoint of its own, and its progress behind the others'. */
export function partContext(
  context: JobContext<RowChange>,
  done: PartsDone,
): JobContext<RowChange> {
  return {
    get job(): Job {
      const { job } = context;
      const { checkpoint } = job;
      const isOwn = partsDone(job).part === done.part;
      const own = checkpoint !== null && isJsonObject(checkpoint) ? checkpoint['of'] : null;
      return { ...job, checkpoint: isOwn ? (own ?? null) : null };
    },
    signal: context.signal,
    checkpoint: (value, effects) => context.checkpoint(checkpointOf(done, value), effects),
    progress: ({ doneBytes, totalBytes }) => {
      if (doneBytes !== undefined) context.progress({ doneBytes: done.doneBytes + doneBytes });
      else if (totalBytes === undefined) context.progress({});
    },
    stage: (name) => context.stage(name),
    log: (message) => {
      context.log(message);
    },
    waitFor: (waitingFor, promise) => context.waitFor(waitingFor, promise),
    throttle: (bytes) => context.throttle(bytes),
  };
}
