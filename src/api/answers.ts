/**
 * How errors leave: as problems, also while the request's body is still coming.
 *
 * A client may send its whole body before it reads an answer. So the problem is written at once,
 * in full; the response is ended only when the rest of the body has been read and dropped, within
 * bounds. Who sends more than that has the connection closed.
 */
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { errnoOf, StorageError } from '../base/errors.ts';
import { bodyCut, drainBody, isAwaitingContinue } from './body.ts';
import type { ApiLimits } from './limits.ts';
import { problemHeaders, problemOf } from './problem.ts';
import type { Problem } from './problem.ts';
import { headersOf } from './send.ts';

/** A client that was to wait for `100 Continue` needs no time to notice that it got an answer. */
const UNINVITED_IDLE_MS = 2000;

/** Writes the problem and deals with what is left of the body. */
export async function sendProblem(
  request: FastifyRequest,
  reply: FastifyReply,
  error: StorageError,
  limits: ApiLimits,
): Promise<void> {
  const { raw } = reply;
  if (raw.headersSent || raw.destroyed) {
    raw.destroy();
    return;
  }
  const problem = problemOf(error, request.id);
  reply.headers(problemHeaders(error)).code(problem.status);
  if (!hasUnreadBody(request)) {
    await reply.send(Buffer.from(JSON.stringify(problem)));
    return;
  }
  reply.hijack();
  await sendBesideBody(request, reply, problem, limits);
}

async function sendBesideBody(
  request: FastifyRequest,
  reply: FastifyReply,
  problem: Problem,
  limits: ApiLimits,
): Promise<void> {
  const { raw } = reply;
  const body = Buffer.from(JSON.stringify(problem));
  const isUninvited = isAwaitingContinue(request.raw);
  if (isUninvited) reply.header('connection', 'close');
  raw.writeHead(problem.status, { ...headersOf(reply), 'content-length': String(body.length) });
  raw.write(body);
  const idleMs = isUninvited ? UNINVITED_IDLE_MS : limits.drainIdleMs;
  const isDrained = await drainBody(request.raw, { bytes: limits.drainBytes, idleMs });
  raw.end();
  if (!isDrained) closeSoon(raw);
}

/** Sends what is written, then ends the connection, with a moment for the client to read it. */
function closeSoon(response: ServerResponse): void {
  const { socket } = response;
  if (socket === null) return;
  socket.end();
  setTimeout(() => {
    socket.destroy();
  }, 1000).unref();
}

function hasUnreadBody({ raw }: FastifyRequest): boolean {
  if (raw.readableEnded || raw.complete) return false;
  const isChunked = raw.headers['transfer-encoding'] !== undefined;
  return isChunked || Number(raw.headers['content-length'] ?? 0) > 0;
}

/**
 * For the server's `clientError`: what cannot be parsed as HTTP gets a problem, too. A body that
 * ends too early is left to the request that is reading it.
 */
export function answerClientError(error: Error, socket: Duplex, requestId: string): void {
  if (bodyCut(socket)) return;
  if (errnoOf(error) === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = clientProblem(error);
  const body = Buffer.from(JSON.stringify(problemOf(problem, requestId)));
  const { status, title } = problemOf(problem);
  const headers = {
    ...problemHeaders(problem),
    'content-length': String(body.length),
    'x-request-id': requestId,
    connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${title}\r\n${lines.join('')}\r\n`);
  socket.end(body);
  setTimeout(() => {
    socket.destroy();
  }, 1000).unref();
}

function clientProblem(error: Error): StorageError {
  const code = errnoOf(error);
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new StorageError('HEADERS_TOO_LARGE', 'the request line and headers are too long');
  }
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') {
    return new StorageError('BODY_TOO_LARGE', 'the chunk extensions are too long');
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new StorageError('REQUEST_TIMEOUT', 'the headers did not come in time');
  }
  return new StorageError('REQUEST_MALFORMED', 'the request is not valid HTTP/1.1');
}
