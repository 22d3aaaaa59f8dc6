/**
 * Carries retention out: the job that deletes what no rule keeps.
 *
 * What goes is decided anew when the job runs and after a restart: deciding again on what stays
 * deletes nothing more. The newest go first, so nothing is deleted before what is built on it. A
 * backup that somebody uses, or that something new is built on, is left for the next time.
 *
 * Its checkpoint and result name each backup that was deleted, with the reason; the checkpoint also
 * what is to go, so that a deletion which a crash has cut is brought to its end.
 */
import { isStorageError, StorageError } from '../base/errors.ts';
import { checkTimeZone } from '../base/time-zone.ts';
import { isJsonList, isJsonObject, textsOf } from '../job/job.ts';
import type { Job, Json, JsonObject } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups, JobMade } from './backups.ts';
import { deleteBackup } from './delete-backup.ts';
import type { BackupRecord } from './records.ts';
import {
  decideRetention,
  keepsSomething,
  policyFrom,
  type RetentionDecision,
  type RetentionItem,
  type RetentionPolicy,
} from './retention.ts';

export interface RetentionRequest extends RetentionPolicy {
  /** Only backups on this target, of this disk (also one that is gone), with this label. */
  readonly target?: string;
  readonly disk?: string;
  readonly label?: { readonly key: string; readonly value?: string };
  /** Default UTC. */
  readonly timeZone?: string;
}

/** What is asked for, with ids instead of names. */
export interface RetentionPlan {
  readonly targetId: string | null;
  readonly diskIds: readonly string[] | null;
  readonly label: { readonly key: string; readonly value: string | null } | null;
  readonly timeZone: string;
  readonly policy: RetentionPolicy;
}

/** A backup as retention looks at it. */
export interface RetentionBackup extends RetentionItem {
  readonly record: BackupRecord;
}

export interface Left {
  readonly backup: string;
  readonly code: string;
  readonly detail: string;
}

export interface RetentionResult {
  readonly deleted: readonly { readonly backup: string; readonly reason: string }[];
  /** What should have gone and could not. */
  readonly left: readonly Left[];
  readonly keptBackups: number;
}

/** How far it has come. */
export interface RetentionState {
  readonly deleted: RetentionResult['deleted'];
  /** Ids of what an attempt was going to delete. */
  readonly going: readonly string[];
}

const TELL_AT_MOST = 1000;

/** @throws VALIDATION_FAILED (no rule, no such time zone), NOT_FOUND (target, disk) */
export function planRetention(backups: Backups, request: RetentionRequest): RetentionPlan {
  const { target, disk, label, timeZone = 'UTC' } = request;
  const policy = policyFrom({ ...request });
  if (!keepsSomething(policy)) {
    throw new StorageError('VALIDATION_FAILED', 'retention needs a rule that keeps something', {
      field: 'keepLast',
    });
  }
  checkTimeZone(timeZone);
  return {
    targetId: target === undefined ? null : backups.options.targets.get(target).id,
    diskIds: disk === undefined ? null : diskIdsOf(backups, disk),
    label: label === undefined ? null : { key: label.key, value: label.value ?? null },
    timeZone,
    policy,
  };
}

/** The disk now, or the disks that had the name when they were backed up. */
function diskIdsOf(backups: Backups, ref: string): string[] {
  const disk = backups.options.copies.options.disks.find(ref);
  if (disk !== undefined) return [disk.id];
  const past = backups.list().filter(({ diskId, diskName }) => ref === diskId || ref === diskName);
  if (past.length > 0) return [...new Set(past.map(({ diskId }) => diskId))];
  throw new StorageError('NOT_FOUND', `there is no disk ${ref}`, { disk: ref });
}

/** Newest of each series first. Reads memory only. */
export function decide(
  backups: Backups,
  plan: RetentionPlan,
): RetentionDecision<RetentionBackup>[] {
  const { targetId, diskIds, label, timeZone, policy } = plan;
  const isAsked = ({ record }: RetentionBackup): boolean => {
    if (targetId !== null && record.targetId !== targetId) return false;
    if (diskIds !== null && !diskIds.includes(record.diskId)) return false;
    if (label === null) return true;
    const { labels } = record;
    if (!Object.hasOwn(labels, label.key)) return false;
    return label.value === null || labels[label.key] === label.value;
  };
  return decideRetention(backups.list().map(itemOf), policy, timeZone, isAsked);
}

function itemOf(record: BackupRecord): RetentionBackup {
  const { id, name, diskId, targetId, copyId, generation, frozenAtMs, state } = record;
  const links = { baseCopyId: record.base?.copyId ?? null, groupId: record.group?.id ?? null };
  return { id, name, diskId, targetId, copyId, generation, frozenAtMs, state, ...links, record };
}

export async function submitRetention(
  backups: Backups,
  request: RetentionRequest,
  effects?: JobMade,
): Promise<Job> {
  const plan = planRetention(backups, request);
  const { target, disk } = request;
  const about = {
    ...(target === undefined ? {} : { target: backups.options.targets.get(target).name }),
    ...(disk === undefined ? {} : { disk }),
  };
  return backups.options
    .runner()
    .submit(
      { kind: 'retention', subject: about, parameters: planJson(plan), ...about },
      (job) => effects?.(job) ?? [],
    );
}

export function retentionKind(backups: Backups): JobKind<RowChange> {
  return {
    async run(context): Promise<Json> {
      const plan = readPlan(context.job.parameters);
      const { checkpoint } = context.job;
      const before = readState(checkpoint);
      const result = await carryOut(backups, plan, context, before, async (state) => {
        await context.checkpoint(stateJson(state));
      });
      return resultJson(result);
    },
  };
}

/**
 * Deletes what is to go, and goes on after what is in use or needed.
 * @param before how far an earlier attempt came
 * @param remember called before the first deletion and after each
 * @throws TARGET_UNAVAILABLE and others, with `deleted`: what comes after is left
 */
export async function carryOut(
  backups: Backups,
  plan: RetentionPlan,
  context: Pick<JobContext, 'signal' | 'log'>,
  before: RetentionState,
  remember: (state: RetentionState) => Promise<void>,
): Promise<RetentionResult> {
  const deleted = [...before.deleted];
  for (const id of before.going) {
    const cut = backups.find(id);
    if (cut?.state !== 'incomplete') continue;
    await deleteBackup(backups, id);
    deleted.push({ backup: cut.name, reason: 'its deletion had begun' });
  }
  const decisions = decide(backups, plan);
  const left: Left[] = [];
  const doomed = decisions.filter(({ action }) => action === 'delete');
  const going = doomed.map(({ item }) => item.id);
  if (going.length > 0) await remember({ deleted, going });
  for (const { item, reason } of doomed) {
    context.signal.throwIfAborted();
    try {
      await deleteBackup(backups, item.id);
      deleted.push({ backup: item.name, reason });
    } catch (error) {
      if (!isStorageError(error)) throw error;
      if (!isLeft(error)) throw error.with({ backup: item.name, deleted: toldOf(deleted) });
      const { code, message } = error;
      context.log(`left ${item.name}: ${message}`);
      if (code !== 'NOT_FOUND') left.push({ backup: item.name, code, detail: message });
      continue;
    }
    await remember({ deleted, going });
  }
  const keptBackups = decisions.length - doomed.length;
  return { deleted, left, keptBackups };
}

/** Somebody was faster, or uses it: it is another time's. */
function isLeft({ code }: StorageError): boolean {
  return code === 'BACKUP_IN_USE' || code === 'BACKUP_NEEDED' || code === 'NOT_FOUND';
}

function toldOf(deleted: RetentionResult['deleted']): Json {
  return deleted.slice(-TELL_AT_MOST).map(({ backup, reason }) => ({ backup, reason }));
}

export function resultJson({ deleted, left, keptBackups }: RetentionResult): JsonObject {
  return {
    deletedBackups: deleted.length,
    keptBackups,
    deleted: toldOf(deleted),
    left: left.slice(0, TELL_AT_MOST).map((each) => ({ ...each })),
  };
}

export function planJson({ diskIds, label, policy, ...rest }: RetentionPlan): JsonObject {
  return {
    ...rest,
    diskIds: diskIds === null ? null : [...diskIds],
    label: label === null ? null : { ...label },
    policy: { ...policy },
  };
}

/** @throws METADATA_INVALID */
function readPlan(parameters: Json): RetentionPlan {
  if (isJsonObject(parameters)) {
    const { targetId, diskIds, label, timeZone, policy } = parameters;
    const rules = policy !== undefined && isJsonObject(policy) ? policyFrom(policy) : {};
    const key = label !== undefined && isJsonObject(label) ? label['key'] : undefined;
    const value = label !== undefined && isJsonObject(label) ? label['value'] : undefined;
    if (typeof timeZone === 'string' && keepsSomething(rules)) {
      return {
        targetId: typeof targetId === 'string' ? targetId : null,
        diskIds: Array.isArray(diskIds) ? diskIds.map(String) : null,
        label:
          typeof key === 'string' ? { key, value: typeof value === 'string' ? value : null } : null,
        timeZone,
        policy: rules,
      };
    }
  }
  throw new StorageError('METADATA_INVALID', 'a retention job has no valid plan');
}

export function stateJson({ deleted, going }: RetentionState): JsonObject {
  return { deleted: toldOf(deleted), going: [...going] };
}

export function readState(value: Json | undefined): RetentionState {
  if (value === undefined || !isJsonObject(value)) return { deleted: [], going: [] };
  const { deleted, going } = value;
  const texts = isJsonList(going) ? going : [];
  return {
    deleted: (isJsonList(deleted) ? deleted : []).flatMap((each) => {
      const { backup, reason } = textsOf(each);
      return backup === undefined || reason === undefined ? [] : [{ backup, reason }];
    }),
    going: texts.flatMap((id) => (typeof id === 'string' ? [id] : [])),
  };
}
