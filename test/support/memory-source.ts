/**
 * What the check reads, kept in maps, so that tests can make it and damage it.
 */
import { defined } from '../../src/base/assert.ts';
import type { CheckSource, CheckedPage } from '../../src/check/source.ts';
import type { PageKind, Row } from '../../src/pool/metadata-store.ts';

export class MemorySource implements CheckSource {
  readonly tables = new Map<string, Row[]>();
  readonly #pages = new Map<string, Map<number, Uint8Array>>();

  /** The same again, to be damaged. */
  clone(): MemorySource {
    const copy = new MemorySource();
    for (const [table, rows] of this.tables) copy.tables.set(table, structuredClone(rows));
    for (const [name, pages] of this.#pages) {
      copy.#pages.set(name, new Map([...pages].map(([number, data]) => [number, data.slice()])));
    }
    return copy;
  }

  pagesOf(pool: number, kind: PageKind): Map<number, Uint8Array> {
    const name = `${pool} ${kind}`;
    const pages = this.#pages.get(name) ?? new Map<number, Uint8Array>();
    this.#pages.set(name, pages);
    return pages;
  }

  /** The list itself, unless there are more than `limit`. */
  rows(table: string, _columns: readonly string[] = [], limit = Infinity): Row[] {
    const rows = defined(this.tables.get(table), `table ${table}`);
    return rows.length <= limit ? rows : rows.slice(0, limit);
  }

  copiesWithChecksums(limit = Infinity): string[] {
    return [...new Set(this.rows('checksums').map((row) => String(row['copy'])))].slice(0, limit);
  }

  poolsOf(kind: PageKind): number[] {
    const names = [...this.#pages.keys()].filter((name) => this.#pages.get(name)!.size > 0);
    const split = names.map((name) => name.split(' '));
    const numbers = split.filter(([, of]) => of === kind).map(([pool]) => Number(pool));
    return numbers.sort((a, b) => a - b);
  }

  page(pool: number, kind: PageKind, number: number): Uint8Array | undefined {
    return this.pagesOf(pool, kind).get(number);
  }

  pages(
    pool: number,
    kind: PageKind,
    { from, end, limit }: { from: number; end: number; limit: number },
  ): CheckedPage[] {
    return [...this.pagesOf(pool, kind)]
      .map(([number, data]) => ({ number, data }))
      .filter(({ number }) => number >= from && number < end)
      .sort((a, b) => a.number - b.number)
      .slice(0, limit);
  }

  lastPage(pool: number, kind: PageKind): number {
    return Math.max(-1, ...this.pagesOf(pool, kind).keys());
  }
}
