/**
 * Bounds on everything that a client can make grow or make last.
 */
import { GIB, KIB, MIB } from '../base/units.ts';

export interface ApiLimits {
  readonly jsonBodyBytes: number;
  /** All or nothing up to here; also the most that one engine write takes. */
  readonly wholeBodyBytes: number;
  /** Streams are cut into pieces of this size on the grid of the disk's offsets. */
  readonly pieceBytes: number;
  /** Memory of all larger bodies in hand at once; who needs more waits. */
  readonly bodyMemoryBytes: number;
  /** The same for bodies of at most 256 KiB. */
  readonly smallBodyMemoryBytes: number;
  /** Data requests that may wait for that memory; more get 429. */
  readonly waitingForMemory: number;
  /** They wait so long, then they get 429, too. */
  readonly memoryWaitMs: number;
  /** While somebody waits for memory: who moves less than `slowBytes` in this time is ended. */
  readonly slowWindowMs: number;
  readonly slowBytes: number;
  /** Requests in progress at once; more get 429. */
  readonly requestsInFlight: number;
  readonly connections: number;
  readonly headerBytes: number;
  readonly headersTimeoutMs: number;
  readonly jsonBodyTimeoutMs: number;
  /** Less than `progressBytes` moved for so long, in either direction: the request is over. */
  readonly idleTimeoutMs: number;
  readonly progressBytes: number;
  readonly keepAliveTimeoutMs: number;
  /** Of a refused body, so much is read and dropped, so that the client sees the refusal. */
  readonly drainBytes: number;
  readonly drainIdleMs: number;
  /** Cap of `Prefer: wait`. */
  readonly longPollMs: number;
  /** How long requests may go on after a stop was asked for. */
  readonly shutdownGraceMs: number;
  readonly idempotencyMs: number;
}

export const defaultLimits: ApiLimits = {
  jsonBodyBytes: MIB,
  wholeBodyBytes: 4 * MIB,
  pieceBytes: MIB,
  bodyMemoryBytes: 40 * MIB,
  smallBodyMemoryBytes: 8 * MIB,
  waitingForMemory: 256,
  memoryWaitMs: 5_000,
  slowWindowMs: 2_000,
  slowBytes: 128 * KIB,
  requestsInFlight: 512,
  connections: 1024,
  headerBytes: 16 * KIB,
  headersTimeoutMs: 30_000,
  jsonBodyTimeoutMs: 30_000,
  idleTimeoutMs: 60_000,
  progressBytes: 64 * KIB,
  keepAliveTimeoutMs: 72_000,
  drainBytes: GIB,
  drainIdleMs: 30_000,
  longPollMs: 300_000,
  shutdownGraceMs: 5_000,
  idempotencyMs: 24 * 60 * 60 * 1000,
};
