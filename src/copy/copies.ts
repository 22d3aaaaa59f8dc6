/**
 * The copies of a store: found, listed, renamed and deleted; making them is in freeze, remap and
 * write-back beside this file. Those that were frozen together are known as groups.
 *
 * Invariants:
 *  1. A copy is visible to others only after its row is durable.
 *  2. Deleting takes the root into the dead and the name away in one batch; the row stays as
 *     `deleted` only until its checksums are gone, and goes on being cleared after a restart.
 *  3. A disk keeps tombstones while a copy or checkpoint exists that it descends from.
 *  4. A copy that a backup was made of leaves a checkpoint, in the batch that deletes it.
 *  5. A copy whose group is not there was being deleted, or never made; the old root of a restore
 *     that has ended was to be dropped: opening ends both.
 */
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Disk } from '../disk/disk.ts';
import { EMPTY_ROOT } from '../disk/allocation-table.ts';
import type { Disks } from '../disk/disks.ts';
import type { Generations } from '../disk/generations.ts';
import { ownStep } from '../disk/lineage.ts';
import type { Names } from '../disk/names.ts';
import type { MetadataStore, Row, RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import type { Effects, Pools } from '../pool/pools.ts';
import { Checkpoints } from './checkpoints.ts';
import { CopyChecksums } from './checksums.ts';
import { clearCopy, giveUpOwed } from './clear-copy.ts';
import type { Copy } from './copy.ts';
import type { Contiguity } from './dedicated/dedicated.ts';
import { watchOverwrites } from './dedicated/preserve.ts';
import { readCopy } from './read-row.ts';
import { Groups } from './groups.ts';
import { type CopyPatch, updateCopy } from './update-copy.ts';

export interface CopiesOptions {
  readonly store: MetadataStore;
  readonly pools: Pools;
  readonly disks: Disks;
  readonly names: Names;
  readonly generations: Generations;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
}

/** What can be asked whether it has something. */
export interface Having<T> {
  has(item: T): boolean;
}

export class Copies {
  readonly options: CopiesOptions;
  readonly checksums: CopyChecksums;
  readonly checkpoints: Checkpoints;
  readonly groups: Groups;
  readonly #copies = new Map<string, Copy>();
  /** Those of them that are dedicated: what writes look through. */
  readonly #dedicated = new Set<Copy>();
  /** New ones whose rows are not durable yet. */
  readonly #hidden = new Set<Copy>();
  readonly #clearing = new Map<string, Promise<void>>();
  /** Pools that hold blocks for deleted copies. */
  readonly #owing = new Map<string, Pool>();
  /** Of all blocks that dedicated copies have got since the start. */
  readonly contiguity: Contiguity = { blocks: 0, runs: 0 };
  #stopped = false;
  #backedUp: () => Having<string> = () => new Set();
  /** Called when a copy is gone for everybody. */
  onGone: (copy: Copy) => void = () => undefined;

  constructor(options: CopiesOptions) {
    this.options = options;
    this.checksums = new CopyChecksums(options.store);
    this.checkpoints = new Checkpoints(options.store);
    this.groups = new Groups(this);
    options.disks.onCopies({
      countIn: (pool) => this.#settledInPool(pool),
      reservedBytesIn: (pool) => this.reservedBlocksIn(pool) * pool.blockSizeBytes,
    });
  }

  /** The old root of a disk that the job of its restore does not fence any more. */
  #isLeftOver({ record: { state, labels, diskId } }: Copy): boolean {
    const { job } = labels;
    if (state !== 'internal' || job === undefined) return false;
    return this.options.disks.find(diskId)?.fencedBy !== job;
  }

  /** Reads all copies; pools and disks are open. */
  async open(): Promise<void> {
    const { store, pools, names, generations } = this.options;
    await this.groups.open();
    for (const row of await store.rows('copies')) {
      if (row['state'] === 'deleted') {
        this.#clearRow(row);
        continue;
      }
      const copy = readCopy(row, pools, this.checksums);
      generations.seen(copy.record.generation);
      if (copy.record.state !== 'internal') names.take(copy.name, copy.id);
      this.#copies.set(copy.id, copy);
      if (copy.dedicated !== undefined) this.#dedicated.add(copy);
      const { groupId } = copy.record;
      const isWhole = groupId === undefined || this.groups.has(groupId);
      const isOver = !isWhole || this.#isLeftOver(copy);
      // whether a member was backed up is not known yet; `pruneCheckpoints` will
      if (isOver && !copy.pool.isReadOnly) this.drop(copy, !isWhole);
    }
    await this.checkpoints.open(generations);
    const oldest = this.#oldestOfLines();
    for (const disk of this.options.disks.list()) this.updateDisk(disk, oldest);
  }

  /** The catalog of backups says of which copies, by id, it has one. */
  onBackedUp(backedUp: () => Having<string>): void {
    this.#backedUp = backedUp;
  }

  /** Drops the checkpoints that no backup refers to any more, durably. */
  async pruneCheckpoints(): Promise<void> {
    await this.checkpoints.prune(this.#backedUp());
  }

  /** Newest last; unfinished and internal ones are left out. */
  list(filter: { disk?: string } = {}): Copy[] {
    const { disk } = filter;
    const id = disk === undefined ? undefined : (this.options.disks.find(disk)?.id ?? disk);
    return [...this.#copies.values()].filter((copy) => {
      const visible = copy.record.state !== 'internal' && !this.#hidden.has(copy);
      return visible && (id === undefined || copy.record.diskId === id);
    });
  }

  /** By id, internal ones too. */
  byId(id: string): Copy | undefined {
    return this.#copies.get(id);
  }

  /** Roots that write-backs may return to. */
  internal(): Copy[] {
    return [...this.#copies.values()].filter((copy) => copy.record.state === 'internal');
  }

  find(ref: string): Copy | undefined {
    return this.#copies.get(ref) ?? this.#copies.get(this.options.names.ownerOf(ref) ?? '');
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): Copy {
    const copy = this.find(ref);
    if (copy === undefined || copy.record.state === 'internal' || this.#hidden.has(copy)) {
      throw new StorageError('NOT_FOUND', `there is no copy ${ref}`, { copy: ref });
    }
    return copy;
  }

  /** Copies that have blocks or room in a pool, or are owed blocks by it. */
  inPool(pool: Pool): number {
    const holds = (copy: Copy): boolean =>
      copy.pool === pool || copy.dedicated?.owed?.pool === pool;
    const owing = [...this.#owing.values()].filter((each) => each === pool);
    return [...this.#copies.values()].filter(holds).length + owing.length;
  }

  /** Blocks that are kept free for dedicated copies. */
  reservedBlocksIn(pool: Pool, except?: Copy): number {
    let blocks = 0;
    for (const copy of this.#dedicated) {
      if (copy.pool === pool && copy !== except) blocks += copy.dedicated?.reservedBlocks ?? 0;
    }
    return blocks;
  }

  filled(blocks: number, runs: number): void {
    this.contiguity.blocks += blocks;
    this.contiguity.runs += runs;
  }

  /** The same when nothing is left of deleted ones: their rows name the pool. */
  async #settledInPool(pool: Pool): Promise<number> {
    await Promise.all(this.#clearing.values());
    return this.inPool(pool);
  }

  /** Live name of the source disk, or null once it is gone. */
  diskOf(copy: Copy): string | null {
    const disk = this.options.disks.find(copy.record.diskId);
    return disk?.id === copy.record.diskId ? disk.name : null;
  }

  /** Takes a new copy in; its row goes into the pool's next batch. */
  add(copy: Copy): void {
    this.#copies.set(copy.id, copy);
    this.checksums.begin(copy.id);
    // a shared one changes nothing for its disk but what the freeze itself does
    if (copy.dedicated !== undefined) {
      this.#dedicated.add(copy);
      this.updateDiskOf(copy);
    }
    this.changed(copy);
  }

  /** Nobody else sees a new copy until its row is durable. */
  async whileHidden(copy: Copy, durable: Promise<void>): Promise<void> {
    this.#hidden.add(copy);
    try {
      await durable;
    } finally {
      this.#hidden.delete(copy);
    }
  }

  /** The record changed: its row goes into the next batch. */
  changed(copy: Copy): void {
    copy.pool.changeRow(`copy ${copy.id}`, () => copy.row());
  }

  /** See update-copy.ts. */
  async update(ref: string, patch: CopyPatch, effects?: Effects<Copy>): Promise<Copy> {
    const copy = this.get(ref);
    return copy.exclusively(() => updateCopy(this, copy, patch, effects));
  }

  /**
   * Deletes a copy; its name is free at once, the room that only it held soon.
   * @param o.force ends its users first @throws COPY_IN_USE, NOT_FOUND
   */
  async delete(
    ref: string,
    o: { force?: boolean } = {},
    effects: readonly RowChange[] = [],
  ): Promise<void> {
    const copy = this.get(ref);
    if (o.force === true) {
      await copy.endUsers(new StorageError('COPY_IN_USE', `copy ${copy.name} is being deleted`));
    }
    await copy.exclusively(async () => {
      const { invalidIn } = copy.dedicated ?? {};
      // what made it invalid is durable before its row says that it holds nothing of that pool
      if (invalidIn !== undefined) await invalidIn.flush();
      copy.assertUnused();
      // of two who delete it one is too late
      copy.assertLive();
      copy.pool.assertWritable();
      this.drop(copy);
      await copy.pool.flush(effects);
    });
  }

  /**
   * The root goes to the dead, in this turn's batch. The caller flushes. What another pool owes it
   * is given up when that is durable.
   * @param isBackedUp leaves a checkpoint; what the catalog of backups says by default
   */
  drop(copy: Copy, isBackedUp?: boolean): void {
    this.options.disks.reclaimer(copy.pool).add(copy.record.root);
    if (copy.dedicated !== undefined) {
      // the count stays: it tells how many checksums there may be
      const mapped = copy.usedBlocks - copy.dedicated.owedBlocks;
      copy.record.root = { ...EMPTY_ROOT, mapped };
      copy.dedicated.releaseArena(copy.pool);
    }
    this.forget(copy, isBackedUp);
  }

  /** A new copy that could not be made durable is as if it had never been. */
  takeBack(copy: Copy): void {
    const { owed } = copy.dedicated ?? {};
    if (copy.dedicated !== undefined && owed !== undefined) {
      this.options.disks.reclaimer(owed.pool).add(owed.root);
      copy.dedicated.owed = undefined;
    }
    this.drop(copy);
  }

  /** Ends the copy without touching its root, which someone else took over. As `drop` else. */
  forget(copy: Copy, isBackedUp = this.#backedUp().has(copy.id)): void {
    copy.markDeleted();
    this.#copies.delete(copy.id);
    this.#dedicated.delete(copy);
    if (isBackedUp) this.checkpoints.keep(copy);
    const { names, disks } = this.options;
    names.release(copy.name, copy.id);
    this.changed(copy);
    const disk = disks.find(copy.record.diskId);
    if (disk !== undefined) this.updateDisk(disk);
    this.onGone(copy);
    this.#clear(copy, true);
  }

  /**
   * A disk remembers unmappings while a copy or checkpoint exists that it descends from, and asks
   * before it overwrites while a copy wants its blocks first.
   */
  updateDisk(disk: Disk, oldest = this.#oldestOfLines()): void {
    disk.keepsTombstones = disk.record.lineage.some(
      ({ line, upTo }) => (oldest.get(line) ?? Infinity) <= upTo,
    );
    watchOverwrites(this, disk, [...this.#dedicated]);
  }

  /** The same for the disk that a copy is of, if it is still there. */
  updateDiskOf(copy: Copy): void {
    const disk = this.options.disks.find(copy.record.diskId);
    if (disk !== undefined) this.updateDisk(disk);
  }

  /** The oldest generation of each line of which a copy or checkpoint exists. */
  #oldestOfLines(): Map<number, number> {
    const oldest = new Map<number, number>();
    const records = [...this.#copies.values()].map(({ record }) => record);
    for (const { lineage } of [...records, ...this.checkpoints.list()]) {
      const { line, upTo } = ownStep(lineage);
      oldest.set(line, Math.min(oldest.get(line) ?? Infinity, upTo));
    }
    return oldest;
  }

  /** Stops clearing; what is left goes on after the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clearing.values());
    await this.checksums.write();
  }

  /** Deletes what is left of a deleted copy. @param pending its row's change is not durable yet */
  #clear(copy: Copy, pending: boolean): void {
    const owing = copy.dedicated?.owed?.pool;
    if (owing !== undefined) this.#owing.set(copy.id, owing);
    const { id, pool } = copy;
    const dataBytes = copy.usedBlocks * copy.blockSizeBytes;
    const { disks } = this.options;
    this.#clearSoon(id, dataBytes, async () => {
      if (pending) await pool.flush();
      await giveUpOwed(copy, (each) => disks.reclaimer(each));
      this.#owing.delete(id);
    });
  }

  /** The same for a row that an earlier life has left. Its pool may be gone. */
  #clearRow(row: Row): void {
    const { pools } = this.options;
    if (row['owed_pool'] === null) {
      const dataBytes = Number(row['mapped_blocks']) * Number(row['block_size_bytes']);
      this.#clearSoon(String(row['id']), dataBytes, () => Promise.resolve());
      return;
    }
    const copy = readCopy(row, pools, this.checksums);
    copy.markDeleted();
    this.#clear(copy, false);
  }

  #clearSoon(id: string, dataBytes: number, begin: () => Promise<void>): void {
    const work = async (): Promise<void> => {
      await begin();
      const bytes = this.checksums.mayHave(id) ? dataBytes : 0;
      this.checksums.drop(id);
      await clearCopy(this.options.store, { id, dataBytes: bytes }, () => this.#stopped);
    };
    const done = work()
      .catch((error: unknown) => {
        this.options.onError(error);
      })
      .then(() => {
        this.#clearing.delete(id);
      });
    this.#clearing.set(id, done);
  }
}
