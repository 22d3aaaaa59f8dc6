/**
 * Schedules as they are remembered: what was asked for, how far they are, and their rows. Pure.
 *
 * `settings` is what a client sets, `progress` what the clock and the runs have made of it. A row
 * that no version of ours can have written is METADATA_INVALID, never a guess.
 */
import { policyFrom, type RetentionPolicy } from '../backup/retention.ts';
import { StorageError } from '../base/errors.ts';
import {
  isJsonList,
  isJsonObject,
  type Json,
  type JsonObject,
  parseJson,
  textsOf,
  toJson,
} from '../job/job.ts';
import type { Row, RowChange } from '../pool/metadata-store.ts';
import type { Cursor } from './plan.ts';

export type Labels = Readonly<Record<string, string>>;

/** A disk or target: the id counts, the name is that of the time when it was set. */
export interface Reference {
  readonly id: string;
  readonly name: string;
}

export interface ScheduleSettings {
  readonly cron: string;
  readonly timeZone: string;
  readonly disks: readonly Reference[];
  /** All disks are frozen at one instant, instead of one after the other. */
  readonly isGroup: boolean;
  readonly target: Reference;
  readonly level: 'full' | 'incremental';
  /** Of level incremental. */
  readonly onMissingBase: 'fail' | 'full';
  /** Null: nothing is deleted. */
  readonly retention: RetentionPolicy | null;
  readonly jitterSeconds: number;
  readonly catchUp: 'run-once' | 'skip';
  readonly overlap: 'skip' | 'queue';
  readonly enabled: boolean;
  readonly maxBytesPerSecond: number | null;
}

/** A run under way or the last one. */
export interface ScheduleRun {
  /** Id of its job. */
  readonly job: string;
  /** The instant that it is for; null: asked for by hand. */
  readonly scheduledAtMs: number | null;
  readonly startedAtMs: number;
  readonly state: 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly endedAtMs: number | null;
  readonly problem: JsonObject | null;
}

export type SkipReason = 'missed' | 'overlap';

export interface ScheduleProgress extends Cursor {
  /** An instant whose run begins when the run under way has ended. */
  readonly queuedMs: number | null;
  readonly lastRun: ScheduleRun | null;
  readonly lastSuccessAtMs: number | null;
  readonly lastSkipped: { readonly scheduledAtMs: number; readonly reason: SkipReason } | null;
}

export interface ScheduleRecord {
  readonly id: string;
  readonly name: string;
  settings: ScheduleSettings;
  progress: ScheduleProgress;
  labels: Labels;
  /** What it was made with, normalised: the same request again is no new one. */
  readonly creation: string;
  version: number;
  readonly createdAtMs: number;
}

/** How many instants are remembered for a clock that is put back. */
const RECENT = 50;

export function newProgress(nowMs: number): ScheduleProgress {
  return {
    cursorMs: nowMs,
    recentMs: [],
    queuedMs: null,
    lastRun: null,
    lastSuccessAtMs: null,
    lastSkipped: null,
  };
}

/** The progress when an instant was dealt with. */
export function passed(progress: ScheduleProgress, instantMs: number): ScheduleProgress {
  const recentMs = [...progress.recentMs, instantMs].slice(-RECENT);
  return { ...progress, cursorMs: Math.max(progress.cursorMs, instantMs), recentMs };
}

/** The progress when an instant is left out. */
export function skipped(
  progress: ScheduleProgress,
  scheduledAtMs: number,
  reason: SkipReason,
): ScheduleProgress {
  return { ...progress, lastSkipped: { scheduledAtMs, reason } };
}

export function scheduleRow(record: ScheduleRecord): RowChange {
  return {
    table: 'schedules',
    key: { id: record.id },
    row: {
      name: record.name,
      settings: JSON.stringify(record.settings),
      progress: JSON.stringify(record.progress),
      labels: JSON.stringify(record.labels),
      creation: record.creation,
      version: record.version,
      created_at: record.createdAtMs,
    },
  };
}

/** @throws METADATA_INVALID */
export function readSchedule(row: Row): ScheduleRecord {
  const read = new Fields(String(row['id']));
  const settings = read.object(jsonOf(row['settings']), 'settings');
  return {
    id: String(row['id']),
    name: String(row['name']),
    settings: readSettings(read, settings),
    progress: readProgress(read, read.object(jsonOf(row['progress']), 'progress')),
    labels: textsOf(jsonOf(row['labels'])),
    creation: String(row['creation']),
    version: Number(row['version']),
    createdAtMs: Number(row['created_at']),
  };
}

function readSettings(read: Fields, from: JsonObject): ScheduleSettings {
  const { retention } = from;
  return {
    cron: read.text(from, 'cron'),
    timeZone: read.text(from, 'timeZone'),
    disks: read.list(from, 'disks').map((disk) => read.reference(disk, 'disks')),
    isGroup: from['isGroup'] === true,
    target: read.reference(from['target'], 'target'),
    level: from['level'] === 'incremental' ? 'incremental' : 'full',
    onMissingBase: from['onMissingBase'] === 'fail' ? 'fail' : 'full',
    retention: retention !== undefined && isJsonObject(retention) ? policyFrom(retention) : null,
    jitterSeconds: read.number(from, 'jitterSeconds'),
    catchUp: from['catchUp'] === 'skip' ? 'skip' : 'run-once',
    overlap: from['overlap'] === 'queue' ? 'queue' : 'skip',
    enabled: from['enabled'] === true,
    maxBytesPerSecond: read.optionalNumber(from, 'maxBytesPerSecond'),
  };
}

function readProgress(read: Fields, from: JsonObject): ScheduleProgress {
  const { lastRun, lastSkipped } = from;
  return {
    cursorMs: read.number(from, 'cursorMs'),
    recentMs: read.list(from, 'recentMs').map(Number),
    queuedMs: read.optionalNumber(from, 'queuedMs'),
    lastRun: lastRun !== undefined && isJsonObject(lastRun) ? readRun(read, lastRun) : null,
    lastSuccessAtMs: read.optionalNumber(from, 'lastSuccessAtMs'),
    lastSkipped:
      lastSkipped !== undefined && isJsonObject(lastSkipped)
        ? {
            scheduledAtMs: read.number(lastSkipped, 'scheduledAtMs'),
            reason: lastSkipped['reason'] === 'overlap' ? 'overlap' : 'missed',
          }
        : null,
  };
}

function readRun(read: Fields, from: JsonObject): ScheduleRun {
  const { state, problem } = from;
  const isKnown = state === 'running' || state === 'succeeded' || state === 'cancelled';
  return {
    job: read.text(from, 'job'),
    scheduledAtMs: read.optionalNumber(from, 'scheduledAtMs'),
    startedAtMs: read.number(from, 'startedAtMs'),
    state: isKnown ? state : 'failed',
    endedAtMs: read.optionalNumber(from, 'endedAtMs'),
    problem: problem !== undefined && isJsonObject(problem) ? problem : null,
  };
}

function jsonOf(cell: unknown): Json {
  return typeof cell === 'string' ? parseJson(cell) : toJson(cell);
}

/** Reads what must be there. */
class Fields {
  readonly #id: string;

  constructor(id: string) {
    this.#id = id;
  }

  fail(what: string): never {
    throw new StorageError('METADATA_INVALID', `the row of a schedule has no valid ${what}`, {
      table: 'schedules',
      id: this.#id,
    });
  }

  object(value: Json | undefined, what: string): JsonObject {
    return value !== undefined && isJsonObject(value) ? value : this.fail(what);
  }

  text(from: JsonObject, name: string): string {
    const value = from[name];
    return typeof value === 'string' ? value : this.fail(name);
  }

  number(from: JsonObject, name: string): number {
    const value = from[name];
    return typeof value === 'number' ? value : this.fail(name);
  }

  optionalNumber(from: JsonObject, name: string): number | null {
    return (from[name] ?? null) === null ? null : this.number(from, name);
  }

  list(from: JsonObject, name: string): readonly Json[] {
    const value = from[name];
    return isJsonList(value) ? value : this.fail(name);
  }

  reference(value: Json | undefined, what: string): Reference {
    const from = this.object(value, what);
    return { id: this.text(from, 'id'), name: this.text(from, 'name') };
  }
}
