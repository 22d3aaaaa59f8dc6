/**
 * What the jobs that write a backup have in common: where they go on, what they tell, what becomes
 * of the entry.
 *
 * A job's checkpoint is the offset that the target last confirmed. An image is the same bytes each
 * time, so the next attempt goes on there.
 */
import { isStorageError, StorageError } from '../base/errors.ts';
import { isJsonObject, type Job } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { DriveFlow, Target } from '../target/target.ts';
import type { Backups } from './backups.ts';
import { readManifest } from './manifest.ts';
import { bytesOfImage } from './own-bytes.ts';
import type { BackupRecord } from './records.ts';
import type { Handlers } from './worker-client.ts';

/** Where the next attempt goes on. */
export function confirmedOffset(job: Job): number {
  const { checkpoint } = job;
  const offset = checkpoint !== null && isJsonObject(checkpoint) ? checkpoint['offset'] : 0;
  return typeof offset === 'number' ? offset : 0;
}

/** A worker's progress becomes the job's, with its brake; confirmed offsets become checkpoints. */
export function reports(
  context: JobContext<RowChange>,
): Required<Pick<Handlers, 'progress' | 'confirmed'>> {
  let told = confirmedOffset(context.job);
  let before: Pick<DriveFlow, 'busyMs' | 'stalledMs'> = { busyMs: 0, stalledMs: 0 };
  return {
    progress: async (doneBytes, totalBytes, busy = {}, flow?: DriveFlow) => {
      context.progress({ doneBytes, totalBytes });
      for (const [stage, ms] of Object.entries(busy)) context.stage(stage).add(ms);
      if (flow !== undefined) {
        context.stage('write').add(flow.busyMs - before.busyMs);
        context.stage('stall').add(flow.stalledMs - before.stalledMs);
        before = flow;
      }
      const delta = Math.max(0, doneBytes - told);
      told = doneBytes;
      await context.throttle(delta);
      return undefined;
    },
    confirmed: async (offset) => {
      await context.checkpoint({ offset });
      return undefined;
    },
  };
}

/** True if an earlier attempt finished just before the daemon ended. */
export async function isThere(medium: Target, record: BackupRecord): Promise<boolean> {
  try {
    const facts = readManifest(await medium.readManifest(record.mediumName));
    if (facts.imageId === record.imageId) return true;
  } catch (error) {
    const absent = isStorageError(error, 'NOT_FOUND') || isStorageError(error, 'BACKUP_INCOMPLETE');
    if (absent) return false;
    throw error;
  }
  throw new StorageError('NAME_TAKEN', `the target holds another backup ${record.mediumName}`, {
    name: record.mediumName,
  });
}

/** Entries as their manifests on the medium say, in one transaction; seen when it is durable. */
export async function complete(
  backups: Backups,
  medium: Target,
  ...records: readonly BackupRecord[]
): Promise<void> {
  const changed = [];
  for (const record of records) {
    const manifest = readManifest(await medium.readManifest(record.mediumName));
    changed.push({ record, to: completed(manifest) });
  }
  await backups.saveTogether(changed);
}

/** What changes in an entry when all its bytes are on the medium. */
export function completed({
  mediumBytes,
  dataBytes,
}: Pick<BackupRecord, 'mediumBytes' | 'dataBytes'>): Partial<BackupRecord> {
  return { state: 'complete', mediumBytes, dataBytes };
}

/**
 * The job is to end without success: its entry and what is on the medium go, or are listed as what
 * they are. @returns true if the backup was complete before it could be stopped
 */
export async function abandonEntry(backups: Backups, record: BackupRecord): Promise<boolean> {
  if (record.state === 'complete' || record.state === 'damaged') return true;
  const { targets } = backups.options;
  try {
    const medium = targets.medium(targets.get(record.targetId));
    if (await isThere(medium, record)) {
      await complete(backups, medium, record);
      return true;
    }
    await medium.remove(record.mediumName, bytesOfImage(record.imageId));
    await backups.forget(record);
  } catch (error) {
    const gone = isStorageError(error, 'NOT_FOUND') || isStorageError(error, 'NAME_TAKEN');
    if (gone) await backups.forget(record);
    else {
      record.state = 'incomplete';
      await backups.save(record);
    }
  }
  return false;
}

/** A text parameter that the job was made with. */
export function parameter(job: Job, name: string): string {
  const value = textParameter(job, name);
  if (value !== undefined) return value;
  throw new StorageError('METADATA_INVALID', `job ${job.id} has no ${name}`, { job: job.id });
}

export function textParameter(job: Job, name: string): string | undefined {
  const { parameters } = job;
  const value = isJsonObject(parameters) ? parameters[name] : undefined;
  return typeof value === 'string' ? value : undefined;
}
