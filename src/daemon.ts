/**
 * The composition root: makes the parts, opens them in order, closes them in reverse.
 *
 *  1. The data directory is locked; only then is anything else touched.
 *  2. The database is opened, and every part made upon it. Nothing is read yet.
 *  3. The interface listens; its state is `recovering`, so /v1 answers 503 RECOVERING.
 *  4. Pools, disks, copies, targets and backups are read; a first start makes the default pool;
 *     jobs of the last life are taken up.
 *  5. `ready`.
 *
 * Invariants:
 *  1. Whatever was opened is closed, also if a later step fails, and each close has its time.
 *  2. Requests have ended before jobs are parked, jobs before pools are closed, pools before the
 *     database, and the lock is given up last.
 */
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { defaultLimits } from './api/limits.ts';
import { isRetryable } from './api/problem.ts';
import type { Services } from './api/services.ts';
import { buildApp } from './api/app.ts';
import { Work } from './backup/work.ts';
import { systemClock, systemSleep } from './base/clock.ts';
import { StorageError, errnoOf } from './base/errors.ts';
import type { Config } from './config.ts';
import { ConfigError } from './config.ts';
import { Copies } from './copy/copies.ts';
import { Closers } from './daemon/closers.ts';
import { CATALOGS_FOLDER, DataDir } from './daemon/data-dir.ts';
import { makeDefaultPool } from './daemon/default-pool.ts';
import { Upkeep } from './daemon/upkeep.ts';
import { packageVersion } from './daemon/version.ts';
import { Disks } from './disk/disks.ts';
import { Generations } from './disk/generations.ts';
import { Names } from './disk/names.ts';
import { RowJobStore } from './job/row-job-store.ts';
import type { JobKindName } from './job/job.ts';
import { JobRunner } from './job/runner.ts';
import { Meta } from './meta/meta.ts';
import { runOnSnapshot } from './meta/snapshot-task.ts';
import { blockFileSystem } from './pool/block-file.ts';
import type { RowChange } from './pool/metadata-store.ts';
import type { Pool } from './pool/pool.ts';
import { Pools } from './pool/pools.ts';
import { Schedules } from './schedule/schedules.ts';
import { BackupService } from './services/backups.ts';
import { CheckService } from './services/check.ts';
import { CopyService } from './services/copies.ts';
import { GroupService } from './services/groups.ts';
import { ImageService } from './services/images.ts';
import { Paths } from './services/paths.ts';
import { PoolService } from './services/pools.ts';
import { RestoreService } from './services/restores.ts';
import { RetentionService } from './services/retention.ts';
import { ScheduleService } from './services/schedules.ts';
import { TargetService } from './services/targets.ts';

export interface DaemonOptions {
  readonly config: Config;
  readonly log: Logger;
  /** After this the process can only end; what was acknowledged is durable. */
  readonly onFatal: (error: unknown) => void;
}

/** How long each part may take to close; together less than the end that main.ts sets. */
const limitsMs = {
  interface: 8_000,
  schedules: 500,
  jobs: 6_000,
  pools: 10_000,
  copy: 3_000,
  metadata: 3_000,
  directory: 500,
} as const;
/** Runs that have not stopped by then go on from their checkpoints in the next life. */
const JOBS_PARK_MS = 5_000;

/** Everything upon one open database. */
export interface Parts {
  readonly meta: Meta;
  readonly pools: Pools;
  readonly disks: Disks;
  readonly copies: Copies;
  readonly paths: Paths;
  readonly work: Work;
  readonly schedules: Schedules;
  readonly check: CheckService;
  readonly runner: JobRunner<RowChange>;
}

export interface PartsOptions {
  readonly meta: Meta;
  /** Of the database that `meta` has open. */
  readonly database: string;
  readonly roots: readonly string[];
  readonly devices: readonly string[];
  /** Files that no pool or target may touch. */
  readonly own: readonly string[];
  /** Pools are opened only to be read. */
  readonly salvage?: boolean;
  /** An error of work that no caller waits for. */
  readonly onError: (task: string, error: unknown) => void;
}

export class Daemon {
  readonly #o: DaemonOptions;
  readonly #closers = new Closers();
  #state: ReturnType<Services['state']> = 'recovering';
  #starting: Promise<void> | undefined;
  #stopping: Promise<boolean> | undefined;
  #url = '';

  constructor(options: DaemonOptions) {
    this.#o = options;
  }

  /** Where the interface listens, such as `http://127.0.0.1:8470`; empty before it does. */
  get url(): string {
    return this.#url;
  }

  /**
   * Resolves when requests are served. If it fails, all that was opened is closed again.
   * @throws STORE_LOCKED, METADATA_…, POOL_…, HOST_FULL, SHUTTING_DOWN (stopped meanwhile)
   */
  async start(): Promise<void> {
    this.#starting ??= this.#start();
    await this.#starting;
  }

  /** Ends requests, parks jobs, flushes and closes. Idempotent. @returns whether all went well */
  async stop(): Promise<boolean> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #start(): Promise<void> {
    const { config, log } = this.#o;
    const begin = systemClock.monotonicNs();
    try {
      const dataDir = await DataDir.open(config.dataDir);
      this.#closers.add('data directory', limitsMs.directory, () => dataDir.close());
      const meta = await Meta.open({ path: dataDir.database, onFatal: this.#o.onFatal });
      this.#closers.add('metadata', limitsMs.metadata, () => meta.close());
      const { parts, upkeep } = this.#make(meta, dataDir);
      await this.#listen(servicesOf(parts, this.#view(upkeep)));
      const pool = { path: dataDir.defaultPool, sizeBytes: config.poolBytes };
      if (config.salvage) await readParts(parts);
      else await openParts(parts, () => makeDefaultPool(parts.pools, meta, pool));
      if (!config.salvage) {
        upkeep.start();
        parts.schedules.start();
      }
      this.#checkGoingOn();
      this.#state = config.salvage ? 'salvage' : 'ready';
      if (!meta.cleanBefore) this.#checkSoon(parts.check);
      const ms = Math.round(Number(systemClock.monotonicNs() - begin) / 1e6);
      log.info({ url: this.#url, ms, cleanBefore: meta.cleanBefore }, 'ready');
    } catch (error) {
      this.#state = 'stopping';
      await this.#close();
      throw error;
    }
  }

  async #stop(): Promise<boolean> {
    this.#state = 'stopping';
    // what is being opened is opened whole; a failure has its own way
    await this.#starting?.catch(() => undefined);
    return this.#close();
  }

  async #close(): Promise<boolean> {
    return this.#closers.closeAll((part, err) => {
      if (err === undefined) this.#o.log.debug({ part }, 'closed');
      else this.#o.log.error({ part, err }, 'a part was not closed in good order');
    });
  }

  /** @throws SHUTTING_DOWN */
  #checkGoingOn(): void {
    if (this.#stopping === undefined) return;
    throw new StorageError('SHUTTING_DOWN', 'stopped before everything was open');
  }

  /** Makes every part and says how it is closed. Nothing is read yet. */
  #make(meta: Meta, dataDir: DataDir): { parts: Parts; upkeep: Upkeep } {
    const { roots, devices, metadataCopy: databaseCopy = dataDir.databaseCopy } = this.#o.config;
    const { database } = dataDir;
    const own = [...dataDir.own, databaseCopy];
    const onError = (task: string, error: unknown): void => {
      this.#o.log.error({ err: error, task }, 'work in the background failed');
    };
    const { salvage } = this.#o.config;
    const parts = makeParts({ meta, database, roots, devices, own, salvage, onError });
    const { pools, disks, copies, runner, schedules } = parts;
    const recordsMs = defaultLimits.idempotencyMs;
    const clock = systemClock;
    const onState = (pool: Pool): void => {
      const facts = { pool: pool.name, state: pool.state, freeBytes: pool.freeBytes };
      this.#o.log.warn({ ...facts, cause: pool.poison?.message }, 'a pool has another state');
    };
    const upkeep = new Upkeep({
      ...{ meta, pools, copies, clock, databaseCopy, recordsMs },
      onState,
      onError,
    });
    if (!this.#o.config.salvage) {
      this.#closers.add('copy of the metadata', limitsMs.copy, () => upkeep.copyNow());
    }
    this.#closers.add('pools', limitsMs.pools, async () => {
      await upkeep.stop();
      await disks.stop();
      await copies.stop();
      await pools.close();
    });
    this.#closers.add('jobs', limitsMs.jobs, () => runner.shutdown(JOBS_PARK_MS));
    this.#closers.add('schedules', limitsMs.schedules, () => schedules.stop());
    return { parts, upkeep };
  }

  /** After an unclean end a look at the store, beside its work; what it finds is in the log. */
  #checkSoon(check: CheckService): void {
    const { log } = this.#o;
    void check.quick().then(
      ({ ok, findings }) => {
        if (!ok) log.error({ findings }, 'the store is damaged');
      },
      (error: unknown) => {
        if (this.#stopping === undefined) log.error({ err: error }, 'the check could not be made');
      },
    );
  }

  #view(upkeep: Upkeep): Parameters<typeof servicesOf>[1] {
    return { state: () => this.#state, metadataBytes: () => upkeep.metadataBytes };
  }

  /** From here on requests are answered: 503 until all is open. */
  async #listen(services: Services): Promise<void> {
    const { host, port, token } = this.#o.config;
    const app = await buildApp({ services, token, logger: this.#o.log, version: packageVersion() });
    this.#closers.add('interface', limitsMs.interface, () => app.close());
    try {
      this.#url = await app.listen({ host, port });
    } catch (error) {
      const reason = errnoOf(error) ?? 'unknown';
      throw new ConfigError(`cannot listen on ${host}, port ${port}: ${reason}`);
    }
  }
}

/** Makes every part. Nothing is read or written yet. */
export function makeParts(o: PartsOptions): Parts {
  const { meta } = o;
  const engine = makeEngine(meta, {
    salvage: o.salvage ?? false,
    onError: (error) => {
      o.onError('engine', error);
    },
    endJob: (job) => work.backups.endJob(job),
  });
  const { pools, copies } = engine;
  const paths: Paths = new Paths({
    roots: o.roots,
    devices: o.devices,
    own: o.own,
    poolFiles: () => pools.list().flatMap((pool) => pool.files.files.map(({ path }) => path)),
    targetFolders: () => work.targets.list().map(({ path }) => path),
  });
  const work: Work = new Work({
    store: meta,
    clock: systemClock,
    copies,
    resolvePath: (path, kind) => (kind === 'tape' ? paths.forDevice(path) : paths.forTarget(path)),
    catalogs: join(dirname(o.database), CATALOGS_FOLDER),
    runner: () => runner,
    onError: (error) => {
      o.onError('backups', error);
    },
  });
  const schedules: Schedules = new Schedules({
    store: meta,
    clock: systemClock,
    sleep: systemSleep,
    backups: work.backups,
    runner: () => runner,
    onError: (error) => {
      o.onError('schedules', error);
    },
  });
  const check = new CheckService({
    meta,
    pools,
    onSnapshot: (task, options) => runOnSnapshot(o.database, task, options),
    runner: () => runner,
  });
  const runner: JobRunner<RowChange> = new JobRunner<RowChange>({
    store: new RowJobStore(meta),
    kinds: {
      ...work.kinds,
      schedule: schedules.kind,
      check: check.kind,
    } satisfies Record<JobKindName, unknown>,
    isRetryable,
    onEnd: (job) => {
      work.onJobEnd(job);
      schedules.onJobEnd(job);
    },
    onError: (error) => {
      o.onError('jobs', error);
    },
  });
  return { ...engine, meta, paths, work, schedules, check, runner };
}

function makeEngine(
  meta: Meta,
  o: {
    readonly salvage: boolean;
    readonly onError: (error: unknown) => void;
    readonly endJob: (job: string) => Promise<void>;
  },
): Pick<Parts, 'pools' | 'disks' | 'copies'> {
  const { salvage, onError, endJob } = o;
  const { storeId, epoch } = meta;
  const [clock, names, generations] = [systemClock, new Names(), new Generations()];
  const fileSystem = blockFileSystem;
  const pools = new Pools({ store: meta, storeId, epoch, clock, fileSystem, salvage });
  const disks = new Disks({ store: meta, pools, names, generations, clock, onError, endJob });
  const copies = new Copies({ store: meta, pools, disks, names, generations, clock, onError });
  return { pools, disks, copies };
}

/**
 * Reads what the store holds, then takes up what the last life left undone.
 * @param first called when pools can be made, before any work begins
 */
export async function openParts(parts: Parts, first: () => Promise<unknown>): Promise<void> {
  const { work, runner } = parts;
  await readEngine(parts);
  await first();
  await work.open();
  await parts.schedules.open();
  await runner.recover();
  await work.settle();
  await parts.schedules.settle();
}

/** For salvage: reads what the store holds and takes up nothing. */
async function readParts(parts: Parts): Promise<void> {
  await readEngine(parts);
  await parts.work.open();
  await parts.schedules.open();
}

async function readEngine({ pools, disks, copies }: Parts): Promise<void> {
  await pools.open();
  await disks.open();
  await copies.open();
}

/** The parts as the interface sees them. */
export function servicesOf(
  parts: Parts,
  o: { readonly state: Services['state']; readonly metadataBytes: () => number },
): Services {
  const { meta, pools, disks, paths, work, check, runner } = parts;
  const copies = new CopyService(parts.copies, work.copiers);
  return {
    pools: new PoolService({ pools, disks, paths, metadataBytes: o.metadataBytes }),
    disks,
    copies,
    groups: new GroupService(copies),
    images: new ImageService(parts.copies),
    targets: new TargetService(work.backups),
    backups: new BackupService(work.backups),
    restores: new RestoreService(work.restores, work.uploads, copies),
    retention: new RetentionService(work.backups),
    schedules: new ScheduleService(parts.schedules, work.backups),
    jobs: runner,
    check,
    records: meta,
    state: o.state,
  };
}
