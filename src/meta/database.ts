/**
 * The metadata database: one SQLite file in WAL mode with synchronous=FULL, owned by one process.
 *
 * Opening: 1. look at the file without changing it (ours? not newer?); 2. set the pragmas; 3. apply
 * the missing migrations; 4. in one transaction raise the epoch and mark the store unclean; 5. take
 * the reserve. Closing marks it clean and empties the WAL.
 *
 * Invariants:
 *  1. A transaction begins by checking that the epoch in the file is ours.
 *  2. After a failed transaction nothing of it is in the file and the next one may succeed; only an
 *     I/O error or a malformed file ends this object (`#broken`), until the store is reopened.
 *  3. While the reserve is given back (the file system is full), only transactions that do not grow
 *     the database, or fit its free pages, are tried: the room is for deletes.
 *
 * Specified in docs/format/metadata.md; sizes decided in docs/adr/0004-metadata-pages.md.
 */
import SqliteDatabase from 'better-sqlite3';
import type { Database, Statement } from 'better-sqlite3';
import type { AssertionError } from '../base/assert.ts';
import { StorageError, isStorageError } from '../base/errors.ts';
import { KIB, MIB } from '../base/units.ts';
import { isFileFailure, metadataError } from './failures.ts';
import { RESERVE_BYTES, Reserve, checkDirectory, sizeOf } from './files.ts';
import { checkIdentity, migrate, readMigrations } from './migrate.ts';

export const PAGE_SIZE_BYTES = 4 * KIB;
const CACHE_BYTES = 4 * MIB;
const WAL_LIMIT_BYTES = 16 * MIB;
/** A checkpoint of this many frames takes about 10 ms. */
const CHECKPOINT_FRAMES = 1000;
/** What the WAL holds must fit the reserve, or on a full file system it could never be moved. */
const OVERDUE_FRAMES = 1500;
const BUSY_TIMEOUT_MS = 250;

export interface DatabaseOptions {
  readonly path: string;
  readonly migrationsDir: string;
  /** The store's UUID, if the database is made by this opening. */
  readonly newStoreId: string;
  /** Size of the reserve file beside the database. Default 8 MiB. */
  readonly reserveBytes?: number | undefined;
  /** Bytes beyond which the database file does not grow (the reserve comes on top). */
  readonly limitBytes?: number | undefined;
}

function configure(db: Database): void {
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = OFF');
  db.pragma(`cache_size = -${CACHE_BYTES / KIB}`);
  db.pragma(`journal_size_limit = ${WAL_LIMIT_BYTES}`);
  db.pragma('wal_autocheckpoint = 0');
}

export class MetaDatabase {
  readonly db: Database;
  readonly storeId: string;
  readonly epoch: number;
  /** True if the last owner closed the store, or there was none. */
  readonly cleanBefore: boolean;
  readonly #options: DatabaseOptions;
  readonly #reserve: Reserve;
  readonly #getFact: Statement;
  readonly #putFact: Statement;
  #broken: StorageError | AssertionError | undefined;

  /**
   * Cost: a few reads; a new database and its reserve are written and synced.
   *
   * @throws METADATA_INVALID, METADATA_NEWER_SCHEMA, METADATA_FULL, STORE_LOCKED
   */
  static open(options: DatabaseOptions): MetaDatabase {
    const { path } = options;
    let db: Database | undefined;
    try {
      checkDirectory(path);
      db = new SqliteDatabase(path, { timeout: BUSY_TIMEOUT_MS });
      const migrations = readMigrations(options.migrationsDir);
      if (checkIdentity(db, path, migrations)) db.pragma(`page_size = ${PAGE_SIZE_BYTES}`);
      configure(db);
      migrate(db, migrations);
      return new MetaDatabase(db, options);
    } catch (error) {
      db?.close();
      throw metadataError(error, path);
    }
  }

  private constructor(db: Database, options: DatabaseOptions) {
    this.db = db;
    this.#options = options;
    this.#getFact = db.prepare('SELECT value FROM store WHERE key = ?').pluck();
    this.#putFact = db.prepare(
      'INSERT INTO store (key, value) VALUES (?, ?) ' +
        'ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    );
    const own = db.transaction(() => this.#takeOwnership());
    const { storeId, epoch, cleanBefore } = own.immediate();
    this.storeId = storeId;
    this.epoch = epoch;
    this.cleanBefore = cleanBefore;
    this.#reserve = new Reserve(options.path, options.reserveBytes ?? RESERVE_BYTES);
    this.#reserve.take();
    this.#setLimit();
  }

  /**
   * Runs `body` in one transaction; it is durable when this returns.
   *
   * @param growthBytes what it adds to the database, asked only while there is no reserve
   * @throws OWNER_LOST, METADATA_FULL, METADATA_INVALID: nothing was changed
   */
  transaction<T>(body: () => T, growthBytes: () => number = () => 0): T {
    if (this.#broken !== undefined) throw this.#broken;
    if (!this.#hasReserve()) this.#checkRoom(growthBytes());
    try {
      return this.#attempt(body);
    } catch (error) {
      const full = isStorageError(error, 'METADATA_FULL');
      if (!full || !this.#releaseReserve()) throw error;
    }
    this.#checkRoom(growthBytes());
    return this.#attempt(body);
  }

  /** Runs a read and translates its errors. */
  read<T>(body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw metadataError(error, this.#options.path);
    }
  }

  /**
   * Moves what committed from the WAL into the database: if it is much (for an idle moment), only
   * if it is overdue (after any commit), or all of it and gives the room back. Without a reserve
   * anything counts as overdue: the WAL must not take the room that is left for deletes. Without
   * room the WAL stays as it is, for a later try.
   */
  checkpoint(when: 'much' | 'overdue' | 'all'): void {
    try {
      if (when === 'all') this.db.pragma('wal_checkpoint(TRUNCATE)');
      else if (this.#backlog() >= this.#tolerated(when)) this.db.pragma('wal_checkpoint(PASSIVE)');
    } catch (error) {
      const failure = metadataError(error, this.#options.path);
      if (isFileFailure(failure)) this.#broken = failure;
      else if (!isStorageError(failure)) throw failure;
    }
  }

  /** Bytes of the database and its WAL. */
  sumBytes(): number {
    const { path } = this.#options;
    return sizeOf(path) + sizeOf(`${path}-wal`);
  }

  /** Marks the store clean, if it still is ours, and closes the file whatever is thrown. */
  close(): void {
    try {
      this.transaction(() => this.#putFact.run('clean', '1'));
      this.checkpoint('all');
    } catch (error) {
      if (!isStorageError(error, 'OWNER_LOST')) throw error;
    } finally {
      this.db.close();
    }
  }

  #fact(key: string): string | undefined {
    const value = this.#getFact.get(key);
    return typeof value === 'string' ? value : undefined;
  }

  #takeOwnership(): { storeId: string; epoch: number; cleanBefore: boolean } {
    const known = this.#fact('uuid');
    const storeId = known ?? this.#options.newStoreId;
    const epoch = Number(this.#fact('epoch') ?? 0) + 1;
    const cleanBefore = known === undefined || this.#fact('clean') === '1';
    if (!Number.isSafeInteger(epoch)) {
      throw new StorageError('METADATA_INVALID', 'the epoch of the store is no number', {});
    }
    this.#putFact.run('uuid', storeId);
    this.#putFact.run('epoch', String(epoch));
    this.#putFact.run('clean', '0');
    return { storeId, epoch, cleanBefore };
  }

  #attempt<T>(body: () => T): T {
    const { db } = this;
    try {
      db.exec('BEGIN IMMEDIATE');
      this.#checkOwner();
      const result = body();
      db.exec('COMMIT');
      return result;
    } catch (error) {
      const failure = metadataError(error, this.#options.path);
      if (isFileFailure(failure)) this.#broken = failure;
      if (db.inTransaction) db.exec('ROLLBACK');
      throw failure;
    }
  }

  #checkOwner(): void {
    const epoch = this.#fact('epoch');
    if (epoch === String(this.epoch)) return;
    const details = { storeId: this.storeId, epoch: this.epoch, found: epoch };
    throw new StorageError('OWNER_LOST', 'another process has taken over the store', details);
  }

  /** @throws METADATA_FULL if so much growth would use up what is left for deletes */
  #checkRoom(growthBytes: number): void {
    const freePages = Number(this.db.pragma('freelist_count', { simple: true }));
    if (growthBytes <= (freePages * PAGE_SIZE_BYTES) / 2) return;
    const { path } = this.#options;
    const message = 'the file system of the metadata is full; only deletes are possible';
    throw new StorageError('METADATA_FULL', message, { path, growthBytes });
  }

  #hasReserve(): boolean {
    if (this.#reserve.isHeld) return true;
    if (this.#isNearLimit()) return false;
    const taken = this.read(() => this.#reserve.take());
    this.#setLimit();
    return taken;
  }

  #backlog(): number {
    return backlog(this.db.pragma('wal_checkpoint(NOOP)'));
  }

  #tolerated(when: 'much' | 'overdue'): number {
    if (!this.#reserve.isHeld) return 1;
    return when === 'much' ? CHECKPOINT_FRAMES : OVERDUE_FRAMES;
  }

  #releaseReserve(): boolean {
    const released = this.#reserve.release();
    this.#setLimit();
    // the room given back is first for what has committed already
    if (released) this.checkpoint('all');
    return released;
  }

  #isNearLimit(): boolean {
    const { limitBytes } = this.#options;
    if (limitBytes === undefined) return false;
    const pages = Number(this.db.pragma('page_count', { simple: true }));
    const freePages = Number(this.db.pragma('freelist_count', { simple: true }));
    return (pages - freePages) * PAGE_SIZE_BYTES + this.#reserve.bytes > limitBytes;
  }

  #setLimit(): void {
    const { limitBytes } = this.#options;
    if (limitBytes === undefined) return;
    const bytes = limitBytes + (this.#reserve.isHeld ? 0 : this.#reserve.bytes);
    this.db.pragma(`max_page_count = ${Math.floor(bytes / PAGE_SIZE_BYTES)}`);
  }
}

/** Frames in the WAL that are not yet in the database, from the answer of wal_checkpoint. */
function backlog(rows: unknown): number {
  const row: unknown = Array.isArray(rows) ? rows[0] : undefined;
  if (typeof row !== 'object' || row === null) return 0;
  if (!('log' in row) || !('checkpointed' in row)) return 0;
  return Number(row.log) - Number(row.checkpointed);
}
