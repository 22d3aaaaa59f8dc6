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
 *  5. A copy whose group is not there was being deleted, or never made: opening ends it.
 */
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Disk, Labels } from '../disk/disk.ts';
import { readLabels, readRoot } from '../disk/disk-row.ts';
import type { Disks } from '../disk/disks.ts';
import type { Generations } from '../disk/generations.ts';
import { ownStep, readLineage } from '../disk/lineage.ts';
import type { Names } from '../disk/names.ts';
import type { MetadataStore, Row, RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import type { Effects, Pools } from '../pool/pools.ts';
import { Checkpoints } from './checkpoints.ts';
import { CopyChecksums, SEGMENT_BLOCK_BYTES } from './checksums.ts';
import { Copy, type CopyRecord } from './copy.ts';
import { Groups } from './groups.ts';

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

/** Rows of checksums deleted in one transaction. */
const CLEAR_ROWS = 1000;

export class Copies {
  readonly options: CopiesOptions;
  readonly checksums: CopyChecksums;
  readonly checkpoints: Checkpoints;
  readonly groups: Groups;
  readonly #copies = new Map<string, Copy>();
  /** New ones whose rows are not durable yet. */
  readonly #hidden = new Set<Copy>();
  readonly #clearing = new Map<string, Promise<void>>();
  #stopped = false;
  #backedUp: () => Having<string> = () => new Set();

  constructor(options: CopiesOptions) {
    this.options = options;
    this.checksums = new CopyChecksums(options.store);
    this.checkpoints = new Checkpoints(options.store);
    this.groups = new Groups(this);
    options.disks.onCopiesIn((pool) => this.#settledInPool(pool));
  }

  /** Reads all copies; pools and disks are open. */
  async open(): Promise<void> {
    const { store, pools, names, generations } = this.options;
    await this.groups.open();
    for (const row of await store.rows('copies')) {
      if (row['state'] === 'deleted') {
        this.#clear(readRecord(row), Number(row['block_size_bytes']));
        continue;
      }
      const pool = pools.get(String(row['pool']));
      const copy = new Copy(pool, readRecord(row), this.checksums);
      generations.seen(copy.record.generation);
      if (copy.record.state !== 'internal') names.take(copy.name, copy.id);
      this.#copies.set(copy.id, copy);
      const { groupId } = copy.record;
      const isWhole = groupId === undefined || this.groups.has(groupId);
      // whether it was backed up is not known yet; `pruneCheckpoints` will
      if (!isWhole && !pool.isReadOnly) this.drop(copy, true);
    }
    await this.checkpoints.open(generations);
    const oldest = this.#oldestOfLines();
    for (const disk of this.options.disks.list()) this.updateTombstones(disk, oldest);
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
      const visible = copy.record.state === 'ready' && !this.#hidden.has(copy);
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
    if (copy?.record.state !== 'ready' || this.#hidden.has(copy)) {
      throw new StorageError('NOT_FOUND', `there is no copy ${ref}`, { copy: ref });
    }
    return copy;
  }

  inPool(pool: Pool): number {
    return [...this.#copies.values()].filter((copy) => copy.pool === pool).length;
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

  async update(
    ref: string,
    patch: { name?: string; labels?: Labels },
    effects?: Effects<Copy>,
  ): Promise<Copy> {
    const copy = this.get(ref);
    copy.pool.assertWritable();
    if (patch.name !== undefined) this.options.names.rename(copy.name, patch.name, copy.id);
    copy.record.name = patch.name ?? copy.record.name;
    copy.record.labels = patch.labels ?? copy.record.labels;
    copy.record.version += 1;
    this.changed(copy);
    await copy.pool.flush(effects?.(copy));
    return copy;
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
    copy.assertUnused();
    // of two who delete it one is too late
    copy.liveRoot();
    copy.pool.assertWritable();
    this.drop(copy);
    await copy.pool.flush(effects);
  }

  /**
   * The root goes to the dead, in this turn's batch. The caller flushes.
   * @param isBackedUp leaves a checkpoint; what the catalog of backups says by default
   */
  drop(copy: Copy, isBackedUp?: boolean): void {
    this.options.disks.reclaimer(copy.pool).add(copy.record.root);
    this.forget(copy, isBackedUp);
  }

  /** Ends the copy without touching its root, which someone else took over. As `drop` else. */
  forget(copy: Copy, isBackedUp = this.#backedUp().has(copy.id)): void {
    copy.markDeleted();
    this.#copies.delete(copy.id);
    if (isBackedUp) this.checkpoints.keep(copy);
    const { names, disks } = this.options;
    if (names.ownerOf(copy.name) === copy.id) names.release(copy.name);
    this.changed(copy);
    const disk = disks.find(copy.record.diskId);
    if (disk !== undefined) this.updateTombstones(disk);
    this.#clear(copy.record, copy.blockSizeBytes, copy.pool);
  }

  /** A disk remembers unmappings while a copy or checkpoint exists that it descends from. */
  updateTombstones(disk: Disk, oldest = this.#oldestOfLines()): void {
    disk.keepsTombstones = disk.record.lineage.some(
      ({ line, upTo }) => (oldest.get(line) ?? Infinity) <= upTo,
    );
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

  /** Deletes the checksums of a deleted copy in short transactions, then its row. */
  #clear(record: CopyRecord, blockSizeBytes: number, pool?: Pool): void {
    const done = this.#clearAll(record, blockSizeBytes, pool)
      .catch((error: unknown) => {
        this.options.onError(error);
      })
      .then(() => {
        this.#clearing.delete(record.id);
      });
    this.#clearing.set(record.id, done);
  }

  /** @param pool whose next batch marks the copy as deleted */
  async #clearAll(record: CopyRecord, blockSizeBytes: number, pool?: Pool): Promise<void> {
    const { store } = this.options;
    const { id } = record;
    await pool?.flush();
    const bytes = this.checksums.mayHave(id) ? record.root.mapped * blockSizeBytes : 0;
    this.checksums.drop(id);
    const segments = Math.ceil(bytes / SEGMENT_BLOCK_BYTES);
    for (let first = 0; first < segments && !this.#stopped; first += CLEAR_ROWS) {
      const count = Math.min(CLEAR_ROWS, segments - first);
      const rows = Array.from({ length: count }, (_, index): RowChange => {
        return {
          table: 'checksums',
          key: { copy: id, segment: first + index },
          row: undefined,
        };
      });
      await store.commit({ pages: [], rows });
    }
    if (this.#stopped) return;
    const gone: RowChange = { table: 'copies', key: { id }, row: undefined };
    await store.commit({ pages: [], rows: [gone] });
  }
}

function readRecord(row: Row): CopyRecord {
  const state = row['state'];
  const generation = Number(row['generation']);
  return {
    id: String(row['id']),
    name: String(row['name']),
    diskId: String(row['disk_id']),
    diskName: String(row['disk_name']),
    layout: row['layout'] === 'full' ? 'full' : 'compact',
    placement: 'shared',
    generation,
    lineage: readLineage(row['lineage'], generation),
    sourceCapacityBytes: Number(row['source_capacity_bytes']),
    root: readRoot(row),
    haltMicroseconds: Number(row['halt_microseconds']),
    labels: readLabels(row['labels']),
    state: state === 'internal' ? 'internal' : 'ready',
    version: Number(row['version']),
    frozenAtMs: Number(row['frozen_at']),
    ...(row['group_id'] === null ? {} : { groupId: String(row['group_id']) }),
  };
}
