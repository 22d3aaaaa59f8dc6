/**
 * Puts, deletes and selects of rows: SQL made from the columns in tables.ts, prepared once.
 *
 * Invariants: (1) a put that meets another row's unique value fails, it never replaces that row;
 * (2) selects return the columns as declared and order by primary key.
 */
import type { Database, Statement } from 'better-sqlite3';
import type { Cell, Row, RowChange } from '../pool/metadata-store.ts';
import { readRow, tableOf } from './tables.ts';
import type { Column, Table } from './tables.ts';

function names(columns: readonly Column[]): string {
  return columns.map((column) => column.name).join(', ');
}

/** A condition that each column equals its cell, and the parameters of it. */
export function equals(where: Row): { condition: string; parameters: Cell[] } {
  const entries = Object.entries(where);
  const terms = entries.map(([name, cell]) => (cell === null ? `${name} IS NULL` : `${name} = ?`));
  return {
    condition: ['TRUE', ...terms].join(' AND '),
    parameters: entries.map(([, cell]) => cell).filter((cell) => cell !== null),
  };
}

function upsertSql(table: Table): string {
  const values = table.columns.map(() => '?').join(', ');
  const sets = table.rest.map((column) => `${column.name} = excluded.${column.name}`).join(', ');
  return (
    `INSERT INTO ${table.name} (${names(table.columns)}) VALUES (${values}) ` +
    `ON CONFLICT (${names(table.key)}) DO UPDATE SET ${sets}`
  );
}

function cellsOf(columns: readonly Column[], row: Row): Cell[] {
  return columns.map((column) => row[column.name] ?? null);
}

/** Blobs up to this size do not count as growth: a store without room still keeps its records. */
const SMALL_BLOB_BYTES = 4096;

/** Bytes of large blobs that a change brings. */
export function growthBytes({ row }: RowChange): number {
  const sizes = Object.values(row ?? {}).map((cell) =>
    cell instanceof Uint8Array ? cell.length : 0,
  );
  return sizes.filter((size) => size > SMALL_BLOB_BYTES).reduce((sum, size) => sum + size, 0);
}

export class Rows {
  readonly #db: Database;
  readonly #statements = new Map<string, Statement>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** The statement with this text. The texts are few: they depend on tables and columns only. */
  prepare(sql: string): Statement {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const made = this.#db.prepare(sql);
    this.#statements.set(sql, made);
    return made;
  }

  /** Puts or deletes one row (inside the caller's transaction). */
  apply(change: RowChange): void {
    const table = tableOf(change.table);
    if (change.row === undefined) {
      const { condition, parameters } = equals(change.key);
      this.prepare(`DELETE FROM ${table.name} WHERE ${condition}`).run(...parameters);
      return;
    }
    const cells = cellsOf(table.columns, { ...change.key, ...change.row });
    this.prepare(upsertSql(table)).run(...cells);
  }

  /** All rows whose columns equal `where`, ordered by primary key. */
  select(name: string, where: Row): Row[] {
    const table = tableOf(name);
    const { condition, parameters } = equals(where);
    return this.read(table, condition, parameters, `ORDER BY ${names(table.key)}`);
  }

  /** Rows for a condition with parameters, and what follows it (order, limit). */
  read(table: Table, condition: string, parameters: readonly Cell[], tail: string): Row[] {
    const sql = `SELECT ${names(table.columns)} FROM ${table.name} WHERE ${condition} ${tail}`;
    const found: unknown[] = this.prepare(sql)
      .raw(true)
      .all(...parameters);
    return found.map((cells) => readRow(table, Array.isArray(cells) ? cells : []));
  }
}
