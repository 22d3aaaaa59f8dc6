/** /v1/disks */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { StorageError } from '../../base/errors.ts';
import { checkCapacity } from '../../base/units.ts';
import { checkIfMatch, checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, jsonOrWouldFree, keyHeader, matchHeader } from '../operation.ts';
import { noContent, operation, path } from '../operation.ts';
import { pageOf } from '../pages.ts';
import type { Page } from '../pages.ts';
import { answerPost, changeObject, created, deleteObject, withUsers } from '../reply.ts';
import { refuseFenced, refuseUsed } from '../reply.ts';
import { checkLabels, hasLabel, matchesRef, sizeFrom } from '../requested.ts';
import {
  CreateDiskSchema,
  DiskListSchema,
  DiskQuery,
  DiskSchema,
  UpdateDiskSchema,
} from '../schemas/disk.ts';
import { dryRunQuery, forceQuery, query, refTo } from '../schemas/fields.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import type { WouldFree } from '../service-types.ts';
import type { Disk, DiskMade, UpdateDisk } from '../storage-services.ts';
import { diskView } from '../views.ts';
import type { DiskView } from '../views.ts';

const tag = 'disks';
const params = path('disk', 'Name or id of the disk.');

export function diskRoutes(app: ApiInstance, context: ApiContext): void {
  addCreate(app, context);
  addReading(app, context);
  addChange(app, context);
  addDeletion(app, context);
}

function addCreate(app: ApiInstance, context: ApiContext): void {
  app.post('/disks', {
    schema: operation(
      {
        operationId: 'createDisk',
        tag,
        summary: 'Make a thin disk, empty or from a copy',
        ok: {
          200: json(DiskSchema, 'It exists with these parameters.'),
          201: json(DiskSchema, 'It was made.'),
        },
      },
      { body: refTo(CreateDiskSchema) },
      keyHeader,
    ),
    handler: (request, reply) => createDisk(context, request, reply, request.body),
  });
}

async function createDisk(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  body: Static<typeof CreateDiskSchema>,
): Promise<FastifyReply> {
  const { capacityBytes, capacity, fromCopy, ...rest } = body;
  const { services } = context;
  checkName(rest.name, 'name');
  checkLabels(rest.labels);
  const describe = ({ disk, created: isNew }: DiskMade) => ({
    ...created(disk, `/v1/disks/${disk.name}`, diskView(disk)),
    status: isNew ? 201 : 200,
  });
  const size = sizeFrom('capacityBytes', capacityBytes, capacity);
  if (fromCopy !== undefined) {
    if (size !== undefined) throw excludes('capacityBytes');
    if (rest.pool !== undefined) throw excludes('pool');
    return answerPost<DiskMade>(context, request, reply, {
      describe,
      run: async (effects) => {
        const made = effects && ((disk: Disk) => effects({ disk, created: true }));
        const { name: newName, ...options } = rest;
        const wanted = { ...options, disk: newName };
        return services.copies.createDisk(fromCopy, wanted, made);
      },
    });
  }
  if (size === undefined) {
    const message = 'exactly one of capacityBytes, capacity and fromCopy is required';
    throw new StorageError('VALIDATION_FAILED', message, { field: 'capacityBytes' });
  }
  const wanted = { ...rest, capacityBytes: checkCapacity(size) };
  return answerPost<DiskMade>(context, request, reply, {
    describe,
    run: (effects) =>
      services.disks.create(wanted, effects && ((disk) => effects({ disk, created: true }))),
  });
}

function excludes(field: string): StorageError {
  return new StorageError('VALIDATION_FAILED', `${field} and fromCopy exclude each other`, {
    field,
  });
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/disks', {
    schema: operation(
      {
        operationId: 'listDisks',
        tag,
        summary: 'List disks',
        ok: { 200: json(DiskListSchema, 'Disks, oldest first.') },
      },
      { querystring: DiskQuery },
    ),
    handler: async (request): Promise<Page<DiskView>> => {
      const { label, pool, exclusive } = request.query;
      const found = services.disks
        .list()
        .filter((disk) => hasLabel(disk.labels, label))
        .filter((disk) => matchesRef(pool, [disk.pool.name, disk.pool.id]));
      if (exclusive !== true) return pageOf('disks', found, request.query, { view: diskView });
      const page = pageOf('disks', found, request.query, { view: (disk) => disk });
      const items: DiskView[] = [];
      for (const disk of page.items) items.push(diskView(disk, await disk.exclusiveBytes()));
      return { ...page, items };
    },
  });
  app.get('/disks/:disk', {
    schema: operation(
      {
        operationId: 'getDisk',
        tag,
        summary: 'Show a disk',
        ok: { 200: json(DiskSchema, 'The disk.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const disk = services.disks.get(request.params.disk);
      const exclusiveBytes = await disk.exclusiveBytes();
      reply.header('etag', entityTag(disk));
      return diskView(disk, exclusiveBytes);
    },
  });
}

function addChange(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.patch('/disks/:disk', {
    schema: operation(
      {
        operationId: 'updateDisk',
        tag,
        summary: 'Resize, rename or label a disk',
        description: 'A dry run answers WouldFree; only a smaller capacity frees anything.',
        ok: { 200: jsonOrWouldFree(DiskSchema, 'The disk as it is now, or what it would lose.') },
      },
      { params, body: refTo(UpdateDiskSchema), querystring: query(dryRunQuery) },
      matchHeader,
    ),
    handler: async (request, reply): Promise<DiskView | WouldFree> => {
      const { capacity, capacityBytes, ...rest } = request.body;
      checkName(rest.name, 'name');
      checkLabels(rest.labels);
      const size = sizeFrom('capacityBytes', capacityBytes, capacity);
      const change: UpdateDisk =
        size === undefined ? rest : { ...rest, capacityBytes: checkCapacity(size) };
      const get = () => services.disks.get(request.params.disk);
      if (request.query.dryRun === true) {
        checkIfMatch(request.headers, get());
        return wouldShrink(get(), size, change.discard === true);
      }
      const disk = await changeObject(context, request, get, ({ id }) =>
        services.disks.update(id, change),
      );
      reply.header('etag', entityTag(disk));
      return diskView(disk);
    },
  });
}

/** @throws DISK_FENCED, DISK_HAS_DATA_BEYOND */
async function wouldShrink(
  disk: Disk,
  size: number | undefined,
  mayDiscard: boolean,
): Promise<WouldFree> {
  const { capacityBytes } = disk;
  refuseFenced(disk);
  if (size === undefined || size >= capacityBytes) return { wouldFreeBytes: 0, affects: [] };
  if (!mayDiscard && (await hasDataBeyond(disk, size))) {
    throw new StorageError(
      'DISK_HAS_DATA_BEYOND',
      `disk ${disk.name} has data beyond ${size} bytes; discard: true loses it`,
      { disk: disk.name, capacityBytes: size },
    );
  }
  const wouldFreeBytes = await disk.exclusiveBytesIn(size, capacityBytes - size);
  return { wouldFreeBytes, affects: [{ kind: 'disk', id: disk.id, name: disk.name }] };
}

/** Allocated blocks beyond, or bytes that are not zero in the block that is cut. */
async function hasDataBeyond(disk: Disk, size: number): Promise<boolean> {
  const { blockSizeBytes, capacityBytes } = disk;
  const firstBeyond = Math.ceil(size / blockSizeBytes);
  const { runs } = await disk.allocatedRuns(firstBeyond, 1, false);
  if (runs.length > 0) return true;
  const tail = new Uint8Array(Math.min(firstBeyond * blockSizeBytes, capacityBytes) - size);
  if (tail.length > 0) await disk.read(size, tail);
  return tail.some((byte) => byte !== 0);
}

function addDeletion(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.delete('/disks/:disk', {
    schema: operation(
      {
        operationId: 'deleteDisk',
        tag,
        summary: 'Delete a disk; its copies stay',
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
        get: () => services.disks.get(request.params.disk),
        wouldFree: async () => {
          const disk = services.disks.get(request.params.disk);
          refuseUsed('disk', disk, request.query.force);
          const wouldFreeBytes = await disk.exclusiveBytes();
          return { wouldFreeBytes, affects: withUsers('disk', disk) };
        },
        delete: () =>
          services.disks.delete(request.params.disk, { force: request.query.force ?? false }),
      }),
  });
}
