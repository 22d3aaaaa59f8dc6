/** /healthz, /readyz, /metrics and the documents: outside /v1 */
import { StorageError } from '../../base/errors.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, operation } from '../operation.ts';
import { HealthSchema } from '../schemas/job.ts';
import { openApi30 } from '../openapi.ts';

const tag = 'service';

/** Open to everybody: they tell nothing about data. */
export function openRoutes(app: ApiInstance, context: ApiContext, version: string): void {
  app.get('/healthz', {
    schema: operation(
      {
        operationId: 'getHealth',
        tag,
        summary: 'The process is alive',
        ok: { 200: json(HealthSchema, 'It is.') },
      },
      {},
    ),
    handler: async () => ({ status: 'ok', version }),
  });
  app.get('/readyz', {
    schema: operation(
      {
        operationId: 'getReadiness',
        tag,
        summary: 'Pools are recovered, requests are served',
        ok: { 200: json(HealthSchema, 'They are.') },
      },
      {},
    ),
    handler: async () => {
      checkReady(context);
      return { status: 'ok', version };
    },
  });
  app.get('/openapi.json', { schema: { hide: true }, handler: async () => app.swagger() });
  app.get('/openapi-3.0.json', { schema: { hide: true }, handler: async () => openApi30() });
}

/** With the token, if there is one. */
export function metricsRoute(app: ApiInstance, { metrics }: ApiContext): void {
  app.get('/metrics', {
    schema: operation(
      {
        operationId: 'getMetrics',
        tag,
        summary: 'Figures for Prometheus',
        ok: {
          200: {
            description: 'Prometheus text format.',
            content: { 'text/plain': { schema: { type: 'string' } } },
          },
        },
      },
      {},
    ),
    handler: async (_request, reply) => {
      reply.type(metrics.registry.contentType);
      return metrics.render();
    },
  });
}

/** @throws RECOVERING, SHUTTING_DOWN */
/** @throws RECOVERING, SHUTTING_DOWN; STORE_READ_ONLY for what is no GET or HEAD, in salvage */
export function checkReady({ services }: ApiContext, method = 'GET'): void {
  const state = services.state();
  if (state === 'recovering') throw new StorageError('RECOVERING', 'the pools are being opened');
  if (state === 'stopping') throw new StorageError('SHUTTING_DOWN', 'the service is shutting down');
  if (state === 'salvage' && method !== 'GET' && method !== 'HEAD') {
    throw new StorageError('STORE_READ_ONLY', 'the store is open read-only, for salvage');
  }
}
