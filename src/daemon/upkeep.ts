/**
 * What the daemon does by the clock: flushes what nobody flushed, watches the marks of pools,
 * measures the database, copies it to a second place, drops old records.
 *
 * One heartbeat a second begins the tasks that are due; each runs at most once at a time, and a
 * failure is told and waits for the next turn. At the end of the daemon: `stop`, the pools are
 * closed, `copyNow`.
 *
 * Invariants: (1) a poisoned or unavailable pool is left alone; (2) after `stop` no task uses pools
 * or copies.
 */
import type { Clock } from '../base/clock.ts';
import type { Copies } from '../copy/copies.ts';
import type { Meta } from '../meta/meta.ts';
import type { Pool, PoolState } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';

export interface UpkeepOptions {
  readonly meta: Meta;
  readonly pools: Pools;
  readonly copies: Copies;
  readonly clock: Clock;
  /** Where the copy of the database goes. */
  readonly databaseCopy: string;
  /** How long records of Idempotency-Keys are kept. */
  readonly recordsMs: number;
  readonly onError: (task: string, error: unknown) => void;
  /** A pool has passed a mark, or was poisoned, since the last heartbeat. */
  readonly onState: (pool: Pool) => void;
  /** Time between heartbeats. Default 1 second. */
  readonly beatMs?: number;
}

/** Heartbeats between two turns of a task. */
const MEASURE_EVERY = 5;
const CHECKSUMS_EVERY = 10;
const COPY_EVERY = 600;
const PRUNE_FIRST = 60;
const PRUNE_EVERY = 3600;
const PRUNE_ROWS = 500;

const COPY = 'copy of the metadata';

export class Upkeep {
  readonly #o: UpkeepOptions;
  readonly #running = new Map<string, Promise<void>>();
  readonly #states = new Map<string, PoolState>();
  #timer: NodeJS.Timeout | undefined;
  #beats = 0;
  #metadataBytes = 0;
  /** `meta.commits` when the database was last copied. */
  #copiedCommits: number | undefined;

  constructor(options: UpkeepOptions) {
    this.#o = options;
  }

  /** Size of the database and its WAL, as last measured. */
  get metadataBytes(): number {
    return this.#metadataBytes;
  }

  start(): void {
    this.#begin('measure', () => this.#measure());
    this.#timer = setInterval(() => {
      this.beat();
    }, this.#o.beatMs ?? 1000);
    this.#timer.unref();
  }

  /** One heartbeat. */
  beat(): void {
    const { pools, copies } = this.#o;
    for (const pool of pools.list()) {
      this.#watch(pool);
      if (pool.poison === undefined && !pool.isReadOnly && pool.isDirty) {
        this.#begin(`flush of pool ${pool.name}`, () => pool.flush());
      }
    }
    this.#beats += 1;
    const isDue = (every: number, first = every): boolean => (this.#beats - first) % every === 0;
    if (isDue(MEASURE_EVERY)) this.#begin('measure', () => this.#measure());
    if (isDue(CHECKSUMS_EVERY)) this.#begin('checksums', () => copies.checksums.write());
    if (isDue(COPY_EVERY)) this.#begin(COPY, () => this.#copy());
    if (isDue(PRUNE_EVERY, PRUNE_FIRST)) this.#begin('pruning', () => this.#prune());
  }

  /** Stops the heartbeat and waits for what runs, except a copy of the database. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const others = [...this.#running].filter(([task]) => task !== COPY);
    await Promise.all(others.map(([, work]) => work));
  }

  /**
   * Copies the database, if it has changed since the last copy began. Never throws; closing `meta`
   * ends it.
   */
  async copyNow(): Promise<void> {
    await this.#running.get(COPY);
    this.#begin(COPY, () => this.#copy());
    await this.#running.get(COPY);
  }

  #watch(pool: Pool): void {
    const before = this.#states.get(pool.id) ?? 'ready';
    this.#states.set(pool.id, pool.state);
    if (before !== pool.state) this.#o.onState(pool);
  }

  #begin(task: string, run: () => Promise<void>): void {
    if (this.#running.has(task)) return;
    const work = run()
      .catch((error: unknown) => {
        this.#o.onError(task, error);
      })
      .finally(() => {
        this.#running.delete(task);
      });
    this.#running.set(task, work);
  }

  async #measure(): Promise<void> {
    this.#metadataBytes = await this.#o.meta.sumBytes();
  }

  async #copy(): Promise<void> {
    const { meta, databaseCopy } = this.#o;
    const { commits } = meta;
    if (commits === this.#copiedCommits) return;
    await meta.copyTo(databaseCopy);
    this.#copiedCommits = commits;
  }

  async #prune(): Promise<void> {
    const { meta, clock, recordsMs } = this.#o;
    const beforeMs = clock.nowMs() - recordsMs;
    let count = PRUNE_ROWS;
    while (count === PRUNE_ROWS) {
      count = await meta.deleteOlder('idempotency', beforeMs, PRUNE_ROWS);
    }
  }
}
