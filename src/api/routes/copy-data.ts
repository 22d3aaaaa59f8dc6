/** /v1/copies/{copy}/data, /image, /correspondence, /allocation and /changes */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { allocationOf, limitsOf, sendLines, wantsLines } from '../allocation.ts';
import { answerBytes } from '../binary.ts';
import type { BytesSource } from '../binary.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { jsonOrLines, octets, operation, partHeaders, path, rangeHeader } from '../operation.ts';
import { linesOfTable, pageOfTable } from '../pages.ts';
import type { Table } from '../pages.ts';
import type { RangeQuery } from '../ranges.ts';
import {
  ChangesQuery,
  ChangesSchema,
  CopyReadQuery,
  CorrespondenceQuery,
  CorrespondenceSchema,
  DataBlocksSchema,
} from '../schemas/copy.ts';
import { AllocationQuery, AllocationSchema } from '../schemas/disk.ts';
import { readAhead } from '../send.ts';
import type { Copy, CopyLayout, CorrespondenceRun, DataBlockRun } from '../storage-services.ts';

const tag = 'copies';
const params = path('copy', 'Name or id of the copy.');
const okBytes = { 200: octets('The bytes.'), 206: octets('The bytes of the Range.') } as const;

/** In the scope of binary bodies. */
export function copyDataRoutes(app: ApiInstance, context: ApiContext): void {
  addData(app, context);
  addImage(app, context);
}

function addData(app: ApiInstance, context: ApiContext): void {
  const url = '/copies/:copy/data';
  const parts = { params, querystring: CopyReadQuery };
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    ref: string,
    { view, ...query }: RangeQuery & { view?: CopyLayout },
  ): Promise<FastifyReply> => {
    const copy = context.services.copies.get(ref);
    const shown = view ?? copy.layout;
    const compactBytes = copy.usedBlocks * copy.blockSizeBytes;
    await answerFromCopy(context, request, reply, copy, query, {
      sizeBytes: shown === 'full' ? copy.sourceCapacityBytes : compactBytes,
      tag: `"${copy.id}-${shown}"`,
      read: (range) => {
        const read = (offset: number, into: Uint8Array): Promise<void> =>
          context.metrics.io('read', into.length, () => copy.read(shown, offset, into));
        return readAhead(read, range, context.pieces);
      },
    });
    return reply;
  };
  app.get(url, {
    exposeHeadRoute: false,
    schema: operation(
      {
        operationId: 'readCopy',
        tag,
        summary: 'Read any range of a copy, in either view',
        ok: okBytes,
      },
      parts,
      rangeHeader,
    ),
    handler: (request, reply) => answer(request, reply, request.params.copy, request.query),
  });
  app.head(url, {
    config: { swagger: { exposeHeadRoute: true } },
    schema: operation(
      { operationId: 'statCopy', tag, summary: 'Length of a view of a copy', ok: okBytes },
      parts,
      rangeHeader,
    ),
    handler: (request, reply) => answer(request, reply, request.params.copy, request.query),
  });
}

function addImage(app: ApiInstance, context: ApiContext): void {
  const url = '/copies/:copy/image';
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    ref: string,
  ): Promise<FastifyReply> => {
    const copy = context.services.copies.get(ref);
    const image = context.services.images.of(copy);
    await answerFromCopy(
      context,
      request,
      reply,
      copy,
      {},
      {
        sizeBytes: image.imageBytes,
        tag: `"${image.imageId}"`,
        headers: { 'content-disposition': `attachment; filename="${copy.name}.spindle"` },
        memoryBytes: 2 * context.pieces.pieceBytes,
        read: ({ offset, length }) => image.read(offset, offset + length),
      },
    );
    return reply;
  };
  app.get(url, {
    exposeHeadRoute: false,
    schema: operation(
      {
        operationId: 'readImage',
        tag,
        summary: 'Download the image of a copy: the same bytes at any time',
        description: 'The ETag is the image id; `Range` and `If-Range` resume a cut download.',
        ok: okBytes,
      },
      { params },
      partHeaders,
    ),
    handler: (request, reply) => answer(request, reply, request.params.copy),
  });
  app.head(url, {
    config: { swagger: { exposeHeadRoute: true } },
    schema: operation(
      { operationId: 'statImage', tag, summary: 'Length and id of an image', ok: okBytes },
      { params },
      partHeaders,
    ),
    handler: (request, reply) => answer(request, reply, request.params.copy),
  });
}

/** Reads as a user of the copy, so that it is not deleted meanwhile, or only by force. */
async function answerFromCopy(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  copy: Copy,
  query: RangeQuery,
  source: BytesSource,
): Promise<void> {
  const ended = new AbortController();
  const endUse = copy.addUser({
    kind: 'http-read',
    id: request.id,
    sinceMs: context.clock.nowMs(),
    abort: () => {
      ended.abort();
    },
  });
  try {
    await answerBytes(context, request, reply, source, { query, signal: ended.signal });
  } finally {
    endUse();
  }
}

/** In the scope of JSON. */
export function copyTableRoutes(app: ApiInstance, context: ApiContext): void {
  app.get('/copies/:copy/correspondence', {
    schema: operation(
      {
        operationId: 'listCorrespondence',
        tag,
        summary: 'The correspondence table: which source block each copy block is',
        description: 'With `Accept: application/x-ndjson` all of it, a line each.',
        ok: { 200: jsonOrLines(CorrespondenceSchema, 'Runs in ascending order.') },
      },
      { params, querystring: CorrespondenceQuery },
    ),
    handler: async (request, reply) => {
      const table = correspondenceOf(context.services.copies.get(request.params.copy));
      if (!wantsLines(request)) return pageOfTable(table, limitsOf(request.query), 0);
      await sendLines(context, reply, linesOfTable(table, 0));
      return reply;
    },
  });
  app.get('/copies/:copy/data-blocks', {
    schema: operation(
      {
        operationId: 'listDataBlocks',
        tag,
        summary: 'The data block table: which blocks are still owed by the source',
        description:
          'As it is now; a block that was owed on one page may be settled on the next. ' +
          'With `Accept: application/x-ndjson` all of it, a line each.',
        ok: { 200: jsonOrLines(DataBlocksSchema, 'Runs in ascending order.') },
      },
      { params, querystring: CorrespondenceQuery },
    ),
    handler: async (request, reply) => {
      const table = dataBlocksOf(context.services.copies.get(request.params.copy));
      if (!wantsLines(request)) return pageOfTable(table, limitsOf(request.query), 0);
      await sendLines(context, reply, linesOfTable(table, 0));
      return reply;
    },
  });
  app.get('/copies/:copy/allocation', {
    schema: operation(
      {
        operationId: 'listCopyAllocation',
        tag,
        summary: 'Allocated ranges of the source at the freeze',
        description: 'With `Accept: application/x-ndjson` all of them, a line each.',
        ok: { 200: jsonOrLines(AllocationSchema, 'Ranges in ascending order.') },
      },
      { params, querystring: AllocationQuery },
    ),
    handler: async (request, reply) => {
      const copy = context.services.copies.get(request.params.copy);
      await allocationOf(context, request, reply, request.query, {
        kind: 'allocation',
        blockSizeBytes: copy.blockSizeBytes,
        capacityBytes: copy.sourceCapacityBytes,
        startAt: (block) => firstCopyBlockFrom(copy, block),
        runs: async (from, maxRuns) => {
          const { runs, next } = await copy.correspondence(from, maxRuns);
          const ranges = runs.map(({ sourceBlock, length }) => ({ block: sourceBlock, length }));
          return next === undefined ? { runs: ranges } : { runs: ranges, next };
        },
      });
      return reply;
    },
  });
  addChanges(app, context);
}

function addChanges(app: ApiInstance, context: ApiContext): void {
  app.get('/copies/:copy/changes', {
    schema: operation(
      {
        operationId: 'listCopyChanges',
        tag,
        summary: 'What changed between two copies',
        description:
          'What must be applied to the content of `since`, brought to `capacityBytes`, to make ' +
          'it that of this copy; ranges that are equal are left out. Either may be the older ' +
          'one. With `Accept: application/x-ndjson` all ranges, a line each.',
        ok: { 200: jsonOrLines(ChangesSchema, 'Ranges in ascending order.') },
      },
      { params, querystring: ChangesQuery },
    ),
    handler: async (request, reply) => {
      const { since, ...query } = request.query;
      const changes = context.services.copies.changes(request.params.copy, since);
      await allocationOf(context, request, reply, query, {
        kind: 'changes',
        blockSizeBytes: changes.blockSizeBytes,
        capacityBytes: changes.capacityBytes,
        startAt: (block) => Promise.resolve(block),
        runs: (from, maxRuns) => changes.runs(from, maxRuns),
      });
      return reply;
    },
  });
}

function correspondenceOf(copy: Copy): Table<CorrespondenceRun> {
  return {
    kind: 'correspondence',
    async read(from, maxItems) {
      const { runs, next } = await copy.correspondence(from, maxItems);
      const items = runs.map(({ copyBlock, sourceBlock, length }) => {
        return { copyBlock, sourceBlock, length };
      });
      return next === undefined ? { items } : { items, next };
    },
  };
}

function dataBlocksOf(copy: Copy): Table<DataBlockRun> {
  return {
    kind: 'data-blocks',
    async read(from, maxItems) {
      const { runs, next } = await copy.dataBlocks(from, maxItems);
      return next === undefined ? { items: [...runs] } : { items: [...runs], next };
    },
  };
}

/** The first X whose A is at or behind `block`. Cost: about 30 looks into the table. */
async function firstCopyBlockFrom(copy: Copy, block: number): Promise<number> {
  let low = 0;
  let high = copy.usedBlocks;
  while (block > 0 && low < high) {
    const middle = Math.floor((low + high) / 2);
    const [run] = (await copy.correspondence(middle, 1)).runs;
    if (run !== undefined && run.sourceBlock < block) low = middle + 1;
    else high = middle;
  }
  return low;
}
