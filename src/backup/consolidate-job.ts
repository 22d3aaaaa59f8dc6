/**
 * The job that makes a synthetic full backup: the members of a chain become one full image, without
 * the source. It has the bytes that a full backup of the copy would have.
 *
 * Damage in a member is never copied on: it ends the job, and the members stay as they are.
 */
import { StorageError } from '../base/errors.ts';
import { uuidv7 } from '../base/clock.ts';
import { ImageFrame } from '../image/format.ts';
import type { Job, Json } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { checkBackupName } from '../target/target.ts';
import type { Backups, JobMade } from './backups.ts';
import { assertNew } from './begin-backup.ts';
import { manifestOf } from './manifest.ts';
import { reading } from './on-medium.ts';
import { type BackupRecord, type Labels, backupRow } from './records.ts';
import { waitForTarget } from './target-wait.ts';
import {
  abandonEntry,
  complete,
  confirmedOffset,
  isThere,
  parameter,
  reports,
} from './transfer.ts';
import { runOnTarget } from './target-task.ts';

export interface ConsolidateRequest {
  /** Of the new backup. */
  readonly name: string;
  readonly labels?: Labels;
  readonly maxBytesPerSecond?: number;
}

/**
 * Begins a full backup, on the same target, of the copy that a backup is of.
 * @throws NOT_FOUND, BACKUP_INCOMPLETE, NAME_TAKEN, NAME_INVALID
 */
export async function beginConsolidate(
  backups: Backups,
  ref: string,
  request: ConsolidateRequest,
  effects?: JobMade,
): Promise<Job> {
  checkBackupName(request.name);
  const chain = backups.readableChain(ref);
  const source = chain.at(-1) ?? chain[0];
  assertNew(backups, request.name);
  const target = backups.options.targets.get(source.targetId);
  if (!backups.options.targets.medium(target).capabilities.parallelWrites) {
    const message = `target ${target.name} has one drive: it cannot be read and written at once`;
    throw new StorageError('VALIDATION_FAILED', message, { field: 'target', target: target.name });
  }
  const record = recordOf(backups, source, request);
  backups.add(record);
  try {
    return await backups.options.runner().submit(
      {
        kind: 'consolidate',
        subject: {
          backup: record.name,
          backupId: record.id,
          from: source.name,
          fromId: source.id,
          target: target.name,
          targetId: target.id,
        },
        parameters: { backup: record.id, from: source.id },
        disk: source.diskName,
        target: target.name,
        labels: record.labels,
        totalBytes: frameOf(source).layout.imageBytes,
        ...(request.maxBytesPerSecond === undefined
          ? {}
          : { maxBytesPerSecond: request.maxBytesPerSecond }),
      },
      (job) => {
        record.job = job.id;
        backups.use(chain, job.id);
        return [backupRow(record), ...(effects?.(job) ?? [])];
      },
    );
  } catch (error) {
    backups.drop(record);
    throw error;
  }
}

/** Of the full image of the copy. */
function frameOf(source: BackupRecord): ImageFrame {
  const usedBlocks = source.usedBytes / source.blockSizeBytes;
  return new ImageFrame({
    copyId: source.copyId,
    diskId: source.diskId,
    diskName: source.diskName,
    frozenAtMs: source.frozenAtMs,
    generation: source.generation,
    capacityBytes: source.sourceCapacityBytes,
    blockSizeBytes: source.blockSizeBytes,
    usedBlocks,
    base: null,
    zeroRanges: 0,
    copyBlocks: usedBlocks,
  });
}

function recordOf(
  backups: Backups,
  source: BackupRecord,
  request: ConsolidateRequest,
): BackupRecord {
  const { clock } = backups.options;
  return {
    id: uuidv7(clock),
    name: request.name,
    targetId: source.targetId,
    mediumName: request.name,
    imageId: frameOf(source).imageId,
    copyId: source.copyId,
    copyName: source.copyName,
    diskId: source.diskId,
    diskName: source.diskName,
    generation: source.generation,
    frozenAtMs: source.frozenAtMs,
    // no member of the group that the source may belong to: that names the images it has
    level: 'full',
    base: null,
    state: 'creating',
    mediumBytes: 0,
    usedBytes: source.usedBytes,
    dataBytes: source.usedBytes,
    sourceCapacityBytes: source.sourceCapacityBytes,
    blockSizeBytes: source.blockSizeBytes,
    labels: request.labels ?? source.labels,
    job: null,
    verifiedAtMs: null,
    version: 1,
    createdAtMs: clock.nowMs(),
  };
}

export function consolidateKind(backups: Backups): JobKind<RowChange> {
  return {
    run: (context) => runConsolidate(backups, context),
    async abandon(job) {
      const record = backups.find(parameter(job, 'backup'));
      const isDone = record !== undefined && (await abandonEntry(backups, record));
      return isDone ? { result: resultOf(record) } : undefined;
    },
  };
}

async function runConsolidate(backups: Backups, context: JobContext<RowChange>): Promise<Json> {
  const { targets } = backups.options;
  const record = backups.get(parameter(context.job, 'backup'));
  const target = targets.get(record.targetId);
  const medium = targets.medium(target);
  await waitForTarget(context, targets, target, async () => {
    if (await isThere(medium, record)) return;
    const chain = backups.readableChain(parameter(context.job, 'from'));
    backups.use(chain, context.job.id);
    const task = {
      kind: 'consolidate',
      target: targets.place(target),
      name: record.mediumName,
      resumeFrom: confirmedOffset(context.job),
      from: chain.map(({ mediumName }) => mediumName),
      manifest: manifestOf(record),
    } as const;
    await reading(backups, chain, context.signal, () =>
      runOnTarget(backups, context, target, task, reports(context)),
    );
  });
  await complete(backups, medium, record);
  const { mediumBytes } = record;
  context.progress({ doneBytes: mediumBytes, totalBytes: mediumBytes });
  return resultOf(record);
}

function resultOf(record: BackupRecord): Json {
  const { mediumBytes, usedBytes, dataBytes, sourceCapacityBytes } = record;
  return {
    backup: record.name,
    backupId: record.id,
    imageId: record.imageId,
    level: record.level,
    mediumBytes,
    usedBytes,
    dataBytes,
    sourceCapacityBytes,
  };
}
