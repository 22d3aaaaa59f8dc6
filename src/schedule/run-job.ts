/**
 * One run of a schedule, as a job: each disk is frozen and backed up, then retention deletes what
 * no rule keeps.
 *
 * All it needs is in its parameters, so it goes its way whatever becomes of the schedule. Each
 * backup is a job of its own; this one waits for it. Its checkpoint names those that were begun and
 * how they ended, so after a restart none is begun twice: the name follows from the instant, and a
 * backup of that name that carries this job's id is its own.
 *
 * Disks of a group are frozen at one instant, under the name of the run; one job backs up all their
 * copies, which go when it has ended.
 *
 * A disk that fails does not keep the others from being backed up; the run fails in the end, with
 * the reason of the first. Retention is about the disks whose backup is complete.
 */
import { beginBackup, type BackupRequest } from '../backup/begin-backup.ts';
import type { Backups } from '../backup/backups.ts';
import { beginGroupBackup } from '../backup/group-backup.ts';
import {
  carryOut,
  readState,
  resultOf,
  type RetentionState,
  stateJson,
} from '../backup/retention-job.ts';
import { policyFrom, type RetentionPolicy } from '../backup/retention.ts';
import { rfc3339 } from '../base/clock.ts';
import { type ErrorCode, errorCodes, isStorageError, StorageError } from '../base/errors.ts';
import { freezeGroup } from '../copy/freeze-group.ts';
import { isJsonList, isJsonObject, textsOf, toJson } from '../job/job.ts';
import type { Job, Json, JsonObject } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { JobEnds } from './job-ends.ts';
import type { Labels, Reference } from './records.ts';

/** Labels that tell where a backup comes from; retention goes by the first. */
export const SCHEDULE_LABEL = 'schedule';
export const RUN_LABEL = 'schedule-run';

export interface RunMember {
  readonly disk: Reference;
  /** Of the backup. */
  readonly name: string;
}

/** What a run is to do. */
export interface RunPlan {
  /** Of the run, and of the group that it freezes. */
  readonly name: string;
  readonly isGroup: boolean;
  readonly schedule: Reference;
  readonly scheduledAtMs: number | null;
  readonly members: readonly RunMember[];
  readonly target: Reference;
  readonly level: 'full' | 'incremental';
  readonly onMissingBase: 'fail' | 'full';
  readonly labels: Labels;
  readonly maxBytesPerSecond: number | null;
  readonly timeZone: string;
  readonly retention: RetentionPolicy | null;
}

/** How far a member is; `job` null: it could not be begun. */
interface Outcome {
  readonly name: string;
  readonly job: string | null;
  readonly state: 'running' | 'succeeded' | 'failed';
  readonly problem: JsonObject | null;
}

interface Progress {
  readonly outcomes: readonly Outcome[];
  readonly retention: RetentionState;
}

export function runKind(backups: Backups, ends: JobEnds): JobKind<RowChange> {
  return {
    run: (context) => new Run(backups, ends, context).run(),
    abandon: async (job) => {
      for (const { job: id } of readProgress(job).outcomes) {
        if (id !== null) await backups.options.runner().cancel(id).catch(isGone);
      }
      await dropGroup(backups, job, true);
    },
  };
}

/** The copies that the run has frozen, if they are there. @throws COPY_IN_USE without force */
async function dropGroup(backups: Backups, job: Job, force: boolean): Promise<void> {
  const { groups } = backups.options.copies;
  const group = groups.find(readRunPlan(job).name);
  if (group?.labels[RUN_LABEL] === job.id) await groups.delete(group.id, { force });
}

function isGone(error: unknown): void {
  if (!isStorageError(error, 'NOT_FOUND')) throw error;
}

class Run {
  readonly #backups: Backups;
  readonly #ends: JobEnds;
  readonly #context: JobContext<RowChange>;
  readonly #plan: RunPlan;
  readonly #outcomes: Map<string, Outcome>;
  #retention: RetentionState;

  constructor(backups: Backups, ends: JobEnds, context: JobContext<RowChange>) {
    this.#backups = backups;
    this.#ends = ends;
    this.#context = context;
    this.#plan = readRunPlan(context.job);
    const { outcomes, retention } = readProgress(context.job);
    this.#outcomes = new Map(outcomes.map((each) => [each.name, each]));
    this.#retention = retention;
  }

  async run(): Promise<Json> {
    const { members, isGroup, name } = this.#plan;
    if (isGroup) {
      await this.#backUp(name, 'the group', () => this.#beginGroup());
      await dropGroup(this.#backups, this.#context.job, false).catch((error: unknown) => {
        if (!isStorageError(error)) throw error;
        this.#context.log(`the copies of group ${name} stay: ${error.message}`);
      });
    } else {
      for (const member of members) {
        await this.#backUp(member.name, member.disk.name, () => this.#begin(member));
      }
    }
    const told = this.#told();
    const retention = await this.#retain(told);
    const failed = [...this.#outcomes.values()].find(({ state }) => state === 'failed');
    if (failed !== undefined) throw errorOf(failed, { backups: told, retention });
    const { schedule, scheduledAtMs: atMs } = this.#plan;
    const scheduledAt = atMs === null ? null : rfc3339(atMs);
    return { schedule: schedule.name, scheduledAt, backups: told, retention };
  }

  async #backUp(name: string, what: string, begin: () => Promise<string>): Promise<void> {
    const known = this.#outcomes.get(name);
    if (known !== undefined && known.state !== 'running') return;
    try {
      const job = known?.job ?? (await begin());
      await this.#remember({ name, job, state: 'running', problem: null });
      const ended = await this.#context.waitFor({ kind: 'job', job }, this.#ends.endOf(job));
      await this.#remember(outcomeOf(name, ended));
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (!isStorageError(error)) throw error;
      const { code, message, details } = error;
      this.#context.log(`${what}: ${message}`);
      const facts = toJson(details);
      const problem = { ...(isJsonObject(facts) ? facts : {}), code, detail: message };
      await this.#remember({ name, job: null, state: 'failed', problem });
    }
  }

  /** The same for the backup of all disks: freezes them, if that was not done before. */
  async #beginGroup(): Promise<string> {
    const { name, members } = this.#plan;
    const { copies } = this.#backups.options;
    const run = this.#context.job.id;
    const made = this.#backups.list().find(({ group }) => group?.name === name);
    if (made?.labels[RUN_LABEL] === run && made.job !== null) return made.job;
    const { labels } = this.#request();
    const there = copies.groups.find(name);
    const frozen =
      there?.labels[RUN_LABEL] === run
        ? there
        : await freezeGroup(copies, { name, labels, disks: members.map(({ disk }) => disk.id) });
    const request = { ...this.#request(), name, group: frozen.id };
    return (await beginGroupBackup(this.#backups, request)).id;
  }

  #request(): Omit<BackupRequest, 'name'> & { readonly labels: Labels } {
    const { target, level, onMissingBase, labels, schedule, maxBytesPerSecond } = this.#plan;
    return {
      target: target.id,
      level,
      ...(level === 'incremental' ? { onMissingBase } : {}),
      ...(maxBytesPerSecond === null ? {} : { maxBytesPerSecond }),
      labels: {
        ...labels,
        [SCHEDULE_LABEL]: schedule.name,
        [RUN_LABEL]: this.#context.job.id,
      },
    };
  }

  /** The job of the member's backup: the one that this run began before, or a new one. */
  async #begin({ disk, name }: RunMember): Promise<string> {
    const there = this.#backups.find(name);
    const isOwn = there?.labels[RUN_LABEL] === this.#context.job.id;
    if (isOwn && there.job !== null) return there.job;
    return (await beginBackup(this.#backups, { ...this.#request(), name, disk: disk.id })).id;
  }

  /** @throws what keeps it from going on, with the backups that were made */
  async #retain(told: Json): Promise<Json> {
    const { retention: policy, target, timeZone, schedule, members } = this.#plan;
    const complete = members.filter((member) => this.#outcomeOf(member)?.state === 'succeeded');
    if (policy === null || complete.length === 0) return null;
    const plan = {
      targetId: target.id,
      diskIds: complete.map(({ disk }) => disk.id),
      label: { key: SCHEDULE_LABEL, value: schedule.name },
      timeZone,
      policy,
    };
    try {
      const before = this.#retention;
      const result = await carryOut(this.#backups, plan, this.#context, before, async (state) => {
        this.#retention = state;
        await this.#save();
      });
      return await resultOf(this.#backups, plan, result);
    } catch (error) {
      if (!isStorageError(error)) throw error;
      throw new StorageError(error.code, `retention: ${error.message}`, {
        ...error.details,
        backups: told,
      });
    }
  }

  async #remember(outcome: Outcome): Promise<void> {
    this.#outcomes.set(outcome.name, outcome);
    await this.#save();
  }

  async #save(): Promise<void> {
    const outcomes = [...this.#outcomes.values()].map((each) => ({ ...each }));
    await this.#context.checkpoint({ outcomes, retention: stateJson(this.#retention) });
  }

  /** Of a group there is one for all. */
  #outcomeOf(member: RunMember): Outcome | undefined {
    return this.#outcomes.get(this.#plan.isGroup ? this.#plan.name : member.name);
  }

  /** For results and problems: what became of each disk. */
  #told(): Json {
    return this.#plan.members.map(({ disk, name }) => {
      const { job, state, problem } = this.#outcomeOf({ disk, name }) ?? {
        job: null,
        state: 'failed',
        problem: null,
      };
      const level = this.#backups.find(name)?.level;
      return {
        disk: disk.name,
        backup: name,
        job,
        state,
        ...(level === undefined ? {} : { level }),
        ...(problem === null ? {} : { problem }),
      };
    });
  }
}

function outcomeOf(name: string, job: Job): Outcome {
  if (job.state === 'succeeded') {
    return { name, job: job.id, state: 'succeeded', problem: null };
  }
  const cancelled = { code: 'CANCELLED', detail: `the job of backup ${name} was cancelled` };
  const problem = job.problem === undefined ? cancelled : { ...job.problem };
  return { name, job: job.id, state: 'failed', problem };
}

function errorOf({ name, problem }: Outcome, facts: JsonObject): StorageError {
  const code = problem?.['code'];
  const detail = problem?.['detail'];
  const message = `backup ${name}: ${typeof detail === 'string' ? detail : 'it failed'}`;
  return new StorageError(isErrorCode(code) ? code : 'INTERNAL', message, {
    ...facts,
    backup: name,
  });
}

function isErrorCode(code: Json | undefined): code is ErrorCode {
  return errorCodes.some((known) => known === code);
}

function readProgress({ checkpoint }: Job): Progress {
  if (checkpoint === null || !isJsonObject(checkpoint)) {
    return { outcomes: [], retention: readState(undefined) };
  }
  const { outcomes, retention } = checkpoint;
  return {
    outcomes: listOf(outcomes).flatMap((each): Outcome[] => {
      if (!isJsonObject(each) || typeof each['name'] !== 'string') return [];
      const { name, job, state, problem } = each;
      return [
        {
          name,
          job: typeof job === 'string' ? job : null,
          state: state === 'succeeded' || state === 'running' ? state : 'failed',
          problem: problem !== undefined && isJsonObject(problem) ? problem : null,
        },
      ];
    }),
    retention: readState(retention),
  };
}

function listOf(value: Json | undefined): readonly Json[] {
  return isJsonList(value) ? value : [];
}

/** What the job is about, for people. */
export function subjectOf({ schedule, scheduledAtMs, target }: RunPlan): JsonObject {
  const at = scheduledAtMs === null ? {} : { scheduledAt: rfc3339(scheduledAtMs) };
  return { schedule: schedule.name, scheduleId: schedule.id, ...at, target: target.name };
}

export function planJson(plan: RunPlan): JsonObject {
  return {
    ...plan,
    schedule: { ...plan.schedule },
    target: { ...plan.target },
    members: plan.members.map(({ disk, name }) => ({ disk: { ...disk }, name })),
    retention: plan.retention === null ? null : { ...plan.retention },
  };
}

/** @throws METADATA_INVALID */
function readRunPlan({ id, parameters }: Job): RunPlan {
  const from = isJsonObject(parameters) ? parameters : {};
  const schedule = referenceOf(from['schedule']);
  const target = referenceOf(from['target']);
  const { scheduledAtMs, level, onMissingBase, labels, maxBytesPerSecond, retention } = from;
  if (schedule === undefined || target === undefined) {
    throw new StorageError('METADATA_INVALID', `job ${id} has no valid plan`, { job: id });
  }
  return {
    name: typeof from['name'] === 'string' ? from['name'] : '',
    isGroup: from['isGroup'] === true,
    schedule,
    target,
    scheduledAtMs: typeof scheduledAtMs === 'number' ? scheduledAtMs : null,
    members: listOf(from['members']).flatMap((each): RunMember[] => {
      const disk = isJsonObject(each) ? referenceOf(each['disk']) : undefined;
      const name = isJsonObject(each) ? each['name'] : undefined;
      return disk === undefined || typeof name !== 'string' ? [] : [{ disk, name }];
    }),
    level: level === 'incremental' ? 'incremental' : 'full',
    onMissingBase: onMissingBase === 'fail' ? 'fail' : 'full',
    labels: textsOf(labels),
    maxBytesPerSecond: typeof maxBytesPerSecond === 'number' ? maxBytesPerSecond : null,
    timeZone: typeof from['timeZone'] === 'string' ? from['timeZone'] : 'UTC',
    retention: retention !== undefined && isJsonObject(retention) ? policyFrom(retention) : null,
  };
}

function referenceOf(value: Json | undefined): Reference | undefined {
  if (value === undefined || !isJsonObject(value)) return undefined;
  const { id, name } = value;
  return typeof id === 'string' && typeof name === 'string' ? { id, name } : undefined;
}
