/**
 * A job as a row of the table `jobs` and back. Pure.
 *
 * Columns are snake_case, structured values are JSON text; what changes every second is together in
 * `progress`. Invariant: decode(encode(job)) equals the job. A row that no version of ours can have
 * written is METADATA_INVALID, never a guess.
 */
import { StorageError, errorCodes } from '../base/errors.ts';
import { isJsonObject, jobStates, parseJson } from './job.ts';
import type { Job, JobFacts, JobProblem, JobStage, JobStatus, Json, JsonObject } from './job.ts';

export type JobCell = string | number | null | Uint8Array;
/** A flat row, as the metadata store has them (pool/metadata-store.ts). */
export type FlatRow = Readonly<Record<string, JobCell>>;

/** The columns beside the key `id`. */
export function encodeJob(job: Job): FlatRow {
  const { doneBytes, totalBytes, bytesPerSecond, etaSeconds, stages } = job;
  const { fruitlessAttempts, maxBytesPerSecond, waitingFor } = job;
  const figures = { doneBytes, totalBytes, bytesPerSecond, etaSeconds, stages };
  return {
    kind: job.kind,
    state: job.state,
    subject: JSON.stringify(job.subject),
    parameters: JSON.stringify(job.parameters),
    progress: JSON.stringify({ ...figures, fruitlessAttempts, maxBytesPerSecond, waitingFor }),
    checkpoint: JSON.stringify(job.checkpoint),
    result: job.result === undefined ? null : JSON.stringify(job.result),
    problem: job.problem === undefined ? null : JSON.stringify(job.problem),
    log: JSON.stringify(job.log),
    attempts: job.attempts,
    created_at: job.createdAtMs,
    started_at: job.startedAtMs ?? null,
    ended_at: job.endedAtMs ?? null,
    disk: job.disk ?? null,
    target: job.target ?? null,
    labels: JSON.stringify(job.labels),
  };
}

/** @throws METADATA_INVALID */
export function decodeJob(row: FlatRow): Job {
  const columns = new Columns(row);
  const progress = columns.object('progress');
  const facts: JobFacts = {
    id: columns.text('id'),
    kind: columns.text('kind'),
    subject: columns.object('subject'),
    parameters: columns.json('parameters'),
    disk: columns.optionalText('disk'),
    target: columns.optionalText('target'),
    labels: columns.labels(),
    doneBytes: columns.number(progress.doneBytes, 'doneBytes'),
    totalBytes: columns.optionalNumber(progress.totalBytes, 'totalBytes'),
    bytesPerSecond: columns.number(progress.bytesPerSecond, 'bytesPerSecond'),
    etaSeconds: columns.optionalNumber(progress.etaSeconds, 'etaSeconds'),
    stages: columns.list(progress.stages, 'stages').map((stage): JobStage => {
      const { name, busyPercent } = columns.asObject(stage, 'stages');
      const percent = columns.number(busyPercent, 'busyPercent');
      return { name: columns.string(name, 'stages'), busyPercent: percent };
    }),
    attempts: columns.number(row.attempts, 'attempts'),
    fruitlessAttempts: columns.number(progress.fruitlessAttempts, 'fruitlessAttempts'),
    maxBytesPerSecond: columns.optionalNumber(progress.maxBytesPerSecond, 'maxBytesPerSecond'),
    createdAtMs: columns.number(row.created_at, 'created_at'),
    startedAtMs: columns.optionalNumber(row.started_at, 'started_at'),
    log: columns.list(columns.json('log'), 'log').map((entry) => {
      const { atMs, message } = columns.asObject(entry, 'log');
      return { atMs: columns.number(atMs, 'log'), message: columns.string(message, 'log') };
    }),
    checkpoint: columns.json('checkpoint'),
  };
  return { ...facts, ...statusOf(columns, progress) };
}

function statusOf(columns: Columns, progress: JsonObject): JobStatus {
  const name = columns.text('state');
  const state = jobStates.find((known) => known === name);
  switch (state) {
    case 'queued':
    case 'running':
    case 'paused':
    case 'cancelling':
      return { state };
    case 'waiting':
      return { state, waitingFor: columns.asObject(progress.waitingFor, 'waitingFor') };
    case 'succeeded':
      return { state, endedAtMs: columns.endedAtMs(), result: columns.json('result') };
    case 'failed':
      return { state, endedAtMs: columns.endedAtMs(), problem: columns.problem() };
    case 'cancelled': {
      const problem = columns.isNull('problem') ? undefined : columns.problem();
      return { state, endedAtMs: columns.endedAtMs(), ...(problem && { problem }) };
    }
    case undefined:
      return columns.fail('state');
  }
}

/** Reads and checks the cells of one row. */
class Columns {
  readonly #row: FlatRow;

  constructor(row: FlatRow) {
    this.#row = row;
  }

  fail(what: string): never {
    throw new StorageError('METADATA_INVALID', `the row of a job has no valid ${what}`, {
      table: 'jobs',
      id: String(this.#row.id),
    });
  }

  isNull(column: string): boolean {
    return (this.#row[column] ?? null) === null;
  }

  text(column: string): string {
    const cell = this.#row[column];
    return typeof cell === 'string' ? cell : this.fail(column);
  }

  optionalText(column: string): string | undefined {
    return this.isNull(column) ? undefined : this.text(column);
  }

  json(column: string): Json {
    const text = this.text(column);
    try {
      return parseJson(text);
    } catch {
      return this.fail(column);
    }
  }

  object(column: string): JsonObject {
    return this.asObject(this.json(column), column);
  }

  asObject(value: Json | undefined, what: string): JsonObject {
    return value !== undefined && isJsonObject(value) ? value : this.fail(what);
  }

  list(value: Json | undefined, what: string): readonly Json[] {
    return isList(value) ? value : this.fail(what);
  }

  string(value: unknown, what: string): string {
    return typeof value === 'string' ? value : this.fail(what);
  }

  number(value: unknown, what: string): number {
    return typeof value === 'number' ? value : this.fail(what);
  }

  optionalNumber(value: unknown, what: string): number | undefined {
    return value === undefined || value === null ? undefined : this.number(value, what);
  }

  endedAtMs(): number {
    return this.number(this.#row.ended_at, 'ended_at');
  }

  labels(): Record<string, string> {
    const entries = Object.entries(this.object('labels'));
    return Object.fromEntries(entries.map(([key, value]) => [key, this.string(value, 'labels')]));
  }

  problem(): JobProblem {
    const { code, detail, retryable, ...facts } = this.object('problem');
    return {
      ...facts,
      code: errorCodes.find((known) => known === code) ?? this.fail('problem'),
      detail: this.string(detail, 'problem'),
      retryable: typeof retryable === 'boolean' ? retryable : this.fail('problem'),
    };
  }
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}
