/**
 * The check of one pool: what it works on, and what its parts have learned so far.
 */
import type { PoolPlace } from './check-rows.ts';
import type { Findings } from './finding.ts';
import { NodeTable } from './node-table.ts';
import type { PageKind } from '../pool/metadata-store.ts';
import { SLOTS } from './pages.ts';
import type { CheckSource, CheckedPage } from './source.ts';
import type { RootRow } from './store-rows.ts';

export interface PoolState {
  readonly source: CheckSource;
  readonly findings: Findings;
  readonly place: PoolPlace;
  readonly roots: readonly RootRow[];
  readonly nodes: NodeTable;
  /** Indexes of inner nodes. */
  readonly inner: number[];
  /**
   * Something that holds nodes, or blocks, could not be read: what then seems to have too few
   * holders is no finding of its own.
   */
  readonly unknownHolders: { ofNodes: boolean; ofBlocks: boolean };
  /** Blocks whose count was found to be wrong, as far as reported. */
  readonly wrongBlocks: Set<number>;
  /** Units of work: the pool's node numbers, and pages of counts of its blocks. */
  readonly work: { done: number; readonly total: number };
}

export function newPoolState(
  source: CheckSource,
  findings: Findings,
  place: PoolPlace,
  roots: readonly RootRow[],
  lacksRoots: boolean,
): PoolState {
  const lastNode = source.lastPage(place.pool.number, 'node');
  return {
    source,
    findings,
    place,
    roots,
    nodes: new NodeTable(),
    inner: [],
    unknownHolders: { ofNodes: lacksRoots, ofBlocks: lacksRoots },
    wrongBlocks: new Set(),
    work: { done: 0, total: lastNode + 1 + Math.ceil(place.totalBlocks / SLOTS) },
  };
}

/** A node of this height, held by something, cannot be read. */
export function nodeIsLost(state: PoolState, height: number | undefined): void {
  state.unknownHolders.ofBlocks = true;
  if (height !== 1) state.unknownHolders.ofNodes = true;
}

export function badLength(state: PoolState, kind: PageKind, { number, data }: CheckedPage): void {
  const { findings, place } = state;
  const message = `${kind} page ${number} of pool ${place.pool.name} has ${data.length} bytes`;
  const details = { pool: place.pool.id, kind, page: number, bytes: data.length };
  findings.add('PAGE_LENGTH', message, details);
}
