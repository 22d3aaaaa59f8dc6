/**
 * The invariants of one pool's pages: nodes, blocks, counts, bits.
 *
 * 1. All nodes are read once in the order of their numbers (the order of the database): leaves are
 *    summed up, and their blocks counted if they lie in the first window.
 * 2. The trees are measured from what was summed up; only inner nodes (1 in 500) are read again.
 * 3. Window by window the blocks are compared. Leaves are read again only for windows in which they
 *    have blocks, so a pool of 8 Mi blocks (512 GiB) is read once.
 *
 * Memory: 40 bytes a node and 8 bytes a block of a window, whatever the pool's size.
 */
import { assert } from '../base/assert.ts';
import { GROUP_BLOCKS } from '../pool/allocator.ts';
import { BlockWindow } from './block-window.ts';
import { checkBornShared } from './born-shared.ts';
import { checkNodeCounts } from './node-counts.ts';
import { PAGES_END, SLOTS, SUMMARY, hasLength, slices, wordsOf } from './pages.ts';
import { type PoolState, badLength } from './pool-state.ts';
import type { CheckedPage } from './source.ts';
import { rescanLeaves, scanNodes } from './scan-nodes.ts';
import { Trees } from './trees.ts';

export const WINDOW_BLOCKS = 8 * 2 ** 20;

/**
 * Checks the pages of a pool, in short steps: `state.work` says how far it is.
 *
 * @param windowBlocks a multiple of GROUP_BLOCKS
 */
export function* checkPool(state: PoolState, windowBlocks: number): Generator<undefined> {
  assert(windowBlocks > 0 && windowBlocks % GROUP_BLOCKS === 0, 'a window is of whole groups');
  const { work, place } = state;
  const end = Math.ceil(place.totalBlocks / GROUP_BLOCKS) * GROUP_BLOCKS;
  const size = Math.min(windowBlocks, end);
  const room = [new Uint32Array(size), new Uint32Array(size)];
  const first = new BlockWindow(state, 0, size, room);
  first.load();
  yield* scanNodes(state, first);
  const trees = new Trees(state);
  yield* trees.measureAll();
  yield* checkNodeCounts(state);
  first.compare();
  const scanned = work.done;
  for (let from = size; from < end; from += size) {
    work.done = scanned + from / SLOTS;
    const window = new BlockWindow(state, from, Math.min(end, from + size), room);
    window.load();
    yield* rescanLeaves(state, window);
    window.compare();
  }
  checkBornShared(state, trees);
  checkOutside(state, end);
  work.done = work.total;
  yield undefined;
}

/** Pages of blocks that the pool does not have. */
function checkOutside(state: PoolState, end: number): void {
  const { source, place, findings } = state;
  const { id, name, number: pool } = place.pool;
  const groups = end / GROUP_BLOCKS;
  const summaries = SUMMARY + Math.ceil(groups / SLOTS);
  const beyond = [
    { kind: 'block-count', from: end / SLOTS, end: PAGES_END },
    { kind: 'bitmap', from: groups, end: SUMMARY },
    { kind: 'bitmap', from: summaries, end: PAGES_END },
  ] as const;
  for (const { kind, from, end: stop } of beyond) {
    for (const slice of slices(source, pool, kind, from, stop)) {
      for (const { number } of slice) {
        const message = `${kind} page ${number} is beyond the blocks of pool ${name}`;
        findings.add('PAGE_OUTSIDE_POOL', message, { pool: id, kind, page: number });
      }
    }
  }
  for (const slice of slices(source, pool, 'bitmap', SUMMARY, summaries)) {
    for (const page of slice) {
      if (hasLength('bitmap', page.data)) checkGroupsBeyond(state, page, groups);
      else badLength(state, 'bitmap', page);
    }
  }
}

function checkGroupsBeyond(state: PoolState, { number, data }: CheckedPage, groups: number): void {
  const { findings, place } = state;
  const first = (number - SUMMARY) * SLOTS;
  for (const [slot, counted] of wordsOf(data).entries()) {
    const group = first + slot;
    if (group < groups || counted === 0) continue;
    const message = `group ${group} of pool ${place.pool.name} is beyond its blocks`;
    const details = { pool: place.pool.id, group, used: 0, counted };
    findings.add('GROUP_COUNT', `${message} and counts ${counted}`, details);
  }
}
