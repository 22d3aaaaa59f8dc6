/**
 * A part of the check in bounded time, whatever the store's size: for a request that waits.
 *
 * All rows (the first 10 000 of each table), then samples until the time is over: groups of blocks
 * against their sums, and one way down from each of some roots. Where the samples begin is drawn,
 * so repeated checks see different parts. What it finds is as true as what the full check finds.
 */
import { countBits, testBit } from '../base/bitmap.ts';
import type { Clock } from '../base/clock.ts';
import { FAN_OUT, childOf, entryAt, mappedBelow } from '../disk/allocation-table.ts';
import { GROUP_BLOCKS } from '../pool/allocator.ts';
import { type Page, isInnerLength } from '../pool/metadata-pages.ts';
import { type PoolPlace, checkRows } from './check-rows.ts';
import { type Finding, Findings } from './finding.ts';
import { SLOTS, SUMMARY, hasLength, nodePage, wordsOf } from './pages.ts';
import { checkReservedRoom } from './owed.ts';
import type { CheckSource } from './source.ts';
import { type RootRow, labelOf, readStoreRows } from './store-rows.ts';

const BUDGET_MS = 100;
const ROWS = 10_000;
/** Of each pool. */
const SAMPLED_GROUPS = 64;
const SAMPLED_ROOTS = 256;
/** Bits looked up for one leaf. */
const SAMPLED_BITS = 8;
const MAX_FINDINGS = 100;

export interface QuickOptions {
  readonly clock: Clock;
  /** Default 100 ms. */
  readonly budgetMs?: number;
}

export interface QuickResult {
  readonly ok: boolean;
  readonly findings: Finding[];
}

export function quickCheck(source: CheckSource, o: QuickOptions): QuickResult {
  const findings = new Findings(MAX_FINDINGS);
  const deadline = o.clock.monotonicNs() + BigInt(o.budgetMs ?? BUDGET_MS) * 1_000_000n;
  const isOver = (): boolean => findings.isFull || o.clock.monotonicNs() >= deadline;
  const draw = (end: number): number => o.clock.random(4).readUInt32LE(0) % Math.max(1, end);
  const rows = readStoreRows(source, findings, ROWS);
  const places = checkRows(rows, findings);
  checkReservedRoom(source, rows, places, findings);
  for (const place of places) {
    const sample = new Sample(source, findings, place, draw);
    const groups = Math.ceil(place.totalBlocks / GROUP_BLOCKS);
    const firstGroup = draw(groups);
    for (let nth = 0; nth < Math.min(groups, SAMPLED_GROUPS) && !isOver(); nth += 1) {
      sample.checkGroup((firstGroup + nth) % groups);
    }
    const roots = rows.roots.filter(({ pool, node }) => pool === place.pool.id && node !== 0);
    const firstRoot = draw(roots.length);
    for (let nth = 0; nth < Math.min(roots.length, SAMPLED_ROOTS) && !isOver(); nth += 1) {
      const root = roots[(firstRoot + nth) % roots.length];
      if (root !== undefined) sample.descend(root);
    }
  }
  return { ok: findings.list.length === 0, findings: findings.list };
}

/** A node on the way down, as its holder says it is. */
interface Step {
  readonly node: number;
  readonly height: number;
  readonly mapped: number;
}

class Sample {
  readonly #source: CheckSource;
  readonly #findings: Findings;
  readonly #place: PoolPlace;
  readonly #draw: (end: number) => number;

  constructor(
    source: CheckSource,
    findings: Findings,
    place: PoolPlace,
    draw: (end: number) => number,
  ) {
    this.#source = source;
    this.#findings = findings;
    this.#place = place;
    this.#draw = draw;
  }

  /** The bits of a group against its sum. */
  checkGroup(group: number): void {
    const { id, name } = this.#place.pool;
    const counted = this.#bitmap(SUMMARY + Math.floor(group / SLOTS))[group % SLOTS];
    const bits = this.#bitmap(group);
    const used = countBits(bits);
    if (counted === undefined || bits.length === 0 || used === counted) return;
    const message = `group ${group} of pool ${name} has ${used} used blocks, counted ${counted}`;
    this.#findings.add('GROUP_COUNT', message, { pool: id, group, used, counted });
  }

  /** One way from a root to a leaf. */
  descend(root: RootRow): void {
    let step: Step | undefined = root;
    while (step !== undefined) step = this.#next(root, step);
  }

  #next(root: RootRow, { node, height, mapped }: Step): Step | undefined {
    const { pool } = this.#place;
    const details = { pool: pool.id, holder: root.kind, id: root.id, node };
    const data = this.#source.page(pool.number, 'node', node);
    const name = labelOf(root);
    if (data === undefined) {
      this.#findings.add('NODE_MISSING', `node ${node} of ${name} is missing`, details);
      return undefined;
    }
    if (!hasLength('node', data)) {
      const message = `node ${node} of ${name} has ${data.length} bytes`;
      this.#findings.add('PAGE_LENGTH', message, { ...details, bytes: data.length });
      return undefined;
    }
    const isInner = isInnerLength(data.length);
    if (isInner !== height > 1) {
      const message = `node ${node} of ${name} is not of height ${height}`;
      this.#findings.add('NODE_HEIGHT', message, { ...details, height });
      return undefined;
    }
    const page = nodePage(node, data);
    const found = isInner ? sumMapped(page) : countMapped(page);
    if (found !== mapped) {
      const message = `${mapped} mapped blocks are counted below node ${node} of ${name}`;
      const facts = { ...details, mapped: found, counted: mapped };
      this.#findings.add('MAPPED_COUNT', `${message}, there are ${found}`, facts);
      return undefined;
    }
    if (isInner) return this.#drawChild(page, height);
    this.#checkLeaf(root, page);
    return undefined;
  }

  #drawChild(page: Page, height: number): Step | undefined {
    const slots = Array.from({ length: FAN_OUT }, (_, slot) => slot);
    const held = slots.filter((slot) => childOf(page, slot) !== 0);
    const slot = held[this.#draw(held.length)];
    if (slot === undefined) return undefined;
    return { node: childOf(page, slot), height: height - 1, mapped: mappedBelow(page, slot) };
  }

  #checkLeaf(root: RootRow, leaf: Page): void {
    const { pool, totalBlocks } = this.#place;
    const generation = root.generation ?? Infinity;
    const name = labelOf(root);
    let bits = 0;
    for (let slot = 0; slot < FAN_OUT; slot += 1) {
      const { block, birth } = entryAt(leaf, slot);
      const details = { pool: pool.id, holder: root.kind, id: root.id, node: leaf.number, slot };
      if (birth > generation) {
        const message = `${name} is of generation ${generation} and reaches a birth in ${birth}`;
        this.#findings.add('BIRTH_BEYOND_ROOT', message, { ...details, birth, generation });
        return;
      }
      if (block >= totalBlocks) {
        const message = `${name} holds block ${block}; pool ${pool.name} ends before`;
        this.#findings.add('BLOCK_OUTSIDE_POOL', message, { ...details, block, totalBlocks });
        return;
      }
      if (block < 0 || bits === SAMPLED_BITS) continue;
      bits += 1;
      const group = this.#bitmap(Math.floor(block / GROUP_BLOCKS));
      if (group.length === 0 || testBit(group, block % GROUP_BLOCKS)) continue;
      const message = `block ${block} of pool ${pool.name}: free, but ${name} holds it`;
      this.#findings.add('BLOCK_FREE_BUT_HELD', message, { pool: pool.id, block, blocks: 1 });
      return;
    }
  }

  /** A bitmap page: zeros where there is none, no words if it cannot be read. */
  #bitmap(number: number): Uint32Array {
    const { pool } = this.#place;
    const data = this.#source.page(pool.number, 'bitmap', number);
    if (data === undefined || hasLength('bitmap', data)) {
      return data === undefined ? new Uint32Array(SLOTS) : wordsOf(data);
    }
    const message = `bitmap page ${number} of pool ${pool.name} has ${data.length} bytes`;
    const details = { pool: pool.id, kind: 'bitmap', page: number, bytes: data.length };
    this.#findings.add('PAGE_LENGTH', message, details);
    return new Uint32Array();
  }
}

function sumMapped(page: Page): number {
  let mapped = 0;
  for (let slot = 0; slot < FAN_OUT; slot += 1) mapped += mappedBelow(page, slot);
  return mapped;
}

function countMapped(leaf: Page): number {
  let mapped = 0;
  for (let slot = 0; slot < FAN_OUT; slot += 1) if (entryAt(leaf, slot).block >= 0) mapped += 1;
  return mapped;
}
