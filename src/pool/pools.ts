/**
 * The pools of a store: made, opened, grown, renamed and deleted.
 *
 * Invariants:
 *  1. A pool's row is committed after its files are made and durable, and gone before they are
 *     removed: a crash leaves at most files that the next creation takes over.
 *  2. At opening each header is checked against the epoch that its row remembers; only then the
 *     rows, and after them the headers, get the new one. So a database that is older than the
 *     pools, and a file that is older than the database, are refused however often it is tried.
 *  3. A pool whose files cannot be opened is known but unavailable while another pool can be: its
 *     tables are read, each use of its blocks is refused, and its rows stay as they are, so that it
 *     opens again when its files are back.
 */
import { type Clock, uuidv7 } from '../base/clock.ts';
import { type ErrorCode, isStorageError, StorageError } from '../base/errors.ts';
import { bumpIfChanged } from '../base/version.ts';
import { Mutex } from '../base/mutex.ts';
import { DEFAULT_BLOCK_SIZE_BYTES, MIB } from '../base/units.ts';
import type { BlockFileSystem } from './block-file.ts';
import type { MetadataStore, Row, RowChange } from './metadata-store.ts';
import { type FileSpec, type OpenOptions, PoolFiles } from './pool-files.ts';
import { Pool, type PoolRecord } from './pool.ts';

export interface PoolRequest {
  readonly name: string;
  readonly files: readonly FileSpec[];
  readonly blockSizeBytes?: number;
  readonly lowWaterPercent?: number;
  readonly criticalPercent?: number;
  /** false: sparse files, for tests and benches of huge pools. */
  readonly preallocate?: boolean;
}

export interface PoolPatch {
  readonly name?: string;
  /** Known paths with larger sizes, or new paths. */
  readonly files?: readonly FileSpec[];
  readonly lowWaterPercent?: number;
  readonly criticalPercent?: number;
}

export type Effects<T> = (result: T) => readonly RowChange[];

export interface PoolsOptions {
  readonly store: MetadataStore;
  readonly storeId: string;
  readonly epoch: number;
  readonly clock: Clock;
  readonly fileSystem: BlockFileSystem;
  /** Read-only, also if the headers have a later epoch than the database. */
  readonly salvage?: boolean;
  /** Node cache of each pool. */
  readonly cacheBytes?: number;
}

const CACHE_BYTES = 16 * MIB;
/** What may be wrong with the files of one pool while others are served. */
const ABSENCES: readonly ErrorCode[] = [
  'POOL_UNAVAILABLE',
  'POOL_FILE_INVALID',
  'POOL_FILE_FOREIGN',
];

export class Pools {
  readonly #o: PoolsOptions;
  readonly #pools = new Map<string, Pool>();
  readonly #changes = new Mutex();
  #opened: (pool: Pool) => Promise<void> = () => Promise.resolve();
  /** True if nothing in the pool would be lost; waits for what is being given back. */
  #isEmpty: (pool: Pool) => Promise<boolean> = () => Promise.resolve(true);

  constructor(options: PoolsOptions) {
    this.#o = options;
  }

  /** Called with each pool that is opened or made, before anyone else sees it. */
  onOpened(opened: (pool: Pool) => Promise<void>, isEmpty: (pool: Pool) => Promise<boolean>): void {
    this.#opened = opened;
    this.#isEmpty = isEmpty;
  }

  /**
   * Opens every pool of the store; those whose files cannot be opened are unavailable.
   * @throws as PoolFiles.open, if no pool can be opened, or one is locked or newer than its row;
   *   then nothing stays open
   */
  async open(): Promise<void> {
    try {
      const failures: StorageError[] = [];
      for (const row of await this.#o.store.rows('pools')) {
        const pool = await this.#openPool(row, failures);
        this.#pools.set(pool.id, pool);
      }
      const [failure] = failures;
      if (failure !== undefined && failures.length === this.#pools.size) throw failure;
      if (this.#o.salvage !== true) {
        const open = this.list().filter((pool) => !pool.isReadOnly);
        // a crash between the two leaves headers of this epoch beside some of the one before
        await this.#saveEpochs(open, (pool) => pool.files.lowestEpoch);
        for (const pool of open) await pool.files.raiseEpoch(this.#o.epoch);
        await this.#saveEpochs(open, () => this.#o.epoch);
      }
      for (const pool of this.#pools.values()) await this.#opened(pool);
    } catch (error) {
      await Promise.allSettled(this.list().map((pool) => pool.files.close()));
      this.#pools.clear();
      throw error;
    }
  }

  list(): Pool[] {
    return [...this.#pools.values()];
  }

  find(ref: string): Pool | undefined {
    return this.#pools.get(ref) ?? this.list().find((pool) => pool.name === ref);
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): Pool {
    const pool = this.find(ref);
    if (pool === undefined) {
      throw new StorageError('NOT_FOUND', `there is no pool ${ref}`, { pool: ref });
    }
    return pool;
  }

  /**
   * Makes a pool; the same request again answers the pool that is there.
   * @throws NAME_TAKEN (other parameters), and as PoolFiles.create
   */
  async create(
    request: PoolRequest,
    effects?: Effects<Pool>,
  ): Promise<{ pool: Pool; created: boolean }> {
    return this.#changes.run(async () => {
      const normal = normalise(request);
      const creation = JSON.stringify(normal);
      const there = this.list().find((pool) => pool.name === request.name);
      if (there !== undefined) {
        if (there.record.creation === creation) return { pool: there, created: false };
        throw nameTaken(there);
      }
      const record: PoolRecord = {
        id: uuidv7(this.#o.clock),
        number: Math.max(0, ...this.list().map((pool) => pool.record.number)) + 1,
        name: normal.name,
        blockSizeBytes: normal.blockSizeBytes,
        lowWaterPercent: normal.lowWaterPercent,
        criticalPercent: normal.criticalPercent,
        preallocate: normal.preallocate,
        version: 1,
        createdAtMs: this.#o.clock.nowMs(),
        creation,
      };
      const pool = await this.#make(record, normal.files, effects);
      return { pool, created: true };
    });
  }

  /** Renames, moves the marks, grows; growing works while the pool is in use. */
  async update(ref: string, patch: PoolPatch, effects?: Effects<Pool>): Promise<Pool> {
    return this.#changes.run(async () => {
      const pool = this.get(ref);
      const { record } = pool;
      if (patch.name !== undefined && patch.name !== record.name) {
        const other = this.list().find(({ name }) => name === patch.name);
        if (other !== undefined) throw nameTaken(other);
      }
      const { lowWaterPercent, criticalPercent } = { ...record, ...patch };
      checkMarks(lowWaterPercent, criticalPercent);
      const settings = () => [
        record.name,
        record.lowWaterPercent,
        record.criticalPercent,
        pool.files.files,
      ];
      const before = settings();
      if (patch.files !== undefined) await pool.grow(patch.files);
      record.name = patch.name ?? record.name;
      record.lowWaterPercent = patch.lowWaterPercent ?? record.lowWaterPercent;
      record.criticalPercent = patch.criticalPercent ?? record.criticalPercent;
      bumpIfChanged(record, before, settings());
      await pool.flush([this.#row(pool), ...(effects?.(pool) ?? [])]);
      return pool;
    });
  }

  /** @throws POOL_IN_USE while a disk or copy lives in it */
  async delete(ref: string, effects?: RowChange[]): Promise<void> {
    await this.#changes.run(async () => {
      const pool = this.get(ref);
      await this.#assertEmpty(pool);
      // from here on nothing new begins in it
      this.#pools.delete(pool.id);
      try {
        await this.#assertEmpty(pool);
        await pool.flush([...rowsOf(pool), ...(effects ?? [])]);
      } catch (error) {
        this.#pools.set(pool.id, pool);
        throw error;
      }
      await pool.files.remove();
    });
  }

  async #assertEmpty(pool: Pool): Promise<void> {
    if (await this.#isEmpty(pool)) return;
    throw new StorageError('POOL_IN_USE', `pool ${pool.name} holds disks or copies`, {
      pool: pool.name,
    });
  }

  /** Flushes and closes every pool, even if one fails. */
  async close(): Promise<void> {
    const results = await Promise.allSettled(this.list().map((pool) => pool.close()));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #make(
    record: PoolRecord,
    files: readonly FileSpec[],
    effects?: Effects<Pool>,
  ): Promise<Pool> {
    const poolFiles = await PoolFiles.create(this.#o.fileSystem, {
      storeId: this.#o.storeId,
      poolId: record.id,
      blockSizeBytes: record.blockSizeBytes,
      files,
      preallocate: record.preallocate,
      epoch: this.#o.epoch,
      isAbandoned: (id) => !this.#pools.has(id),
    });
    try {
      const pool = this.#pool(record, poolFiles, 1);
      await pool.allocator.open();
      await this.#opened(pool);
      await pool.flush([this.#row(pool), ...pool.layoutRows(), ...(effects?.(pool) ?? [])]);
      this.#pools.set(pool.id, pool);
      return pool;
    } catch (error) {
      await poolFiles.remove();
      throw error;
    }
  }

  /** @param failures gets what makes the pool unavailable */
  async #openPool(row: Row, failures: StorageError[]): Promise<Pool> {
    const record = readRecord(row);
    const options = await this.#recorded(record, row);
    const last = await this.#o.store.lastPage(record.number, 'node');
    const nextNode = Math.max(1, last + 1);
    let pool: Pool;
    try {
      pool = this.#pool(record, await PoolFiles.open(this.#o.fileSystem, options), nextNode);
    } catch (error) {
      if (!isStorageError(error) || !ABSENCES.includes(error.code)) throw error;
      failures.push(error);
      const cause = unavailable(record, error);
      const files = PoolFiles.absent(this.#o.fileSystem, options, cause);
      pool = this.#pool(record, files, nextNode, cause);
    }
    try {
      await pool.allocator.open();
    } catch (error) {
      await pool.files.close();
      throw error;
    }
    return pool;
  }

  /** What the rows say of the pool's files. */
  async #recorded(record: PoolRecord, row: Row): Promise<OpenOptions> {
    const files = await this.#o.store.rows('pool_files', { pool: record.id });
    const extents = await this.#o.store.rows('pool_extents', { pool: record.id });
    return {
      storeId: this.#o.storeId,
      poolId: record.id,
      blockSizeBytes: record.blockSizeBytes,
      epoch: this.#o.salvage === true ? Number.MAX_SAFE_INTEGER : Number(row['epoch']),
      oldestEpoch: this.#o.salvage === true ? 0 : Number(row['oldest_epoch']),
      files: files.map((file) => ({
        path: String(file['path']),
        sizeBytes: Number(file['size_bytes']),
        kind: file['kind'] === 'device' ? 'device' : 'file',
      })),
      extents: extents.map((extent) => ({
        firstBlock: Number(extent['first_block']),
        blocks: Number(extent['blocks']),
        file: Number(extent['file']),
        fileBlock: Number(extent['file_block']),
        highWater: Number(extent['high_water']),
      })),
    };
  }

  /** @param absence why it can be neither written nor read */
  #pool(record: PoolRecord, files: PoolFiles, nextNode: number, absence?: StorageError): Pool {
    const { store, cacheBytes = CACHE_BYTES, salvage } = this.#o;
    const message = 'the store is open read-only, for salvage';
    const salvaged = salvage === true ? new StorageError('STORE_READ_ONLY', message) : undefined;
    const readOnly = absence ?? salvaged;
    return new Pool({ record, files, store, cacheBytes, nextNode, readOnly });
  }

  /** What the headers may say from now on. */
  async #saveEpochs(pools: readonly Pool[], oldest: (pool: Pool) => number): Promise<void> {
    const rows = pools.map((pool) => this.#row(pool, oldest(pool)));
    if (rows.length > 0) await this.#o.store.commit({ pages: [], rows });
  }

  #row(pool: Pool, oldestEpoch = this.#o.epoch): RowChange {
    const { record } = pool;
    return {
      table: 'pools',
      key: { id: record.id },
      row: {
        number: record.number,
        name: record.name,
        block_size_bytes: record.blockSizeBytes,
        low_water_percent: record.lowWaterPercent,
        critical_percent: record.criticalPercent,
        preallocate: record.preallocate ? 1 : 0,
        oldest_epoch: oldestEpoch,
        epoch: this.#o.epoch,
        creation: record.creation,
        version: record.version,
        created_at: record.createdAtMs,
      },
    };
  }
}

function normalise(request: PoolRequest): Required<PoolRequest> {
  const { lowWaterPercent = 80, criticalPercent = 95 } = request;
  checkMarks(lowWaterPercent, criticalPercent);
  return {
    name: request.name,
    files: request.files.map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    blockSizeBytes: request.blockSizeBytes ?? DEFAULT_BLOCK_SIZE_BYTES,
    lowWaterPercent,
    criticalPercent,
    preallocate: request.preallocate ?? true,
  };
}

function checkMarks(lowWaterPercent: number, criticalPercent: number): void {
  if (lowWaterPercent <= criticalPercent) return;
  throw new StorageError('VALIDATION_FAILED', 'lowWaterPercent is above criticalPercent', {
    field: 'lowWaterPercent',
  });
}

function unavailable({ name }: PoolRecord, cause: StorageError): StorageError {
  const message = `pool ${name} is not available: ${cause.message}`;
  return new StorageError('POOL_UNAVAILABLE', message, { pool: name, cause: cause.code }, cause);
}

/** The rows of a pool, removed. */
function rowsOf(pool: Pool): RowChange[] {
  const { id, files } = pool;
  const remove = (table: string, key: Row): RowChange => ({ table, key, row: undefined });
  return [
    remove('pools', { id }),
    ...files.files.map((_, file) => remove('pool_files', { pool: id, file })),
    ...files.extents.map((_, extent) => remove('pool_extents', { pool: id, extent })),
  ];
}

function nameTaken(pool: Pool): StorageError {
  return new StorageError('NAME_TAKEN', `there is a pool ${pool.name} already`, {
    name: pool.name,
    id: pool.id,
  });
}

function readRecord(row: Row): PoolRecord {
  return {
    id: String(row['id']),
    number: Number(row['number']),
    name: String(row['name']),
    blockSizeBytes: Number(row['block_size_bytes']),
    lowWaterPercent: Number(row['low_water_percent']),
    criticalPercent: Number(row['critical_percent']),
    preallocate: row['preallocate'] === 1,
    version: Number(row['version']),
    createdAtMs: Number(row['created_at']),
    creation: String(row['creation']),
  };
}
