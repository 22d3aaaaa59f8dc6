/**
 * Cells of rows that are looked at before they are believed.
 */
import { parseLineage } from '../disk/lineage.ts';
import type { Row } from '../pool/metadata-store.ts';
import type { Findings } from './finding.ts';
import type { CheckSource } from './source.ts';

export const COUNT = Number.MAX_SAFE_INTEGER;

/** Reads the cells of one row and remembers the first that is outside its range. */
export class Cells {
  readonly #row: Row;
  #wrong: string | undefined;

  constructor(row: Row) {
    this.#row = row;
  }

  /** The first column with a wrong cell. */
  get wrong(): string | undefined {
    return this.#wrong;
  }

  count(column: string, max = COUNT, min = 0): number {
    const cell = this.#row[column];
    const valid = typeof cell === 'number' && Number.isSafeInteger(cell);
    if (valid && cell >= min && cell <= max) return cell;
    this.#wrong ??= column;
    return min;
  }

  text(column: string): string {
    const cell = this.#row[column];
    if (typeof cell === 'string' && cell !== '') return cell;
    this.#wrong ??= column;
    return '';
  }

  optional(column: string): string | undefined {
    return this.#row[column] === null ? undefined : this.text(column);
  }

  /** Line that a lineage ends with, in this generation. */
  line(generation: number): number | undefined {
    const text = this.optional('lineage');
    if (text === undefined) return undefined;
    const own = parseLineage(text)?.at(-1);
    this.require('lineage', own?.upTo === generation);
    return own?.line;
  }

  require(column: string, valid: boolean): void {
    if (!valid) this.#wrong ??= column;
  }
}

/** Rows without a wrong cell; the others are found. */
export function readTable<T>(
  source: RowSource,
  findings: Findings,
  table: string,
  columns: readonly string[],
  read: (cells: Cells) => T,
): T[] {
  const good: T[] = [];
  for (const row of source.rows(table, columns)) {
    const cells = new Cells(row);
    const value = read(cells);
    if (cells.wrong === undefined) {
      good.push(value);
      continue;
    }
    const key = String(row[columns[0] ?? ''] ?? '');
    findings.add('ROW_VALUE', `row ${key} of ${table} holds a wrong ${cells.wrong}`, {
      table,
      row: key,
      column: cells.wrong,
    });
  }
  return good;
}

/** Reads at most so many rows of each table. */
export class RowSource {
  readonly cut = new Set<string>();
  readonly #source: CheckSource;
  readonly #limit: number | undefined;

  constructor(source: CheckSource, limit: number | undefined) {
    this.#source = source;
    this.#limit = limit;
  }

  rows(table: string, columns: readonly string[]): readonly Row[] {
    const rows = this.#source.rows(table, columns, this.#limit);
    if (rows.length === this.#limit) this.cut.add(table);
    return rows;
  }

  /** Of all rows, also of those with wrong cells. */
  ids(table: string): Set<string> {
    return new Set(this.rows(table, ['id']).map((row) => String(row['id'])));
  }
}
