/**
 * What `/metrics` shows, in a registry of its own (Prometheus text format).
 *
 * Counters and histograms are fed by the requests; gauges of pools and jobs are read when asked.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Clock } from '../base/clock.ts';
import { liveStates } from '../job/job.ts';
import { showDrives } from './drive-metrics.ts';
import type { Services } from './services.ts';

export type IoOperation = 'read' | 'write' | 'discard' | 'flush';

const NS_PER_SECOND = 1e9;
const SECONDS = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30];

const poolFigures = {
  capacity: 'capacityBytes',
  allocated: 'allocatedBytes',
  free: 'freeBytes',
  provisioned: 'provisionedBytes',
  reserved: 'reservedBytes',
  pending_free: 'pendingFreeBytes',
} as const;

const filledFigures = {
  blocks: 'Blocks that dedicated copies were filled with.',
  runs: 'Physically consecutive runs in which they were.',
} as const;

export class Metrics {
  readonly registry = new Registry();
  readonly #clock: Clock;
  readonly #services: Services;
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 20 });
  readonly #requests: Counter<'method' | 'route' | 'status'>;
  readonly #requestSeconds: Histogram<'method' | 'route'>;
  readonly #ioBytes: Counter<'operation'>;
  readonly #ioSeconds: Histogram<'operation'>;
  readonly #pools: Gauge<'pool' | 'figure'>;
  readonly #poolState: Gauge<'pool' | 'state'>;
  readonly #metadata = new Gauge({
    name: 'spindle_metadata_bytes',
    help: 'Bytes of the database, which holds the tables of all pools.',
    registers: [this.registry],
  });
  readonly #jobs: Gauge<'state'>;
  readonly #ready: Gauge;
  readonly #loopDelaySeconds: Gauge;
  readonly #residentBytes: Gauge;
  readonly #scheduleSuccess = new Gauge({
    name: 'spindle_schedule_last_success_timestamp_seconds',
    help: 'When the last run of a schedule that succeeded ended, seconds since 1970; 0: none yet.',
    labelNames: ['schedule'],
    registers: [this.registry],
  });

  constructor(clock: Clock, services: Services) {
    this.#clock = clock;
    this.#services = services;
    this.#loopDelay.enable();
    const registers = [this.registry];
    this.#requests = new Counter({
      name: 'spindle_http_requests_total',
      help: 'Requests answered, by method, route and status.',
      labelNames: ['method', 'route', 'status'],
      registers,
    });
    this.#requestSeconds = new Histogram({
      name: 'spindle_http_request_duration_seconds',
      help: 'Time from the request line to the last byte of the answer.',
      labelNames: ['method', 'route'],
      buckets: SECONDS,
      registers,
    });
    this.#ioBytes = new Counter({
      name: 'spindle_disk_io_bytes_total',
      help: 'Bytes of disks and copies read, written and discarded by data requests.',
      labelNames: ['operation'],
      registers,
    });
    this.#ioSeconds = new Histogram({
      name: 'spindle_disk_io_duration_seconds',
      help: 'Time of one engine operation of data requests.',
      labelNames: ['operation'],
      buckets: SECONDS,
      registers,
    });
    this.#pools = new Gauge({
      name: 'spindle_pool_bytes',
      help: 'Bytes of a pool, by figure.',
      labelNames: ['pool', 'figure'],
      registers,
    });
    this.#poolState = new Gauge({
      name: 'spindle_pool_state',
      help: '1 for the state that a pool is in.',
      labelNames: ['pool', 'state'],
      registers,
    });
    this.#jobs = new Gauge({
      name: 'spindle_jobs',
      help: 'Jobs that have not ended, by state.',
      labelNames: ['state'],
      registers,
    });
    countFilled(this.registry, services);
    showDrives(this.registry, services);
    this.#ready = new Gauge({
      name: 'spindle_ready',
      help: '1 while requests are served.',
      registers,
    });
    this.#loopDelaySeconds = new Gauge({
      name: 'spindle_event_loop_delay_p99_seconds',
      help: 'Delay of the event loop, 99th percentile since the last scrape.',
      registers,
    });
    this.#residentBytes = new Gauge({
      name: 'process_resident_memory_bytes',
      help: 'Resident memory of the process.',
      registers,
    });
  }

  /** Nanoseconds of the monotonic clock, for `observe…`. */
  now(): bigint {
    return this.#clock.monotonicNs();
  }

  #secondsSince(startNs: bigint): number {
    return Number(this.#clock.monotonicNs() - startNs) / NS_PER_SECOND;
  }

  observeRequest(method: string, route: string, status: number, startNs: bigint): void {
    this.#requests.inc({ method, route, status });
    this.#requestSeconds.observe({ method, route }, this.#secondsSince(startNs));
  }

  /** Runs one engine operation and counts its bytes and time. Failures are timed, not counted. */
  async io<T>(operation: IoOperation, bytes: number, run: () => Promise<T>): Promise<T> {
    const startNs = this.now();
    try {
      const result = await run();
      this.#ioBytes.inc({ operation }, bytes);
      return result;
    } finally {
      this.#ioSeconds.observe({ operation }, this.#secondsSince(startNs));
    }
  }

  /** All figures as Prometheus text. Cost: a look at every pool and job. */
  async render(): Promise<string> {
    this.#loopDelaySeconds.set(this.#loopDelay.percentile(99) / NS_PER_SECOND);
    this.#loopDelay.reset();
    this.#residentBytes.set(process.memoryUsage.rss());
    const isReady = this.#services.state() === 'ready';
    this.#ready.set(isReady ? 1 : 0);
    this.#pools.reset();
    this.#poolState.reset();
    this.#jobs.reset();
    this.#scheduleSuccess.reset();
    if (isReady) {
      this.#collectPools();
      this.#collectJobs();
      for (const { name, lastSuccessAtMs } of this.#services.schedules.list()) {
        this.#scheduleSuccess.set({ schedule: name }, (lastSuccessAtMs ?? 0) / 1000);
      }
    }
    return this.registry.metrics();
  }

  #collectPools(): void {
    for (const pool of this.#services.pools.list()) {
      for (const [figure, key] of Object.entries(poolFigures)) {
        this.#pools.set({ pool: pool.name, figure }, pool[key]);
      }
      this.#poolState.set({ pool: pool.name, state: pool.state }, 1);
      this.#metadata.set(pool.metadataBytes);
    }
  }

  #collectJobs(): void {
    const live = this.#services.jobs.liveJobs();
    for (const state of liveStates) {
      this.#jobs.set({ state }, live.filter((job) => job.state === state).length);
    }
  }

  close(): void {
    this.#loopDelay.disable();
    this.registry.clear();
  }
}

/** How contiguous dedicated copies come to lie: blocks by runs. */
function countFilled(registry: Registry, services: Services): void {
  for (const [figure, help] of Object.entries(filledFigures)) {
    const isBlocks = figure === 'blocks';
    new Counter({
      name: `spindle_copy_data_${figure}_total`,
      help,
      registers: [registry],
      collect() {
        const { blocks, runs } = services.copies.contiguity;
        this.reset();
        this.inc(isBlocks ? blocks : runs);
      },
    });
  }
}
