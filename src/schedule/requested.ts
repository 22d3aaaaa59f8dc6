/**
 * What a client asks of a schedule, checked and with ids instead of names.
 */
import { keepsSomething, policyFrom, type RetentionPolicy } from '../backup/retention.ts';
import { StorageError } from '../base/errors.ts';
import { checkNames, cronTimes } from './cron.ts';
import type { Labels, Reference, ScheduleSettings } from './records.ts';
import { longestName } from './run-names.ts';

/** Everything but the name can be changed. Exactly one of `disks` and `group`. */
export interface ScheduleFields {
  readonly cron: string;
  readonly timeZone?: string;
  /** One after the other. By name or id. */
  readonly disks?: readonly string[];
  /** Frozen at one instant. By name or id. */
  readonly group?: readonly string[];
  readonly target: string;
  readonly level?: 'full' | 'incremental';
  readonly onMissingBase?: 'fail' | 'full';
  /** Null: nothing is deleted. */
  readonly retention?: RetentionPolicy | null;
  readonly jitterSeconds?: number;
  readonly catchUp?: 'run-once' | 'skip';
  readonly overlap?: 'skip' | 'queue';
  readonly enabled?: boolean;
  /** Null: no limit. */
  readonly maxBytesPerSecond?: number | null;
}

export interface ScheduleRequest extends ScheduleFields {
  readonly name: string;
  readonly labels?: Labels;
}

export interface SchedulePatch extends Partial<ScheduleFields> {
  readonly labels?: Labels;
}

/** Where names are looked up. @throws NOT_FOUND */
export interface Lookup {
  disk(ref: string): Reference;
  target(ref: string): Reference;
}

/** @throws VALIDATION_FAILED, NAME_INVALID, NOT_FOUND */
export function settingsOf(
  request: ScheduleRequest,
  lookup: Lookup,
  nowMs: number,
): ScheduleSettings {
  const base: Omit<ScheduleSettings, 'disks' | 'isGroup' | 'target'> = {
    cron: request.cron,
    timeZone: 'UTC',
    level: 'full',
    onMissingBase: 'full',
    retention: null,
    jitterSeconds: 0,
    catchUp: 'run-once',
    overlap: 'skip',
    enabled: true,
    maxBytesPerSecond: null,
  };
  const { disks, isGroup } = disksOf(request, lookup);
  const target = lookup.target(request.target);
  return changed(request.name, { ...base, disks, isGroup, target }, request, lookup, nowMs);
}

/**
 * The settings with what is asked for put in.
 * @throws VALIDATION_FAILED, NAME_INVALID, NOT_FOUND
 */
export function changed(
  name: string,
  before: ScheduleSettings,
  patch: SchedulePatch,
  lookup: Lookup,
  nowMs: number,
): ScheduleSettings {
  const isNewDisks = patch.disks !== undefined || patch.group !== undefined;
  const settings: ScheduleSettings = {
    cron: patch.cron ?? before.cron,
    timeZone: patch.timeZone ?? before.timeZone,
    ...(isNewDisks ? disksOf(patch, lookup) : { disks: before.disks, isGroup: before.isGroup }),
    target: patch.target === undefined ? before.target : lookup.target(patch.target),
    level: patch.level ?? before.level,
    onMissingBase: patch.onMissingBase ?? before.onMissingBase,
    retention: patch.retention === undefined ? before.retention : retentionOf(patch.retention),
    jitterSeconds: patch.jitterSeconds ?? before.jitterSeconds,
    catchUp: patch.catchUp ?? before.catchUp,
    overlap: patch.overlap ?? before.overlap,
    enabled: patch.enabled ?? before.enabled,
    maxBytesPerSecond:
      patch.maxBytesPerSecond === undefined ? before.maxBytesPerSecond : patch.maxBytesPerSecond,
  };
  if (patch.cron !== undefined || patch.timeZone !== undefined) {
    checkNames(cronTimes(settings.cron, settings.timeZone), settings.cron, nowMs);
  }
  checkNameLength(name, settings);
  return settings;
}

function disksOf(
  { disks, group }: Pick<ScheduleFields, 'disks' | 'group'>,
  lookup: Lookup,
): Pick<ScheduleSettings, 'disks' | 'isGroup'> {
  if ((disks === undefined) === (group === undefined)) {
    throw new StorageError('VALIDATION_FAILED', 'exactly one of disks and group is needed', {
      field: 'disks',
    });
  }
  const field = disks === undefined ? 'group' : 'disks';
  const found = (disks ?? group ?? []).map((ref) => lookup.disk(ref));
  if (found.length === 0 || new Set(found.map(({ id }) => id)).size < found.length) {
    throw new StorageError('VALIDATION_FAILED', `${field}: one disk or more, each once`, { field });
  }
  return { disks: found, isGroup: group !== undefined };
}

function retentionOf(retention: RetentionPolicy | null): RetentionPolicy | null {
  if (retention === null) return null;
  if (keepsSomething(retention)) return policyFrom({ ...retention });
  throw new StorageError('VALIDATION_FAILED', 'retention: it needs a rule that keeps something', {
    field: 'retention',
  });
}

/** @throws NAME_INVALID: a run would fail for its names */
function checkNameLength(name: string, { disks, isGroup }: ScheduleSettings): void {
  const longest = longestName(name, disks, isGroup);
  if (longest.length <= 63) return;
  throw new StorageError('NAME_INVALID', `name: a backup would be called ${longest}, too long`, {
    field: 'name',
    name,
  });
}
