/** /v1/schedules */
import type { Job } from '../../job/job.ts';
import { checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, matchHeader, noContent, operation, path } from '../operation.ts';
import { waitHeader } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { affected, answerPost, changeObject, created, deleteObject, jobAct } from '../reply.ts';
import { checkLabels, hasLabel, matchesRef } from '../requested.ts';
import { dryRunQuery, query, refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import {
  CreateScheduleSchema,
  ScheduleListSchema,
  ScheduleQuery,
  ScheduleSchema,
  UpdateScheduleSchema,
} from '../schemas/schedule.ts';
import { scheduleView } from '../views.ts';
import type { ScheduleMade } from '../work-services.ts';

const tag = 'schedules';
const params = path('schedule', 'Name or id of the schedule.');

export function scheduleRoutes(app: ApiInstance, context: ApiContext): void {
  addPosts(app, context);
  addReading(app, context);
  addChanges(app, context);
}

function addPosts(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.post('/schedules', {
    schema: operation(
      {
        operationId: 'createSchedule',
        tag,
        summary: 'Make a schedule',
        ok: {
          200: json(ScheduleSchema, 'It exists with these parameters.'),
          201: json(ScheduleSchema, 'It was made.'),
        },
      },
      { body: refTo(CreateScheduleSchema) },
      keyHeader,
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      return answerPost<ScheduleMade>(context, request, reply, {
        run: (effects) =>
          services.schedules.create(
            request.body,
            effects && ((schedule) => effects({ schedule, created: true })),
          ),
        describe: ({ schedule, created: isNew }) => ({
          ...created(schedule, `/v1/schedules/${schedule.name}`, scheduleView(schedule)),
          status: isNew ? 201 : 200,
        }),
      });
    },
  });
  app.post('/schedules/:schedule/run', {
    schema: operation(
      {
        operationId: 'runSchedule',
        tag,
        summary: 'Run a schedule now, enabled or not',
        ok: { 202: json(JobSchema, 'The job of the run; its result tells of each disk.') },
      },
      { params },
      { ...keyHeader, ...waitHeader },
    ),
    handler: (request, reply) => {
      const act = jobAct(context, request, (effects) =>
        services.schedules.run(request.params.schedule, effects),
      );
      return answerPost<Job>(context, request, reply, act);
    },
  });
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/schedules', {
    schema: operation(
      {
        operationId: 'listSchedules',
        tag,
        summary: 'List schedules',
        ok: { 200: json(ScheduleListSchema, 'Schedules, oldest first.') },
      },
      { querystring: ScheduleQuery },
    ),
    handler: async (request) => {
      const { label, disk, target } = request.query;
      const found = services.schedules
        .list()
        .filter(({ labels }) => hasLabel(labels, label))
        .filter((one) => matchesRef(target, [one.target, one.targetId]))
        .filter(({ disks }) =>
          matchesRef(
            disk,
            disks.flatMap(({ id, name }) => [id, name]),
          ),
        );
      return pageOf('schedules', found, request.query, { view: scheduleView });
    },
  });
  app.get('/schedules/:schedule', {
    schema: operation(
      {
        operationId: 'getSchedule',
        tag,
        summary: 'Show a schedule, its next and its last run',
        ok: { 200: json(ScheduleSchema, 'The schedule.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const schedule = services.schedules.get(request.params.schedule);
      reply.header('etag', entityTag(schedule));
      return scheduleView(schedule);
    },
  });
}

function addChanges(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.patch('/schedules/:schedule', {
    schema: operation(
      {
        operationId: 'updateSchedule',
        tag,
        summary: 'Change a schedule; a run under way goes on as it was',
        ok: { 200: json(ScheduleSchema, 'The schedule as it is now.') },
      },
      { params, body: refTo(UpdateScheduleSchema) },
      matchHeader,
    ),
    handler: async (request, reply) => {
      checkLabels(request.body.labels);
      const get = () => services.schedules.get(request.params.schedule);
      const schedule = await changeObject(context, request, get, ({ id }) =>
        services.schedules.update(id, request.body),
      );
      reply.header('etag', entityTag(schedule));
      return scheduleView(schedule);
    },
  });
  app.delete('/schedules/:schedule', {
    schema: operation(
      {
        operationId: 'deleteSchedule',
        tag,
        summary: 'Delete a schedule; its backups stay, a run under way goes on',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          204: noContent('It is gone.'),
        },
      },
      { params, querystring: query(dryRunQuery) },
      matchHeader,
    ),
    handler: (request, reply) =>
      deleteObject(context, request, reply, {
        dryRun: request.query.dryRun,
        get: () => services.schedules.get(request.params.schedule),
        wouldFree: async () => {
          const schedule = services.schedules.get(request.params.schedule);
          return { wouldFreeBytes: 0, affects: [affected('schedule')(schedule)] };
        },
        delete: () => services.schedules.delete(request.params.schedule),
      }),
  });
}
