/**
 * One state of the metadata database, read synchronously: a read transaction on a connection of its
 * own, which commits of others neither disturb nor are held up by.
 *
 * While it is open the WAL cannot begin anew and grows with each commit; so it is for work that
 * ends. It also reads a copy of the database (`Meta.copyTo`), where nobody commits; SQLite then
 * leaves an empty `-wal` and a `-shm` file beside it.
 *
 * Invariants: (1) nothing is ever written; (2) all calls see the state at `open`.
 */
import SqliteDatabase from 'better-sqlite3';
import type { Database, Statement } from 'better-sqlite3';
import { assert, defined } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { KIB, MIB } from '../base/units.ts';
import { pageKinds } from '../pool/metadata-store.ts';
import type { Cell, PageKind, Row } from '../pool/metadata-store.ts';
import { metadataError } from './failures.ts';
import { checkIdentity, packageMigrationsDir, readMigrations } from './migrate.ts';
import { pageId, pageTables } from './pages.ts';
import { tableOf } from './tables.ts';

const CACHE_BYTES = 16 * MIB;
const BUSY_TIMEOUT_MS = 1000;
/** One past the numbers of a pool's pages. */
const NUMBERS_END = 2 ** 40;

export interface NumberedPage {
  readonly number: number;
  readonly data: Uint8Array;
}

export class Snapshot {
  readonly #db: Database;
  readonly #path: string;
  readonly #statements = new Map<string, Statement>();

  /** @throws METADATA_INVALID, METADATA_NEWER_SCHEMA, STORE_LOCKED */
  static open(path: string, migrationsDir = packageMigrationsDir): Snapshot {
    let db: Database | undefined;
    try {
      db = new SqliteDatabase(path, {
        readonly: true,
        fileMustExist: true,
        timeout: BUSY_TIMEOUT_MS,
      });
      db.pragma(`cache_size = -${CACHE_BYTES / KIB}`);
      db.exec('BEGIN');
      if (checkIdentity(db, path, readMigrations(migrationsDir))) {
        throw new StorageError('METADATA_INVALID', 'the metadata database is empty', { path });
      }
      return new Snapshot(db, path);
    } catch (error) {
      db?.close();
      throw metadataError(error, path);
    }
  }

  private constructor(db: Database, path: string) {
    this.#db = db;
    this.#path = path;
  }

  close(): void {
    this.#db.close();
  }

  /** Rows of a small table, these columns only, ordered by primary key; at most `limit`. */
  rows(name: string, columns: readonly string[], limit = Number.MAX_SAFE_INTEGER): Row[] {
    const table = tableOf(name);
    const known = new Set(table.columns.map((column) => column.name));
    for (const column of columns) assert(known.has(column), `column ${name}.${column}`);
    const order = table.key.map((column) => column.name).join(', ');
    const sql = `SELECT ${columns.join(', ')} FROM ${name} ORDER BY ${order} LIMIT ?`;
    return this.#all(sql, [limit]).map((cells) => {
      const pairs = columns.map((column, index): [string, Cell] => [column, cellOf(cells[index])]);
      return Object.fromEntries(pairs);
    });
  }

  /** Each id of copies with checksums once, at most `limit`. Cost: one search each. */
  copiesWithChecksums(limit = Number.MAX_SAFE_INTEGER): string[] {
    const sql = 'SELECT copy FROM checksums WHERE copy > ? ORDER BY copy LIMIT 1';
    const found: string[] = [];
    for (let last = ''; found.length < limit; last = found.at(-1) ?? '') {
      const [cells] = this.#all(sql, [last]);
      if (cells === undefined) break;
      found.push(String(cells[0]));
    }
    return found;
  }

  /** Numbers of the pools that have pages of a kind. Cost: one search each. */
  poolsOf(kind: PageKind): number[] {
    const sql = `SELECT id FROM ${pageTable(kind)} WHERE id >= ? ORDER BY id LIMIT 1`;
    const found: number[] = [];
    for (let from = 0; ; from = ((found.at(-1) ?? 0) + 1) * NUMBERS_END) {
      const [cells] = this.#all(sql, [from]);
      if (cells === undefined) return found;
      found.push(Math.floor(Number(cells[0]) / NUMBERS_END));
    }
  }

  page(pool: number, kind: PageKind, number: number): Uint8Array | undefined {
    const sql = `SELECT data FROM ${pageTable(kind)} WHERE id = ?`;
    const [cells] = this.#all(sql, [pageId(pool, number)]);
    return cells === undefined ? undefined : blobOf(cells[0]);
  }

  /** Up to `limit` pages of a kind with numbers in [from, end), ascending. */
  pages(
    pool: number,
    kind: PageKind,
    { from, end, limit }: { readonly from: number; readonly end: number; readonly limit: number },
  ): NumberedPage[] {
    const first = pageId(pool, 0);
    const sql =
      `SELECT id, data FROM ${pageTable(kind)} ` + 'WHERE id >= ? AND id < ? ORDER BY id LIMIT ?';
    return this.#all(sql, [first + from, first + end, limit]).map(([id, data]) => ({
      number: Number(id) - first,
      data: blobOf(data),
    }));
  }

  /** Highest page number of a kind in a pool, or -1. */
  lastPage(pool: number, kind: PageKind): number {
    const first = pageId(pool, 0);
    const sql =
      `SELECT id FROM ${pageTable(kind)} ` + 'WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1';
    const [cells] = this.#all(sql, [first, first + NUMBERS_END]);
    return cells === undefined ? -1 : Number(cells[0]) - first;
  }

  #all(sql: string, parameters: readonly Cell[]): unknown[][] {
    try {
      let statement = this.#statements.get(sql);
      if (statement === undefined) {
        statement = this.#db.prepare(sql).raw();
        this.#statements.set(sql, statement);
      }
      return statement.all(...parameters) as unknown[][];
    } catch (error) {
      throw metadataError(error, this.#path);
    }
  }
}

function cellOf(cell: unknown): Cell {
  const plain = cell === null || typeof cell === 'string' || typeof cell === 'number';
  if (plain || cell instanceof Uint8Array) return cell;
  throw new StorageError('METADATA_INVALID', `a row holds a ${typeof cell}`, {});
}

function blobOf(data: unknown): Uint8Array {
  if (data instanceof Uint8Array) return data;
  throw new StorageError('METADATA_INVALID', 'a page is no blob', {});
}

function pageTable(kind: PageKind): string {
  return defined(pageTables[pageKinds.indexOf(kind)], `table of ${kind} pages`);
}
