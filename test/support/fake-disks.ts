/**
 * Disks in memory: durable and volatile are the same; room, fences, users, "all or nothing" count.
 */
import type { Effects, ForceOption, Labels, User } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/storage-services.ts';
import { isZero } from '../../src/base/bytes.ts';
import { StorageError } from '../../src/base/errors.ts';
import { RateLimit } from '../../src/base/rate-limit.ts';
import { checkCapacity } from '../../src/base/units.ts';
import { assertNone } from '../../src/disk/users.ts';
import { blocksOf, readBlocks, runsOf } from './fake-blocks.ts';
import type { Blocks } from './fake-blocks.ts';
import type { FakePool, FakePools } from './fake-pools.ts';
import { find, setChanged, Users } from './fake-world.ts';
import type { FakeWorld } from './fake-world.ts';

export class FakeDisk implements api.Disk {
  readonly id: string;
  name: string;
  readonly pool: FakePool;
  capacityBytes: number;
  labels: Labels;
  detectZeroes: boolean;
  reserveBytes: number;
  quotaBytes: number | null = null;
  maxBytesPerSecond: number | null = null;
  readonly rate = new RateLimit();
  blocks: Blocks = new Map();
  /** Ids of disks whose blocks it may have. */
  readonly history = new Set<string>();
  state: 'ready' | 'fenced' = 'ready';
  fencedBy: string | undefined;
  version = 1;
  flushes = 0;
  readonly createdAtMs: number;
  readonly userSet = new Users();
  readonly #world: FakeWorld;

  constructor(world: FakeWorld, pool: FakePool, request: Omit<api.CreateDisk, 'pool'>) {
    this.#world = world;
    this.pool = pool;
    this.id = world.id();
    this.history.add(this.id);
    this.createdAtMs = world.clock.nowMs();
    this.name = request.name;
    this.capacityBytes = request.capacityBytes;
    this.labels = request.labels ?? {};
    this.detectZeroes = request.detectZeroes ?? true;
    this.reserveBytes = request.reserveBytes ?? 0;
  }

  get blockSizeBytes(): number {
    return this.pool.blockSizeBytes;
  }

  get usedBytes(): number {
    return this.blocks.size * this.blockSizeBytes;
  }

  users(): User[] {
    const { fencedBy: id, createdAtMs: sinceMs } = this;
    if (this.state === 'ready' || id === undefined) return [...this.userSet.all];
    return [...this.userSet.all, { kind: 'job', id, sinceMs, abort: () => undefined }];
  }

  addUser(user: User): () => void {
    this.#checkReady();
    return this.userSet.add(user);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#checkReady();
    readBlocks(this.blocks, this.blockSizeBytes, offset, into);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#checkReady();
    if (bytes.length > 4 * 1024 * 1024) throw new Error('more than one engine write takes');
    const size = this.blockSizeBytes;
    const changed: Blocks = new Map();
    let needed = 0;
    let mapped = 0;
    let at = 0;
    for (const { block, offset: within, length } of blocksOf(offset, bytes.length, size)) {
      const old = this.blocks.get(block);
      const made = Buffer.alloc(size);
      old?.copy(made);
      made.set(bytes.subarray(at, at + length), within);
      at += length;
      changed.set(block, made);
      const isHole = this.detectZeroes && length === size && isZero(made);
      if (!isHole && old === undefined) mapped += size;
      if (!isHole && (old === undefined || this.#isShared(old))) needed += size;
      if (isHole) changed.set(block, Buffer.alloc(0));
    }
    if (mapped > 0 && this.quotaBytes !== null && this.usedBytes + mapped > this.quotaBytes) {
      throw new StorageError('QUOTA_EXCEEDED', 'quota', { disk: this.name });
    }
    if (needed > this.pool.freeBytes) {
      throw new StorageError('POOL_FULL', `pool ${this.pool.name} is full`, {
        pool: this.pool.name,
      });
    }
    for (const [block, made] of changed) {
      if (made.length === 0) this.blocks.delete(block);
      else this.blocks.set(block, made);
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkReady();
    const size = this.blockSizeBytes;
    for (const piece of blocksOf(offset, length, size)) {
      const old = this.blocks.get(piece.block);
      if (piece.length === size || old === undefined) this.blocks.delete(piece.block);
      else {
        const made = Buffer.from(old).fill(0, piece.offset, piece.offset + piece.length);
        this.blocks.set(piece.block, made);
      }
    }
  }

  async flush(): Promise<void> {
    this.flushes += 1;
  }

  async allocatedRuns(fromBlock: number, maxRuns: number, physical: boolean) {
    const sorted = [...this.blocks.keys()].sort((a, b) => a - b);
    const mapped = sorted.filter((block) => block >= fromBlock);
    const runs = runsOf(mapped).map((run) => (physical ? { ...run, physicalBlock: 7 } : run));
    const next = runs[maxRuns]?.block;
    const page = runs.slice(0, maxRuns);
    return next === undefined ? { runs: page } : { runs: page, next };
  }

  async exclusiveBytes(): Promise<number> {
    const own = [...this.blocks.values()].filter((block) => !this.#isShared(block));
    return own.length * this.blockSizeBytes;
  }

  async exclusiveBytesIn(offset: number, length: number): Promise<number> {
    const whole = blocksOf(offset, length, this.blockSizeBytes)
      .filter((piece) => piece.length === this.blockSizeBytes)
      .map(({ block }) => this.blocks.get(block))
      .filter((block) => block !== undefined && !this.#isShared(block));
    return whole.length * this.blockSizeBytes;
  }

  #isShared(block: Buffer): boolean {
    return [...this.#world.copies.values()].some(({ blockSet }) => blockSet.has(block));
  }

  #checkReady(): void {
    if (this.state === 'ready') return;
    throw new StorageError('DISK_FENCED', 'fenced', { disk: this.name, job: this.fencedBy });
  }
}

export class FakeDisks implements api.Disks {
  readonly #disks = new Map<string, FakeDisk>();
  readonly #world: FakeWorld;
  readonly #pools: FakePools;
  readonly #creations = new Map<string, string>();

  constructor(world: FakeWorld, pools: FakePools) {
    this.#world = world;
    this.#pools = pools;
  }

  async create(request: api.CreateDisk, effects?: Effects<api.Disk>): Promise<api.DiskMade> {
    checkCapacity(request.capacityBytes);
    const creation = JSON.stringify(request);
    const there = this.list().find(({ name }) => name === request.name);
    if (there !== undefined && this.#creations.get(there.id) === creation) {
      return { disk: there, created: false };
    }
    const disk = this.add(this.#pools.get(request.pool ?? 'default'), request);
    this.#creations.set(disk.id, creation);
    await this.#world.commit(effects, disk);
    return { disk, created: true };
  }

  add(pool: FakePool, request: Omit<api.CreateDisk, 'pool'>): FakeDisk {
    const disk = new FakeDisk(this.#world, pool, request);
    this.#world.takeName(disk.name, disk.id);
    this.#world.disks.set(disk.id, disk);
    this.#disks.set(disk.id, disk);
    return disk;
  }

  get(ref: string): FakeDisk {
    return find(this.#disks, ref, 'disk');
  }

  list(): FakeDisk[] {
    return [...this.#disks.values()];
  }

  async update(ref: string, change: api.UpdateDisk): Promise<FakeDisk> {
    const disk = this.get(ref);
    const { discard = false, capacityBytes = disk.capacityBytes, ...rest } = change;
    const end = Math.ceil(capacityBytes / disk.blockSizeBytes);
    const beyond = [...disk.blocks.keys()].filter((block) => block >= end);
    if (beyond.length > 0 && !discard) {
      throw new StorageError('DISK_HAS_DATA_BEYOND', 'data', { disk: disk.name });
    }
    this.#world.rename(disk.name, rest.name, disk.id);
    for (const block of beyond) disk.blocks.delete(block);
    setChanged(disk, { ...rest, capacityBytes });
    disk.rate.set(disk.maxBytesPerSecond);
    return disk;
  }

  async delete(ref: string, { force = false }: ForceOption): Promise<void> {
    const disk = this.get(ref);
    if (force) await disk.userSet.end(new StorageError('DISK_IN_USE', 'it is being deleted'));
    assertNone(disk.users(), 'DISK_IN_USE', 'in use', { disk: disk.name });
    this.#world.disks.delete(disk.id);
    this.#disks.delete(disk.id);
    this.#world.names.delete(disk.name);
  }
}
