/**
 * The metadata store over SQLite, as the engine's thread sees it: each call is a message to the
 * meta worker, answered when it is done, a commit when it is durable.
 *
 * Life: `open` starts the worker, which opens the database and raises the store's epoch; `close`
 * marks the store clean. If the worker dies, every call rejects with INTERNAL and the store has to
 * be opened again; what was committed is there.
 *
 * Invariants: (1) requests reach the worker in the order of the calls; (2) a batch is copied before
 * `commit` returns its promise, so the caller may change its buffers at once; (3) pages that are
 * read are in memory of their own.
 */
import { Worker } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { systemClock, uuidv7 } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import { threadUrl } from '../base/package-files.ts';
import type { Batch, MetadataStore, PageKind, Row } from '../pool/metadata-store.ts';
import { Connection } from './connection.ts';
import type { DatabaseOptions } from './database.ts';
import { packageMigrationsDir } from './migrate.ts';
import { buffersOf, packPages } from './pages.ts';
import type { Answer, Request } from './protocol.ts';
import { checkList } from './queries.ts';
import type { AgingTable, ListOptions, ListQuery, Listing } from './queries.ts';
import { checkRowChange, checkWhere } from './tables.ts';

export interface MetaOptions {
  readonly path: string;
  /** Default: the package's own. */
  readonly migrationsDir?: string;
  readonly clock?: Clock;
  /** Called once if the worker dies. */
  readonly onFatal?: (error: StorageError) => void;
  readonly reserveBytes?: number;
  readonly limitBytes?: number;
}

type Opened = Extract<Answer, { op: 'opened' }>;

export class Meta implements MetadataStore {
  readonly storeId: string;
  readonly epoch: number;
  /** The last owner closed the store, or there was none. */
  readonly cleanBefore: boolean;
  readonly #connection: Connection;
  #commits = 0;

  /**
   * Opens the database, or makes it. Its directory must exist.
   *
   * @throws METADATA_INVALID, METADATA_NEWER_SCHEMA, METADATA_FULL, STORE_LOCKED
   */
  static async open(options: MetaOptions): Promise<Meta> {
    const data: DatabaseOptions = {
      path: options.path,
      migrationsDir: options.migrationsDir ?? packageMigrationsDir,
      newStoreId: uuidv7(options.clock ?? systemClock),
      reserveBytes: options.reserveBytes,
      limitBytes: options.limitBytes,
    };
    const worker = new Worker(threadUrl('meta/worker'), { workerData: data });
    const connection = new Connection(worker, (error) => options.onFatal?.(error));
    try {
      const opened = await connection.opened();
      assert(opened.op === 'opened', 'the meta worker has not opened');
      return new Meta(connection, opened);
    } catch (error) {
      await connection.exited();
      throw error;
    }
  }

  private constructor(connection: Connection, opened: Opened) {
    this.#connection = connection;
    this.storeId = opened.storeId;
    this.epoch = opened.epoch;
    this.cleanBefore = opened.cleanBefore;
  }

  /** Commits asked for in this life: as long as it stays the same, the database does. */
  get commits(): number {
    return this.#commits;
  }

  async readPages(
    pool: number,
    kind: PageKind,
    numbers: readonly number[],
  ): Promise<(Uint8Array | undefined)[]> {
    const answer = await this.#connection.send({ op: 'read-pages', pool, kind, numbers });
    assert(answer.op === 'pages', 'pages expected');
    return answer.pages;
  }

  async lastPage(pool: number, kind: PageKind): Promise<number> {
    return await this.#number({ op: 'last-page', pool, kind });
  }

  /**
   * One transaction. Cost: about 20 µs a changed page and one sync.
   *
   * @throws OWNER_LOST, METADATA_FULL (deletes may still succeed), METADATA_INVALID: all three
   * changed nothing
   */
  async commit(batch: Batch): Promise<void> {
    for (const change of batch.rows) checkRowChange(change);
    this.#commits += 1;
    const pages = packPages(batch.pages);
    const request: Request = { op: 'commit', pages, rows: batch.rows };
    const answer = await this.#connection.send(request, buffersOf(pages));
    assert(answer.op === 'done', 'done expected');
  }

  async rows(table: string, where: Row = {}): Promise<Row[]> {
    checkWhere(table, where);
    const answer = await this.#connection.send({ op: 'rows', table, where });
    assert(answer.op === 'rows', 'rows expected');
    return answer.rows;
  }

  /** One page of a listing by (created_at, id). Cost: one indexed search and the rows. */
  async list(query: ListQuery, options: ListOptions): Promise<Listing> {
    checkList(query, options);
    checkWhere(query, options.where);
    const answer = await this.#connection.send({ op: 'list', query, options });
    assert(answer.op === 'listing', 'listing expected');
    return answer.listing;
  }

  /** Bytes of the database and its WAL. */
  async sumBytes(): Promise<number> {
    return await this.#number({ op: 'sum-bytes' });
  }

  /**
   * Writes a consistent copy of the database to `path` while it is in use: in steps, to a temporary
   * name, synced, then renamed. A store opened from it counts as not cleanly closed.
   *
   * @throws HOST_FULL, TARGET_UNAVAILABLE, SHUTTING_DOWN
   */
  async copyTo(path: string): Promise<void> {
    const answer = await this.#connection.send({ op: 'copy', path });
    assert(answer.op === 'done', 'done expected');
  }

  /**
   * What is wrong with the database's structure; empty if nothing. Quick by default (bounded);
   * `deep` reads every row, in slices.
   */
  async check(options: { readonly deep?: boolean } = {}): Promise<string[]> {
    const deep = options.deep ?? false;
    const answer = await this.#connection.send({ op: 'check', deep });
    assert(answer.op === 'findings', 'findings expected');
    return answer.findings;
  }

  /**
   * Deletes up to `limit` rows from before the instant `olderThanMs`, the oldest first: jobs by
   * their end (unended ones stay), idempotency records by their creation. Returns how many.
   */
  async deleteOlder(table: AgingTable, olderThanMs: number, limit: number): Promise<number> {
    return await this.#number({ op: 'delete-older', table, olderThanMs, limit });
  }

  /** Marks the store clean, empties the WAL, ends the thread. Later calls reject. */
  async close(): Promise<void> {
    await this.#connection.close();
  }

  /**
   * Ends the thread without closing the store, for an owner that has lost it or may not trust it:
   * what was acknowledged is there, the next opening counts as unclean.
   */
  async abandon(): Promise<void> {
    await this.#connection.abandon();
  }

  async #number(request: Request): Promise<number> {
    const answer = await this.#connection.send(request);
    assert(answer.op === 'number', 'number expected');
    return answer.value;
  }
}
