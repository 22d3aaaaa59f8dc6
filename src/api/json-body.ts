/**
 * Bodies of the routes that talk JSON: bounded in size and time, empty means absent.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { StorageError } from '../base/errors.ts';
import { refuseCodings } from './binary.ts';
import { bodyLength, BodyReader, readWhole, tooLarge } from './body.ts';
import type { ApiInstance } from './context.ts';
import type { ApiLimits } from './limits.ts';

/** As they came, for the digest of an Idempotency-Key. */
const rawBodies = new WeakMap<IncomingMessage, Buffer>();

export function rawBodyOf(request: IncomingMessage): Buffer | undefined {
  return rawBodies.get(request);
}

/** Sets the parsers of this scope. */
export function useJsonBodies(scope: ApiInstance, limits: ApiLimits): void {
  scope.removeAllContentTypeParsers();
  scope.addHook('onRequest', async (request) => {
    // A type without a body says nothing, and must not fail for being unknown.
    if (bodyLength(request.raw) === 0) delete request.raw.headers['content-type'];
    else refuseCodings(request.headers);
  });
  scope.addContentTypeParser(
    /^application\/([\w.+-]+\+)?json(;|$)/,
    async (request: FastifyRequest) => {
      return parse(await readBody(request, limits), request.raw);
    },
  );
  scope.addContentTypeParser('*', async (request: FastifyRequest) => {
    await refuseBody(request, limits);
  });
  scope.addHook('preValidation', async ({ body, routeOptions }) => {
    if (routeOptions.schema?.body !== undefined || isEmpty(body)) return;
    throw new StorageError('VALIDATION_FAILED', 'this request takes no body');
  });
}

async function readBody({ raw }: FastifyRequest, limits: ApiLimits): Promise<Buffer> {
  const maxBytes = limits.jsonBodyBytes;
  if ((bodyLength(raw) ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const reader = new BodyReader(raw, limits);
  const timer = setTimeout(() => {
    reader.cut('the body did not come in time');
  }, limits.jsonBodyTimeoutMs);
  try {
    return await readWhole(reader, maxBytes);
  } finally {
    clearTimeout(timer);
    reader.release();
  }
}

/** @throws MEDIA_TYPE_UNSUPPORTED unless there is no byte of it */
async function refuseBody({ raw, headers }: FastifyRequest, limits: ApiLimits): Promise<void> {
  const type = headers['content-type'] ?? 'none';
  const refusal = new StorageError(
    'MEDIA_TYPE_UNSUPPORTED',
    `application/json is understood, not ${type}`,
  );
  if (bodyLength(raw) !== undefined) throw refusal;
  const reader = new BodyReader(raw, limits);
  try {
    await reader.forEach(() => {
      throw refusal;
    });
  } finally {
    reader.release();
  }
}

/** Of text in UTF-8. A key `__proto__` is an ordinary, unknown field: JSON.parse makes it own. */
function parse(bytes: Buffer, request: IncomingMessage): unknown {
  if (bytes.length === 0) return undefined;
  rawBodies.set(request, bytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : 'it is not UTF-8';
    throw new StorageError('MALFORMED_BODY', `the body is not valid JSON: ${reason}`);
  }
  if (value !== null) return value;
  throw new StorageError('VALIDATION_FAILED', 'body must be an object, not null');
}

function isEmpty(body: unknown): boolean {
  if (body === undefined || body === null) return true;
  return typeof body === 'object' && !Array.isArray(body) && Object.keys(body).length === 0;
}
