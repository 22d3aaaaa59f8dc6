/**
 * The HTTP interface as one Fastify instance over the services.
 *
 * Scopes, from the outside in: everybody (health, documents) → with the token (metrics, /v1) → in
 * /v1 only while ready → bodies of JSON, or of bytes. What a request may do follows from where its
 * route is registered, never from looking at its URL.
 */
import { setMaxListeners } from 'node:events';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, { LogController } from 'fastify';
import type { FastifyBaseLogger, FastifyRequest } from 'fastify';
import type { Clock } from '../base/clock.ts';
import { systemClock, uuidv7 } from '../base/clock.ts';
import { answerClientError } from './answers.ts';
import { Guard } from './auth.ts';
import { useBinaryBodies, useNoParser } from './binary.ts';
import { handleExpectations } from './body.ts';
import { BodyMemory, PiecePool } from './byte-budget.ts';
import type { ApiContext, ApiInstance } from './context.ts';
import {
  AllowedMethods,
  answerErrors,
  refuseHostless,
  sendFrameworkError,
} from './error-handling.ts';
import { Idempotency } from './idempotency.ts';
import { useJsonBodies } from './json-body.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import { defaultLimits } from './limits.ts';
import type { ApiLimits } from './limits.ts';
import { Metrics } from './metrics.ts';
import { documentPolicy, swaggerOptions } from './openapi.ts';
import { observeRequests } from './request-log.ts';
import { backupRoutes } from './routes/backups.ts';
import { checkRoutes } from './routes/check.ts';
import { copyDataRoutes, copyTableRoutes } from './routes/copy-data.ts';
import { copyRoutes } from './routes/copies.ts';
import { diskDataRoutes, diskTableRoutes } from './routes/disk-data.ts';
import { diskRoutes } from './routes/disks.ts';
import { groupWorkRoutes } from './routes/group-work.ts';
import { groupRoutes } from './routes/groups.ts';
import { jobRoutes } from './routes/jobs.ts';
import { limitRoutes } from './routes/limits.ts';
import { poolRoutes } from './routes/pools.ts';
import { retentionRoutes } from './routes/retention.ts';
import { restoreRoutes, uploadRoutes } from './routes/restores.ts';
import { checkReady, metricsRoute, openRoutes } from './routes/service.ts';
import { scheduleRoutes } from './routes/schedules.ts';
import { mediaRoutes } from './routes/media.ts';
import { targetRoutes } from './routes/targets.ts';
import { namedSchemas } from './schemas/registry.ts';
import type { Services } from './services.ts';
import { validatorCompiler } from './validation.ts';

export interface ApiDeps {
  readonly services: Services;
  readonly logger: FastifyBaseLogger;
  readonly version: string;
  /** Undefined: only this machine may come in. */
  readonly token?: string | undefined;
  readonly clock?: Clock;
  readonly limits?: Partial<ApiLimits>;
}

/** Ready to `listen` or to `inject`. `close` ends long polls, then lets requests end in time. */
export async function buildApp(deps: ApiDeps): Promise<ApiInstance> {
  const clock = deps.clock ?? systemClock;
  const limits = { ...defaultLimits, ...deps.limits };
  const guard = new Guard(deps.token);
  const app = newInstance(deps.logger, limits, clock);
  const context = newContext(app, deps, { clock, limits, guard });
  const methods = new AllowedMethods(app);
  answerErrors(app, methods, limits);
  observeRequests(app, context);
  refuseHostless(app);
  useNoParser(app);
  for (const schema of namedSchemas) app.addSchema(schema);
  await app.register(swagger, swaggerOptions(deps.version));
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: documentPolicy });
  openRoutes(app, context, deps.version);
  await app.register(async (scope: ApiInstance) => {
    requireToken(scope, guard);
    metricsRoute(scope, context);
  });
  await app.register(
    async (v1: ApiInstance) => {
      requireToken(v1, guard);
      v1.addHook('onRequest', async ({ method }) => {
        checkReady(context, method);
      });
      methods.answerUnknown(v1);
      await addResources(v1, context);
    },
    { prefix: '/v1' },
  );
  return app;
}

function newInstance(logger: FastifyBaseLogger, limits: ApiLimits, clock: Clock): ApiInstance {
  const requestId = (given: unknown): string => {
    if (typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given)) return given;
    return uuidv7(clock);
  };
  const app = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: ({ headers }) => requestId(headers['x-request-id']),
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    connectionTimeout: 0,
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    routerOptions: { maxParamLength: 255 },
    http: {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headersTimeoutMs,
      // how often it is looked for headers that are late
      connectionsCheckingInterval: Math.ceil(limits.headersTimeoutMs / 30),
      // Node would answer without a body; refuseHostless does with a problem
      requireHostHeader: false,
    },
    clientErrorHandler: (error, socket) => {
      answerClientError(error, socket, uuidv7(clock));
    },
    frameworkErrors: (error, request, reply) => {
      void sendFrameworkError(request, reply, error, limits);
    },
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.server.maxConnections = limits.connections;
  handleExpectations(app.server);
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  return app;
}

function requireToken(scope: ApiInstance, guard: Guard): void {
  scope.addHook('onRequest', async ({ headers }: FastifyRequest) => {
    guard.check(headers);
  });
}

async function addResources(v1: ApiInstance, context: ApiContext): Promise<void> {
  await v1.register(async (json: ApiInstance) => {
    useJsonBodies(json, context.limits);
    poolRoutes(json, context);
    diskRoutes(json, context);
    diskTableRoutes(json, context);
    limitRoutes(json, context);
    copyRoutes(json, context);
    copyTableRoutes(json, context);
    groupRoutes(json, context);
    groupWorkRoutes(json, context);
    targetRoutes(json, context);
    mediaRoutes(json, context);
    backupRoutes(json, context);
    restoreRoutes(json, context);
    retentionRoutes(json, context);
    scheduleRoutes(json, context);
    jobRoutes(json, context);
    checkRoutes(json, context);
  });
  await v1.register(async (binary: ApiInstance) => {
    useBinaryBodies(binary);
    diskDataRoutes(binary, context);
    copyDataRoutes(binary, context);
    uploadRoutes(binary, context);
  });
}

function newContext(
  app: ApiInstance,
  { services }: ApiDeps,
  { clock, limits, guard }: { clock: Clock; limits: ApiLimits; guard: Guard },
): ApiContext {
  const stopping = new AbortController();
  const cutting = new AbortController();
  setMaxListeners(0, stopping.signal, cutting.signal);
  const metrics = new Metrics(clock, services);
  const idempotency = new Idempotency(services, clock, limits.idempotencyMs);
  let grace: NodeJS.Timeout | undefined;
  app.addHook('preClose', async () => {
    stopping.abort();
    grace = setTimeout(() => {
      cutting.abort();
      setTimeout(() => {
        app.server.closeAllConnections();
      }, 1000).unref();
    }, limits.shutdownGraceMs);
  });
  app.addHook('onClose', async () => {
    clearTimeout(grace);
    metrics.close();
  });
  return {
    services,
    clock,
    limits,
    metrics,
    idempotency,
    changes: new KeyedMutex(),
    bodyMemory: new BodyMemory(limits),
    pieces: new PiecePool(limits.pieceBytes),
    stopping: stopping.signal,
    cutting: cutting.signal,
    tokenScope: guard.scope,
  };
}
