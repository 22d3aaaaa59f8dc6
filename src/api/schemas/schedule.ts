/** Schedules in requests and answers. */
import { Type } from 'typebox';
import {
  asked,
  count,
  flag,
  labelQuery,
  labels,
  listOf,
  newName,
  nullableBytes,
  nullableFacts,
  nullableRefTo,
  nullableTime,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  reference,
  shown,
  text,
  time,
} from './fields.ts';
import { policyFields, timeZone } from './retention.ts';

const RetentionPolicySchema = asked(
  'RetentionPolicy',
  'Which backups of the schedule stay, for each disk. At least one rule is above 0.',
  policyFields,
);

const disksOf = (description: string) =>
  Type.Array(reference('A disk'), { description, minItems: 1, maxItems: 64 });

const cron = text(
  'Five fields: minute, hour, day of month, month, day of week; six with seconds before them; or ' +
    '`@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.',
  { minLength: 1, maxLength: 200 },
);
const level = oneOfThese(['full', 'incremental'], 'How much of each copy is backed up.');
const onMissingBase = oneOfThese(
  ['fail', 'full'],
  'Of level incremental: what becomes of a run whose base is missing, as the first one’s is.',
);
const jitterSeconds = Type.Integer({
  description:
    'Each run begins up to so much later, always the same for an instant, and before the next ' +
    'one (seconds).',
  minimum: 0,
  maximum: 86_400,
});
const catchUp = oneOfThese(
  ['run-once', 'skip'],
  'Instants that were missed by more than a minute: one run for all of them, or none.',
);
const overlap = oneOfThese(
  ['skip', 'queue'],
  'An instant that comes while a run is under way: left out, or run after it (only the last one).',
);
const enabled = flag('It runs by the clock.');
const maxBytesPerSecond = nullableBytes('Rate limit of each backup per second; null: none', 1);

const ScheduleRunSchema = shown('ScheduleRun', 'A run of a schedule.', {
  job: text('Id of its job, which tells what became of each disk.'),
  scheduledAt: nullableTime('The instant that it is for; null: asked for by hand'),
  startedAt: time('When it was begun'),
  endedAt: nullableTime('When it ended'),
  state: oneOfThese(['running', 'succeeded', 'failed', 'cancelled'], 'How it is.'),
  problem: nullableFacts('Why it ended badly: `code`, `detail` and facts.'),
});

const SkippedRunSchema = shown('SkippedRun', 'An instant that was left out.', {
  scheduledAt: time('Which'),
  reason: oneOfThese(
    ['missed', 'overlap'],
    '`missed`: the service was down; `overlap`: another run was under way.',
  ),
});

export const ScheduleSchema = shown('Schedule', 'Backups that are made by the clock.', {
  id: text('UUID.'),
  name: text('Name; the names of its backups begin with it.'),
  cron,
  timeZone,
  disks: listOf(text('Name.'), 'The disks, backed up one after the other, or frozen together.'),
  diskIds: listOf(text('Id.'), 'Their ids.'),
  isGroup: flag('The disks are frozen at one instant.'),
  target: text('Name of its target.'),
  targetId: text('Id of its target.'),
  level,
  onMissingBase,
  retention: nullableRefTo(RetentionPolicySchema, 'What stays; null: everything.'),
  jitterSeconds,
  catchUp,
  overlap,
  enabled,
  maxBytesPerSecond,
  labels,
  nextRuns: listOf(time('When'), 'The next instants, without jitter; none if it is not enabled.'),
  queuedRun: nullableTime('The instant whose run waits for the one under way'),
  lastRun: nullableRefTo(ScheduleRunSchema, 'The run under way, or the last one.'),
  lastSuccessAt: nullableTime('When the last run that succeeded ended'),
  lastSkipped: nullableRefTo(SkippedRunSchema, 'The last instant that was left out.'),
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was made'),
});
export const ScheduleListSchema = pageSchema(ScheduleSchema);

const fields = {
  cron,
  timeZone: Type.Optional(timeZone),
  disks: Type.Optional(disksOf('Backed up one after the other. Not with `group`.')),
  group: Type.Optional(disksOf('Disks that are frozen at one instant. Not with `disks`.')),
  target: reference('The target'),
  level: Type.Optional(level),
  onMissingBase: Type.Optional(onMissingBase),
  retention: Type.Optional(
    nullableRefTo(RetentionPolicySchema, 'What stays of its own backups; null: everything.'),
  ),
  jitterSeconds: Type.Optional(jitterSeconds),
  catchUp: Type.Optional(catchUp),
  overlap: Type.Optional(overlap),
  enabled: Type.Optional(enabled),
  maxBytesPerSecond: Type.Optional(maxBytesPerSecond),
  labels: Type.Optional(labels),
} as const;

export const CreateScheduleSchema = asked(
  'CreateSchedule',
  'A new schedule, of exactly one of `disks` and `group`. Defaults: `timeZone` UTC, `level` ' +
    'full, `onMissingBase` full, no retention, no jitter, `catchUp` run-once, `overlap` skip, ' +
    'enabled.',
  { name: newName('Name'), ...fields },
);

export const UpdateScheduleSchema = asked(
  'UpdateSchedule',
  'Changes of a schedule. Its name stays: it is in the names of its backups.',
  { ...fields, cron: Type.Optional(cron), target: Type.Optional(fields.target) },
);

export const ScheduleQuery = query({
  ...pageQuery,
  ...labelQuery,
  disk: Type.Optional(reference('Only those of this disk, by name or id')),
  target: Type.Optional(reference('Only those to this target, by name or id')),
});

export const scheduleSchemas = [
  RetentionPolicySchema,
  ScheduleRunSchema,
  SkippedRunSchema,
  ScheduleSchema,
  ScheduleListSchema,
  CreateScheduleSchema,
  UpdateScheduleSchema,
];
