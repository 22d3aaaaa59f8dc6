/**
 * One line in the log and one count for each request, and the bound on how many run at once.
 */
import { StorageError } from '../base/errors.ts';
import type { ApiContext, ApiInstance } from './context.ts';

export function observeRequests(app: ApiInstance, context: ApiContext): void {
  const { metrics, limits, stopping } = context;
  let inFlight = 0;
  app.addHook('onRequest', async (request, reply) => {
    const startNs = metrics.now();
    inFlight += 1;
    reply.header('x-request-id', request.id);
    if (stopping.aborted) reply.header('connection', 'close');
    reply.raw.once('close', () => {
      inFlight -= 1;
      const route = request.routeOptions.url ?? 'unknown';
      const { method } = request;
      const status = reply.raw.writableFinished ? reply.raw.statusCode : 499;
      metrics.observeRequest(method, route, status, startNs);
      const ms = Number(metrics.now() - startNs) / 1e6;
      request.log.info({ method, url: request.url, status, ms }, 'request');
    });
    if (inFlight > limits.requestsInFlight) {
      throw new StorageError('TOO_MANY_REQUESTS', 'too many requests are in progress');
    }
  });
}
