/**
 * Allocated ranges of a disk or copy, or what changed between two copies, as byte ranges in the
 * shape of CSI's GetMetadataAllocated and GetMetadataDelta: page by page, or as lines of JSON.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { StorageError } from '../base/errors.ts';
import { weightOf } from './conditions.ts';
import type { ApiContext } from './context.ts';
import type { PageQuery, Table } from './pages.ts';
import { linesOfTable, pageOfTable } from './pages.ts';
import { checkRange } from './ranges.ts';
import { sendBytes } from './send.ts';
import type { AllocatedRun, ChangedRun } from './storage-services.ts';

export interface AllocationSource {
  /** Of its page tokens. */
  readonly kind: 'allocation' | 'changes';
  readonly blockSizeBytes: number;
  readonly capacityBytes: number;
  /** Position in the table from which on ranges are at or behind this block. */
  startAt(block: number): Promise<number>;
  runs(
    from: number,
    maxRuns: number,
  ): Promise<{ readonly runs: readonly (AllocatedRun | ChangedRun)[]; readonly next?: number }>;
}

export interface AllocationQuery extends PageQuery {
  readonly startingOffset?: number;
  readonly maxResults?: number;
}

interface Range {
  readonly byteOffset: number;
  readonly sizeBytes: number;
  readonly physicalBlock?: number;
  readonly kind?: 'data' | 'zero';
}

/** @throws VALIDATION_FAILED if both spellings of a parameter are there */
export async function allocationOf(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  query: AllocationQuery,
  source: AllocationSource,
): Promise<void> {
  const { kind, blockSizeBytes, capacityBytes } = source;
  const { startingOffset = 0 } = query;
  refuseBoth(query, 'startingOffset', 'pageToken');
  checkRange(startingOffset, 0, capacityBytes);
  const start = await source.startAt(Math.floor(startingOffset / blockSizeBytes));
  const table: Table<Range> = {
    kind,
    async read(from, maxItems) {
      const { runs, next } = await source.runs(from, maxItems);
      const items = runs.map((run) => rangeOf(run, source));
      return next === undefined ? { items } : { items, next };
    },
  };
  if (wantsLines(request)) {
    await sendLines(context, reply, linesOfTable(table, start));
    return;
  }
  const answer = await pageOfTable(table, limitsOf(query), start);
  await reply.send({ blockSizeBytes, capacityBytes, ...answer });
}

/** The last block of a disk may reach beyond its end; the range does not. */
function rangeOf(
  { block, length, ...facts }: AllocatedRun | ChangedRun,
  { blockSizeBytes, capacityBytes }: AllocationSource,
): Range {
  const byteOffset = block * blockSizeBytes;
  const sizeBytes = Math.min(length * blockSizeBytes, capacityBytes - byteOffset);
  return { byteOffset, sizeBytes, ...facts };
}

/** @throws VALIDATION_FAILED if the most ranges of a page are given twice */
export function limitsOf(query: AllocationQuery): PageQuery {
  refuseBoth(query, 'maxResults', 'pageSize');
  const { pageToken, pageSize, maxResults = pageSize } = query;
  return {
    ...(pageToken === undefined ? {} : { pageToken }),
    ...(maxResults === undefined ? {} : { pageSize: maxResults }),
  };
}

function refuseBoth(query: AllocationQuery, one: keyof AllocationQuery, other: keyof PageQuery) {
  if (query[one] === undefined || query[other] === undefined) return;
  throw new StorageError('VALIDATION_FAILED', `${one} and ${other} exclude each other`, {
    field: one,
  });
}

/** True if the client asks for lines of JSON, and would not rather have a page. */
export function wantsLines({ headers }: FastifyRequest): boolean {
  const accept = headers.accept ?? '';
  const lines = weightOf(accept, ['application/x-ndjson', 'application/ndjson']) ?? 0;
  const page = ['application/json', 'application/*', '*/*'].map((type) => weightOf(accept, [type]));
  return lines > 0 && lines >= (page.find((weight) => weight !== undefined) ?? 0);
}

export async function sendLines(
  { limits }: ApiContext,
  reply: FastifyReply,
  lines: AsyncIterable<string>,
): Promise<void> {
  const headers = { 'content-type': 'application/x-ndjson' };
  await sendBytes(reply, { status: 200, headers }, asBytes(lines), { limits });
}

async function* asBytes(lines: AsyncIterable<string>): AsyncGenerator<Buffer, void, undefined> {
  for await (const line of lines) yield Buffer.from(line);
}
