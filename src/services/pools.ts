/**
 * Pools as the interface sees them, over the engine's: paths are resolved against the rules first,
 * and the figures that come from elsewhere (disks, dead roots, the database) are added.
 *
 * Invariant: no path reaches the engine that `Paths` has not allowed.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import { checkName } from '../disk/names.ts';
import type { Disks } from '../disk/disks.ts';
import type { Pool } from '../pool/pool.ts';
import type { Pools } from '../pool/pools.ts';
import type { Paths } from './paths.ts';

export interface PoolServiceOptions {
  readonly pools: Pools;
  readonly disks: Disks;
  readonly paths: Paths;
  /** Bytes of the metadata database, as last measured. */
  readonly metadataBytes: () => number;
}

export class PoolService implements api.Pools {
  readonly #o: PoolServiceOptions;

  constructor(options: PoolServiceOptions) {
    this.#o = options;
  }

  /** @throws as Pools.create, PATH_NOT_ALLOWED, NAME_INVALID */
  async create(request: api.CreatePool, effects?: Effects<api.Pool>): Promise<api.PoolMade> {
    checkName(request.name);
    const files = await this.#resolved(request.files);
    const { pool, created } = await this.#o.pools.create(
      { ...request, files },
      (made) => effects?.(this.#view(made)) ?? [],
    );
    return { pool: this.#view(pool), created };
  }

  get(ref: string): api.Pool {
    return this.#view(this.#o.pools.get(ref));
  }

  list(): readonly api.Pool[] {
    return this.#o.pools.list().map((pool) => this.#view(pool));
  }

  /** @throws as Pools.update, PATH_NOT_ALLOWED, NAME_INVALID */
  async update(ref: string, change: api.UpdatePool): Promise<api.Pool> {
    const { files, ...rest } = change;
    if (rest.name !== undefined) checkName(rest.name);
    const resolved = files === undefined ? {} : { files: await this.#resolved(files) };
    return this.#view(await this.#o.pools.update(ref, { ...rest, ...resolved }));
  }

  async delete(ref: string): Promise<void> {
    await this.#o.pools.delete(ref);
  }

  async #resolved(files: readonly api.PoolFile[]): Promise<api.PoolFile[]> {
    return Promise.all(
      files.map(async ({ path, sizeBytes }) => ({
        path: await this.#o.paths.forPool(path),
        sizeBytes,
      })),
    );
  }

  #view(pool: Pool): api.Pool {
    return viewOf(pool, this.#o);
  }
}

/** The pool as it is now. */
function viewOf(pool: Pool, { disks, metadataBytes }: PoolServiceOptions): api.Pool {
  const { record } = pool;
  const inPool = disks.list().filter((disk) => disk.pool === pool);
  const pendingBlocks = disks.reclaimer(pool).pendingBlocks;
  return {
    id: pool.id,
    name: pool.name,
    blockSizeBytes: pool.blockSizeBytes,
    files: pool.files.files,
    capacityBytes: pool.capacityBytes,
    allocatedBytes: pool.allocatedBytes,
    freeBytes: pool.freeBytes,
    provisionedBytes: inPool.reduce((sum, disk) => sum + disk.capacityBytes, 0),
    reservedBytes: pool.reservedBytes,
    pendingFreeBytes: pool.freeingBytes + pendingBlocks * pool.blockSizeBytes,
    metadataBytes: metadataBytes(),
    lowWaterPercent: record.lowWaterPercent,
    criticalPercent: record.criticalPercent,
    state: pool.state,
    problem: (pool.absence ?? pool.poison)?.message ?? null,
    version: record.version,
    createdAtMs: record.createdAtMs,
  };
}
