/**
 * The names of what restores make: a job holds them from the request that makes it.
 *
 * Invariants:
 *  1. From the answer to the request until the job has ended nobody else can take such a name.
 *  2. They are free again before anybody sees the end, unless the clean-up took too long.
 */
import { isStorageError } from '../base/errors.ts';
import type { Names } from '../disk/names.ts';
import type { Job } from '../job/job.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { Submission } from '../job/runner.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups, JobMade } from './backups.ts';
import { readParts } from './group-restore-plan.ts';
import { readPlan, type RestorePlan } from './restore-plan.ts';

function namesOf(plans: readonly RestorePlan[]): string[] {
  return plans.flatMap(({ method, object, safetyCopy }) => [
    ...(method === 'write-back' ? [] : [object]),
    ...(safetyCopy === null ? [] : [safetyCopy]),
  ]);
}

/** Submits a restore that holds the names of its plans. @throws NAME_TAKEN, and as submit */
export async function submitHolding(
  backups: Backups,
  submission: Submission,
  plans: readonly RestorePlan[],
  effects: JobMade,
): Promise<Job> {
  const { runner, copies } = backups.options;
  const { names } = copies.options;
  let job: string | undefined;
  try {
    return await runner().submit(submission, (made) => {
      job = made.id;
      for (const name of namesOf(plans)) names.hold(name, made.id);
      return effects(made);
    });
  } catch (error) {
    if (job !== undefined) names.letGo(job);
    throw error;
  }
}

/** After a restart: live jobs hold what they held. */
export function holdNamesAgain(backups: Backups): void {
  const { runner, copies } = backups.options;
  for (const job of runner().liveJobs()) {
    for (const name of namesOf(plansOf(job))) copies.options.names.holdAgain(name, job.id);
  }
}

/** None of a job that has no valid ones: it will fail for that. */
function plansOf(job: Job): RestorePlan[] {
  try {
    if (job.kind === 'restore') return [readPlan(job)];
    return job.kind === 'group-restore' ? readParts(job) : [];
  } catch (error) {
    if (isStorageError(error, 'METADATA_INVALID')) return [];
    throw error;
  }
}

/** The same kind, which lets its names go when it is done or cleaned up, before it has ended. */
export function lettingGo(names: Names, kind: JobKind<RowChange>): JobKind<RowChange> {
  return {
    ...kind,
    async run(context) {
      const result = await kind.run(context);
      names.letGo(context.job.id);
      return result;
    },
    async abandon(job) {
      const done = (await kind.abandon?.(job)) ?? undefined;
      names.letGo(job.id);
      return done;
    },
  };
}
