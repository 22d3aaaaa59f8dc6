/**
 * What the check reads: one state of the metadata, which does not change while it is read.
 *
 * `meta` implements it over a read transaction of the database file, tests over a store in memory.
 * Every call is synchronous; none keeps what it returned.
 */
import type { PageKind, Row } from '../pool/metadata-store.ts';

export interface CheckedPage {
  readonly number: number;
  readonly data: Uint8Array;
}

export interface CheckSource {
  /** Rows of a small table, with at least these columns, ordered by primary key. */
  rows(table: string, columns: readonly string[], limit?: number): readonly Row[];
  /** Each id of copies that `checksums` has rows of, once. Cost: one search each. */
  copiesWithChecksums(limit?: number): readonly string[];
  /** The pool numbers that pages of a kind have, ascending. Cost: one search each. */
  poolsOf(kind: PageKind): readonly number[];
  page(pool: number, kind: PageKind, number: number): Uint8Array | undefined;
  /** Up to `limit` pages of a kind with numbers in [from, end), ascending. */
  pages(
    pool: number,
    kind: PageKind,
    range: { readonly from: number; readonly end: number; readonly limit: number },
  ): readonly CheckedPage[];
  /** Highest page number of a kind, or -1. */
  lastPage(pool: number, kind: PageKind): number;
}
