/** Jobs in requests and answers. */
import { Type } from 'typebox';
import { jobKinds, jobStates } from '../../job/job.ts';
import {
  asked,
  bytes,
  count,
  facts,
  flag,
  labelQuery,
  labels,
  listOf,
  nullableBytes,
  nullableFacts,
  nullableRefTo,
  nullableTime,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  reference,
  refTo,
  share,
  shown,
  text,
  time,
} from './fields.ts';

const JobStage = shown('JobStage', 'One stage of the work.', {
  name: text('`read`, `checksum`, `write` …'),
  busyPercent: share('How much of the time it was busy'),
});

const JobLogEntry = shown('JobLogEntry', 'One line of the log.', {
  at: time('When'),
  message: text('What happened.'),
});

const JobProblem = Type.Object(
  {
    code: text('Stable code for programs, explained in docs/errors.md.'),
    detail: text('What happened, for a person.'),
    retryable: flag('The same request can succeed later unchanged.'),
  },
  {
    $id: 'JobProblem',
    description: 'Why a job ended badly. Further fields tell ranges and objects.',
    additionalProperties: true,
  },
);

export const JobSchema = shown('Job', 'Long work.', {
  id: text('UUID.'),
  kind: text('`backup`, `verify`, `restore`, `scan`, `check` …'),
  state: oneOfThese(jobStates, 'Ends as `succeeded`, `failed` or `cancelled`.'),
  subject: facts('What it works on, by name and id: `disk`, `diskId`, `copy`, `backup` …'),
  doneBytes: bytes('Work done'),
  totalBytes: nullableBytes('All work; null while not known'),
  bytesPerSecond: bytes('Current rate per second'),
  etaSeconds: Type.Unsafe<number | null>({
    type: ['number', 'null'],
    description: 'Estimated time left, in seconds; null while not known.',
  }),
  maxBytesPerSecond: nullableBytes('Rate limit per second; null: none'),
  stages: listOf(refTo(JobStage), 'What it spends its time on.'),
  attempts: count('How often it was begun.'),
  createdAt: time('When it was asked for'),
  startedAt: nullableTime('When it began'),
  endedAt: nullableTime('When it ended'),
  problem: nullableRefTo(JobProblem, 'Why it ended badly.'),
  waitingFor: nullableFacts('What it waits for, in the state `waiting`.'),
  result: nullableFacts('What came of it.'),
  log: listOf(refTo(JobLogEntry), 'What happened, oldest first.'),
  labels,
});
export const JobListSchema = pageSchema(JobSchema);

export const UpdateJobSchema = asked('UpdateJob', 'Changes of a job while it runs.', {
  maxBytesPerSecond: Type.Unsafe<number | null>({
    type: ['integer', 'null'],
    description: 'Rate limit per second, in bytes; null: none.',
    format: 'int64',
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
  }),
});

export const JobQuery = query({
  ...pageQuery,
  pageSize: Type.Optional(
    Type.Integer({
      description: 'Most items in one page.',
      minimum: 1,
      maximum: 1000,
      default: 100,
    }),
  ),
  ...labelQuery,
  state: Type.Optional(oneOfThese(jobStates, 'Only those in this state.')),
  kind: Type.Optional(oneOfThese(jobKinds, 'Only those of this kind.')),
  disk: Type.Optional(reference('Only those that were begun for this disk alone, by name or id')),
  target: Type.Optional(reference('Only those that were begun for this target, by name or id')),
});

const Finding = shown('Finding', 'One broken invariant.', {
  rule: text('Which one, by its published name.'),
  detail: text('Where and how.'),
});

export const CheckSchema = shown('Check', 'What a check found.', {
  ok: flag('True if nothing was found.'),
  findings: listOf(refTo(Finding), 'What was found.'),
});

export const HealthSchema = shown('Health', 'A sign of life.', {
  status: text('`ok`'),
  version: text('Version of the service.'),
});

export const jobSchemas = [
  JobStage,
  JobLogEntry,
  JobProblem,
  JobSchema,
  JobListSchema,
  UpdateJobSchema,
  Finding,
  CheckSchema,
  HealthSchema,
];
