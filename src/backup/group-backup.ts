/**
 * Group backups: all copies of a group onto one target, by one job.
 *
 * Each is an ordinary backup called NAME-DISK, with an image and a manifest of its own; the
 * manifest names the group backup and all its members, so a scan knows what belongs together.
 *
 * Invariants:
 *  1. In the catalog they are `creating` together, become complete in one transaction, and go in
 *     one.
 *  2. All copies are the job's from the request on.
 *  3. Cancelled or failed: nothing of any of them is left; where that cannot be, all are listed as
 *     incomplete.
 */
import { uuidv7 } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { Copy } from '../copy/copy.ts';
import { checkName } from '../disk/names.ts';
import type { Job, Json } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { checkBackupName, type Target } from '../target/target.ts';
import { transfer } from './backup-job.ts';
import type { Backups, JobMade } from './backups.ts';
import { chooseBase, type Decision } from './base.ts';
import { assertNew, type BackupRequest, imageBytes, recordOf } from './begin-backup.ts';
import { membersOf, partContext, partsDone, savePart } from './group-members.ts';
import { readManifest } from './manifest.ts';
import { type BackupGroup, type BackupRecord, backupRow } from './records.ts';
import { waitForTarget } from './target-wait.ts';
import { complete, isThere } from './transfer.ts';

/** `name` is that of the group backup; each member chooses its own base. */
export interface GroupBackupRequest extends Omit<BackupRequest, 'copy' | 'disk' | 'base'> {
  /** Name or id of the group. */
  readonly group: string;
}

interface Member {
  readonly copy: Copy;
  readonly record: BackupRecord;
  readonly decision: Decision;
}

/**
 * Begins a backup of a whole group.
 * @throws NAME_TAKEN, NAME_INVALID (also of NAME-DISK), NOT_FOUND (also of a copy of the group
 *   that was deleted alone), VALIDATION_FAILED, BASE_MISSING
 */
export async function beginGroupBackup(
  backups: Backups,
  request: GroupBackupRequest,
  effects?: JobMade,
): Promise<Job> {
  const { copies, targets } = backups.options;
  const { name, level = 'full', onMissingBase } = request;
  checkBackupName(name);
  if (level === 'full' && onMissingBase !== undefined) {
    const message = 'onMissingBase is for level incremental only';
    throw new StorageError('VALIDATION_FAILED', message, { field: 'onMissingBase' });
  }
  const target = targets.get(request.target);
  const group = copies.groups.get(request.group);
  const members = plan(backups, request);
  const records = members.map(({ record }) => record);
  for (const record of records) backups.add(record);
  const early = members.map(({ copy }) => copy.addUser(backups.copyUser(`submit ${name}`)));
  const isFull = records.every(({ base }) => base === null);
  try {
    return await backups.options.runner().submit(
      {
        kind: 'group-backup',
        subject: {
          group: group.name,
          groupId: group.id,
          groupBackup: name,
          groupBackupId: records[0]?.group?.id ?? '',
          target: target.name,
          targetId: target.id,
        },
        parameters: {
          backups: records.map(({ id }) => id),
          baseMissing: members.map(({ decision }) => decision.missing ?? null),
        },
        target: target.name,
        labels: request.labels ?? {},
        ...(isFull ? { totalBytes: sum(members.map(({ copy }) => imageBytes(copy))) } : {}),
        ...(request.maxBytesPerSecond === undefined
          ? {}
          : { maxBytesPerSecond: request.maxBytesPerSecond }),
      },
      (job) => {
        for (const { copy, record } of members) {
          record.job = job.id;
          backups.useCopy(copy, job.id);
        }
        return [...records.map(backupRow), ...(effects?.(job) ?? [])];
      },
    );
  } catch (error) {
    const [first] = records;
    if (typeof first?.job === 'string') backups.endCopyUse(first.job);
    for (const record of records) backups.drop(record);
    throw error;
  } finally {
    for (const end of early) end();
  }
}

/** The entries to be made; nothing has changed yet. */
function plan(backups: Backups, request: GroupBackupRequest): Member[] {
  const { copies, targets, clock } = backups.options;
  const { name, group: ref, level, onMissingBase, labels } = request;
  const group = copies.groups.get(ref);
  const target = targets.get(request.target);
  assertNew(backups, name);
  const made = copies.groups.allCopiesOf(group).map(({ member, copy }): Member => {
    const own = {
      name: `${name}-${member.diskName}`,
      target: target.id,
      ...(level === undefined ? {} : { level }),
      ...(onMissingBase === undefined ? {} : { onMissingBase }),
      ...(labels === undefined ? {} : { labels }),
    };
    checkName(own.name);
    assertNew(backups, own.name);
    const decision = chooseBase(backups, copy, target, own);
    const o = { id: uuidv7(clock), request: own, target, copy };
    return { copy, decision, record: recordOf(backups, o, decision) };
  });
  const members = made.map(({ record }) => {
    const { imageId, diskId, diskName: disk } = record;
    return { name: record.mediumName, imageId, diskId, disk };
  });
  const whole: BackupGroup = { id: uuidv7(clock), name, members };
  return made.map((member) => ({ ...member, record: { ...member.record, group: whole } }));
}

export function groupBackupKind(backups: Backups): JobKind<RowChange> {
  return {
    run: (context) => runGroupBackup(backups, context),
    abandon: (job) => abandonGroup(backups, job),
  };
}

async function runGroupBackup(backups: Backups, context: JobContext<RowChange>): Promise<Json> {
  const { job } = context;
  const records = membersOf(backups, job);
  const [first] = records;
  if (first?.group?.members.length !== records.length) throw gone(job);
  const members = records.map((record) => ({ record, copy: copyOf(backups, record) }));
  for (const { copy } of members) backups.useCopy(copy, job.id);
  const { targets } = backups.options;
  const target = targets.get(first.targetId);
  const medium = targets.medium(target);
  let done = partsDone(job);
  for (const { record, copy } of members.slice(done.part)) {
    const part = partContext(context, done);
    await waitForTarget(part, targets, target, () => transfer(backups, part, record, copy));
    const { mediumBytes } = readManifest(await medium.readManifest(record.mediumName));
    done = { ...done, part: done.part + 1, doneBytes: done.doneBytes + mediumBytes };
    await savePart(context, done);
  }
  await complete(backups, medium, ...records);
  backups.endCopyUse(job.id);
  const mediumBytes = sum(records.map((record) => record.mediumBytes));
  context.progress({ doneBytes: mediumBytes, totalBytes: mediumBytes });
  return resultOf(first.group, records);
}

function resultOf({ name, id }: BackupGroup, records: readonly BackupRecord[]): Json {
  return {
    group: name,
    groupId: id,
    mediumBytes: sum(records.map(({ mediumBytes }) => mediumBytes)),
    backups: records.map((record) => ({
      backup: record.name,
      backupId: record.id,
      imageId: record.imageId,
      disk: record.diskName,
      level: record.level,
      base: record.base === null ? null : { ...record.base },
      mediumBytes: record.mediumBytes,
      usedBytes: record.usedBytes,
      dataBytes: record.dataBytes,
    })),
  };
}

async function abandonGroup(
  backups: Backups,
  job: Job,
): Promise<{ readonly result: Json } | undefined> {
  const records = membersOf(backups, job);
  const group = records[0]?.group;
  try {
    const isDone = records.length > 0 && (await undo(backups, records));
    return isDone && group !== undefined ? { result: resultOf(group, records) } : undefined;
  } finally {
    backups.endCopyUse(job.id);
  }
}

/**
 * Of anything less than all nothing is left.
 * @returns true if all were complete before it could be stopped
 */
async function undo(backups: Backups, records: readonly BackupRecord[]): Promise<boolean> {
  const left = records.filter(({ state }) => state !== 'complete' && state !== 'damaged');
  const [first] = left;
  if (first === undefined) return true;
  try {
    const { targets } = backups.options;
    const medium = targets.medium(targets.get(first.targetId));
    const found = [];
    for (const record of left) found.push({ record, state: await stateOf(medium, record) });
    const isWhole = first.group?.members.length === left.length;
    if (isWhole && found.every(({ state }) => state === 'there')) {
      await complete(backups, medium, ...left);
      return true;
    }
    for (const { record, state } of found) {
      if (state === 'foreign') continue;
      await medium.remove(record.mediumName).catch((error: unknown) => {
        if (!isStorageError(error, 'NOT_FOUND')) throw error;
      });
    }
    await backups.forget(...left);
  } catch (error) {
    if (isStorageError(error, 'NOT_FOUND')) await backups.forget(...left);
    else {
      await backups.saveTogether(left.map((record) => ({ record, to: { state: 'incomplete' } })));
    }
  }
  return false;
}

async function stateOf(
  medium: Target,
  record: BackupRecord,
): Promise<'there' | 'absent' | 'foreign'> {
  try {
    return (await isThere(medium, record)) ? 'there' : 'absent';
  } catch (error) {
    if (isStorageError(error, 'NAME_TAKEN')) return 'foreign';
    throw error;
  }
}

/** @throws NOT_FOUND */
function copyOf(backups: Backups, record: BackupRecord): Copy {
  const copy = backups.options.copies.byId(record.copyId);
  if (copy !== undefined) return copy;
  throw new StorageError('NOT_FOUND', `the copy of backup ${record.name} is gone`, {
    copyId: record.copyId,
  });
}

function gone(job: Job): StorageError {
  return new StorageError('NOT_FOUND', 'the entries of the group backup are gone', { job: job.id });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, each) => all + each, 0);
}
