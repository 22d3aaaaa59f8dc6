/**
 * The scope of routes whose bodies are bytes: no parser touches them, any content type will do, but
 * no coding.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { StorageError } from '../base/errors.ts';
import { isLastRequest } from './body.ts';
import { matchesTag } from './conditions.ts';
import type { ApiContext, ApiInstance } from './context.ts';
import { HeldMemory } from './held-memory.ts';
import type { RangeQuery, SelectedRange } from './ranges.ts';
import { selectRange } from './ranges.ts';
import { sendBytes } from './send.ts';

export function useBinaryBodies(scope: ApiInstance): void {
  useNoParser(scope);
  scope.addHook('onRequest', async (request) => {
    delete request.raw.headers['content-type'];
    refuseCodings(request.headers);
  });
  scope.addHook('onSend', async ({ raw }, reply) => {
    if (isLastRequest(raw)) reply.header('connection', 'close');
  });
}

/** Coded bytes would be taken for the bytes. @throws MEDIA_TYPE_UNSUPPORTED */
export function refuseCodings(headers: IncomingHttpHeaders): void {
  const content = headers['content-encoding'] ?? 'identity';
  const transfer = headers['transfer-encoding'] ?? 'chunked';
  if (content.trim().toLowerCase() !== 'identity') {
    throw new StorageError('MEDIA_TYPE_UNSUPPORTED', `content coding ${content} is not understood`);
  }
  if (transfer.trim().toLowerCase() !== 'chunked') {
    const detail = `transfer coding ${transfer} is not understood`;
    throw new StorageError('MEDIA_TYPE_UNSUPPORTED', detail);
  }
}

/** Bodies are left unread, until a scope inside says otherwise. */
export function useNoParser(scope: ApiInstance): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (_request, _payload, done) => {
    done(null);
  });
}

export interface BytesSource {
  readonly sizeBytes: number;
  /** Strong; undefined for what changes. */
  readonly tag?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Needed however little is read; undefined: no more than what is read. */
  readonly memoryBytes?: number;
  /** @param memory held meanwhile */
  read(range: SelectedRange, memory: HeldMemory): AsyncIterable<Uint8Array>;
}

/**
 * Answers GET or HEAD with a range of bytes: 200, 206, or 304 if the client has them.
 * @throws RANGE_INVALID, RANGE_NOT_SATISFIABLE, TOO_MANY_REQUESTS
 */
export async function answerBytes(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  source: BytesSource,
  options: { readonly query?: RangeQuery; readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { tag, sizeBytes } = source;
  const { range, 'if-range': ifRange, 'if-none-match': noneMatch } = request.headers;
  if (tag !== undefined) reply.header('etag', tag);
  if (tag !== undefined && noneMatch !== undefined && matchesTag(noneMatch, tag)) {
    await reply.code(304).send();
    return;
  }
  const isCurrent = ifRange === undefined || ifRange === tag;
  const asked = isCurrent ? range : undefined;
  const selected = selectRange(options.query ?? {}, asked, sizeBytes);
  const headers = {
    ...source.headers,
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
    'content-length': String(selected.length),
    ...(selected.isPartial ? { 'content-range': contentRange(selected, sizeBytes) } : {}),
  };
  const answer = { status: selected.isPartial ? 206 : 200, headers };
  const isRead = request.method !== 'HEAD';
  const twoPieces = 2 * context.pieces.pieceBytes;
  const neededBytes = source.memoryBytes ?? Math.min(twoPieces, selected.length);
  const memory = new HeldMemory(context.bodyMemory, isRead ? neededBytes : 0);
  await memory.hold();
  try {
    const slices = isRead ? source.read(selected, memory) : none();
    const signals = options.signal === undefined ? [] : [options.signal];
    const signal = AbortSignal.any([context.cutting, ...signals]);
    await sendBytes(reply, answer, slices, { limits: context.limits, signal, memory });
  } finally {
    memory.release();
  }
}

function contentRange({ offset, length }: SelectedRange, sizeBytes: number): string {
  return `bytes ${offset}-${offset + length - 1}/${sizeBytes}`;
}

async function* none(): AsyncGenerator<Uint8Array, void, undefined> {
  // No slices: the answer of HEAD is its head.
}
