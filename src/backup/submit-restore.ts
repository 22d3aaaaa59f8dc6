/**
 * The job of a restore, wherever its blocks come from: what it says of itself, and what it holds.
 */
import type { Job, JsonObject } from '../job/job.ts';
import type { Backups, JobMade } from './backups.ts';
import { submitHolding } from './held-names.ts';
import { planJson, type RestorePlan, type RestoreRequest } from './restore-plan.ts';

export interface RestoreFacts {
  /** Where the blocks come from, beside what is made of them. */
  readonly subject?: Readonly<Record<string, string>>;
  /** What the job has to remember beside its plan. */
  readonly parameters?: JsonObject;
}

/** @throws NAME_TAKEN, and as submit */
export async function submitRestore(
  backups: Backups,
  plan: RestorePlan,
  { maxBytesPerSecond }: Pick<RestoreRequest, 'maxBytesPerSecond'>,
  { subject = {}, parameters = {} }: RestoreFacts,
  effects: JobMade,
): Promise<Job> {
  const { disks } = backups.options.copies.options;
  const { method, object } = plan;
  // a plan has the working disk by its id; jobs are found by its name
  const disk = method === 'write-back' ? disks.get(object).name : object;
  const ofDisk = method === 'write-back' ? { disk, diskId: object } : { disk };
  return submitHolding(
    backups,
    {
      kind: 'restore',
      subject: { ...subject, ...(method === 'copy' ? { copy: object } : ofDisk), method },
      parameters: { ...planJson(plan), ...parameters },
      ...(method === 'copy' ? {} : { disk }),
      target: subject['target'],
      ...(maxBytesPerSecond === undefined ? {} : { maxBytesPerSecond }),
    },
    [plan],
    effects,
  );
}
