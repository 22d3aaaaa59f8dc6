/**
 * The job that makes a backup: a copy's image, head to end, onto a target.
 *
 * Its checkpoint is the offset that the target last confirmed; after a restart it goes on there.
 * A full or absent target makes it wait, not fail. What a cancelled or failed backup left on the
 * medium is removed; where that cannot be, the backup stays listed as incomplete.
 */
import { isStorageError, StorageError } from '../base/errors.ts';
import type { Copy } from '../copy/copy.ts';
import { leasePlaces } from '../copy/dedicated/lease.ts';
import { isJsonObject, type Job, type Json } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { type Backups, subjectText } from './backups.ts';
import { manifestOf, readManifest } from './manifest.ts';
import type { BackupRecord } from './records.ts';
import { waitForTarget } from './target-wait.ts';
import { runTask } from './worker-client.ts';
import type { PoolPlaces } from './worker-protocol.ts';

export function backupKind(backups: Backups): JobKind<RowChange> {
  return {
    run: (context) => runBackupJob(backups, context),
    abandon: (job) => abandonBackup(backups, job),
  };
}

async function runBackupJob(backups: Backups, context: JobContext<RowChange>): Promise<Json> {
  const { targets, copies } = backups.options;
  const record = backups.get(parameter(context.job, 'backup'));
  const copy = copies.byId(record.copyId);
  if (copy === undefined) {
    throw new StorageError('NOT_FOUND', `the copy of backup ${record.name} is gone`, {
      copyId: record.copyId,
    });
  }
  backups.useCopy(copy, context.job.id);
  const target = targets.get(record.targetId);
  const medium = targets.medium(target);
  await waitForTarget(context, target, medium, async () => {
    await transfer(backups, context, record, copy);
  });
  const { mediumBytes } = readManifest(await medium.readManifest(record.mediumName));
  record.state = 'complete';
  record.mediumBytes = mediumBytes;
  record.version += 1;
  await backups.save(record);
  await endCopy(backups, context.job, copy);
  context.progress({ doneBytes: mediumBytes, totalBytes: mediumBytes });
  return {
    backup: record.name,
    backupId: record.id,
    imageId: record.imageId,
    mediumBytes,
    usedBytes: record.usedBytes,
    sourceCapacityBytes: record.sourceCapacityBytes,
  };
}

async function transfer(
  backups: Backups,
  context: JobContext<RowChange>,
  record: BackupRecord,
  copy: Copy,
): Promise<void> {
  const { targets, copies } = backups.options;
  const target = targets.get(record.targetId);
  const medium = targets.medium(target);
  if (await isThere(medium, record)) return;
  let told = offsetOf(context.job);
  await runTask(
    {
      kind: 'backup',
      target: { kind: target.kind, path: target.path },
      name: record.mediumName,
      resumeFrom: told,
      facts: copy.facts,
      pool: poolPlaces(copy),
      manifest: manifestOf(record),
    },
    {
      places: async (first, count) => {
        const real = Math.max(0, Math.min(count, copy.usedBlocks - first));
        return leasePlaces(copies, copy, first, real);
      },
      known: (segment) => copy.knownChecksums(segment),
      keep: async (segment, checksums) => {
        await copy.keepChecksums(segment, checksums);
        return undefined;
      },
      progress: async (doneBytes, totalBytes, busy = {}) => {
        context.progress({ doneBytes, totalBytes });
        for (const [stage, ms] of Object.entries(busy)) context.stage(stage).add(ms);
        const delta = Math.max(0, doneBytes - told);
        told = doneBytes;
        await context.throttle(delta);
        return undefined;
      },
      confirmed: async (offset) => {
        await context.checkpoint({ offset });
        return undefined;
      },
    },
    context.signal,
  );
}

/** True if an earlier attempt finished just before the daemon ended. */
async function isThere(
  medium: ReturnType<Backups['options']['targets']['medium']>,
  record: BackupRecord,
): Promise<boolean> {
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

async function abandonBackup(backups: Backups, job: Job): Promise<void> {
  const { targets, copies } = backups.options;
  const record = backups.find(parameter(job, 'backup'));
  const copy = copies.byId(subjectText(job, 'copyId'));
  if (copy !== undefined) await endCopy(backups, job, copy);
  backups.endCopyUse(job.id);
  if (record === undefined || record.state === 'complete') return;
  try {
    const medium = targets.medium(targets.get(record.targetId));
    if (await isThere(medium, record)) {
      // it was complete before it could be stopped: what is on the medium is listed
      record.mediumBytes = readManifest(await medium.readManifest(record.mediumName)).mediumBytes;
      record.state = 'complete';
      record.version += 1;
      await backups.save(record);
      return;
    }
    await medium.remove(record.mediumName);
    await backups.forget(record);
  } catch (error) {
    const gone = isStorageError(error, 'NOT_FOUND') || isStorageError(error, 'NAME_TAKEN');
    if (gone) return backups.forget(record);
    record.state = 'incomplete';
    await backups.save(record);
  }
}

/** The job needs the copy no more; one that was frozen for it goes. */
async function endCopy(backups: Backups, job: Job, copy: Copy): Promise<void> {
  backups.endCopyUse(job.id);
  if (copy.record.state !== 'internal') return;
  backups.options.copies.drop(copy);
  await copy.pool.flush();
}

export function poolPlaces(copy: Copy): PoolPlaces {
  const { files } = copy.pool;
  return {
    files: files.files.map(({ path }) => path),
    extents: files.extents.map(({ firstBlock, blocks, file, fileBlock }) => {
      return { firstBlock, blocks, file, fileBlock };
    }),
  };
}

function offsetOf(job: Job): number {
  const { checkpoint } = job;
  const offset = checkpoint !== null && isJsonObject(checkpoint) ? checkpoint['offset'] : 0;
  return typeof offset === 'number' ? offset : 0;
}

/** A text parameter that the job was made with. */
export function parameter(job: Job, name: string): string {
  const { parameters } = job;
  const value = isJsonObject(parameters) ? parameters[name] : undefined;
  if (typeof value === 'string') return value;
  throw new StorageError('METADATA_INVALID', `job ${job.id} has no ${name}`, { job: job.id });
}
