/** /v1/pools */
import { StorageError } from '../../base/errors.ts';
import { isBlockSize } from '../../base/units.ts';
import { checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, matchHeader, noContent, operation, path } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { answerPost, changeObject, created, deleteObject } from '../reply.ts';
import { required, sizeFrom } from '../requested.ts';
import { dryRunQuery, query, refTo } from '../schemas/fields.ts';
import { CreatePoolSchema, PoolListSchema, PoolQuery, PoolSchema } from '../schemas/pool.ts';
import { UpdatePoolSchema } from '../schemas/pool.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import type { Pool, PoolFile, PoolMade } from '../storage-services.ts';
import { poolView } from '../views.ts';

const tag = 'pools';
const params = path('pool', 'Name or id of the pool.');

export function poolRoutes(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  addCreate(app, context);
  app.get('/pools', {
    schema: operation(
      {
        operationId: 'listPools',
        tag,
        summary: 'List pools',
        ok: { 200: json(PoolListSchema, 'Pools, oldest first.') },
      },
      { querystring: PoolQuery },
    ),
    handler: async (request) =>
      pageOf('pools', services.pools.list(), request.query, { view: poolView }),
  });
  app.get('/pools/:pool', {
    schema: operation(
      {
        operationId: 'getPool',
        tag,
        summary: 'Show a pool',
        ok: { 200: json(PoolSchema, 'The pool.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const pool = services.pools.get(request.params.pool);
      reply.header('etag', entityTag(pool));
      return poolView(pool);
    },
  });
  addChanges(app, context);
}

function addCreate(app: ApiInstance, context: ApiContext): void {
  app.post('/pools', {
    schema: operation(
      {
        operationId: 'createPool',
        tag,
        summary: 'Make a pool',
        ok: {
          200: json(PoolSchema, 'It exists with these parameters.'),
          201: json(PoolSchema, 'It was made.'),
        },
      },
      { body: refTo(CreatePoolSchema) },
      keyHeader,
    ),
    handler: async (request, reply) => {
      const { files, ...rest } = request.body;
      checkName(rest.name, 'name');
      checkBlockSize(rest.blockSizeBytes);
      const wanted = { ...rest, files: poolFiles(files) };
      return answerPost<PoolMade>(context, request, reply, {
        run: (effects) =>
          context.services.pools.create(
            wanted,
            effects && ((pool) => effects({ pool, created: true })),
          ),
        describe: ({ pool, created: isNew }) => ({
          ...created(pool, `/v1/pools/${pool.name}`, poolView(pool)),
          status: isNew ? 201 : 200,
        }),
      });
    },
  });
}

function addChanges(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.patch('/pools/:pool', {
    schema: operation(
      {
        operationId: 'updatePool',
        tag,
        summary: 'Rename or grow a pool, change its marks',
        ok: { 200: json(PoolSchema, 'The pool as it is now.') },
      },
      { params, body: refTo(UpdatePoolSchema) },
      matchHeader,
    ),
    handler: async (request, reply) => {
      const { files, ...rest } = request.body;
      checkName(rest.name, 'name');
      const change = files === undefined ? rest : { ...rest, files: poolFiles(files) };
      const pool = await changeObject(
        context,
        request,
        () => services.pools.get(request.params.pool),
        (found) => services.pools.update(found.id, change),
      );
      reply.header('etag', entityTag(pool));
      return poolView(pool);
    },
  });
  app.delete('/pools/:pool', {
    schema: operation(
      {
        operationId: 'deletePool',
        tag,
        summary: 'Delete an empty pool',
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
        get: () => services.pools.get(request.params.pool),
        wouldFree: async () => {
          const pool = services.pools.get(request.params.pool);
          refuseHolding(context, pool);
          return { wouldFreeBytes: pool.capacityBytes, affects: [] };
        },
        delete: () => services.pools.delete(request.params.pool),
      }),
  });
}

/** @throws POOL_IN_USE */
function refuseHolding({ services }: ApiContext, { id, name }: Pool): void {
  const objects = [...services.disks.list(), ...services.copies.list()];
  if (objects.every(({ pool }) => pool.id !== id)) return;
  throw new StorageError('POOL_IN_USE', `pool ${name} holds disks or copies`, { pool: name });
}

function poolFiles(
  files: readonly { path: string; sizeBytes?: number; size?: string }[],
): PoolFile[] {
  if (files.length === 0) {
    throw new StorageError('VALIDATION_FAILED', 'files: a pool has one at least', {
      field: 'files',
    });
  }
  return files.map(({ path: at, sizeBytes, size }, index) => {
    const field = `files.${index}.sizeBytes`;
    return { path: at, sizeBytes: required(sizeFrom(field, sizeBytes, size), field) };
  });
}

function checkBlockSize(blockSizeBytes: number | undefined): void {
  if (blockSizeBytes === undefined || isBlockSize(blockSizeBytes)) return;
  throw new StorageError('VALIDATION_FAILED', 'blockSizeBytes must be a power of two', {
    field: 'blockSizeBytes',
  });
}
