/**
 * The tables of a pool as trees: who holds each node, heights, counts of mapped blocks, births.
 *
 * Each inner node is read once, whoever shares it: what lies below is measured and kept. A measure
 * is what is truly there, never what a node says of its child, so one wrong number is one finding.
 */
import { blocksFor } from '../base/units.ts';
import { FAN_OUT, childOf, mappedBelow, span, youngestBelow } from '../disk/allocation-table.ts';
import type { Page } from '../pool/metadata-pages.ts';
import { nodePage } from './pages.ts';
import { type PoolState, nodeIsLost } from './pool-state.ts';
import { type RootRow, labelOf } from './store-rows.ts';

/** No table is higher: 512^5 blocks are more than any capacity has. */
const MAX_HEIGHT = 6;
const NODES_PER_STEP = 32;

/** What lies below a node. */
export interface Measure {
  readonly height: number;
  readonly mapped: number;
  /** Youngest birth. */
  readonly birth: number;
  /** Highest mapped block, counted from the first that the node can map; -1: none. */
  readonly top: number;
}

/** A child that could not be measured counts as its holder says. */
interface Sum {
  height: number | undefined;
  mapped: number;
  birth: number;
  top: number;
  children: number;
  lost: number;
  mixed: boolean;
}

export class Trees {
  readonly #state: PoolState;
  /** Of inner nodes; undefined if it cannot be told. */
  readonly #measures = new Map<number, Measure | undefined>();
  readonly #underWay = new Set<number>();

  constructor(state: PoolState) {
    this.#state = state;
  }

  /** Measures every inner node that there is, reachable or not. Holders are complete then. */
  *measureAll(): Generator<undefined> {
    for (const [done, index] of this.#state.inner.entries()) {
      this.measure(index, 0);
      if (done % NODES_PER_STEP === 0) yield undefined;
    }
    for (const root of this.#state.roots) this.#checkRoot(root);
  }

  /** What lies below a node, or undefined if that cannot be told. */
  measure(index: number, depth: number): Measure | undefined {
    const { nodes } = this.#state;
    switch (nodes.shape(index)) {
      case 'unreadable':
        return undefined;
      case 'leaf': {
        const { mapped, birth, top } = nodes.leaf(index);
        return { height: 1, mapped, birth, top };
      }
      case 'inner':
        return this.#measureInner(index, depth);
    }
  }

  #measureInner(index: number, depth: number): Measure | undefined {
    if (this.#measures.has(index)) return this.#measures.get(index);
    const { nodes, findings, source, place } = this.#state;
    const node = nodes.number(index);
    if (depth > MAX_HEIGHT || this.#underWay.has(index)) {
      const message = `node ${node} is below itself or more nodes than a table is high`;
      findings.add('NODE_HEIGHT', message, { pool: place.pool.id, node });
      return undefined;
    }
    const data = source.page(place.pool.number, 'node', node);
    if (data === undefined) return undefined;
    this.#underWay.add(index);
    const measure = this.#sum(node, nodePage(node, data), depth);
    this.#underWay.delete(index);
    this.#measures.set(index, measure);
    return measure;
  }

  #sum(node: number, page: Page, depth: number): Measure | undefined {
    const { findings, place } = this.#state;
    const details = { pool: place.pool.id, node };
    const sum: Sum = {
      height: undefined,
      mapped: 0,
      birth: 0,
      top: -1,
      children: 0,
      lost: 0,
      mixed: false,
    };
    for (let slot = 0; slot < FAN_OUT; slot += 1) this.#addChild(sum, page, slot, depth);
    for (let lost = 0; lost < sum.lost; lost += 1) {
      nodeIsLost(this.#state, sum.height === undefined ? undefined : sum.height - 1);
    }
    if (sum.mixed) {
      findings.add('NODE_HEIGHT', `node ${node} holds nodes of different heights`, details);
    }
    if (sum.children === 0) findings.add('NODE_EMPTY', `node ${node} holds nothing`, details);
    const { height, mapped, birth, top } = sum;
    return height === undefined ? undefined : { height, mapped, birth, top };
  }

  #addChild(sum: Sum, page: Page, slot: number, depth: number): void {
    const { nodes, findings, place } = this.#state;
    const child = childOf(page, slot);
    const counted = mappedBelow(page, slot);
    const details = { pool: place.pool.id, node: page.number, slot };
    if (child === 0 && counted === 0) return;
    const index = child === 0 ? -1 : nodes.find(child);
    if (child !== 0) sum.children += 1;
    if (child !== 0 && index < 0) {
      const message = `node ${child} is missing; node ${page.number} holds it`;
      findings.add('NODE_MISSING', message, { ...details, child });
    }
    if (index >= 0) nodes.addHolders(index, 1);
    const below = index < 0 ? undefined : this.measure(index, depth + 1);
    if (child !== 0 && below === undefined) {
      sum.lost += 1;
      sum.mapped += counted;
      return;
    }
    const mapped = below?.mapped ?? 0;
    sum.mapped += mapped;
    if (mapped !== counted) {
      const message = `slot ${slot} of node ${page.number} counts ${counted} mapped blocks`;
      const facts = { ...details, mapped, counted };
      findings.add('MAPPED_COUNT', `${message}, below it are ${mapped}`, facts);
    }
    if (below === undefined) return;
    const bound = youngestBelow(page, slot);
    if (below.birth > bound) {
      const message = `slot ${slot} of node ${page.number} has the bound ${bound} for births`;
      const facts = { ...details, birth: below.birth, bound };
      findings.add('BIRTH_BOUND', `${message}, below it is one in ${below.birth}`, facts);
    }
    sum.height ??= below.height + 1;
    sum.mixed ||= sum.height !== below.height + 1;
    sum.birth = Math.max(sum.birth, below.birth);
    if (below.top >= 0) sum.top = Math.max(sum.top, slot * span(below.height) + below.top);
  }

  #checkRoot(root: RootRow): void {
    if (root.node === 0) return;
    const { nodes, findings, place } = this.#state;
    const details = { pool: place.pool.id, holder: root.kind, id: root.id, node: root.node };
    const name = labelOf(root);
    const index = nodes.find(root.node);
    if (index < 0) {
      findings.add('NODE_MISSING', `node ${root.node} is missing; ${name} holds it`, details);
    } else {
      nodes.addHolders(index, root.count);
    }
    const measure = index < 0 ? undefined : this.measure(index, 0);
    if (measure === undefined) {
      nodeIsLost(this.#state, root.height);
      return;
    }
    const { height, mapped } = measure;
    if (height !== root.height) {
      const message = `${name} has height ${root.height}, its table ${height}`;
      findings.add('NODE_HEIGHT', message, { ...details, height, recorded: root.height });
    }
    if (mapped !== root.mapped) {
      const message = `${name} counts ${root.mapped} mapped blocks, its table has ${mapped}`;
      findings.add('MAPPED_COUNT', message, { ...details, mapped, counted: root.mapped });
    }
    this.#checkBounds(root, measure, details);
  }

  #checkBounds(
    root: RootRow,
    { birth, top }: Measure,
    details: Readonly<Record<string, string | number>>,
  ): void {
    const { findings, place } = this.#state;
    const name = labelOf(root);
    if (root.generation !== undefined && birth > root.generation) {
      const message = `${name} is of generation ${root.generation} and reaches a birth in ${birth}`;
      findings.add('BIRTH_BEYOND_ROOT', message, {
        ...details,
        birth,
        generation: root.generation,
      });
    }
    if (root.capacityBytes === undefined) return;
    const capacityBlocks = blocksFor(root.capacityBytes, place.pool.blockSizeBytes);
    if (top < capacityBlocks) return;
    findings.add('BEYOND_CAPACITY', `${name} has ${capacityBlocks} blocks and maps block ${top}`, {
      ...details,
      logical: top,
      capacityBlocks,
    });
  }
}
