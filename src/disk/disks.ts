/**
 * The disks of a store: made, found, changed and deleted.
 *
 * Invariants:
 *  1. A name or disk is visible to others only after its row is durable, except to its maker.
 *  2. Deleting takes the table's root into the dead in the same batch that removes the row.
 *  3. Each pool has one reclaimer, and the sum of its disks' and copies' reservations.
 */
import { defined } from '../base/assert.ts';
import { type Clock, uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { blocksFor, checkCapacity, roundUp } from '../base/units.ts';
import { bumpIfChanged } from '../base/version.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import type { Effects, Pools } from '../pool/pools.ts';
import { EMPTY_ROOT, type TableRoot } from './allocation-table.ts';
import { type CopyHolds, noCopies } from './copy-holds.ts';
import { Disk, type DiskRecord, type DiskState, type Labels } from './disk.ts';
import { readDisk, settingsOf } from './disk-row.ts';
import type { Generations } from './generations.ts';
import { type Lineage, beginLine } from './lineage.ts';
import type { Names } from './names.ts';
import { Reclaimer } from './reclaimer.ts';
import { resizeDisk } from './resize.ts';

export interface DiskRequest {
  readonly name: string;
  readonly capacityBytes: number;
  /** Name or id; `default`, or the only pool there is. */
  readonly pool?: string;
  readonly labels?: Labels;
  readonly detectZeroes?: boolean;
  readonly reserveBytes?: number;
}

export interface DiskPatch {
  readonly name?: string;
  readonly capacityBytes?: number;
  /** Lets a shrink lose data. */
  readonly discard?: boolean;
  readonly labels?: Labels;
  readonly detectZeroes?: boolean;
  readonly reserveBytes?: number;
  /** Null takes the limit away. */
  readonly quotaBytes?: number | null;
  readonly maxBytesPerSecond?: number | null;
}

export interface DisksOptions {
  readonly store: MetadataStore;
  readonly pools: Pools;
  readonly names: Names;
  readonly generations: Generations;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
  /** Cancels a job and waits for its end. */
  readonly endJob?: (job: string) => Promise<void>;
}

export class Disks {
  readonly #o: DisksOptions;
  readonly #disks = new Map<string, Disk>();
  readonly #making = new Map<string, Promise<Disk>>();
  readonly #reclaimers = new Map<string, Reclaimer>();
  #copies = noCopies;

  constructor(options: DisksOptions) {
    this.#o = options;
    options.pools.onOpened(
      (pool) => this.#adoptPool(pool),
      (pool) => this.#isEmpty(pool),
    );
  }

  /** Reads all disks; the pools are open. */
  async open(): Promise<void> {
    for (const row of await this.#o.store.rows('disks')) {
      const pool = this.#o.pools.get(String(row['pool']));
      const disk = new Disk(pool, readDisk(row));
      this.#o.names.take(disk.name, disk.id);
      this.#o.generations.seen(disk.generation);
      this.#disks.set(disk.id, disk);
    }
  }

  onCopies(copies: CopyHolds): void {
    this.#copies = copies;
  }

  /** Those that are durable. */
  list(): Disk[] {
    return [...this.#disks.values()].filter((disk) => !this.#making.has(disk.id));
  }

  find(ref: string): Disk | undefined {
    const disk = this.#known(ref);
    return disk === undefined || this.#making.has(disk.id) ? undefined : disk;
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): Disk {
    const disk = this.find(ref);
    if (disk === undefined) {
      throw new StorageError('NOT_FOUND', `there is no disk ${ref}`, { disk: ref });
    }
    return disk;
  }

  reclaimer(pool: Pool): Reclaimer {
    return defined(this.#reclaimers.get(pool.id), `reclaimer of pool ${pool.name}`);
  }

  /** The pool of a request. @throws NOT_FOUND */
  poolFor(ref: string | undefined): Pool {
    const { pools } = this.#o;
    const [only, ...others] = pools.list();
    if (ref !== undefined) return pools.get(ref);
    return (
      pools.find('default') ??
      (others.length === 0 && only !== undefined ? only : pools.get('default'))
    );
  }

  /**
   * Makes a thin disk: O(1) at any capacity. The same request again answers the disk there is.
   * @throws NAME_TAKEN, NAME_INVALID, CAPACITY_INVALID, NOT_FOUND (pool)
   */
  async create(
    request: DiskRequest,
    effects?: Effects<Disk>,
  ): Promise<{ disk: Disk; created: boolean }> {
    checkCapacity(request.capacityBytes);
    const pool = this.poolFor(request.pool);
    const { reserveBytes = 0, capacityBytes } = request;
    const creation = JSON.stringify({
      pool: pool.id,
      capacityBytes: request.capacityBytes,
      labels: request.labels ?? {},
      detectZeroes: request.detectZeroes ?? true,
      reserveBytes: request.reserveBytes ?? 0,
    });
    const there = this.madeBy(request.name, (disk) => disk.record.creation === creation);
    if (there !== undefined) return { disk: await there, created: false };
    checkReserve(pool, reserveBytes, capacityBytes);
    const disk = await this.make(pool, { ...request, creation }, effects);
    return { disk, created: true };
  }

  /** The disk of this name, once it is durable; in this turn: undefined unless `isSame`. */
  madeBy(name: string, isSame: (disk: Disk) => boolean): Promise<Disk> | undefined {
    const there = this.#known(name);
    if (there?.name !== name || !isSame(there)) return undefined;
    return this.#making.get(there.id) ?? Promise.resolve(there);
  }

  /**
   * Makes a disk on a root that the caller has counted for it. Its row commits with that.
   * @param o.state `restoring` keeps data requests away until `finish`
   * @param flush makes it durable; by default its pool does, by itself
   */
  async make(
    pool: Pool,
    o: {
      name: string;
      capacityBytes: number;
      labels?: Labels;
      detectZeroes?: boolean;
      reserveBytes?: number;
      creation?: string;
      root?: TableRoot;
      /** Of that root. */
      lineage?: Lineage;
      origin?: string;
      state?: DiskState;
      job?: string;
      keepsTombstones?: boolean;
    },
    effects?: Effects<Disk>,
    flush: (rows: readonly RowChange[]) => Promise<void> = (rows) => pool.flush(rows),
  ): Promise<Disk> {
    const { names, generations, clock } = this.#o;
    pool.assertWritable();
    const id = uuidv7(clock);
    names.take(o.name, id, o.job);
    const generation = generations.next();
    const disk = new Disk(pool, {
      id,
      name: o.name,
      capacityBytes: o.capacityBytes,
      labels: o.labels ?? {},
      detectZeroes: o.detectZeroes ?? true,
      reserveBytes: o.reserveBytes ?? 0,
      quotaBytes: null,
      maxBytesPerSecond: null,
      generation,
      lineage: beginLine(generation, o.lineage),
      root: o.root ?? EMPTY_ROOT,
      state: o.state ?? 'ready',
      job: o.job ?? null,
      origin: o.origin ?? null,
      creation: o.creation ?? '',
      version: 1,
      createdAtMs: clock.nowMs(),
    });
    disk.keepsTombstones = o.keepsTombstones ?? false;
    this.#disks.set(id, disk);
    disk.changed();
    const made = flush(effects?.(disk) ?? []).then(() => disk);
    this.#making.set(id, made);
    try {
      return await made;
    } catch (error) {
      // as if it had never been
      this.forgetShell(disk);
      this.reclaimer(pool).add(disk.root);
      throw error;
    } finally {
      this.#making.delete(id);
    }
  }

  /**
   * @throws as create, DISK_HAS_DATA_BEYOND, DISK_FENCED, POOL_FULL (see resizeDisk);
   *   METADATA_FULL: then another capacity stays, and becomes durable later
   */
  async update(ref: string, patch: DiskPatch, effects?: Effects<Disk>): Promise<Disk> {
    const disk = this.get(ref);
    return disk.updates.run(() => this.#update(disk, patch, effects));
  }

  async #update(disk: Disk, patch: DiskPatch, effects?: Effects<Disk>): Promise<Disk> {
    const { record } = disk;
    const { names } = this.#o;
    disk.assertAccessible();
    const { capacityBytes: wanted = disk.capacityBytes } = patch;
    if (patch.reserveBytes !== undefined) {
      checkReserve(disk.pool, patch.reserveBytes, wanted, disk.reserveBytes);
    }
    disk.pool.assertWritable();
    if (patch.capacityBytes !== undefined) checkCapacity(patch.capacityBytes);
    const settings = settingsOf(record);
    const { name = record.name } = patch;
    return names.rename(disk.id, record.name, name, async () => {
      if (patch.capacityBytes !== undefined) {
        const { capacityBytes, discard = false } = patch;
        await resizeDisk(disk, capacityBytes, discard, () => {
          disk.changed();
        });
      }
      setAll(disk, patch);
      bumpIfChanged(record, settings, settingsOf(record));
      try {
        return await this.#commit(disk, effects?.(disk) ?? []);
      } catch (error) {
        takeBack(disk, settings);
        throw error;
      }
    });
  }

  /**
   * Deletes a disk; its copies stay. The name is free at once, the room soon.
   * @param o.force ends its users first @throws DISK_IN_USE, DISK_FENCED, NOT_FOUND
   */
  async delete(
    ref: string,
    o: { force?: boolean } = {},
    effects: readonly RowChange[] = [],
  ): Promise<void> {
    const disk = this.get(ref);
    if (o.force === true) {
      const job = disk.fencedBy;
      if (job !== undefined) await this.#o.endJob?.(job);
      // the disk of a restore goes with it
      if (disk.isDeleted) return;
      await disk.endUsers(new StorageError('DISK_IN_USE', `disk ${disk.name} is being deleted`));
    }
    disk.assertUnused();
    disk.assertAccessible();
    await this.discardDisk(disk, effects);
  }

  /** The same without asking: for a disk whose restore did not end well. */
  async discardDisk(disk: Disk, effects: readonly RowChange[] = []): Promise<void> {
    disk.pool.assertWritable();
    const admitted = disk.admission();
    await disk.gate.close();
    try {
      // of two who delete it one is too late, and so is one who met a fence
      admitted();
      disk.markDeleted();
    } finally {
      disk.gate.open();
    }
    this.#forget(disk);
    this.reclaimer(disk.pool).add(disk.root);
    await this.#commit(disk, effects);
  }

  /** The disk goes, its root belongs to someone else now; in this turn's batch. */
  forgetShell(disk: Disk): void {
    disk.markDeleted();
    this.#forget(disk);
    disk.changed();
  }

  /** Parks the reclaimers. */
  async stop(): Promise<void> {
    await Promise.all([...this.#reclaimers.values()].map((reclaimer) => reclaimer.stop()));
  }

  async #commit(disk: Disk, rows: readonly RowChange[]): Promise<Disk> {
    disk.changed();
    await disk.pool.flush(rows);
    return disk;
  }

  /** Also one that is still being made. */
  #known(ref: string): Disk | undefined {
    return this.#disks.get(ref) ?? this.#disks.get(this.#o.names.ownerOf(ref) ?? '');
  }

  #inPool(pool: Pool): Disk[] {
    return [...this.#disks.values()].filter((disk) => disk.pool === pool);
  }

  #forget(disk: Disk): void {
    this.#disks.delete(disk.id);
    this.#o.names.release(disk.name, disk.id);
  }

  async #adoptPool(pool: Pool): Promise<void> {
    const rows = await this.#o.store.rows('dead_roots', { pool: pool.id });
    const reclaimer = new Reclaimer(pool, rows, this.#o.onError);
    this.#reclaimers.set(pool.id, reclaimer);
    pool.onFull(() => reclaimer.step());
    pool.onReserved(() => {
      const ofDisks = this.#inPool(pool).reduce((sum, disk) => sum + disk.reserveBytes, 0);
      return ofDisks + this.#copies.reservedBytesIn(pool);
    });
    if (!pool.isReadOnly) reclaimer.start();
  }

  async #isEmpty(pool: Pool): Promise<boolean> {
    const holdsNothing = async (): Promise<boolean> =>
      (await this.#copies.countIn(pool)) === 0 && this.#inPool(pool).length === 0;
    if (!(await holdsNothing())) return false;
    while (await this.reclaimer(pool).step()) await pool.throttle();
    return holdsNothing();
  }
}

/** All that a patch has but the capacity. */
function setAll(disk: Disk, patch: DiskPatch): void {
  const { record } = disk;
  record.name = patch.name ?? record.name;
  record.labels = patch.labels ?? record.labels;
  record.detectZeroes = patch.detectZeroes ?? record.detectZeroes;
  record.reserveBytes = patch.reserveBytes ?? record.reserveBytes;
  if (patch.quotaBytes !== undefined) record.quotaBytes = patch.quotaBytes;
  if (patch.maxBytesPerSecond !== undefined) {
    record.maxBytesPerSecond = patch.maxBytesPerSecond;
    disk.rate.set(patch.maxBytesPerSecond);
  }
}

/** As before, but for the capacity: data requests may have gone by it. */
function takeBack(disk: Disk, settings: Partial<DiskRecord>): void {
  const { record } = disk;
  const now = settingsOf(record);
  Object.assign(record, settings, { capacityBytes: record.capacityBytes });
  bumpIfChanged(record, now, settingsOf(record));
  disk.rate.set(record.maxBytesPerSecond);
  disk.changed();
}

/**
 * @param before what the disk has reserved already
 * @throws VALIDATION_FAILED above the disk's own size, POOL_FULL without so much room
 */
function checkReserve(pool: Pool, reserveBytes: number, capacityBytes: number, before = 0): void {
  if (reserveBytes === 0) return;
  if (reserveBytes > roundUp(capacityBytes, pool.blockSizeBytes)) {
    throw new StorageError('VALIDATION_FAILED', 'a disk reserves at most its own size', {
      field: 'reserveBytes',
      capacityBytes,
    });
  }
  if (pool.reservedBytes - before + reserveBytes <= pool.freeBytes) return;
  throw pool.fullError(blocksFor(reserveBytes, pool.blockSizeBytes));
}
