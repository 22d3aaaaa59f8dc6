/**
 * A job: long work that is persistent, observable, cancellable and resumable. Pure.
 *
 *     queued ─→ running ⇄ waiting          paused: by request; resume queues it again
 *        ↑         │                       cancelling: clean-up runs, then it ends as cancelled
 *        └─ paused ┴─→ succeeded failed cancelled (ended: nothing changes any more)
 *
 * The state says what is wanted and true at once: a paused job may still have work that is winding
 * down, and such work may yet succeed, so every live state leads to every end.
 *
 * Invariants:
 *  1. A state changes only along `transitions`.
 *  2. `waitingFor` exists only while waiting, `endedAtMs` only at an end, `result` only of a
 *     success; every failure has a problem.
 *  3. `parameters` and `checkpoint` are all that a new attempt needs.
 *  4. The log is bounded: the last 100 messages.
 */
import { assert } from '../base/assert.ts';
import { isStorageError } from '../base/errors.ts';
import type { ErrorCode, StorageError } from '../base/errors.ts';

export type Json =
  string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = Readonly<Record<string, Json>>;

export const liveStates = ['queued', 'running', 'waiting', 'paused', 'cancelling'] as const;
export const endStates = ['succeeded', 'failed', 'cancelled'] as const;
export const jobStates = [...liveStates, ...endStates] as const;

/** What jobs do. */
export const jobKinds = [
  'backup',
  'group-backup',
  'restore',
  'group-restore',
  'verify',
  'consolidate',
  'scan',
  'retention',
  'schedule',
  'copy-data',
  'check',
] as const;

export type JobKindName = (typeof jobKinds)[number];
export type LiveState = (typeof liveStates)[number];
export type EndState = (typeof endStates)[number];
export type JobState = LiveState | EndState;

const transitions: Readonly<Record<JobState, readonly JobState[]>> = {
  queued: ['running', 'paused', 'cancelling', ...endStates],
  running: ['waiting', 'queued', 'paused', 'cancelling', ...endStates],
  waiting: ['running', 'queued', 'paused', 'cancelling', ...endStates],
  paused: ['queued', 'cancelling', ...endStates],
  cancelling: endStates,
  succeeded: [],
  failed: [],
  cancelled: [],
};

/** Why a job failed, or what the clean-up of a cancelled one left behind. */
export interface JobProblem {
  readonly code: ErrorCode;
  readonly detail: string;
  /** The same request can succeed later unchanged. */
  readonly retryable: boolean;
  /** Facts of the error: `target`, `writtenBytes`, `cleanUp` … */
  readonly [fact: string]: Json;
}

interface NoEnd {
  readonly endedAtMs?: undefined;
  readonly result?: undefined;
  readonly problem?: undefined;
}
interface Ended {
  readonly endedAtMs: number;
  readonly waitingFor?: undefined;
}

/** The state and what belongs to it. */
export type JobStatus =
  | ({ readonly state: 'queued' | 'running' | 'paused' | 'cancelling' } & NoEnd & {
        readonly waitingFor?: undefined;
      })
  | ({ readonly state: 'waiting'; readonly waitingFor: JsonObject } & NoEnd)
  | ({ readonly state: 'succeeded'; readonly result: Json; readonly problem?: undefined } & Ended)
  | ({
      readonly state: 'failed';
      readonly problem: JobProblem;
      readonly result?: undefined;
    } & Ended)
  | ({
      readonly state: 'cancelled';
      readonly problem?: JobProblem | undefined;
      readonly result?: undefined;
    } & Ended);

export interface JobStage {
  readonly name: string;
  /** 0 … 100: share of the time in which at least one piece of this stage's work was under way. */
  readonly busyPercent: number;
}

export interface JobLogEntry {
  readonly atMs: number;
  readonly message: string;
}

export interface JobProgress {
  readonly doneBytes: number;
  readonly totalBytes: number | undefined;
  /** Of late while it runs, of the last attempt when it ended, else 0. */
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | undefined;
  readonly stages: readonly JobStage[];
}

export interface JobFacts extends JobProgress {
  /** UUIDv7; its time is `createdAtMs`. Ascending within one life of the daemon. */
  readonly id: string;
  readonly kind: string;
  /** What it is about, for people: `{ backup: 'b1', disk: 'd1', target: 'shelf' }`. */
  readonly subject: JsonObject;
  /** Everything that is needed to start again after a restart. */
  readonly parameters: Json;
  /** For filters. */
  readonly disk: string | undefined;
  readonly target: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** Times that it was started. */
  readonly attempts: number;
  /** Starts since the checkpoint last changed, those that were parked in good order left out. */
  readonly fruitlessAttempts: number;
  readonly createdAtMs: number;
  readonly startedAtMs: number | undefined;
  readonly log: readonly JobLogEntry[];
  /** The last thing confirmed (an offset …); null before the first. */
  readonly checkpoint: Json;
  readonly maxBytesPerSecond: number | undefined;
}

export type Job = JobFacts & JobStatus;

export const MAX_LOG_ENTRIES = 100;
const MAX_LOG_CHARACTERS = 1000;

export type NewJob = Pick<JobFacts, 'id' | 'kind' | 'subject' | 'parameters' | 'createdAtMs'> &
  Partial<Pick<JobFacts, 'disk' | 'target' | 'labels' | 'totalBytes' | 'maxBytesPerSecond'>>;

/** A job that has never run. */
export function newJob(start: NewJob): Job {
  return {
    disk: undefined,
    target: undefined,
    labels: {},
    maxBytesPerSecond: undefined,
    ...noProgress,
    doneBytes: 0,
    totalBytes: undefined,
    attempts: 0,
    fruitlessAttempts: 0,
    startedAtMs: undefined,
    log: [],
    checkpoint: null,
    state: 'queued',
    ...start,
  };
}

/** The figures of a job that does nothing at the moment. */
export const noProgress: Pick<JobProgress, 'bytesPerSecond' | 'etaSeconds' | 'stages'> = {
  bytesPerSecond: 0,
  etaSeconds: undefined,
  stages: [],
};

export function isEnd(state: JobState): state is EndState {
  return transitions[state].length === 0;
}

export function canMove(from: JobState, to: JobState): boolean {
  return transitions[from].includes(to);
}

/** The job in its new state. */
export function moved(job: Job, status: JobStatus): Job {
  assert(canMove(job.state, status.state), `job from ${job.state} to ${status.state}`);
  const facts: JobFacts = job;
  const cleared = { waitingFor: undefined, endedAtMs: undefined };
  return { ...facts, ...cleared, result: undefined, problem: undefined, ...status };
}

/** The job with other facts in the same state. */
export function withFacts(job: Job, facts: Partial<Omit<JobFacts, 'id' | 'kind'>>): Job {
  return { ...job, ...facts };
}

/** The job with one more message; the oldest give way. */
export function logged(job: Job, entry: JobLogEntry): Job {
  const message = entry.message.slice(0, MAX_LOG_CHARACTERS);
  const log = [...job.log.slice(1 - MAX_LOG_ENTRIES), { atMs: entry.atMs, message }];
  return withFacts(job, { log });
}

/** Any value as JSON: what JSON cannot say is left out, as JSON.stringify does. */
export function toJson(value: unknown): Json {
  const text = JSON.stringify(value);
  return typeof text === 'string' ? parseJson(text) : null;
}

/** @throws SyntaxError */
export function parseJson(text: string): Json {
  const value: unknown = JSON.parse(text);
  assert(isParsed(value), 'JSON without a value');
  return value;
}

/** What JSON.parse gives is Json, all the way down. */
function isParsed(value: unknown): value is Json {
  return value !== undefined;
}

export function isJsonObject(value: Json): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isJsonList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

/** The texts of an object; what is no text is left out. */
export function textsOf(value: Json | undefined): Readonly<Record<string, string>> {
  if (value === undefined || !isJsonObject(value)) return {};
  const entries = Object.entries(value);
  return Object.fromEntries(
    entries.flatMap(([key, each]) => (typeof each === 'string' ? [[key, each]] : [])),
  );
}

/**
 * The problem that an error is: its code and details, or INTERNAL for a bug of ours.
 * @param isRetryable which of the coded errors can go away by themselves
 */
export function problemOf(
  error: unknown,
  isRetryable: (error: StorageError) => boolean,
): JobProblem {
  if (!isStorageError(error)) {
    return { code: 'INTERNAL', detail: 'an error inside the daemon', retryable: false };
  }
  const details = toJson(error.details);
  const facts = isJsonObject(details) ? details : {};
  return { ...facts, code: error.code, detail: error.message, retryable: isRetryable(error) };
}
