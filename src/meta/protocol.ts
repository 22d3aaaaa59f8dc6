/**
 * What the engine's thread and the meta worker say to each other.
 *
 * Each request has a number and exactly one reply with the same number. The worker takes requests
 * in order; only `copy` and `check` go on while later ones are served. Before all of them it says
 * `opened`, or why not, as the reply to request 0.
 */
import type { PackedError } from '../base/packed-error.ts';
import type { PageKind, Row, RowChange } from '../pool/metadata-store.ts';
import type { PackedPages } from './pages.ts';
import type { AgingTable, ListOptions, ListQuery, Listing } from './queries.ts';

export type Request =
  | {
      readonly op: 'read-pages';
      readonly pool: number;
      readonly kind: PageKind;
      readonly numbers: readonly number[];
    }
  | { readonly op: 'last-page'; readonly pool: number; readonly kind: PageKind }
  | {
      readonly op: 'commit';
      readonly pages: readonly PackedPages[];
      readonly rows: readonly RowChange[];
    }
  | { readonly op: 'rows'; readonly table: string; readonly where: Row }
  | { readonly op: 'list'; readonly query: ListQuery; readonly options: ListOptions }
  | {
      readonly op: 'delete-older';
      readonly table: AgingTable;
      readonly olderThanMs: number;
      readonly limit: number;
    }
  | { readonly op: 'sum-bytes' }
  | { readonly op: 'copy'; readonly path: string }
  | { readonly op: 'check'; readonly deep: boolean }
  | { readonly op: 'close' };

export interface Message {
  readonly id: number;
  readonly request: Request;
}

export type Answer =
  | {
      readonly op: 'opened';
      readonly storeId: string;
      readonly epoch: number;
      readonly cleanBefore: boolean;
    }
  | { readonly op: 'pages'; readonly pages: (Uint8Array<ArrayBuffer> | undefined)[] }
  | { readonly op: 'number'; readonly value: number }
  | { readonly op: 'rows'; readonly rows: Row[] }
  | { readonly op: 'listing'; readonly listing: Listing }
  | { readonly op: 'findings'; readonly findings: string[] }
  | { readonly op: 'done' };

export type Reply =
  | { readonly id: number; readonly answer: Answer }
  | { readonly id: number; readonly error: PackedError };
