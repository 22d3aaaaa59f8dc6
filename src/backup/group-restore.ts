/**
 * Groups back as a unit: from their live copies or from their backups, to new disks or into the
 * working disks.
 *
 *  from live copies: remap makes all disks at once, in one transaction; write-back is a job that
 *  fences all disks, then swaps all tables in one transaction;
 *  from backups: one job that fills disk after disk; all become visible in one transaction.
 *
 * Invariants:
 *  1. Until that transaction nobody sees any of it: new disks are `restoring`, working disks are
 *     fenced and keep their old roots.
 *  2. A job that ends badly leaves every working disk as it was and no new disk.
 *  3. The transaction has the mark that it was done: a restart never repeats it.
 */
import { StorageError } from '../base/errors.ts';
import { commitEndings, type Ending, endingsOf, endRestoring } from '../copy/endings.ts';
import { remapTogether } from '../copy/group-remap.ts';
import { assertSamePool, endFill, fence, swapTables } from '../copy/write-back.ts';
import type { Disk } from '../disk/disk.ts';
import type { Job, Json, JsonObject } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups, JobMade } from './backups.ts';
import { partContext, partsDone, savePart } from './group-members.ts';
import {
  type GroupPart,
  type GroupRestoreRequest,
  placeParts,
  planParts,
  readParts,
} from './group-restore-plan.ts';
import { submitHolding } from './held-names.ts';
import type { BackupRecord } from './records.ts';
import { fillFromBackup } from './restore-job.ts';
import { markRow, readMark } from './restore-mark.ts';
import { assertQuota, assertRoom, planJson, type RestorePlan } from './restore-plan.ts';
import { disksOfJob, undoRestore } from './restore-target.ts';

export type GroupRestored = { readonly disks: readonly Disk[] } | { readonly job: Job };

/**
 * From the live copies of a group.
 * @throws NOT_FOUND (also of a copy that was deleted alone), POOL_MISMATCH, and as planParts
 */
export async function restoreGroup(
  backups: Backups,
  ref: string,
  request: GroupRestoreRequest,
  effects?: (made: GroupRestored) => readonly RowChange[],
): Promise<GroupRestored> {
  const { copies } = backups.options;
  await endFencing(backups, request, liveParts(backups, ref));
  const group = copies.groups.get(ref);
  const placed = placeParts(request, liveParts(backups, ref));
  const plans = planParts(copies, request, placed);
  const pairs = plans.map((plan) => ({ plan, copy: copyOf(backups, plan) }));
  if (request.method === 'remap') {
    const wanted = pairs.map(({ plan, copy }) => ({ copy, disk: plan.object }));
    const disks = await remapTogether(copies, wanted, (made) => effects?.({ disks: made }) ?? []);
    return { disks };
  }
  for (const { plan, copy } of pairs) assertSamePool(copies.options.disks.get(plan.object), copy);
  const job = await submit(
    backups,
    plans,
    request,
    { group: group.name, groupId: group.id },
    (made) => {
      for (const { copy } of pairs) backups.useCopy(copy, made.id);
      return effects?.({ job: made }) ?? [];
    },
  );
  return { job };
}

/**
 * From the backups of a group, which may be gone itself.
 * @throws NOT_FOUND, BACKUP_INCOMPLETE (with `missing`: members that are not in the catalog),
 *   QUOTA_EXCEEDED, POOL_FULL, and as planParts
 */
export async function restoreGroupBackup(
  backups: Backups,
  ref: string,
  request: GroupRestoreRequest,
  effects?: JobMade,
): Promise<Job> {
  const { copies } = backups.options;
  await endFencing(backups, request, backedUpParts(backups, ref));
  const placed = placeParts(request, backedUpParts(backups, ref));
  const records = wholeGroup(backups, ref);
  const plans = planParts(copies, request, placed);
  checkRoom(backups, plans, records);
  const chains = records.map(({ id }) => backups.readableChain(id));
  const [{ group, targetId } = { group: undefined, targetId: '' }] = records;
  const subject = {
    groupBackup: group?.name ?? '',
    groupBackupId: group?.id ?? '',
    target: backups.options.targets.find(targetId)?.name ?? '',
  };
  return submit(backups, plans, request, subject, (job) => {
    for (const chain of chains) backups.use(chain, job.id);
    return effects?.(job) ?? [];
  });
}

/** After a restart: what live jobs read is theirs again. */
export function useGroupsAgain(backups: Backups): void {
  for (const job of backups.options.runner().liveJobs()) {
    if (job.kind !== 'group-restore') continue;
    for (const { source } of readParts(job)) {
      if (source.kind === 'upload') continue;
      const copy = source.kind === 'copy' && backups.options.copies.byId(source.id);
      if (copy) backups.useCopy(copy, job.id);
      const record = source.kind === 'backup' ? backups.find(source.id) : undefined;
      if (record !== undefined) backups.use(backups.chains().chainTo(record).members, job.id);
    }
  }
}

export function groupRestoreKind(backups: Backups): JobKind<RowChange> {
  return {
    async run(context): Promise<Json> {
      const done = await readMark(backups, context.job.id);
      if (done !== undefined) return done;
      const plans = readParts(context.job);
      const isLive = plans.every(({ source }) => source.kind === 'copy');
      return isLive ? swapAll(backups, context, plans) : fillAll(backups, context, plans);
    },
    abandon: async (job) => {
      const { copies } = backups.options;
      backups.endCopyUse(job.id);
      await endingsOf(copies, job.id);
      const done = await readMark(backups, job.id);
      if (done !== undefined) return { result: done };
      while (disksOfJob(copies, job.id) !== undefined) await undoRestore(copies, job.id, false);
      return undefined;
    },
  };
}

async function swapAll(
  backups: Backups,
  context: JobContext<RowChange>,
  plans: readonly RestorePlan[],
): Promise<Json> {
  const { copies } = backups.options;
  const { id } = context.job;
  for (const plan of plans) backups.useCopy(copyOf(backups, plan), id);
  await fenceAll(backups, id, plans);
  context.signal.throwIfAborted();
  const swaps = plans.map((plan) => ({
    disk: copies.options.disks.get(plan.object),
    copy: copyOf(backups, plan),
    safetyCopy: plan.safetyCopy ?? undefined,
  }));
  const result = resultOf(
    swaps.map(({ disk, copy, safetyCopy }) => ({
      disk: disk.name,
      diskId: disk.id,
      capacityBytes: Math.max(disk.capacityBytes, copy.record.sourceCapacityBytes),
      damaged: [],
      ...(safetyCopy === undefined ? {} : { safetyCopy }),
    })),
    'write-back',
  );
  await swapTables(copies, swaps, [markRow(id, result)]);
  backups.endCopyUse(id);
  return result;
}

async function fillAll(
  backups: Backups,
  context: JobContext<RowChange>,
  plans: readonly RestorePlan[],
): Promise<Json> {
  if (plans.some(({ method }) => method === 'write-back')) {
    await fenceAll(backups, context.job.id, plans);
  }
  context.progress({ totalBytes: totalOf(backups, plans) });
  let done = partsDone(context.job);
  for (const plan of plans.slice(done.part)) {
    if (plan.source.kind === 'upload') throw noUploads();
    const session = await fillFromBackup(backups, partContext(context, done), plan, plan.source.id);
    const { facts } = await session.end();
    done = {
      part: done.part + 1,
      doneBytes: done.doneBytes + facts.usedBlocks * facts.blockSizeBytes,
      done: [...done.done, session.damagedJson()],
    };
    await savePart(context, done);
  }
  return finishAll(backups, context.job.id, plans, done.done);
}

/** Makes all of it visible, in one turn and one transaction with the mark that says so. */
async function finishAll(
  backups: Backups,
  job: string,
  plans: readonly RestorePlan[],
  damaged: readonly Json[],
): Promise<Json> {
  const { copies } = backups.options;
  const parts = plans.map((plan, index) => {
    const disk = disksOfJob(copies, job, plan.object);
    if (disk === undefined) throw new StorageError('INTERNAL', 'a filled disk is gone');
    return { plan, disk, damaged: damaged[index] ?? [] };
  });
  for (const { plan } of parts) {
    if (plan.safetyCopy !== null) copies.options.names.assertFree(plan.safetyCopy, { job });
  }
  for (const { disk } of parts) disk.pool.assertWritable();
  const endings: Ending[] = [];
  const made = parts.map(({ plan, disk, damaged: lost }): JsonObject => {
    const safetyCopy = plan.safetyCopy ?? undefined;
    const isNew = plan.method !== 'write-back';
    endings.push(
      isNew ? endRestoring(disk) : endFill(copies, disk, disk.capacityBytes, safetyCopy),
    );
    const { name, id: diskId, capacityBytes } = disk;
    const safety = safetyCopy === undefined ? {} : { safetyCopy };
    return { disk: name, diskId, capacityBytes, damaged: lost, ...safety };
  });
  const result = resultOf(made, plans[0]?.method ?? 'remap');
  await commitEndings(copies, endings, [markRow(job, result)]);
  return result;
}

function resultOf(disks: readonly JsonObject[], method: string): JsonObject {
  return { method, disks: [...disks] };
}

async function fenceAll(
  backups: Backups,
  job: string,
  plans: readonly RestorePlan[],
): Promise<void> {
  for (const { object, force } of plans) {
    await fence(backups.options.copies.options.disks.get(object), job, force);
  }
}

/** By force: restores that fence a disk of it end first. */
async function endFencing(
  backups: Backups,
  request: GroupRestoreRequest,
  parts: readonly GroupPart[],
): Promise<void> {
  const { method, force } = request;
  if (method !== 'write-back' || force !== true) return;
  for (const { to: disk } of placeParts(request, parts)) {
    await backups.endFencing({ method, disk, force });
  }
}

function liveParts(backups: Backups, ref: string): GroupPart[] {
  const { groups } = backups.options.copies;
  const group = groups.get(ref);
  return groups.allCopiesOf(group).map(({ member: { diskId, diskName }, copy }) => {
    return { diskId, diskName, source: { kind: 'copy', id: copy.id }, pool: copy.pool.id };
  });
}

function backedUpParts(backups: Backups, ref: string): GroupPart[] {
  return wholeGroup(backups, ref).map(({ id, diskId, diskName }) => {
    return { diskId, diskName, source: { kind: 'backup', id } };
  });
}

/** @throws NOT_FOUND, BACKUP_INCOMPLETE */
function wholeGroup(backups: Backups, ref: string): BackupRecord[] {
  const records = backups.ofGroup(ref);
  const [first] = records;
  if (first?.group === undefined) {
    throw new StorageError('NOT_FOUND', `there is no group backup ${ref}`, { backup: ref });
  }
  const there = new Set(records.map(({ imageId }) => imageId));
  const missing = first.group.members.filter(({ imageId }) => !there.has(imageId));
  for (const record of records) backups.readableChain(record.id);
  if (missing.length === 0) return records;
  const message = `of group backup ${first.group.name} not all members are there`;
  const names = missing.map(({ name }) => name);
  throw new StorageError('BACKUP_INCOMPLETE', message, {
    backup: first.group.name,
    missing: names,
  });
}

/** @throws QUOTA_EXCEEDED, POOL_FULL for all parts together */
function checkRoom(
  backups: Backups,
  plans: readonly RestorePlan[],
  records: readonly BackupRecord[],
): void {
  const { copies } = backups.options;
  const needed = new Map<string, number>();
  for (const [index, plan] of plans.entries()) {
    const usedBytes = records[index]?.usedBytes ?? 0;
    assertQuota(copies, plan, usedBytes);
    if (!plan.onlyDiffering) needed.set(plan.pool, (needed.get(plan.pool) ?? 0) + usedBytes);
  }
  for (const [pool, bytes] of needed) assertRoom(copies, copies.options.pools.get(pool), bytes);
}

function totalOf(backups: Backups, plans: readonly RestorePlan[]): number {
  const used = plans.map(({ source }) => {
    return source.kind === 'backup' ? (backups.find(source.id)?.usedBytes ?? 0) : 0;
  });
  return used.reduce((all, each) => all + each, 0);
}

/** @throws NOT_FOUND */
function copyOf(backups: Backups, { source }: RestorePlan): ReturnType<typeof liveCopy> {
  if (source.kind !== 'copy') throw noUploads();
  return liveCopy(backups, source.id);
}

function liveCopy(backups: Backups, id: string) {
  const copy = backups.options.copies.byId(id);
  if (copy !== undefined) return copy;
  throw new StorageError('NOT_FOUND', `copy ${id} is gone`, { copy: id });
}

function noUploads(): StorageError {
  return new StorageError('INTERNAL', 'a group is restored from copies or from backups');
}

async function submit(
  backups: Backups,
  plans: readonly RestorePlan[],
  request: GroupRestoreRequest,
  subject: Readonly<Record<string, string>>,
  effects: JobMade,
): Promise<Job> {
  const { method, maxBytesPerSecond } = request;
  const made = method === 'remap' ? { disks: plans.map(({ object }) => object).join(' ') } : {};
  return submitHolding(
    backups,
    {
      kind: 'group-restore',
      subject: { ...subject, method, ...made },
      parameters: { parts: plans.map(planJson) },
      target: subject['target'],
      ...(maxBytesPerSecond === undefined ? {} : { maxBytesPerSecond }),
    },
    plans,
    effects,
  );
}
