/**
 * Every way for a request to fail, turned into a problem: ours, Fastify's, unknown paths, methods.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { errnoOf, isStorageError, StorageError } from '../base/errors.ts';
import { sendProblem } from './answers.ts';
import type { ApiInstance } from './context.ts';
import type { ApiLimits } from './limits.ts';
import { problemKinds } from './problem.ts';

export function answerErrors(app: ApiInstance, methods: AllowedMethods, limits: ApiLimits): void {
  app.setErrorHandler(async (error, request, reply) => {
    const known = asProblem(error);
    const { status, retryable } = problemKinds[known.code];
    // a full pool or a stop is for the client to wait out, all else for the operator to see
    if (status >= 500) request.log[retryable ? 'warn' : 'error']({ err: error }, known.message);
    await sendProblem(request, reply, known, limits);
    return reply;
  });
  methods.answerUnknown(app);
}

/** Of URLs that the router cannot take: before any hook, so without one. */
export async function sendFrameworkError(
  request: FastifyRequest,
  reply: FastifyReply,
  error: Error,
  limits: ApiLimits,
): Promise<void> {
  reply.header('x-request-id', request.id);
  const isTooLong = errnoOf(error) === 'FST_ERR_MAX_PARAM_LENGTH';
  const known = isTooLong
    ? new StorageError('ROUTE_NOT_FOUND', 'a part of the path is too long')
    : new StorageError('REQUEST_MALFORMED', 'the URL is not valid');
  await sendProblem(request, reply, known, limits);
}

function asProblem(error: unknown): StorageError {
  if (isStorageError(error)) return error;
  const code = errnoOf(error) ?? '';
  const status =
    error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : undefined;
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE' || status === 415) {
    return new StorageError('MEDIA_TYPE_UNSUPPORTED', 'the content type is not understood');
  }
  // the files of /docs
  if (status === 403 || status === 404) {
    return new StorageError('ROUTE_NOT_FOUND', 'there is no such path', {}, error);
  }
  if (status !== undefined && status >= 400 && status < 500) {
    const detail = error instanceof Error ? error.message : 'the request is not valid';
    return new StorageError('REQUEST_MALFORMED', detail, {}, error);
  }
  return new StorageError('INTERNAL', 'an error inside the service; see its log', {}, error);
}

/** RFC 9112, 3.2: a request of HTTP/1.1 names its host. */
export function refuseHostless(app: ApiInstance): void {
  app.addHook('onRequest', async ({ raw, headers }, reply) => {
    if (headers.host !== undefined || raw.httpVersion !== '1.1') return;
    reply.header('connection', 'close');
    throw new StorageError('REQUEST_MALFORMED', 'the request has no Host');
  });
}

/** Which methods each registered path knows. */
export class AllowedMethods {
  readonly #routes: { readonly pattern: RegExp; readonly methods: Set<string> }[] = [];

  constructor(app: ApiInstance) {
    app.addHook('onRoute', ({ url, method }) => {
      const source = url
        .split('/')
        .map((part) =>
          part.startsWith(':') ? '[^/]+' : part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'),
        )
        .join('/')
        .replaceAll('\\*', '.*');
      const methods = new Set([method].flat());
      this.#routes.push({ pattern: new RegExp(`^${source}$`), methods });
    });
    app.addHook('onRequest', async (request) => {
      // Nothing is parsed for a path that does not exist, whatever its body claims to be.
      if (request.is404) delete request.raw.headers['content-type'];
    });
    app.addHook('preParsing', async (request) => {
      // the router takes /disks/ for a disk without a name
      const { params } = request;
      const parts = typeof params === 'object' && params !== null ? Object.values(params) : [];
      if (parts.includes('')) throw this.#refusal(request);
    });
  }

  /** 404, or 405 with Allow, for what no route of this scope takes. */
  answerUnknown(scope: ApiInstance): void {
    scope.setNotFoundHandler((request) => {
      throw this.#refusal(request);
    });
  }

  #refusal({ url, method }: FastifyRequest): StorageError {
    const path = url.split('?')[0] ?? '';
    const found = this.#routes.filter(({ pattern }) => pattern.test(path));
    const allow = [...new Set(found.flatMap(({ methods }) => [...methods]))].sort();
    if (allow.length === 0 || allow.includes(method)) {
      return new StorageError('ROUTE_NOT_FOUND', `there is no path ${path}`);
    }
    return new StorageError('METHOD_NOT_ALLOWED', `${method} is not supported for ${path}`, {
      allow,
    });
  }
}
