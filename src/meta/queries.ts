/**
 * The questions beyond "all rows of a small table": listing by time, and dropping old rows.
 *
 * Listing goes by keyset: a page starts after the last (created_at, id) of the one before, so rows
 * that come or go meanwhile neither repeat nor hide others, and page 1000 costs as much as page 1.
 *
 * Invariant: only columns named here are filters; each has an index or few rows behind it.
 */
import { assert, defined } from '../base/assert.ts';
import type { Cell, Row } from '../pool/metadata-store.ts';
import type { Rows } from './rows.ts';
import { equals } from './rows.ts';
import { tableOf } from './tables.ts';

const filters = {
  jobs: ['kind', 'state', 'disk', 'target'],
  backups: ['name', 'target', 'image_id', 'copy_id', 'disk_id', 'disk_name', 'level', 'state'],
} as const;

export type ListQuery = keyof typeof filters;

/** Where a page of a listing ended. */
export interface Position {
  readonly createdAtMs: number;
  readonly id: string;
}

export interface ListOptions {
  /** Columns and what they equal; null for "is null". */
  readonly where: Row;
  readonly after?: Position | undefined;
  /** 1 … 1000 rows. */
  readonly limit: number;
  readonly newestFirst?: boolean | undefined;
}

export interface Listing {
  readonly rows: Row[];
  /** Set if there are more. */
  readonly next?: Position;
}

const MAX_LIMIT = 1000;

/** Asserts that the columns are filters of this listing and the limit is in range. */
export function checkList(query: ListQuery, options: ListOptions): void {
  const known: readonly string[] = filters[query];
  for (const name of Object.keys(options.where)) assert(known.includes(name), `filter ${name}`);
  const { limit } = options;
  assert(Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT, `limit ${limit}`);
}

function positionOf(row: Row): Position {
  const { created_at: createdAtMs, id } = row;
  assert(typeof createdAtMs === 'number' && typeof id === 'string', 'a listed row has no position');
  return { createdAtMs, id };
}

export function list(rows: Rows, query: ListQuery, options: ListOptions): Listing {
  checkList(query, options);
  const { where, after, limit, newestFirst = false } = options;
  const { condition, parameters } = equals(where);
  const beyond = newestFirst ? '<' : '>';
  const order = newestFirst ? 'DESC' : 'ASC';
  const terms = after === undefined ? '' : ` AND (created_at, id) ${beyond} (?, ?)`;
  const position: Cell[] = after === undefined ? [] : [after.createdAtMs, after.id];
  const found = rows.read(
    tableOf(query),
    condition + terms,
    [...parameters, ...position, limit + 1],
    `ORDER BY created_at ${order}, id ${order} LIMIT ?`,
  );
  if (found.length <= limit) return { rows: found };
  const page = found.slice(0, limit);
  return { rows: page, next: positionOf(defined(page.at(-1), 'last row of a page')) };
}

const ages = { jobs: 'ended_at', idempotency: 'created_at' } as const;

export type AgingTable = keyof typeof ages;

/**
 * Deletes up to `limit` rows from before `olderThanMs` (wall clock), the oldest first: jobs by
 * their end (one that has not ended stays), idempotency records by their creation.
 */
export function deleteOlder(
  rows: Rows,
  table: AgingTable,
  olderThanMs: number,
  limit: number,
): number {
  const age = ages[table];
  const oldest = `SELECT rowid FROM ${table} WHERE ${age} < ? ORDER BY ${age} LIMIT ?`;
  const statement = rows.prepare(`DELETE FROM ${table} WHERE rowid IN (${oldest})`);
  return statement.run(olderThanMs, limit).changes;
}
