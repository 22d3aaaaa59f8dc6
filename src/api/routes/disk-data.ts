/** /v1/disks/{disk}/data, /flush and /allocation */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { StorageError } from '../../base/errors.ts';
import { allocationOf } from '../allocation.ts';
import { answerBytes } from '../binary.ts';
import type { BytesSource } from '../binary.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import {
  digestHeaders,
  json,
  jsonOrLines,
  keyHeader,
  noContent,
  octets,
  operation,
  path,
  rangeHeader,
} from '../operation.ts';
import { putData } from '../put-data.ts';
import { checkRange } from '../ranges.ts';
import type { RangeQuery } from '../ranges.ts';
import { answerPost, refuseFenced } from '../reply.ts';
import { requestEnd } from '../request-end.ts';
import { required } from '../requested.ts';
import {
  AllocationSchema,
  DiscardQuery,
  DiskAllocationQuery,
  ReadQuery,
  WriteQuery,
} from '../schemas/disk.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import { readAhead } from '../send.ts';
import type { Disk } from '../storage-services.ts';

const tag = 'disks';
const params = path('disk', 'Name or id of the disk.');
const url = '/disks/:disk/data';

/** In the scope of binary bodies. */
export function diskDataRoutes(app: ApiInstance, context: ApiContext): void {
  addGet(app, context);
  app.put(url, {
    config: { binaryBody: 'The bytes.' },
    schema: operation(
      {
        operationId: 'writeDisk',
        tag,
        summary: 'Write any range of a disk',
        description:
          'Up to 4 MiB with Content-Length: all or nothing. Otherwise applied in order as it ' +
          'comes; on an error `writtenBytes` tells the prefix that is durable.',
        ok: { 204: noContent('It is written.') },
      },
      { params, querystring: WriteQuery },
      digestHeaders,
    ),
    handler: async (request, reply) => {
      const disk = context.services.disks.get(request.params.disk);
      const { offset = 0, durability = 'durable' } = request.query;
      await putData(context, request, disk, { offset, isDurable: durability === 'durable' });
      return reply.code(204).send();
    },
  });
  app.delete(url, {
    schema: operation(
      {
        operationId: 'discardDisk',
        tag,
        summary: 'Discard a range: it reads as zeros, whole blocks are freed',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          204: noContent('It is discarded.'),
        },
      },
      { params, querystring: DiscardQuery },
    ),
    handler: (request, reply) => {
      const disk = context.services.disks.get(request.params.disk);
      return discard(context, request, reply, disk, request.query);
    },
  });
}

function addGet(app: ApiInstance, context: ApiContext): void {
  const facts = {
    tag,
    ok: { 200: octets('The bytes.'), 206: octets('The bytes of the Range.') },
  } as const;
  const parts = { params, querystring: ReadQuery };
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    ref: string,
    query: RangeQuery,
  ): Promise<FastifyReply> => {
    const disk = context.services.disks.get(ref);
    refuseFenced(disk);
    const end = requestEnd(context, request);
    try {
      const read = reader(context, disk, end.signal);
      await answerBytes(
        context,
        request,
        reply,
        { sizeBytes: disk.capacityBytes, read },
        { query },
      );
    } finally {
      end.release();
    }
    return reply;
  };
  app.get(url, {
    exposeHeadRoute: false,
    schema: operation(
      { ...facts, operationId: 'readDisk', summary: 'Read any range of a disk' },
      parts,
      rangeHeader,
    ),
    handler: (request, reply) => answer(request, reply, request.params.disk, request.query),
  });
  app.head(url, {
    config: { swagger: { exposeHeadRoute: true } },
    schema: operation(
      { ...facts, operationId: 'statDisk', summary: 'Length of a range of a disk' },
      parts,
      rangeHeader,
    ),
    handler: (request, reply) => answer(request, reply, request.params.disk, request.query),
  });
}

/** Reads of a disk, counted, at its rate. */
function reader(
  { metrics, pieces }: ApiContext,
  disk: Disk,
  signal: AbortSignal,
): BytesSource['read'] {
  const read = (offset: number, into: Uint8Array): Promise<void> =>
    metrics.io('read', into.length, () => disk.read(offset, into));
  return (range, memory) => readAhead(read, range, pieces, { rate: disk.rate, memory, signal });
}

async function discard(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  disk: Disk,
  query: { offset?: number; length?: number; dryRun?: boolean },
): Promise<FastifyReply> {
  if (query.offset === undefined || query.length === undefined) {
    throw new StorageError('RANGE_REQUIRED', 'offset and length are required to discard', {
      capacityBytes: disk.capacityBytes,
    });
  }
  const { offset } = query;
  const length = required(query.length, 'length');
  checkRange(offset, length, disk.capacityBytes);
  if (query.dryRun === true) {
    const wouldFreeBytes = await disk.exclusiveBytesIn(offset, length);
    const affects = [{ kind: 'disk', id: disk.id, name: disk.name }];
    return reply.send({ wouldFreeBytes, affects });
  }
  const endUse = disk.addUser({
    kind: 'http-discard',
    id: request.id,
    sinceMs: context.clock.nowMs(),
    abort: () => undefined,
  });
  try {
    await context.metrics.io('discard', length, () => disk.discard(offset, length));
    await context.metrics.io('flush', 0, () => disk.flush());
  } finally {
    endUse();
  }
  return reply.code(204).send();
}

/** In the scope of JSON. */
export function diskTableRoutes(app: ApiInstance, context: ApiContext): void {
  app.post('/disks/:disk/flush', {
    schema: operation(
      {
        operationId: 'flushDisk',
        tag,
        summary: 'Make all writes that were answered durable',
        ok: { 204: noContent('They are durable.') },
      },
      { params },
      keyHeader,
    ),
    handler: (request, reply) =>
      answerPost<undefined>(context, request, reply, {
        run: async () => {
          const disk = context.services.disks.get(request.params.disk);
          await context.metrics.io('flush', 0, () => disk.flush());
          return undefined;
        },
        describe: () => ({ status: 204, headers: {} }),
      }),
  });
  app.get('/disks/:disk/allocation', {
    schema: operation(
      {
        operationId: 'listDiskAllocation',
        tag,
        summary: 'Allocated ranges of a disk',
        description: 'With `Accept: application/x-ndjson` all of them, a line each.',
        ok: { 200: jsonOrLines(AllocationSchema, 'Ranges in ascending order.') },
      },
      { params, querystring: DiskAllocationQuery },
    ),
    handler: async (request, reply) => {
      const disk = context.services.disks.get(request.params.disk);
      const { physical = false, ...query } = request.query;
      await allocationOf(context, request, reply, query, {
        kind: 'allocation',
        blockSizeBytes: disk.blockSizeBytes,
        capacityBytes: disk.capacityBytes,
        startAt: async (block) => block,
        runs: (from, maxRuns) => disk.allocatedRuns(from, maxRuns, physical),
      });
      return reply;
    },
  });
}
