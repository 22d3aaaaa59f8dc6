/**
 * A pool: blocks in pool files, the tables' pages, and one flush for both.
 *
 * How a block is used: `allocate` (held) → the caller writes its data → `applied` in the same turn
 * in which the table takes it → `flush`. Given back: `dropBlock` → durable in the next flush →
 * every reader of before has left → free.
 *
 * Invariants:
 *  1. Nothing is handed out above a committed high-water mark.
 *  2. A freed block is not handed out before its free is durable and its readers have left.
 *  3. A poisoned pool reads but never writes, flushes or commits again until it is reopened.
 */
import { StorageError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import { type Allocation, Allocator, type Chosen, openExtent } from './allocator.ts';
import { Extents } from './extents.ts';
import { Flusher, type RowMaker } from './flusher.ts';
import { JointFlush } from './joint-flush.ts';
import { MetadataPages, type PageKey } from './metadata-pages.ts';
import type { MetadataStore, RowChange } from './metadata-store.ts';
import { layoutRows } from './layout-rows.ts';
import type { FileSpec, PoolFiles } from './pool-files.ts';
import type { PoolRecord, PoolState } from './pool-record.ts';
import { type Epoch, ReaderEpochs } from './reader-epochs.ts';
import { ReferenceCounts } from './reference-counts.ts';

/** Writers wait for a commit when this many pages are changed: bounds a batch. */
const DIRTY_PAGES_MAX = 512;
/** Writers wait for a sync, outside the gate, above this. */
const UNSYNCED_BYTES_MAX = 192 * MIB;

export type { PoolRecord, PoolState } from './pool-record.ts';

export class Pool {
  readonly record: PoolRecord;
  readonly files: PoolFiles;
  readonly pages: MetadataPages;
  readonly allocator: Allocator;
  readonly blockCounts: ReferenceCounts;
  readonly nodeCounts: ReferenceCounts;
  readonly epochs = new ReaderEpochs();
  readonly #store: MetadataStore;
  readonly #flusher: Flusher;
  #freed: number[] = [];
  #freeing = 0;
  readonly #extents = new Extents(this);
  #makeRoom: (() => Promise<boolean>) | undefined;
  #nextNode: number;
  #reservedBytes: () => number = () => 0;
  readonly #readOnly: StorageError | undefined;
  #closed = false;

  constructor(o: {
    record: PoolRecord;
    files: PoolFiles;
    store: MetadataStore;
    cacheBytes: number;
    nextNode: number;
    /** Opened only to be read; why. */
    readOnly?: StorageError | undefined;
  }) {
    this.#readOnly = o.readOnly;
    this.#store = o.store;
    this.record = o.record;
    this.files = o.files;
    this.#nextNode = o.nextNode;
    this.pages = new MetadataPages(o.store, o.record.number, o.cacheBytes);
    const extents = o.files.extents.map((extent, index) =>
      openExtent(extent, o.files.canBeVirgin(index)),
    );
    this.allocator = new Allocator(this.pages, extents);
    this.blockCounts = new ReferenceCounts(this.pages, 'block-count');
    this.nodeCounts = new ReferenceCounts(this.pages, 'node-count');
    this.#flusher = new Flusher(o.store, o.record.number, {
      takePages: () => this.pages.take(),
      settlePages: (images) => {
        this.pages.settle(images);
      },
      restore: (images, freed) => {
        this.pages.restore(images);
        this.#freed.push(...freed);
      },
      takeFreed: () => this.#freed.splice(0),
      freed: (blocks) => {
        void this.#releaseAfterReaders(blocks);
      },
      hasChanges: () => this.pages.dirtyCount > 0 || this.files.unsyncedBytes > 0,
      syncFiles: () => this.files.sync(),
    });
  }

  get id(): string {
    return this.record.id;
  }

  get name(): string {
    return this.record.name;
  }

  get blockSizeBytes(): number {
    return this.record.blockSizeBytes;
  }

  get capacityBytes(): number {
    return this.allocator.totalBlocks * this.blockSizeBytes;
  }

  get allocatedBytes(): number {
    return this.allocator.usedBlocks * this.blockSizeBytes;
  }

  get freeBytes(): number {
    return this.allocator.availableBlocks * this.blockSizeBytes;
  }

  /** Freed by tables but not free yet: readers or the commit hold them back. */
  get freeingBytes(): number {
    return (this.#freed.length + this.#freeing) * this.blockSizeBytes;
  }

  /** Changes whenever a block or node gets or loses a holder. */
  get sharing(): string {
    const { allocator, blockCounts, nodeCounts } = this;
    return `${allocator.usedBlocks}/${blockCounts.changes}/${nodeCounts.changes}`;
  }

  get poison(): StorageError | undefined {
    return this.files.poison ?? this.#flusher.failure;
  }

  /** Level-triggered: what the marks say now, not what once happened. */
  get state(): PoolState {
    if (this.absence !== undefined) return 'unavailable';
    if (this.poison !== undefined) return 'poisoned';
    const free = this.allocator.availableBlocks + this.#freed.length + this.#freeing;
    const usedPercent = 100 * (1 - free / this.allocator.totalBlocks);
    if (free === 0) return 'full';
    if (usedPercent >= this.record.criticalPercent) return 'critical';
    return usedPercent >= this.record.lowWaterPercent ? 'low' : 'ready';
  }

  /** Called on a full pool; resolves true if it brought blocks nearer to free. */
  onFull(makeRoom: () => Promise<boolean>): void {
    this.#makeRoom = makeRoom;
  }

  /** Where the sum of the disks' reservations comes from. */
  onReserved(reserved: () => number): void {
    this.#reservedBytes = reserved;
  }

  get reservedBytes(): number {
    return this.#reservedBytes();
  }

  get nextNodeId(): number {
    return this.#nextNode;
  }

  takeNodeId(): number {
    this.#nextNode += 1;
    return this.#nextNode - 1;
  }

  /**
   * Chooses and holds `count` blocks. On a full pool, pending frees that could help come first.
   *
   * @param keepFree blocks that must stay free (others' reservations), asked in the turn that
   *   chooses: more may be reserved while it waits
   * @throws POOL_FULL with nothing held; POOL_POISONED
   */
  async allocate(count: number, keepFree = (): number => 0): Promise<Chosen[]> {
    const chosen: Chosen[] = [];
    await this.#allocate(count, chosen, () => this.allocator.allocate(count, keepFree()));
    return chosen;
  }

  /**
   * As `allocate`, but consecutive blocks: as many of `count` as the best run has that a bounded
   * search finds, at least one. Looks through up to 64 bitmaps: some milliseconds.
   *
   * @param hint block from which on is looked first
   * @param into gets them in the turn that chooses
   */
  async allocateRun(
    count: number,
    keepFree: () => number,
    hint: number,
    into: Chosen[],
  ): Promise<void> {
    await this.#allocate(count, into, () => this.allocator.allocateRun(count, keepFree(), hint));
  }

  async #allocate(count: number, into: Chosen[], choose: () => Allocation): Promise<void> {
    for (;;) {
      this.assertWritable();
      const answer = choose();
      switch (answer.kind) {
        case 'blocks':
          into.push(...answer.blocks);
          return;
        case 'missing':
          await this.pages.ensure(answer.pages);
          break;
        case 'raise':
          await this.#extents.raise(count);
          break;
        case 'full':
          if (!(await this.#settleFrees())) throw this.fullError(count);
          break;
      }
    }
  }

  /** Waits for pending frees while less than this is free. @throws POOL_FULL if that was no help */
  async makeRoom(count: number, freeBytes: number): Promise<void> {
    while (this.freeBytes < freeBytes) {
      if (!(await this.#settleFrees())) throw this.fullError(count);
    }
  }

  fullError(count: number): StorageError {
    return new StorageError('POOL_FULL', `pool ${this.name} has no room`, {
      pool: this.name,
      neededBytes: count * this.blockSizeBytes,
      freeBytes: this.freeBytes,
      reservedBytes: this.reservedBytes,
    });
  }

  /** Gives back blocks that were chosen but not used. */
  release(chosen: readonly Chosen[]): void {
    for (const { block } of chosen) this.allocator.release(block);
  }

  /** Pages that must be resident before `dropBlock`. */
  missingForDrop(block: number): PageKey[] {
    const missing = this.allocator.missingFor(block);
    if (!this.blockCounts.isResident(block)) missing.push(this.blockCounts.keyOf(block));
    return missing;
  }

  /** One holder less; the last one frees the block. */
  dropBlock(block: number): void {
    if (this.blockCounts.extra(block) > 0) {
      this.blockCounts.drop(block);
      return;
    }
    this.allocator.free(block);
    this.#freed.push(block);
  }

  changeRow(name: string, make: RowMaker): void {
    this.#flusher.changeRow(name, make);
  }

  addRow(...changes: readonly RowChange[]): void {
    this.#flusher.addRow(...changes);
  }

  get isDirty(): boolean {
    return this.#flusher.isDirty;
  }

  /**
   * Resolves when all that was applied before this call is durable, in one transaction with these
   * rows. @throws POOL_POISONED; METADATA_FULL, then all but the rows stays pending
   */
  async flush(rows: readonly RowChange[] = []): Promise<void> {
    this.assertWritable();
    await this.#flusher.flush(rows);
  }

  /**
   * As `flush`, for several pools of one store in one transaction: all of it becomes durable, or
   * nothing. Up to then no pool commits anything that was applied before this call.
   *
   * @param pools without repeats
   * @param undo takes what was applied to several of them back, in memory, if it cannot become
   *   durable as a whole; called before any of them goes on
   */
  static async flushTogether(
    pools: readonly Pool[],
    rows: readonly RowChange[] = [],
    undo?: () => Promise<void>,
  ): Promise<void> {
    const [only, ...others] = pools;
    if (only === undefined) return;
    for (const pool of pools) pool.assertWritable();
    if (others.length === 0) return only.flush(rows);
    const flushers = pools.map((pool) => pool.#flusher);
    await new JointFlush(only.#store, flushers, rows, undo).run();
  }

  /** Back-pressure, to be awaited before an operation enters a gate. */
  async throttle(): Promise<void> {
    if (this.pages.dirtyCount > DIRTY_PAGES_MAX) await this.flush();
    if (this.files.unsyncedBytes > UNSYNCED_BYTES_MAX) await this.files.sync();
  }

  enterRead(): Epoch {
    return this.epochs.enter();
  }

  leaveRead(epoch: Epoch): void {
    this.epochs.leave(epoch);
  }

  /** Why its files can be neither read nor written. */
  get absence(): StorageError | undefined {
    return this.#readOnly?.code === 'POOL_UNAVAILABLE' ? this.#readOnly : undefined;
  }

  get isReadOnly(): boolean {
    return this.#readOnly !== undefined;
  }

  /** @throws POOL_POISONED with the first cause; STORE_READ_ONLY */
  assertWritable(): void {
    if (this.#readOnly !== undefined) throw this.#readOnly;
    const cause = this.poison;
    if (cause !== undefined) {
      throw new StorageError(
        'POOL_POISONED',
        `pool ${this.name} refuses writes after a failure: ${cause.message}`,
        { pool: this.name, cause: cause.code },
        cause,
      );
    }
    if (this.#closed) throw new StorageError('SHUTTING_DOWN', `pool ${this.name} is closing`);
  }

  /** Flushes, lowers the marks to what was really written, closes the files in any case. */
  async close(): Promise<void> {
    this.#closed = true;
    try {
      if (this.poison !== undefined || this.isReadOnly) return;
      await this.#extents.lower((rows) => this.#flusher.flush(rows));
    } finally {
      await this.files.close();
    }
  }

  /** Adds files or room; the new blocks are used once their rows are durable. */
  async grow(specs: readonly FileSpec[]): Promise<void> {
    this.assertWritable();
    await this.#extents.grow(specs);
  }

  /** Rows of all files and extents as they are now. */
  layoutRows(): RowChange[] {
    return layoutRows(this);
  }

  async #settleFrees(): Promise<boolean> {
    if (this.#freed.length + this.#freeing > 0) {
      await this.flush();
      await this.epochs.barrier();
      return true;
    }
    return (await this.#makeRoom?.()) ?? false;
  }

  async #releaseAfterReaders(blocks: readonly number[]): Promise<void> {
    if (blocks.length === 0) return;
    this.#freeing += blocks.length;
    await this.epochs.barrier();
    for (const block of blocks) this.allocator.release(block);
    this.#freeing -= blocks.length;
  }
}
