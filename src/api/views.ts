/**
 * The engine's objects as the interface shows them. Times become text, references become two
 * fields: the name and the id.
 */
import type { Static } from 'typebox';
import { rfc3339 } from '../base/clock.ts';
import type { Job } from '../job/job.ts';
import type { BackupSchema } from './schemas/backup.ts';
import type { CopySchema } from './schemas/copy.ts';
import type { DiskSchema, LimitsSchema, UserSchema } from './schemas/disk.ts';
import type { GroupCopySchema, GroupSchema } from './schemas/group.ts';
import type { JobSchema } from './schemas/job.ts';
import type { PoolSchema } from './schemas/pool.ts';
import type { ScheduleSchema } from './schemas/schedule.ts';
import type { LibrarySchema, MediumSchema } from './schemas/medium.ts';
import type { TargetSchema } from './schemas/target.ts';
import type { User } from './service-types.ts';
import type { Copy, CopyImage, Disk, Group, GroupMember, Pool } from './storage-services.ts';
import type { LibraryView, Medium, Schedule, ScheduleRun, Target } from './work-services.ts';
import type { Backup } from './work-services.ts';

export type JobView = Static<typeof JobSchema>;
export type DiskView = Static<typeof DiskSchema>;
export type DedicatedView = Pick<
  Static<typeof CopySchema>,
  'preserve' | 'onPreserveError' | 'owedBlocks' | 'job' | 'problem'
>;
export type CopyView = Static<typeof CopySchema>;

function nullableTime(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : rfc3339(ms);
}

export function userViews(users: readonly User[]): Static<typeof UserSchema>[] {
  return users.map(({ kind, id, sinceMs }) => ({ kind, id, since: rfc3339(sinceMs) }));
}

/** Sums over disks can be larger than any number of bytes that is told. */
function shownBytes(bytes: number): number {
  return Math.min(bytes, Number.MAX_SAFE_INTEGER);
}

export function poolView(pool: Pool): Static<typeof PoolSchema> {
  return {
    id: pool.id,
    name: pool.name,
    blockSizeBytes: pool.blockSizeBytes,
    files: pool.files.map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    capacityBytes: pool.capacityBytes,
    allocatedBytes: pool.allocatedBytes,
    freeBytes: pool.freeBytes,
    provisionedBytes: shownBytes(pool.provisionedBytes),
    reservedBytes: shownBytes(pool.reservedBytes),
    pendingFreeBytes: pool.pendingFreeBytes,
    metadataBytes: pool.metadataBytes,
    lowWaterPercent: pool.lowWaterPercent,
    criticalPercent: pool.criticalPercent,
    state: pool.state,
    problem: pool.problem,
    version: pool.version,
    createdAt: rfc3339(pool.createdAtMs),
  };
}

/** @param exclusiveBytes only where it was asked for: it costs a walk */
export function diskView(disk: Disk, exclusiveBytes?: number): DiskView {
  return {
    id: disk.id,
    name: disk.name,
    pool: disk.pool.name,
    poolId: disk.pool.id,
    capacityBytes: disk.capacityBytes,
    blockSizeBytes: disk.blockSizeBytes,
    usedBytes: disk.usedBytes,
    ...(exclusiveBytes === undefined ? {} : { exclusiveBytes }),
    reserveBytes: disk.reserveBytes,
    detectZeroes: disk.detectZeroes,
    labels: { ...disk.labels },
    state: disk.state,
    job: disk.fencedBy ?? null,
    users: userViews(disk.users()),
    version: disk.version,
    createdAt: rfc3339(disk.createdAtMs),
  };
}

export function limitsView(disk: Disk): Static<typeof LimitsSchema> {
  const { id, name, maxBytesPerSecond, quotaBytes, usedBytes } = disk;
  return { disk: name, diskId: id, maxBytesPerSecond, quotaBytes, usedBytes };
}

export function copyView(copy: Copy, image: CopyImage, exclusiveBytes?: number): CopyView {
  return {
    id: copy.id,
    name: copy.name,
    disk: copy.disk,
    diskId: copy.diskId,
    diskName: copy.diskName,
    pool: copy.pool.name,
    poolId: copy.pool.id,
    layout: copy.layout,
    placement: copy.placement,
    state: copy.state,
    ...dedicatedView(copy),
    generation: copy.generation,
    usedBlocks: copy.usedBlocks,
    blockSizeBytes: copy.blockSizeBytes,
    capacityBytes: copy.capacityBytes,
    sourceCapacityBytes: copy.sourceCapacityBytes,
    imageBytes: image.imageBytes,
    imageId: image.imageId,
    ...(exclusiveBytes === undefined ? {} : { exclusiveBytes }),
    haltMicroseconds: copy.haltMicroseconds,
    labels: { ...copy.labels },
    group: copy.group,
    groupId: copy.groupId,
    users: userViews(copy.users()),
    version: copy.version,
    frozenAt: rfc3339(copy.frozenAtMs),
  };
}

function dedicatedView({ dedicated }: Copy): Pick<CopyView, keyof DedicatedView> {
  const { preserve = null, onPreserveError = null, owedBlocks = 0 } = dedicated ?? {};
  const { job = null, problem = null } = dedicated ?? {};
  const { code = '', detail = '' } = problem ?? {};
  const reason = problem === null ? null : { code, detail };
  return { preserve, onPreserveError, owedBlocks, job, problem: reason };
}

export function groupView(group: Group): Static<typeof GroupSchema> {
  return {
    id: group.id,
    name: group.name,
    copies: group.members.map(groupCopyView),
    haltMicroseconds: group.haltMicroseconds,
    labels: { ...group.labels },
    version: group.version,
    frozenAt: rfc3339(group.frozenAtMs),
  };
}

function groupCopyView(member: GroupMember): Static<typeof GroupCopySchema> {
  const { copyName: name, copyId: id, disk, diskId, diskName, copy } = member;
  const known = { name, id, disk, diskId, diskName };
  if (copy === null) return { ...known, state: 'deleted' };
  const { usedBlocks, blockSizeBytes, capacityBytes, sourceCapacityBytes, generation } = copy;
  const sizes = { usedBlocks, blockSizeBytes, capacityBytes, sourceCapacityBytes, generation };
  return { ...known, state: 'ready', pool: copy.pool.name, poolId: copy.pool.id, ...sizes };
}

export function targetView(target: Target): Static<typeof TargetSchema> {
  const { labels, createdAtMs, id, name, kind, path, set, bufferBytes, version } = target;
  const { device: changer = null, drive: changerDrive = null } = target.changer ?? {};
  const shown = { id, name, kind, path, set, bufferBytes, changer, changerDrive, version };
  return { ...shown, labels: { ...labels }, createdAt: rfc3339(createdAtMs) };
}

export function mediumView(medium: Medium): Static<typeof MediumSchema> {
  const { volumeId, labelledAtMs, expiresAtMs, backups, ...rest } = medium;
  return {
    ...rest,
    id: volumeId,
    labelledAt: labelledAtMs === null ? null : rfc3339(labelledAtMs),
    expiresAt: expiresAtMs === null ? null : rfc3339(expiresAtMs),
    backups: [...backups],
  };
}

export function libraryView(library: LibraryView): Static<typeof LibrarySchema> {
  const { path, drive: own, inventory, media } = library;
  const labelAt = (slot: number, inDrive: boolean): string | null => {
    const found = media.find((medium) => medium.slot === slot && medium.inDrive === inDrive);
    return found?.label ?? null;
  };
  return {
    changer: path,
    drives: inventory.drives.map(({ drive, isFull, barcode, sourceSlot }) => {
      const label = sourceSlot === null ? null : labelAt(sourceSlot, true);
      return { drive, isOwn: drive === own, isFull, barcode, sourceSlot, label };
    }),
    slots: inventory.slots.map(({ slot, isImportExport, isFull, barcode }) => {
      const label = isFull ? labelAt(slot, false) : null;
      return { slot, isImportExport, isFull, barcode, label };
    }),
  };
}

export function backupView(backup: Backup): Static<typeof BackupSchema> {
  return {
    id: backup.id,
    name: backup.name,
    target: backup.target,
    targetId: backup.targetId,
    imageId: backup.imageId,
    copy: backup.copy,
    copyId: backup.copyId,
    copyName: backup.copyName,
    disk: backup.disk,
    diskId: backup.diskId,
    diskName: backup.diskName,
    level: backup.level,
    base: backup.base && { ...backup.base },
    chain: backup.chain.map(({ id, name }) => ({ id, name })),
    isChainComplete: backup.isChainComplete,
    state: backup.state,
    mediumBytes: backup.mediumBytes,
    usedBytes: backup.usedBytes,
    dataBytes: backup.dataBytes,
    sourceCapacityBytes: backup.sourceCapacityBytes,
    blockSizeBytes: backup.blockSizeBytes,
    labels: { ...backup.labels },
    group: backup.group?.name ?? null,
    groupId: backup.group?.id ?? null,
    job: backup.job,
    verifiedAt: nullableTime(backup.verifiedAtMs),
    version: backup.version,
    createdAt: rfc3339(backup.createdAtMs),
  };
}

export function scheduleView(schedule: Schedule): Static<typeof ScheduleSchema> {
  const { nextRunsMs, queuedMs, lastRun, lastSuccessAtMs, lastSkipped, ...others } = schedule;
  const { disks, retention, labels, createdAtMs, ...rest } = others;
  return {
    id: rest.id,
    name: rest.name,
    cron: rest.cron,
    timeZone: rest.timeZone,
    disks: disks.map(({ name }) => name),
    diskIds: disks.map(({ id }) => id),
    isGroup: rest.isGroup,
    target: rest.target,
    targetId: rest.targetId,
    level: rest.level,
    onMissingBase: rest.onMissingBase,
    retention: retention === null ? null : { ...retention },
    jitterSeconds: rest.jitterSeconds,
    catchUp: rest.catchUp,
    overlap: rest.overlap,
    enabled: rest.enabled,
    maxBytesPerSecond: rest.maxBytesPerSecond,
    labels: { ...labels },
    nextRuns: nextRunsMs.map(rfc3339),
    queuedRun: nullableTime(queuedMs),
    lastRun: lastRun === null ? null : runView(lastRun),
    lastSuccessAt: nullableTime(lastSuccessAtMs),
    lastSkipped:
      lastSkipped === null
        ? null
        : { scheduledAt: rfc3339(lastSkipped.scheduledAtMs), reason: lastSkipped.reason },
    version: rest.version,
    createdAt: rfc3339(createdAtMs),
  };
}

function runView(run: ScheduleRun): NonNullable<Static<typeof ScheduleSchema>['lastRun']> {
  const { job, scheduledAtMs, startedAtMs, endedAtMs, state, problem } = run;
  return {
    job,
    scheduledAt: nullableTime(scheduledAtMs),
    startedAt: rfc3339(startedAtMs),
    endedAt: nullableTime(endedAtMs),
    state,
    problem: problem === null ? null : { ...problem },
  };
}

export function jobView(job: Job): JobView {
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    subject: { ...job.subject },
    doneBytes: job.doneBytes,
    totalBytes: job.totalBytes ?? null,
    bytesPerSecond: Math.round(job.bytesPerSecond),
    etaSeconds: job.etaSeconds ?? null,
    maxBytesPerSecond: job.maxBytesPerSecond ?? null,
    stages: job.stages.map(({ name, busyPercent }) => ({ name, busyPercent })),
    attempts: job.attempts,
    createdAt: rfc3339(job.createdAtMs),
    startedAt: nullableTime(job.startedAtMs),
    endedAt: nullableTime(job.endedAtMs),
    problem: job.problem === undefined ? null : { ...job.problem },
    waitingFor: job.waitingFor === undefined ? null : { ...job.waitingFor },
    result: resultView(job.result),
    log: job.log.map(({ atMs, message }) => ({ at: rfc3339(atMs), message })),
    labels: { ...job.labels },
  };
}

/**
 * A result is an object; a kind that has nothing to tell gives an empty one. Runs of schedules once
 * told their instant as a number, and may be there still.
 */
function resultView(result: Job['result']): Record<string, unknown> | null {
  if (result === undefined) return null;
  const isObject = typeof result === 'object' && result !== null && !Array.isArray(result);
  if (!isObject) return {};
  return Object.fromEntries(
    Object.entries(result).map(([name, value]: [string, unknown]) =>
      name === 'scheduledAtMs'
        ? ['scheduledAt', typeof value === 'number' ? rfc3339(value) : null]
        : [name, value],
    ),
  );
}
