/**
 * What the engine needs remembered: pages and rows, and one atomic commit of both.
 *
 * Pages hold everything that grows with data, per pool: table nodes, reference counts, allocation
 * bits. Rows hold the few named things. `meta` implements it over SQLite; tests keep it in memory.
 *
 * Laws (contract suite test/contract/metadata-store.ts):
 *  1. A commit is atomic and durable when its promise resolves.
 *  2. Commits take effect in the order of the calls; a read sees every commit called before it.
 *  3. A page that was never committed, or was removed, reads as undefined.
 *  4. Every commit first checks that this process still owns the store (OWNER_LOST).
 *  5. No call holds the database longer than about 20 ms.
 */

/** Which space a page lives in; the number means: node id, or index of the page in its space. */
export type PageKind = 'node' | 'node-count' | 'block-count' | 'bitmap';

export const pageKinds: readonly PageKind[] = ['node', 'node-count', 'block-count', 'bitmap'];

/** The image of one page to commit; `data` undefined removes it. */
export interface PageImage {
  readonly kind: PageKind;
  readonly number: number;
  readonly data: Uint8Array | undefined;
}

/** What a column holds. Booleans are 0 or 1, structured values are JSON text. */
export type Cell = string | number | null | Uint8Array;
export type Row = Readonly<Record<string, Cell>>;

/** Puts (row given: inserts or replaces) or deletes (row undefined) the row with this key. */
export interface RowChange {
  readonly table: string;
  readonly key: Row;
  /** The columns beside the key. */
  readonly row: Row | undefined;
}

export interface Batch {
  /** Pool number (the `number` column of its row) and its pages. */
  readonly pages: readonly { readonly pool: number; readonly images: readonly PageImage[] }[];
  readonly rows: readonly RowChange[];
}

export interface MetadataStore {
  /** Contents in the order asked for. Cost: one indexed read each. */
  readPages(
    pool: number,
    kind: PageKind,
    numbers: readonly number[],
  ): Promise<(Uint8Array | undefined)[]>;
  /** Highest committed page number of a kind, or -1. */
  lastPage(pool: number, kind: PageKind): Promise<number>;
  commit(batch: Batch): Promise<void>;
  /** All rows of a small table, or those whose columns equal `where`. Ordered by primary key. */
  rows(table: string, where?: Row): Promise<Row[]>;
}
