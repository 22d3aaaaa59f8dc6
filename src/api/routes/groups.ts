/** /v1/groups */
import { checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, matchHeader, noContent, operation, path } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { affected, answerPost, created, deleteObject, refuseUsed, withUsers } from '../reply.ts';
import { checkLabels, hasLabel } from '../requested.ts';
import { dryRunQuery, forceQuery, query, refTo } from '../schemas/fields.ts';
import { CreateGroupSchema, GroupListSchema, GroupQuery, GroupSchema } from '../schemas/group.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import type { WouldFree } from '../service-types.ts';
import type { Group } from '../storage-services.ts';
import { groupView } from '../views.ts';

const tag = 'groups';
const params = path('group', 'Name or id of the group.');

export function groupRoutes(app: ApiInstance, context: ApiContext): void {
  addFreeze(app, context);
  addReading(app, context);
  addDeletion(app, context);
}

function addFreeze(app: ApiInstance, context: ApiContext): void {
  app.post('/groups', {
    schema: operation(
      {
        operationId: 'createGroup',
        tag,
        summary: 'Freeze several disks at one instant',
        description:
          'All disks are halted together and their copies show one moment: what was answered ' +
          'before it is in all of them, what was begun after it in none. The group with all its ' +
          'copies is durable when it is answered, or there is nothing of it. A copy is called ' +
          'GROUP-DISK unless the request names it; it is a copy like any other.',
        ok: { 201: json(GroupSchema, 'The group is durable.') },
      },
      { body: refTo(CreateGroupSchema) },
      keyHeader,
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      return answerPost<Group>(context, request, reply, {
        run: (effects) => context.services.groups.freeze(request.body, effects),
        describe: (group) => created(group, `/v1/groups/${group.name}`, groupView(group)),
      });
    },
  });
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/groups', {
    schema: operation(
      {
        operationId: 'listGroups',
        tag,
        summary: 'List groups',
        ok: { 200: json(GroupListSchema, 'Groups, oldest first.') },
      },
      { querystring: GroupQuery },
    ),
    handler: async (request) => {
      const { label } = request.query;
      const found = services.groups.list().filter((group) => hasLabel(group.labels, label));
      return pageOf('groups', found, request.query, { view: groupView });
    },
  });
  app.get('/groups/:group', {
    schema: operation(
      {
        operationId: 'getGroup',
        tag,
        summary: 'Show a group',
        ok: { 200: json(GroupSchema, 'The group.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const group = services.groups.get(request.params.group);
      reply.header('etag', entityTag(group));
      return groupView(group);
    },
  });
}

function addDeletion(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.delete('/groups/:group', {
    schema: operation(
      {
        operationId: 'deleteGroup',
        tag,
        summary: 'Delete a group with all its copies',
        description:
          'All copies that are left of it, or none: 409 COPY_IN_USE if one of them is read. With ' +
          '`dryRun` nothing is deleted; `wouldFreeBytes` is then the sum of what each copy alone ' +
          'would free.',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          204: noContent('It is gone.'),
        },
      },
      { params, querystring: query({ ...dryRunQuery, ...forceQuery }) },
      matchHeader,
    ),
    handler: (request, reply) => {
      const get = (): Group => services.groups.get(request.params.group);
      return deleteObject(context, request, reply, {
        dryRun: request.query.dryRun,
        get,
        wouldFree: () => wouldFree(get(), request.query.force),
        delete: () =>
          services.groups.delete(request.params.group, { force: request.query.force ?? false }),
      });
    },
  });
}

/** @throws COPY_IN_USE, as the deletion would */
async function wouldFree(group: Group, force: boolean | undefined): Promise<WouldFree> {
  const copies = group.members.map(({ copy }) => copy).filter((copy) => copy !== null);
  for (const copy of copies) refuseUsed('copy', copy, force);
  let wouldFreeBytes = 0;
  for (const copy of copies) wouldFreeBytes += await copy.exclusiveBytes();
  const affects = copies.flatMap((copy) => withUsers('copy', copy));
  return { wouldFreeBytes, affects: [affected('group')(group), ...affects] };
}
