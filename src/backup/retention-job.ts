/**
 * Carries retention out: the job that deletes what no rule keeps.
 *
 * What goes is decided anew when the job runs and after a restart: deciding again on what stays
 * deletes nothing more. The newest go first, so nothing is deleted before what is built on it. A
 * backup that somebody uses, or that something new is built on, is left for the next time.
 *
 * Its checkpoint and result count what was deleted and name the last 1000, with the reasons. The
 * checkpoint is written before each batch and names also what is to go next: so a deletion which a
 * crash has cut is brought to its end, each is counted, and what is written stays linear.
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
import { freeMedia } from './free-media.ts';
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

export interface Deleted {
  readonly backup: string;
  readonly reason: string;
}

export interface RetentionResult {
  readonly deletedBackups: number;
  /** The last 1000 of them. */
  readonly deleted: readonly Deleted[];
  /** What should have gone and could not. */
  readonly left: readonly Left[];
  readonly keptBackups: number;
}

/** A backup that is to go. */
export interface Doomed extends Deleted {
  readonly id: string;
}

/** How far it has come. */
export interface RetentionState {
  readonly deletedBackups: number;
  /** The last 1000 of them. */
  readonly deleted: readonly Deleted[];
  /** What an attempt was going to delete next; what of it is gone, it has deleted. */
  readonly going: readonly Doomed[];
}

/** How many are deleted before the progress is written anew, which is as long as the result. */
const BATCH = 50;
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
  const { disks } = backups.options.copies.options;
  const about = {
    ...(target === undefined ? {} : { target: backups.options.targets.get(target).name }),
    ...(disk === undefined ? {} : { disk: disks.find(disk)?.name ?? disk }),
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
      return resultOf(backups, plan, result);
    },
  };
}

/** What was done, with the cartridges that may be labelled anew now. */
export async function resultOf(
  backups: Backups,
  { targetId }: RetentionPlan,
  result: RetentionResult,
): Promise<JsonObject> {
  const media = await freeMedia(backups.options.targets, targetId);
  const told = media.slice(0, TELL_AT_MOST).map((each) => ({ ...each }));
  return { ...resultJson(result), ...(told.length === 0 ? {} : { canBeLabelled: told }) };
}

/**
 * Deletes what is to go, and goes on after what is in use or needed.
 * @param before how far an earlier attempt came
 * @param remember called before each batch of deletions
 * @throws TARGET_UNAVAILABLE and others, with `deleted`: what comes after is left
 */
export async function carryOut(
  backups: Backups,
  plan: RetentionPlan,
  context: Pick<JobContext, 'signal' | 'log' | 'progress'>,
  before: RetentionState,
  remember: (state: RetentionState) => Promise<void>,
): Promise<RetentionResult> {
  const deletions = new Deletions(before);
  for (const each of before.going) {
    const cut = backups.find(each.id);
    if (cut !== undefined && cut.state !== 'incomplete') continue;
    if (cut !== undefined) await deleteBackup(backups, cut.id);
    deletions.add(each);
  }
  const decisions = decide(backups, plan);
  const left: Left[] = [];
  const doomed = decisions.filter(({ action }) => action === 'delete');
  let doneBytes = 0;
  for (const [index, { item, reason }] of doomed.entries()) {
    if (index % BATCH === 0) {
      const going = doomed.slice(index, index + BATCH).map(toDoomed);
      await remember({ ...deletions.made, going });
    }
    context.signal.throwIfAborted();
    try {
      await deleteBackup(backups, item.id);
      deletions.add({ backup: item.name, reason });
    } catch (error) {
      if (!isStorageError(error)) throw error;
      const { deleted } = deletions.made;
      if (!isLeft(error)) throw error.with({ backup: item.name, deleted: toldOf(deleted) });
      const { code, message } = error;
      context.log(`left ${item.name}: ${message}`);
      if (code !== 'NOT_FOUND') left.push({ backup: item.name, code, detail: message });
    }
    doneBytes += item.record.mediumBytes;
    context.progress({ doneBytes });
  }
  const keptBackups = decisions.length - doomed.length;
  return { ...deletions.made, left, keptBackups };
}

function toDoomed({ item, reason }: RetentionDecision<RetentionBackup>): Doomed {
  return { id: item.id, backup: item.name, reason };
}

/** What was deleted: how many, and which the last ones were. */
class Deletions {
  #count: number;
  readonly #last: Deleted[];

  constructor({ deletedBackups, deleted }: RetentionState) {
    this.#count = deletedBackups;
    this.#last = [...deleted];
  }

  get made(): Pick<RetentionState, 'deletedBackups' | 'deleted'> {
    return { deletedBackups: this.#count, deleted: [...this.#last] };
  }

  add({ backup, reason }: Deleted): void {
    this.#count += 1;
    this.#last.push({ backup, reason });
    if (this.#last.length > TELL_AT_MOST) this.#last.shift();
  }
}

/** Somebody was faster, or uses it: it is another time's. */
function isLeft({ code }: StorageError): boolean {
  return code === 'BACKUP_IN_USE' || code === 'BACKUP_NEEDED' || code === 'NOT_FOUND';
}

function toldOf(deleted: RetentionResult['deleted']): Json {
  return deleted.slice(-TELL_AT_MOST).map(({ backup, reason }) => ({ backup, reason }));
}

export function resultJson(result: RetentionResult): JsonObject {
  const { deletedBackups, deleted, left, keptBackups } = result;
  return {
    deletedBackups,
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

export function stateJson({ deletedBackups, deleted, going }: RetentionState): JsonObject {
  return {
    deletedBackups,
    deleted: toldOf(deleted),
    going: going.map(({ id, backup, reason }) => ({ id, backup, reason })),
  };
}

export function readState(value: Json | undefined): RetentionState {
  if (value === undefined || !isJsonObject(value)) {
    return { deletedBackups: 0, deleted: [], going: [] };
  }
  const deleted = readDeleted(value['deleted']);
  const { deletedBackups } = value;
  return {
    deletedBackups: typeof deletedBackups === 'number' ? deletedBackups : deleted.length,
    deleted,
    going: readDeleted(value['going']).flatMap(({ id, ...rest }) => {
      return id === undefined ? [] : [{ ...rest, id }];
    }),
  };
}

function readDeleted(value: Json | undefined): (Deleted & { readonly id?: string })[] {
  return (isJsonList(value) ? value : []).flatMap((each) => {
    const { id, backup, reason } = textsOf(each);
    if (backup === undefined || reason === undefined) return [];
    return [{ backup, reason, ...(id === undefined ? {} : { id }) }];
  });
}
