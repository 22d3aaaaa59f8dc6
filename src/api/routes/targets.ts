/** /v1/targets */
import type { Job } from '../../job/job.ts';
import { checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, matchHeader, noContent, operation, path } from '../operation.ts';
import { waitHeader } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { affected, answerPost, changeObject, created, deleteObject, jobAct } from '../reply.ts';
import { checkLabels, hasLabel } from '../requested.ts';
import { dryRunQuery, forceQuery, query, refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import {
  CreateTargetSchema,
  TargetListSchema,
  TargetQuery,
  TargetSchema,
  UpdateTargetSchema,
} from '../schemas/target.ts';
import { targetView } from '../views.ts';
import type { TargetMade } from '../work-services.ts';

const tag = 'targets';
const params = path('target', 'Name or id of the target.');

export function targetRoutes(app: ApiInstance, context: ApiContext): void {
  addPosts(app, context);
  addReading(app, context);
  addChanges(app, context);
}

function addPosts(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.post('/targets', {
    schema: operation(
      {
        operationId: 'createTarget',
        tag,
        summary: 'Make a target',
        ok: {
          200: json(TargetSchema, 'It exists with these parameters.'),
          201: json(TargetSchema, 'It was made.'),
        },
      },
      { body: refTo(CreateTargetSchema) },
      keyHeader,
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      return answerPost<TargetMade>(context, request, reply, {
        run: (effects) =>
          services.targets.create(
            request.body,
            effects && ((target) => effects({ target, created: true })),
          ),
        describe: ({ target, created: isNew }) => ({
          ...created(target, `/v1/targets/${target.name}`, targetView(target)),
          status: isNew ? 201 : 200,
        }),
      });
    },
  });
  app.post('/targets/:target/scan', {
    schema: operation(
      {
        operationId: 'scanTarget',
        tag,
        summary: 'Rebuild the catalog from what is on the target',
        ok: { 202: json(JobSchema, 'The job that does it.') },
      },
      { params },
      { ...keyHeader, ...waitHeader },
    ),
    handler: (request, reply) => {
      const run = jobAct(context, request, (effects) =>
        services.targets.scan(request.params.target, effects),
      );
      return answerPost<Job>(context, request, reply, run);
    },
  });
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/targets', {
    schema: operation(
      {
        operationId: 'listTargets',
        tag,
        summary: 'List targets',
        ok: { 200: json(TargetListSchema, 'Targets, oldest first.') },
      },
      { querystring: TargetQuery },
    ),
    handler: async (request) => {
      const found = services.targets
        .list()
        .filter(({ labels }) => hasLabel(labels, request.query.label));
      return pageOf('targets', found, request.query, { view: targetView });
    },
  });
  app.get('/targets/:target', {
    schema: operation(
      {
        operationId: 'getTarget',
        tag,
        summary: 'Show a target',
        ok: { 200: json(TargetSchema, 'The target.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const target = services.targets.get(request.params.target);
      reply.header('etag', entityTag(target));
      return targetView(target);
    },
  });
}

function addChanges(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.patch('/targets/:target', {
    schema: operation(
      {
        operationId: 'updateTarget',
        tag,
        summary: 'Rename or label a target',
        ok: { 200: json(TargetSchema, 'The target as it is now.') },
      },
      { params, body: refTo(UpdateTargetSchema) },
      matchHeader,
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      const get = () => services.targets.get(request.params.target);
      const target = await changeObject(context, request, get, ({ id }) =>
        services.targets.update(id, request.body),
      );
      reply.header('etag', entityTag(target));
      return targetView(target);
    },
  });
  app.delete('/targets/:target', {
    schema: operation(
      {
        operationId: 'deleteTarget',
        tag,
        summary: 'Forget a target and its backups; the medium stays as it is',
        description: 'With backups in the catalog it needs `force`; a scan brings them back.',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          204: noContent('It is gone.'),
        },
      },
      { params, querystring: query({ ...dryRunQuery, ...forceQuery }) },
      matchHeader,
    ),
    handler: (request, reply) =>
      deleteObject(context, request, reply, {
        dryRun: request.query.dryRun,
        get: () => services.targets.get(request.params.target),
        wouldFree: async () => {
          const { id } = services.targets.get(request.params.target);
          const there = services.backups.list().filter(({ targetId }) => targetId === id);
          return { wouldFreeBytes: 0, affects: there.map(affected('backup')) };
        },
        delete: () =>
          services.targets.delete(request.params.target, { force: request.query.force ?? false }),
      }),
  });
}
