/** Copies in memory: the same block objects as the disk had. */
import type { Effects, ForceOption, Labels, Rename, User } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/storage-services.ts';
import { StorageError } from '../../src/base/errors.ts';
import { readBlocks, runsOf } from './fake-blocks.ts';
import type { Blocks } from './fake-blocks.ts';
import type { FakeDisk, FakeDisks } from './fake-disks.ts';
import type { Job } from '../../src/job/job.ts';
import { assertNone } from '../../src/disk/users.ts';
import type { FakeJobs, Work } from './fake-jobs.ts';
import type { FakePool, FakePools } from './fake-pools.ts';
import { find, setChanged, Users } from './fake-world.ts';
import type { FakeWorld } from './fake-world.ts';

export class FakeCopy implements api.Copy {
  readonly id: string;
  name: string;
  readonly diskId: string;
  readonly diskName: string;
  readonly pool: FakePool;
  readonly layout: api.CopyLayout;
  readonly placement: api.CopyPlacement;
  readonly state = 'ready';
  dedicated: { -readonly [Field in keyof api.DedicatedFacts]: api.DedicatedFacts[Field] } | null;
  readonly generation: number;
  readonly sourceCapacityBytes: number;
  readonly blocks: Blocks;
  readonly blockSet: Set<Buffer>;
  readonly history: ReadonlySet<string>;
  readonly sources: readonly number[];
  haltMicroseconds = 12;
  readonly frozenAtMs: number;
  labels: Labels;
  inGroup: { readonly id: string; readonly name: string } | undefined;
  version = 1;
  readonly userSet = new Users();
  readonly #world: FakeWorld;

  constructor(world: FakeWorld, disk: FakeDisk, request: api.FreezeRequest, pool: FakePool) {
    this.#world = world;
    this.id = world.id();
    this.name = request.name;
    this.diskId = disk.id;
    this.diskName = disk.name;
    this.placement = request.placement ?? 'shared';
    this.pool = pool;
    this.layout = request.layout ?? 'compact';
    this.generation = ++world.generation;
    this.sourceCapacityBytes = disk.capacityBytes;
    const isShared = this.placement === 'shared';
    const copied = [...disk.blocks].map(([block, bytes]) => [block, Buffer.from(bytes)] as const);
    this.blocks = new Map(isShared ? disk.blocks : copied);
    this.blockSet = new Set(this.blocks.values());
    this.history = new Set(disk.history);
    this.sources = [...this.blocks.keys()].sort((a, b) => a - b);
    const { preserve = 'redirect', onPreserveError = 'fail-write' } = request;
    const owedBlocks = this.sources.length;
    const facts = { preserve, onPreserveError, owedBlocks, job: null, problem: null };
    this.dedicated = isShared ? null : facts;
    this.frozenAtMs = world.clock.nowMs();
    this.labels = request.labels ?? {};
  }

  get disk(): string | null {
    return this.#world.disks.get(this.diskId)?.name ?? null;
  }

  get group(): string | null {
    return this.inGroup?.name ?? null;
  }

  get groupId(): string | null {
    return this.inGroup?.id ?? null;
  }

  get blockSizeBytes(): number {
    return this.pool.blockSizeBytes;
  }

  get usedBlocks(): number {
    return this.sources.length;
  }

  get capacityBytes(): number {
    if (this.layout === 'full') return this.sourceCapacityBytes;
    return this.usedBlocks * this.blockSizeBytes;
  }

  users(): User[] {
    return [...this.userSet.all];
  }

  addUser(user: User): () => void {
    return this.userSet.add(user);
  }

  async read(view: api.CopyLayout, offset: number, into: Uint8Array): Promise<void> {
    if (!this.#world.copies.has(this.id)) throw new StorageError('NOT_FOUND', 'deleted');
    const compact = (): Blocks =>
      new Map(this.sources.map((block, index) => [index, this.blocks.get(block) ?? Buffer.of()]));
    readBlocks(view === 'full' ? this.blocks : compact(), this.blockSizeBytes, offset, into);
  }

  async correspondence(fromX: number, maxRuns: number) {
    let copyBlock = fromX;
    const runs = runsOf(this.sources.slice(fromX)).map(({ block, length }) => {
      const run = { copyBlock, sourceBlock: block, length };
      copyBlock += length;
      return run;
    });
    const next = runs[maxRuns]?.copyBlock;
    const page = runs.slice(0, maxRuns);
    return next === undefined ? { runs: page } : { runs: page, next };
  }

  async dataBlocks(fromX: number, maxRuns: number) {
    const { runs, next } = await this.correspondence(fromX, maxRuns);
    const owed = this.dedicated === null ? 'shared' : 'settled';
    const state = (this.dedicated?.owedBlocks ?? 0) > 0 ? ('owed' as const) : owed;
    const states = runs.map((run) => ({ ...run, state }) as const);
    return next === undefined ? { runs: states } : { runs: states, next };
  }

  async exclusiveBytes(): Promise<number> {
    const others = [...this.#world.disks.values(), ...this.#world.copies.values()];
    const held = new Set(others.flatMap((one) => (one === this ? [] : [...one.blocks.values()])));
    const own = [...this.blockSet].filter((block) => !held.has(block));
    return own.length * this.blockSizeBytes;
  }
}

export class FakeCopies implements api.Copies {
  readonly contiguity = { blocks: 0, runs: 0 };
  readonly #copies = new Map<string, FakeCopy>();
  readonly #world: FakeWorld;
  readonly #disks: FakeDisks;
  readonly #pools: FakePools;
  readonly #jobs: FakeJobs;
  /** Of disks from copies: what was asked for, and names of the copy. */
  readonly #made = new Map<string, { readonly asked: string; readonly refs: readonly string[] }>();

  constructor(world: FakeWorld, disks: FakeDisks, pools: FakePools, jobs: FakeJobs) {
    this.#world = world;
    this.#disks = disks;
    this.#pools = pools;
    this.#jobs = jobs;
  }

  async freeze(
    diskRef: string,
    request: api.FreezeRequest,
    effects?: Effects<api.Copy>,
  ): Promise<FakeCopy> {
    const disk = this.#disks.get(diskRef);
    const pool = request.pool === undefined ? disk.pool : this.#pools.get(request.pool);
    if (pool.blockSizeBytes !== disk.blockSizeBytes) {
      throw new StorageError('POOL_MISMATCH', 'other blocks', { field: 'pool' });
    }
    const bytes = disk.blocks.size * disk.blockSizeBytes;
    if (request.placement === 'dedicated' && bytes > pool.freeBytes) {
      throw new StorageError('POOL_FULL', 'no room', { pool: pool.name });
    }
    const copy = this.make(disk, request, pool);
    if (copy.dedicated !== null && bytes > 0) await this.#fill(copy, request.maxBytesPerSecond);
    await this.#world.commit(effects, copy);
    return copy;
  }

  async fill(ref: string, effects?: Effects<Job>): Promise<Job> {
    const copy = this.get(ref);
    const { job, owedBlocks = 0 } = copy.dedicated ?? {};
    const live = this.#jobs.runner.liveJobs().find(({ id }) => id === job);
    if (live !== undefined) return live;
    if (owedBlocks > 0) return this.#fill(copy, undefined, effects);
    throw new StorageError('JOB_STATE', 'nothing is owed', { copy: copy.name });
  }

  async #fill(copy: FakeCopy, rate: number | undefined, effects?: Effects<Job>): Promise<Job> {
    const subject = { copy: copy.name, copyId: copy.id, disk: copy.diskName };
    const facts = copy.dedicated!;
    const work: Work = async (context) => {
      await context.throttle(facts.owedBlocks * copy.blockSizeBytes);
      this.contiguity.blocks += facts.owedBlocks;
      this.contiguity.runs += 1;
      Object.assign(facts, { owedBlocks: 0, job: null });
      return { copy: copy.name, copyId: copy.id, usedBlocks: copy.usedBlocks, physicalRuns: 1 };
    };
    const abandon = (): void => {
      facts.job = null;
    };
    const submission = { kind: 'copy-data', subject, work, abandon, maxBytesPerSecond: rate };
    return this.#jobs.submit(submission, (job) => {
      facts.job = job.id;
      return effects?.(job) ?? [];
    });
  }

  make(disk: FakeDisk, request: api.FreezeRequest, pool = disk.pool): FakeCopy {
    const copy = new FakeCopy(this.#world, disk, request, pool);
    this.#world.takeName(copy.name, copy.id);
    this.#world.copies.set(copy.id, copy);
    this.#copies.set(copy.id, copy);
    return copy;
  }

  has(copy: FakeCopy): boolean {
    return this.#copies.has(copy.id);
  }

  get(ref: string): FakeCopy {
    return find(this.#copies, ref, 'copy');
  }

  list({ disk }: { readonly disk?: string } = {}): FakeCopy[] {
    const all = [...this.#copies.values()];
    return all.filter((copy) => disk === undefined || [copy.disk, copy.diskId].includes(disk));
  }

  async update(ref: string, change: Rename): Promise<FakeCopy> {
    const copy = this.get(ref);
    this.#world.rename(copy.name, change.name, copy.id);
    return setChanged(copy, change);
  }

  async delete(ref: string, { force = false }: ForceOption): Promise<void> {
    const copy = this.get(ref);
    if (force) await copy.userSet.end(new StorageError('COPY_IN_USE', 'it is being deleted'));
    assertNone(copy.users(), 'COPY_IN_USE', 'in use', {});
    const { job = null } = copy.dedicated ?? {};
    if (job !== null) await this.#jobs.runner.cancel(job);
    this.#world.copies.delete(copy.id);
    this.#copies.delete(copy.id);
    this.#world.names.delete(copy.name);
  }

  async createDisk(
    copyRef: string,
    request: api.RemapRequest,
    effects?: Effects<api.Disk>,
  ): Promise<api.DiskMade> {
    const { disk: name, labels = {}, detectZeroes = true, reserveBytes = 0 } = request;
    const asked = JSON.stringify({ labels, detectZeroes, reserveBytes });
    const there = this.#disks.list().find((disk) => disk.name === name);
    const made = there && this.#made.get(there.id);
    const live = this.list().find((copy) => copy.id === copyRef || copy.name === copyRef);
    const isSame = made?.refs.includes(live?.id ?? copyRef) === true && made.asked === asked;
    if (there !== undefined && isSame) return { disk: there, created: false };
    const { id, name: copyName } = this.get(copyRef);
    const disk = await this.remap(copyRef, request, effects);
    this.#made.set(disk.id, { asked, refs: [id, copyName] });
    return { disk, created: true };
  }

  async remap(
    copyRef: string,
    request: api.RemapRequest,
    effects?: Effects<api.Disk>,
  ): Promise<FakeDisk> {
    const copy = this.get(copyRef);
    const { disk: name, ...options } = request;
    const capacityBytes = copy.sourceCapacityBytes;
    const disk = this.#disks.add(copy.pool, { ...options, name, capacityBytes });
    disk.blocks = new Map(copy.blocks);
    for (const id of copy.history) disk.history.add(id);
    await this.#world.commit(effects, disk);
    return disk;
  }

  changes(copyRef: string, sinceRef: string): api.CopyChanges {
    const [newer, older] = [this.get(copyRef), this.get(sinceRef)];
    if (![...newer.history].some((id) => older.history.has(id))) {
      throw new StorageError('COPIES_UNRELATED', 'they have no history in common');
    }
    const { blockSizeBytes, sourceCapacityBytes: capacityBytes } = newer;
    const end = Math.ceil(capacityBytes / blockSizeBytes);
    const grownFrom = Math.ceil(older.sourceCapacityBytes / blockSizeBytes);
    const runs: api.ChangedRun[] = [];
    for (let block = 0; block < end; block += 1) {
      const now = newer.blocks.get(block);
      if (block < grownFrom && now === older.blocks.get(block)) continue;
      const kind = now === undefined ? 'zero' : 'data';
      const last = runs.at(-1);
      if (last?.kind === kind && last.block + last.length === block) {
        runs[runs.length - 1] = { ...last, length: last.length + 1 };
      } else runs.push({ block, length: 1, kind });
    }
    return {
      blockSizeBytes,
      capacityBytes,
      runs: async (from, maxRuns) => {
        const rest = runs
          .filter(({ block, length }) => block + length > from)
          .map(({ block, length, kind }) => {
            const first = Math.max(block, from);
            return { block: first, length: block + length - first, kind };
          });
        const next = rest[maxRuns]?.block;
        const page = rest.slice(0, maxRuns);
        return next === undefined ? { runs: page } : { runs: page, next };
      },
    };
  }
}
