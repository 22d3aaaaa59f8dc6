/**
 * What a disk may overwrite in place must be its own: a block born in the disk's generation has
 * one holder, and so has every node on the way to it.
 *
 * Only what is that young is visited, and of a leaf only what the scan has seen to be shared.
 */
import { FAN_OUT, childOf, entryAt, span } from '../disk/allocation-table.ts';
import type { Page } from '../pool/metadata-pages.ts';
import { SLOTS, nodePage, hasLength, wordsOf } from './pages.ts';
import type { PoolState } from './pool-state.ts';
import { type RootRow, labelOf } from './store-rows.ts';
import type { Trees } from './trees.ts';

/** All blocks of the pool have been looked at. */
export function checkBornShared(state: PoolState, trees: Trees): void {
  for (const root of state.roots) {
    if (root.kind !== 'disk' || root.node === 0) continue;
    const index = state.nodes.find(root.node);
    if (index >= 0) new Walk(state, trees, root).visit(index, 0, 0);
  }
}

class Walk {
  readonly #state: PoolState;
  readonly #trees: Trees;
  readonly #disk: RootRow;
  readonly #generation: number;

  constructor(state: PoolState, trees: Trees, disk: RootRow) {
    this.#state = state;
    this.#trees = trees;
    this.#disk = disk;
    this.#generation = disk.generation ?? Infinity;
  }

  /** @param base the first block that the node can map */
  visit(index: number, base: number, depth: number): void {
    const { nodes, findings, place, source } = this.#state;
    const measure = this.#trees.measure(index, depth);
    if (measure?.birth !== this.#generation) return;
    const node = nodes.number(index);
    const holders = nodes.holders(index);
    if (holders > 1) {
      const message = `node ${node} reaches births in the generation of ${labelOf(this.#disk)}`;
      findings.add('BORN_SHARED', `${message} and has ${holders} holders`, {
        pool: place.pool.id,
        disk: this.#disk.id,
        node,
        generation: this.#generation,
        holders,
      });
      return;
    }
    if (measure.height === 1 && nodes.sharedBirth(index) < this.#generation) return;
    const data = source.page(place.pool.number, 'node', node);
    if (data === undefined) return;
    const page = nodePage(node, data);
    if (measure.height === 1) this.#visitLeaf(page, base);
    else this.#visitInner(page, base, measure.height, depth);
  }

  #visitInner(page: Page, base: number, height: number, depth: number): void {
    for (let slot = 0; slot < FAN_OUT; slot += 1) {
      const child = childOf(page, slot);
      const index = child === 0 ? -1 : this.#state.nodes.find(child);
      if (index >= 0) this.visit(index, base + slot * span(height - 1), depth + 1);
    }
  }

  #visitLeaf(page: Page, base: number): void {
    const { findings, place, wrongBlocks } = this.#state;
    for (let slot = 0; slot < FAN_OUT; slot += 1) {
      const { block, birth } = entryAt(page, slot);
      if (block < 0 || birth !== this.#generation || wrongBlocks.has(block)) continue;
      const holders = this.#countOf(block);
      if (holders === 1) continue;
      const message = `block ${block} was born in the generation of ${labelOf(this.#disk)}`;
      findings.add('BORN_SHARED', `${message} and has ${holders} holders`, {
        pool: place.pool.id,
        disk: this.#disk.id,
        block,
        logical: base + slot,
        generation: this.#generation,
        holders,
      });
    }
  }

  #countOf(block: number): number {
    const { source, place } = this.#state;
    const data = source.page(place.pool.number, 'block-count', Math.floor(block / SLOTS));
    if (data === undefined || !hasLength('block-count', data)) return 1;
    return (wordsOf(data)[block % SLOTS] ?? 0) + 1;
  }
}
