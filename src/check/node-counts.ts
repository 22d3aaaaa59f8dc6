/**
 * Compares the stored counts of nodes with their holders: both are in the order of node numbers,
 * so one pass is enough.
 */
import { PAGES_END, SLOTS, hasLength, slices, wordsOf } from './pages.ts';
import { type PoolState, badLength } from './pool-state.ts';

/** Holders are complete. */
export function* checkNodeCounts(state: PoolState): Generator<undefined> {
  const { source, nodes, place } = state;
  let next = 0;
  for (const slice of slices(source, place.pool.number, 'node-count', 0, PAGES_END)) {
    for (const page of slice) {
      const first = page.number * SLOTS;
      for (; next < nodes.length && nodes.number(next) < first; next += 1) compare(state, next, 0);
      if (!hasLength('node-count', page.data)) {
        badLength(state, 'node-count', page);
        while (next < nodes.length && nodes.number(next) < first + SLOTS) next += 1;
        continue;
      }
      const words = wordsOf(page.data);
      for (let slot = 0; slot < SLOTS; slot += 1) {
        const extra = words[slot] ?? 0;
        if (next < nodes.length && nodes.number(next) === first + slot) {
          compare(state, next, extra);
          next += 1;
        } else if (extra > 0) {
          strayCount(state, first + slot, extra + 1);
        }
      }
    }
    yield undefined;
  }
  for (; next < nodes.length; next += 1) compare(state, next, 0);
}

function compare(state: PoolState, index: number, extra: number): void {
  const { nodes, place, findings, unknownHolders } = state;
  const node = nodes.number(index);
  const holders = nodes.holders(index);
  const counted = extra + 1;
  if (counted === holders || (unknownHolders.ofNodes && counted > holders)) return;
  const details = { pool: place.pool.id, node, holders, counted };
  if (holders === 0) {
    findings.add('NODE_ORPHAN', `nothing holds node ${node} of pool ${place.pool.name}`, details);
  } else {
    const message = `node ${node} of pool ${place.pool.name}: ${holders} nodes and roots hold it`;
    findings.add('NODE_COUNT', `${message}, its count says ${counted}`, details);
  }
}

function strayCount(state: PoolState, node: number, counted: number): void {
  const { place, findings, unknownHolders } = state;
  if (unknownHolders.ofNodes) return;
  const message = `node ${node} of pool ${place.pool.name} is not there, its count says ${counted}`;
  findings.add('NODE_COUNT', message, { pool: place.pool.id, node, holders: 0, counted });
}
