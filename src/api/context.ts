/**
 * What every route is given, and the Fastify instance with its types.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import type { Clock } from '../base/clock.ts';
import type { BodyMemory, PiecePool } from './byte-budget.ts';
import type { Idempotency } from './idempotency.ts';
import type { KeyedMutex } from './keyed-mutex.ts';
import type { ApiLimits } from './limits.ts';
import type { Metrics } from './metrics.ts';
import type { Services } from './services.ts';

export type ApiInstance = FastifyInstance<
  Server,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface ApiContext {
  readonly services: Services;
  readonly clock: Clock;
  readonly limits: ApiLimits;
  readonly metrics: Metrics;
  readonly idempotency: Idempotency;
  /** Changes of one object follow each other, so that If-Match and the change are one step. */
  readonly changes: KeyedMutex;
  readonly bodyMemory: BodyMemory;
  readonly pieces: PiecePool;
  /** Fires when the service begins to stop: long polls end. */
  readonly stopping: AbortSignal;
  /** Fires when the time for that is over: what still moves bytes is cut. */
  readonly cutting: AbortSignal;
  /** Names the token of all requests in records. */
  readonly tokenScope: string;
}
