/**
 * Beginning a backup: the request becomes an entry of the catalog and a job, in one transaction.
 *
 * Nothing here looks at the copy's blocks: what an incremental holds is found out by its job.
 *
 * Invariants:
 *  1. An incremental whose base is missing is refused, or full where that was asked for; then the
 *     job's result says why. It is never silently full.
 *  2. Between the choice of the base and the entry that keeps it no other turn comes.
 */
import { uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Copy } from '../copy/copy.ts';
import { freezeInternal } from '../copy/freeze.ts';
import { ImageFrame } from '../image/format.ts';
import type { Job } from '../job/job.ts';
import { checkBackupName } from '../target/target.ts';
import type { Backups, JobMade } from './backups.ts';
import { chooseBase, type Decision } from './base.ts';
import {
  type BackupRecord,
  type BaseRef,
  type Labels,
  type TargetRecord,
  backupRow,
} from './records.ts';

export interface BackupRequest {
  readonly name: string;
  /** Exactly one of the two. */
  readonly copy?: string;
  readonly disk?: string;
  readonly target: string;
  /** Default `full`. */
  readonly level?: 'full' | 'incremental';
  /** Of an incremental: a backup or a copy, by name or id. Default: the newest that suits. */
  readonly base?: string;
  /** Of an incremental whose base is missing. Default `fail`. */
  readonly onMissingBase?: 'fail' | 'full';
  readonly labels?: Labels;
  readonly maxBytesPerSecond?: number;
}

/**
 * Begins a backup; its job runs on. From a disk it is frozen now and the copy goes afterwards.
 * @throws NAME_TAKEN, NAME_INVALID, NOT_FOUND, VALIDATION_FAILED, BASE_MISSING (with `reason`)
 */
export async function beginBackup(
  backups: Backups,
  request: BackupRequest,
  effects?: JobMade,
): Promise<Job> {
  const { copies, targets, clock } = backups.options;
  checkBackupName(request.name);
  const target = targets.get(request.target);
  assertNew(backups, request.name);
  checkFields(request);
  const id = uuidv7(clock);
  if (request.copy !== undefined) {
    return submit(backups, { id, request, target, copy: copies.get(request.copy) }, effects);
  }
  const copy = await freezeInternal(copies, request.disk ?? '', { backup: id });
  try {
    return await submit(backups, { id, request, target, copy }, effects);
  } catch (error) {
    copies.drop(copy);
    await copy.pool.flush();
    throw error;
  }
}

/** @throws NAME_TAKEN */
export function assertNew(backups: Backups, name: string): void {
  const there = backups.find(name) ?? backups.ofGroup(name)[0];
  if (there === undefined) return;
  throw new StorageError('NAME_TAKEN', `there is a backup ${name} already`, {
    name: there.name,
    id: there.id,
  });
}

/** @throws VALIDATION_FAILED */
function checkFields({ copy, disk, level = 'full', base, onMissingBase }: BackupRequest): void {
  if ((copy === undefined) === (disk === undefined)) {
    throw new StorageError('VALIDATION_FAILED', 'exactly one of copy and disk is needed', {
      field: 'copy',
    });
  }
  if (level === 'incremental') return;
  const field = base === undefined ? 'onMissingBase' : 'base';
  if (base === undefined && onMissingBase === undefined) return;
  throw new StorageError('VALIDATION_FAILED', `${field} is for level incremental only`, { field });
}

export interface Made {
  readonly id: string;
  readonly request: BackupRequest;
  readonly target: TargetRecord;
  readonly copy: Copy;
}

async function submit(backups: Backups, made: Made, effects?: JobMade): Promise<Job> {
  const { request, target, copy } = made;
  // one turn up to the entry: a name or base that goes meanwhile is seen
  assertNew(backups, request.name);
  const decision = chooseBase(backups, copy, target, request);
  const record = recordOf(backups, made, decision);
  backups.add(record);
  // the copy is held before anyone can see the job
  const early = copy.addUser(backups.copyUser(`submit ${record.id}`));
  try {
    return await backups.options.runner().submit(
      {
        kind: 'backup',
        subject: {
          backup: record.name,
          backupId: record.id,
          ...(copy.record.state === 'internal' ? {} : { copy: copy.name }),
          copyId: copy.id,
          disk: copy.record.diskName,
          diskId: copy.record.diskId,
          target: target.name,
          targetId: target.id,
        },
        parameters: {
          backup: record.id,
          ...(decision.missing === undefined ? {} : { baseMissing: decision.missing }),
        },
        disk: backups.options.copies.diskOf(copy) ?? copy.record.diskName,
        target: target.name,
        labels: request.labels ?? {},
        // how much an incremental is only its job finds out
        ...(record.base === null ? { totalBytes: imageBytes(copy) } : {}),
        ...(request.maxBytesPerSecond === undefined
          ? {}
          : { maxBytesPerSecond: request.maxBytesPerSecond }),
      },
      (job) => {
        record.job = job.id;
        backups.useCopy(copy, job.id);
        return [backupRow(record), ...(effects?.(job) ?? [])];
      },
    );
  } catch (error) {
    backups.drop(record);
    if (record.job !== null) backups.endCopyUse(record.job);
    throw error;
  } finally {
    early();
  }
}

export function imageBytes(copy: Copy): number {
  return new ImageFrame(copy.facts).layout.imageBytes;
}

/** It depends on copy and base only, not on how much changed. */
function imageIdOf(copy: Copy, base: BaseRef | null): string {
  if (base === null) return new ImageFrame(copy.facts).imageId;
  return new ImageFrame({ ...copy.facts, base, usedBlocks: 0 }).imageId;
}

export function recordOf(
  backups: Backups,
  { id, request, target, copy }: Made,
  { base }: Decision,
): BackupRecord {
  const usedBytes = copy.usedBlocks * copy.blockSizeBytes;
  return {
    id,
    name: request.name,
    targetId: target.id,
    mediumName: request.name,
    imageId: imageIdOf(copy, base),
    copyId: copy.id,
    copyName: copy.record.state === 'internal' ? '' : copy.name,
    diskId: copy.record.diskId,
    diskName: copy.record.diskName,
    generation: copy.record.generation,
    frozenAtMs: copy.record.frozenAtMs,
    level: base === null ? 'full' : 'incremental',
    base,
    state: 'creating',
    mediumBytes: 0,
    usedBytes,
    dataBytes: base === null ? usedBytes : 0,
    sourceCapacityBytes: copy.record.sourceCapacityBytes,
    blockSizeBytes: copy.blockSizeBytes,
    labels: request.labels ?? {},
    job: null,
    verifiedAtMs: null,
    version: 1,
    createdAtMs: backups.options.clock.nowMs(),
  };
}
