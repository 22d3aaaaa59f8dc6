/**
 * The job that makes a backup: a copy's image, head to end, onto a target.
 *
 * Its checkpoint is the offset that the target last confirmed; after a restart it goes on there.
 * A full or absent target makes it wait, not fail. What a cancelled or failed backup left on the
 * medium is removed; where that cannot be, the backup stays listed as incomplete.
 */
import { StorageError } from '../base/errors.ts';
import type { Copy } from '../copy/copy.ts';
import type { Job, Json } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { openSource } from './backup-source.ts';
import { type Backups, subjectText } from './backups.ts';
import { manifestOf } from './manifest.ts';
import type { BackupRecord } from './records.ts';
import { waitForTarget } from './target-wait.ts';
import {
  abandonEntry,
  complete,
  confirmedOffset,
  isThere,
  parameter,
  reports,
  textParameter,
} from './transfer.ts';
import { runOnTarget } from './target-task.ts';
import type { PoolPlaces } from './worker-protocol.ts';

export function backupKind(backups: Backups): JobKind<RowChange> {
  return {
    run: (context) => runBackupJob(backups, context),
    abandon: (job) => abandonBackup(backups, job),
  };
}

async function runBackupJob(backups: Backups, context: JobContext<RowChange>): Promise<Json> {
  const { copies } = backups.options;
  const record = backups.get(parameter(context.job, 'backup'));
  const copy = copies.byId(record.copyId);
  // a life that ended between this and the end of the job has dropped the copy already
  const isDone = record.state === 'complete' || record.state === 'damaged';
  if (!isDone) await makeBackup(backups, context, record, copy);
  if (copy !== undefined) await endCopy(backups, context.job, copy);
  const { mediumBytes } = record;
  context.progress({ doneBytes: mediumBytes, totalBytes: mediumBytes });
  return resultOf(context.job, record);
}

function resultOf(job: Job, record: BackupRecord): Json {
  const baseMissing = textParameter(job, 'baseMissing');
  return {
    backup: record.name,
    backupId: record.id,
    imageId: record.imageId,
    level: record.level,
    base: record.base === null ? null : { ...record.base },
    ...(baseMissing === undefined ? {} : { baseMissing }),
    mediumBytes: record.mediumBytes,
    usedBytes: record.usedBytes,
    dataBytes: record.dataBytes,
    sourceCapacityBytes: record.sourceCapacityBytes,
  };
}

/** The image is on the target, the entry complete. @throws NOT_FOUND: the copy is gone */
async function makeBackup(
  backups: Backups,
  context: JobContext<RowChange>,
  record: BackupRecord,
  copy: Copy | undefined,
): Promise<void> {
  if (copy === undefined) {
    throw new StorageError('NOT_FOUND', `the copy of backup ${record.name} is gone`, {
      copyId: record.copyId,
    });
  }
  const { targets } = backups.options;
  backups.useCopy(copy, context.job.id);
  const target = targets.get(record.targetId);
  const medium = targets.medium(target);
  await waitForTarget(context, targets, target, async () => {
    await transfer(backups, context, record, copy);
  });
  await complete(backups, medium, record);
}

/** The image onto the target, from the context's checkpoint on. */
export async function transfer(
  backups: Backups,
  context: JobContext<RowChange>,
  record: BackupRecord,
  copy: Copy,
): Promise<void> {
  const { targets } = backups.options;
  const target = targets.get(record.targetId);
  const medium = targets.medium(target);
  if (await isThere(medium, record)) return;
  const source = await openSource(backups, record, copy, context.signal);
  record.dataBytes = source.facts.usedBlocks * source.facts.blockSizeBytes;
  await runOnTarget(
    backups,
    context,
    target,
    {
      kind: 'backup',
      target: targets.place(target),
      name: record.mediumName,
      resumeFrom: confirmedOffset(context.job),
      facts: source.facts,
      pool: poolPlaces(copy),
      manifest: manifestOf(record),
    },
    {
      places: (first, count) => source.places(first, count),
      zeroRanges: (first, count) => source.zeroRanges(first, count),
      known: (segment) => source.known(segment),
      keep: async (segment, checksums) => {
        await source.keep(segment, checksums);
        return undefined;
      },
      ...reports(context),
    },
  );
}

async function abandonBackup(
  backups: Backups,
  job: Job,
): Promise<{ readonly result: Json } | undefined> {
  const { copies } = backups.options;
  const record = backups.find(parameter(job, 'backup'));
  const copy = copies.byId(subjectText(job, 'copyId'));
  try {
    const isDone = record !== undefined && (await abandonEntry(backups, record));
    return isDone ? { result: resultOf(job, record) } : undefined;
  } finally {
    // what became of the backup decides whether the copy leaves a checkpoint
    if (copy !== undefined) await endCopy(backups, job, copy);
    backups.endCopyUse(job.id);
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
