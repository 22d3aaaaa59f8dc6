/**
 * The row tables as data: their columns, keys and types, and the checks of what goes in and out.
 *
 * Pure and without SQL, so that the in-memory store of the tests refuses the same mistakes.
 * A column's type is written as in SQL; a trailing `?` means it may be null.
 *
 * Invariants: (1) these tables equal those that the migrations make (a test compares); (2) a row
 * that is put has every column, except that a nullable one may be left out; (3) a row that is read
 * has every column. Specified in docs/format/metadata.md.
 */
import { assert, defined } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { Cell, Row, RowChange } from '../pool/metadata-store.ts';

type ColumnType = 'TEXT' | 'INTEGER' | 'BLOB';

export interface Column {
  readonly name: string;
  readonly type: ColumnType;
  readonly nullable: boolean;
}

export interface Table {
  readonly name: string;
  /** The primary key, in order. */
  readonly key: readonly Column[];
  /** The columns beside the key. */
  readonly rest: readonly Column[];
  readonly columns: readonly Column[];
}

type Columns = Readonly<Record<string, ColumnType | `${ColumnType}?`>>;

function columnsOf(declared: Columns): Column[] {
  return Object.entries(declared).map(([name, type]) => {
    const nullable = type.endsWith('?');
    const base = type === 'TEXT?' ? 'TEXT' : type === 'INTEGER?' ? 'INTEGER' : type;
    return { name, type: base === 'BLOB?' ? 'BLOB' : base, nullable };
  });
}

function table(name: string, keyColumns: Columns, restColumns: Columns): Table {
  const key = columnsOf(keyColumns);
  const rest = columnsOf(restColumns);
  return { name, key, rest, columns: [...key, ...rest] };
}

const id = { id: 'TEXT' } as const;
const versioned = { version: 'INTEGER', created_at: 'INTEGER' } as const;

export const tables: readonly Table[] = [
  table('store', { key: 'TEXT' }, { value: 'TEXT' }),
  table('pools', id, {
    number: 'INTEGER',
    name: 'TEXT',
    block_size_bytes: 'INTEGER',
    low_water_percent: 'INTEGER',
    critical_percent: 'INTEGER',
    preallocate: 'INTEGER',
    oldest_epoch: 'INTEGER',
    epoch: 'INTEGER',
    creation: 'TEXT',
    ...versioned,
  }),
  table(
    'pool_files',
    { pool: 'TEXT', file: 'INTEGER' },
    { path: 'TEXT', size_bytes: 'INTEGER', kind: 'TEXT' },
  ),
  table(
    'pool_extents',
    { pool: 'TEXT', extent: 'INTEGER' },
    {
      first_block: 'INTEGER',
      blocks: 'INTEGER',
      file: 'INTEGER',
      file_block: 'INTEGER',
      high_water: 'INTEGER',
    },
  ),
  table('disks', id, {
    name: 'TEXT',
    pool: 'TEXT',
    capacity_bytes: 'INTEGER',
    labels: 'TEXT',
    detect_zeroes: 'INTEGER',
    reserve_bytes: 'INTEGER',
    generation: 'INTEGER',
    root_node: 'INTEGER',
    root_height: 'INTEGER',
    mapped_blocks: 'INTEGER',
    state: 'TEXT',
    job: 'TEXT?',
    origin: 'TEXT?',
    creation: 'TEXT',
    ...versioned,
    lineage: 'TEXT?',
    quota_bytes: 'INTEGER?',
    max_bytes_per_second: 'INTEGER?',
  }),
  table('copies', id, {
    name: 'TEXT',
    disk_id: 'TEXT',
    disk_name: 'TEXT',
    pool: 'TEXT',
    layout: 'TEXT',
    placement: 'TEXT',
    generation: 'INTEGER',
    block_size_bytes: 'INTEGER',
    source_capacity_bytes: 'INTEGER',
    root_node: 'INTEGER',
    root_height: 'INTEGER',
    mapped_blocks: 'INTEGER',
    halt_microseconds: 'INTEGER',
    labels: 'TEXT',
    state: 'TEXT',
    lineage: 'TEXT?',
    version: 'INTEGER',
    frozen_at: 'INTEGER',
    preserve: 'TEXT?',
    on_preserve_error: 'TEXT?',
    max_bytes_per_second: 'INTEGER?',
    owed_pool: 'TEXT?',
    owed_node: 'INTEGER?',
    owed_height: 'INTEGER?',
    owed_blocks: 'INTEGER?',
    problem: 'TEXT?',
    group_id: 'TEXT?',
  }),
  table('checkpoints', id, {
    disk_id: 'TEXT',
    disk_name: 'TEXT',
    generation: 'INTEGER',
    capacity_bytes: 'INTEGER',
    block_size_bytes: 'INTEGER',
    lineage: 'TEXT',
    frozen_at: 'INTEGER',
  }),
  table('groups', id, {
    name: 'TEXT',
    members: 'TEXT',
    halt_microseconds: 'INTEGER',
    labels: 'TEXT',
    version: 'INTEGER',
    frozen_at: 'INTEGER',
  }),
  table(
    'dead_roots',
    { pool: 'TEXT', node: 'INTEGER' },
    { height: 'INTEGER', count: 'INTEGER', mapped_blocks: 'INTEGER' },
  ),
  table('checksums', { copy: 'TEXT', segment: 'INTEGER' }, { crcs: 'BLOB' }),
  table('targets', id, {
    name: 'TEXT',
    kind: 'TEXT',
    settings: 'TEXT',
    labels: 'TEXT',
    creation: 'TEXT',
    ...versioned,
  }),
  table('backups', id, {
    name: 'TEXT',
    target: 'TEXT',
    medium_name: 'TEXT',
    generation: 'INTEGER',
    frozen_at: 'INTEGER',
    image_id: 'TEXT',
    copy_id: 'TEXT',
    copy_name: 'TEXT',
    disk_id: 'TEXT',
    disk_name: 'TEXT',
    level: 'TEXT',
    state: 'TEXT',
    medium_bytes: 'INTEGER',
    used_bytes: 'INTEGER',
    source_capacity_bytes: 'INTEGER',
    block_size_bytes: 'INTEGER',
    labels: 'TEXT',
    job: 'TEXT?',
    verified_at: 'INTEGER?',
    ...versioned,
    base_copy_id: 'TEXT?',
    base_generation: 'INTEGER?',
    data_bytes: 'INTEGER?',
    group_id: 'TEXT?',
    group_name: 'TEXT?',
    group_members: 'TEXT?',
  }),
  table('schedules', id, {
    name: 'TEXT',
    settings: 'TEXT',
    progress: 'TEXT',
    labels: 'TEXT',
    creation: 'TEXT',
    ...versioned,
  }),
  table('jobs', id, {
    kind: 'TEXT',
    state: 'TEXT',
    subject: 'TEXT',
    parameters: 'TEXT',
    progress: 'TEXT',
    checkpoint: 'TEXT',
    result: 'TEXT?',
    problem: 'TEXT?',
    log: 'TEXT',
    attempts: 'INTEGER',
    created_at: 'INTEGER',
    started_at: 'INTEGER?',
    ended_at: 'INTEGER?',
    disk: 'TEXT?',
    target: 'TEXT?',
    labels: 'TEXT',
  }),
  table(
    'idempotency',
    { scope: 'TEXT', key: 'TEXT' },
    {
      request_digest: 'TEXT',
      status: 'INTEGER',
      headers: 'TEXT',
      body: 'BLOB?',
      created_at: 'INTEGER',
    },
  ),
];

/** Keys of `store` that belong to meta itself. */
const OWN_STORE_KEYS: readonly Cell[] = ['uuid', 'epoch', 'clean'];

const byName = new Map(tables.map((each) => [each.name, each]));

export function tableOf(name: string): Table {
  return defined(byName.get(name), `table ${name}`);
}

function fits(cell: Cell, column: Column): boolean {
  if (cell === null) return column.nullable;
  switch (column.type) {
    case 'TEXT':
      return typeof cell === 'string';
    case 'INTEGER':
      return typeof cell === 'number' && Number.isSafeInteger(cell);
    case 'BLOB':
      return cell instanceof Uint8Array;
  }
}

function checkCells(name: string, columns: readonly Column[], row: Row, partial: boolean): void {
  const known = new Map(columns.map((column) => [column.name, column]));
  for (const [columnName, cell] of Object.entries(row)) {
    const column = defined(known.get(columnName), `column ${name}.${columnName}`);
    assert(fits(cell, column), `${name}.${columnName} is ${column.type}, not ${String(cell)}`);
  }
  if (partial) return;
  for (const column of columns) {
    assert(column.nullable || column.name in row, `${name}.${column.name} is missing`);
  }
}

/** Asserts that a change names a known table, its whole key and its columns, of their types. */
export function checkRowChange(change: RowChange): void {
  const { name, key, rest } = tableOf(change.table);
  checkCells(name, key, change.key, false);
  if (change.row !== undefined) checkCells(name, rest, change.row, false);
  const own = name === 'store' && OWN_STORE_KEYS.includes(change.key.key ?? null);
  assert(!own, 'a store key that belongs to meta');
}

/** Asserts that a condition names known columns, with cells of their types (null always fits). */
export function checkWhere(name: string, where: Row): void {
  const columns = tableOf(name).columns.map((column) => ({ ...column, nullable: true }));
  checkCells(name, columns, where, true);
}

/** @throws METADATA_INVALID if the database holds something that the column cannot hold */
export function readRow(from: Table, cells: readonly unknown[]): Row {
  const pairs = from.columns.map((column, index): [string, Cell] => {
    const cell = cells[index];
    const plain = cell === null || typeof cell === 'string' || typeof cell === 'number';
    if ((plain || cell instanceof Uint8Array) && fits(cell, column)) return [column.name, cell];
    throw new StorageError(
      'METADATA_INVALID',
      `the metadata database holds a wrong value in ${from.name}.${column.name}`,
      { table: from.name, column: column.name },
    );
  });
  return Object.fromEntries(pairs);
}
