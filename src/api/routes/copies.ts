/** /v1/disks/{disk}/copies and /v1/copies */
import type { Static } from 'typebox';
import { StorageError } from '../../base/errors.ts';
import type { Job } from '../../job/job.ts';
import { checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import {
  json,
  keyHeader,
  matchHeader,
  noContent,
  operation,
  path,
  waitHeader,
} from '../operation.ts';
import { pageOf } from '../pages.ts';
import {
  answerPost,
  changeObject,
  created,
  deleteObject,
  jobAct,
  refuseUsed,
  withUsers,
} from '../reply.ts';
import { checkLabels, hasLabel } from '../requested.ts';
import {
  CopyListSchema,
  CopyQuery,
  CopySchema,
  DiskCopyQuery,
  CreateCopySchema,
  UpdateCopySchema,
} from '../schemas/copy.ts';
import { dryRunQuery, forceQuery, query, refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import type { Copy } from '../storage-services.ts';
import { copyView } from '../views.ts';
import type { CopyView } from '../views.ts';

const tag = 'copies';
const params = path('copy', 'Name or id of the copy.');

export function copyRoutes(app: ApiInstance, context: ApiContext): void {
  addFreeze(app, context);
  addFilling(app, context);
  addReading(app, context);
  addChanges(app, context);
}

/** Views with the facts of the image. */
function viewer({ services }: ApiContext): (copy: Copy, exclusiveBytes?: number) => CopyView {
  return (copy, exclusiveBytes) => copyView(copy, services.images.of(copy), exclusiveBytes);
}

function addFreeze(app: ApiInstance, context: ApiContext): void {
  const view = viewer(context);
  app.post('/disks/:disk/copies', {
    schema: operation(
      {
        operationId: 'createCopy',
        tag,
        summary: 'Freeze a disk: a copy in an instant',
        ok: { 201: json(CopySchema, 'The copy is durable.') },
      },
      { params: path('disk', 'Name or id of the disk.'), body: refTo(CreateCopySchema) },
      keyHeader,
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      checkPlacement(request.body);
      const { disk } = request.params;
      return answerPost<Copy>(context, request, reply, {
        run: (effects) => context.services.copies.freeze(disk, request.body, effects),
        describe: (copy) => created(copy, `/v1/copies/${copy.name}`, view(copy)),
      });
    },
  });
}

/** @throws VALIDATION_FAILED for what only a dedicated copy has */
function checkPlacement(body: Static<typeof CreateCopySchema>): void {
  if (body.placement === 'dedicated') return;
  const fields = ['pool', 'preserve', 'onPreserveError', 'maxBytesPerSecond'] as const;
  const field = fields.find((name) => body[name] !== undefined);
  if (field === undefined) return;
  const message = `${field} belongs to placement dedicated`;
  throw new StorageError('VALIDATION_FAILED', message, { field });
}

function addFilling(app: ApiInstance, context: ApiContext): void {
  app.post('/copies/:copy/data-blocks', {
    schema: operation(
      {
        operationId: 'fillCopy',
        tag,
        summary: 'Bring over what a dedicated copy is still owed',
        description:
          'For one whose job has failed or was cancelled; a live job is answered as it is.',
        ok: { 202: json(JobSchema, 'The job.') },
      },
      { params },
      { ...keyHeader, ...waitHeader },
    ),
    handler: (request, reply) =>
      answerPost<Job>(
        context,
        request,
        reply,
        jobAct(context, request, (effects) =>
          context.services.copies.fill(request.params.copy, effects),
        ),
      ),
  });
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  const view = viewer(context);
  const list = async (
    query: Omit<Static<typeof CopyQuery>, 'disk'>,
    disk?: string,
  ): Promise<{ items: CopyView[]; nextPageToken: string | null }> => {
    const { label, exclusive } = query;
    const all = disk === undefined ? services.copies.list() : services.copies.list({ disk });
    const found = all.filter((copy) => hasLabel(copy.labels, label));
    const page = pageOf('copies', found, query, { view: (copy) => copy });
    const items: CopyView[] = [];
    for (const copy of page.items) {
      items.push(exclusive === true ? view(copy, await copy.exclusiveBytes()) : view(copy));
    }
    return { ...page, items };
  };
  app.get('/copies', {
    schema: operation(
      {
        operationId: 'listCopies',
        tag,
        summary: 'List copies',
        ok: { 200: json(CopyListSchema, 'Copies, oldest first.') },
      },
      { querystring: CopyQuery },
    ),
    handler: async ({ query }) => list(query, query.disk),
  });
  app.get('/disks/:disk/copies', {
    schema: operation(
      {
        operationId: 'listCopiesOfDisk',
        tag,
        summary: 'List the copies of a disk',
        ok: { 200: json(CopyListSchema, 'Copies of this disk, oldest first.') },
      },
      { params: path('disk', 'Name or id of the disk.'), querystring: DiskCopyQuery },
    ),
    handler: async ({ params: { disk }, query }) => list(query, services.disks.get(disk).id),
  });
  app.get('/copies/:copy', {
    schema: operation(
      {
        operationId: 'getCopy',
        tag,
        summary: 'Show a copy',
        ok: { 200: json(CopySchema, 'The copy.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const copy = services.copies.get(request.params.copy);
      const exclusiveBytes = await copy.exclusiveBytes();
      reply.header('etag', entityTag(copy));
      return view(copy, exclusiveBytes);
    },
  });
}

function addChanges(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  const view = viewer(context);
  app.patch('/copies/:copy', {
    schema: operation(
      {
        operationId: 'updateCopy',
        tag,
        summary: 'Rename or label a copy',
        ok: { 200: json(CopySchema, 'The copy as it is now.') },
      },
      { params, body: refTo(UpdateCopySchema) },
      matchHeader,
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      const get = () => services.copies.get(request.params.copy);
      const copy = await changeObject(context, request, get, ({ id }) =>
        services.copies.update(id, request.body),
      );
      reply.header('etag', entityTag(copy));
      return view(copy);
    },
  });
  app.delete('/copies/:copy', {
    schema: operation(
      {
        operationId: 'deleteCopy',
        tag,
        summary: 'Delete a copy',
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
        get: () => services.copies.get(request.params.copy),
        wouldFree: async () => {
          const copy = services.copies.get(request.params.copy);
          refuseUsed('copy', copy, request.query.force);
          const wouldFreeBytes = await copy.exclusiveBytes();
          return { wouldFreeBytes, affects: withUsers('copy', copy) };
        },
        delete: () =>
          services.copies.delete(request.params.copy, { force: request.query.force ?? false }),
      }),
  });
}
