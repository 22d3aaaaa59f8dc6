/**
 * Reads the nodes of a pool in the order of their numbers, which is the order of the database.
 */
import { FAN_OUT, entryAt } from '../disk/allocation-table.ts';
import { type Page, isInnerLength } from '../pool/metadata-pages.ts';
import type { BlockWindow } from './block-window.ts';
import type { LeafFacts } from './node-table.ts';
import { PAGES_END, hasLength, nodePage, slices } from './pages.ts';
import { type PoolState, badLength } from './pool-state.ts';
import type { CheckedPage } from './source.ts';

const LEAVES_PER_STEP = 64;

/** Takes every node into the node table and the blocks of leaves into the window. */
export function* scanNodes(state: PoolState, window: BlockWindow): Generator<undefined> {
  const { source, place, work } = state;
  for (const slice of slices(source, place.pool.number, 'node', 0, PAGES_END)) {
    for (const page of slice) scanNode(state, window, page);
    work.done = (slice.at(-1)?.number ?? 0) + 1;
    yield undefined;
  }
}

function scanNode(state: PoolState, window: BlockWindow, checked: CheckedPage): void {
  const { nodes, inner } = state;
  const { number, data } = checked;
  if (!hasLength('node', data)) {
    nodes.add(number, 'unreadable');
    badLength(state, 'node', checked);
  } else if (isInnerLength(data.length)) {
    inner.push(nodes.add(number, 'inner'));
  } else {
    const index = nodes.add(number, 'leaf');
    const leaf = nodePage(number, data);
    const facts = scanLeaf(state, leaf);
    nodes.setLeaf(index, facts);
    if (window.overlaps(facts)) window.take(index, leaf);
  }
}

function scanLeaf(state: PoolState, leaf: Page): LeafFacts {
  const { findings, place } = state;
  let mapped = 0;
  let top = -1;
  let youngest = 0;
  let low = Infinity;
  let high = -1;
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    const { block, birth } = entryAt(leaf, slot);
    if (birth > youngest) youngest = birth;
    if (block < 0) continue;
    mapped += 1;
    top = slot;
    if (block < low) low = block;
    if (block > high) high = block;
    if (birth === 0 || block >= place.totalBlocks) wrongEntry(state, leaf.number, slot, block);
  }
  if (mapped === 0 && youngest === 0) {
    const message = `node ${leaf.number} of pool ${place.pool.name} holds nothing`;
    findings.add('NODE_EMPTY', message, { pool: place.pool.id, node: leaf.number });
  }
  return mapped === 0
    ? { mapped, top, birth: youngest, low: 1, high: 0 }
    : { mapped, top, birth: youngest, low, high };
}

function wrongEntry(state: PoolState, node: number, slot: number, block: number): void {
  const { findings, place } = state;
  const details = { pool: place.pool.id, node, slot, block };
  if (block >= place.totalBlocks) {
    const message = `node ${node} holds block ${block}; pool ${place.pool.name} ends before`;
    findings.add('BLOCK_OUTSIDE_POOL', message, { ...details, totalBlocks: place.totalBlocks });
  } else {
    findings.add('ENTRY_BIRTH', `slot ${slot} of node ${node} has a block but no birth`, details);
  }
}

/** Takes the blocks of the leaves that have some in a later window. */
export function* rescanLeaves(state: PoolState, window: BlockWindow): Generator<undefined> {
  const { nodes, source, place } = state;
  let read = 0;
  for (let index = 0; index < nodes.length; index += 1) {
    if (nodes.shape(index) !== 'leaf' || !window.overlaps(nodes.leaf(index))) continue;
    const number = nodes.number(index);
    const data = source.page(place.pool.number, 'node', number);
    if (data !== undefined) window.take(index, nodePage(number, data));
    read += 1;
    if (read % LEAVES_PER_STEP === 0) yield undefined;
  }
}
