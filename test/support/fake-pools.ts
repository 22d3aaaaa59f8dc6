/** Pools in memory: room is counted in distinct blocks. */
import type { Effects } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/storage-services.ts';
import { StorageError } from '../../src/base/errors.ts';
import { find, setChanged } from './fake-world.ts';
import type { FakeWorld } from './fake-world.ts';

export class FakePool implements api.Pool {
  readonly id: string;
  name: string;
  readonly blockSizeBytes: number;
  files: readonly api.PoolFile[];
  lowWaterPercent: number;
  criticalPercent: number;
  version = 1;
  readonly createdAtMs: number;
  readonly reservedBytes = 0;
  readonly pendingFreeBytes = 0;
  readonly metadataBytes = 0;
  readonly problem = null;
  readonly #world: FakeWorld;

  constructor(world: FakeWorld, request: api.CreatePool) {
    this.#world = world;
    this.id = world.id();
    this.createdAtMs = world.clock.nowMs();
    this.name = request.name;
    this.files = request.files;
    this.blockSizeBytes = request.blockSizeBytes ?? 65536;
    this.lowWaterPercent = request.lowWaterPercent ?? 80;
    this.criticalPercent = request.criticalPercent ?? 95;
  }

  get capacityBytes(): number {
    const sizes = this.files.map(({ sizeBytes }) => Math.floor(sizeBytes / this.blockSizeBytes));
    return sizes.reduce((sum, size) => sum + size, 0) * this.blockSizeBytes;
  }

  get allocatedBytes(): number {
    const blocks = new Set<Buffer>();
    for (const { pool, blocks: own } of this.#world.disks.values()) {
      if (pool.id === this.id) for (const block of own.values()) blocks.add(block);
    }
    for (const { pool, blocks: own } of this.#world.copies.values()) {
      if (pool.id === this.id) for (const block of own.values()) blocks.add(block);
    }
    return blocks.size * this.blockSizeBytes;
  }

  get freeBytes(): number {
    return this.capacityBytes - this.allocatedBytes;
  }

  get provisionedBytes(): number {
    const own = [...this.#world.disks.values()].filter(({ pool }) => pool.id === this.id);
    return own.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0);
  }

  get state(): 'ready' | 'full' {
    return this.freeBytes === 0 ? 'full' : 'ready';
  }
}

export class FakePools implements api.Pools {
  readonly #world: FakeWorld;
  readonly #pools = new Map<string, FakePool>();
  readonly #creations = new Map<string, string>();

  constructor(world: FakeWorld) {
    this.#world = world;
  }

  async create(request: api.CreatePool, effects?: Effects<api.Pool>): Promise<api.PoolMade> {
    const there = this.list().find(({ name }) => name === request.name);
    const creation = JSON.stringify(request);
    if (there !== undefined) {
      if (this.#creations.get(there.id) === creation) return { pool: there, created: false };
      throw new StorageError('NAME_TAKEN', 'taken', { name: there.name, id: there.id });
    }
    const pool = new FakePool(this.#world, request);
    this.#pools.set(pool.id, pool);
    this.#creations.set(pool.id, creation);
    await this.#world.commit(effects, pool);
    return { pool, created: true };
  }

  get(ref: string): FakePool {
    return find(this.#pools, ref, 'pool');
  }

  list(): FakePool[] {
    return [...this.#pools.values()];
  }

  async update(ref: string, change: api.UpdatePool): Promise<FakePool> {
    const pool = this.get(ref);
    return setChanged(pool, change);
  }

  async delete(ref: string): Promise<void> {
    const pool = this.get(ref);
    if (pool.provisionedBytes > 0) {
      throw new StorageError('POOL_IN_USE', 'the pool holds disks', { pool: pool.name });
    }
    this.#pools.delete(pool.id);
  }
}
