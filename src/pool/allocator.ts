/**
 * Which blocks of a pool are free: one bit a block, in pages of 32768 ("groups").
 *
 * Life of a block: free → held (chosen by a write that is under way) → used (`apply`: the table
 * maps it; the bit is in the next batch) → freed (bit cleared in the next batch, still held: the
 * free is not durable and readers may have it in hand) → free (`release`).
 *
 * A summary of used blocks per group (pages numbered from SUMMARY on) makes opening cheap.
 * Every mutating call is synchronous; `missing…` says which pages must be resident first.
 *
 * Invariants:
 *  1. A block is handed out only if its bit is clear and it is not held.
 *  2. Blocks at or above an extent's committed high-water mark are never handed out.
 *  3. usedBlocks = set bits = sum of the summary; heldCount = set bits of the held words.
 *  4. A block below `virginFrom` of its extent may hold old bytes; one at or above it never did.
 */
import { assert, defined } from '../base/assert.ts';
import { clearBit, firstClearBit, setBit, testBit } from '../base/bitmap.ts';
import { type FreeRun, type GroupPart, findRun } from './free-runs.ts';
import { type MetadataPages, PAGE_BYTES, type PageKey } from './metadata-pages.ts';

export const GROUP_BLOCKS = PAGE_BYTES * 8;
const GROUP_WORDS = PAGE_BYTES / 4;
const SUMMARY = 2 ** 32;
/** Wrap to recycled blocks when at least this part of the zone below the marks is free. */
const RECYCLE_PART = 1 / 4;
/** Groups that a search for consecutive blocks looks at: bounds its cost. */
const RUN_SEARCH_GROUPS = 64;

/** A stretch of blocks in one pool file, as the allocator sees it. */
export interface AllocatorExtent {
  readonly firstBlock: number;
  readonly blocks: number;
  /** Blocks from its start that may be handed out (committed). */
  highWater: number;
  /** Blocks from its start that may hold old bytes. */
  virginFrom: number;
}

/**
 * An extent as it is found: after an unclean end everything below the mark may hold old bytes.
 * @param canBeVirgin what was never written reads as zeros
 */
export function openExtent(
  { firstBlock, blocks, highWater }: Omit<AllocatorExtent, 'virginFrom'>,
  canBeVirgin: boolean,
): AllocatorExtent {
  const mark = canBeVirgin ? highWater : blocks;
  return { firstBlock, blocks, highWater: mark, virginFrom: mark };
}

interface Held {
  readonly words: Uint32Array;
  count: number;
}

/** A block that was chosen; a virgin one was never written and reads as zeros. */
export interface Chosen {
  readonly block: number;
  readonly virgin: boolean;
}

export type Allocation =
  | { readonly kind: 'blocks'; readonly blocks: Chosen[] }
  | { readonly kind: 'missing'; readonly pages: PageKey[] }
  | { readonly kind: 'raise' }
  | { readonly kind: 'full' };

export class Allocator {
  readonly #pages: MetadataPages;
  readonly #extents: AllocatorExtent[];
  readonly #used: number[] = [];
  readonly #held = new Map<number, Held>();
  #usedBlocks = 0;
  #heldBlocks = 0;
  #cursor = 0;

  constructor(pages: MetadataPages, extents: readonly AllocatorExtent[]) {
    this.#pages = pages;
    this.#extents = [...extents];
  }

  get usedBlocks(): number {
    return this.#usedBlocks;
  }

  /** Freed or chosen blocks that cannot be handed out yet. */
  get heldBlocks(): number {
    return this.#heldBlocks;
  }

  get totalBlocks(): number {
    return this.#extents.reduce((sum, extent) => sum + extent.blocks, 0);
  }

  get availableBlocks(): number {
    return this.totalBlocks - this.#usedBlocks - this.#heldBlocks;
  }

  get extents(): readonly AllocatorExtent[] {
    return this.#extents;
  }

  /** Reads the summary. Cost: one page per 32 Mi blocks. */
  async open(): Promise<void> {
    const groups = Math.ceil(this.totalBlocks / GROUP_BLOCKS);
    for (let group = 0; group < groups; group += 1) {
      const key = summaryKey(group);
      if (!this.#pages.isResident(key.kind, key.number)) await this.#pages.ensure([key]);
      const count = this.#pages.page(key.kind, key.number).words[group % GROUP_WORDS] ?? 0;
      this.#used[group] = count;
      this.#usedBlocks += count;
    }
  }

  addExtent(extent: AllocatorExtent): void {
    assert(extent.firstBlock === this.totalBlocks, 'extents are contiguous');
    this.#extents.push(extent);
  }

  /** The last extent became longer. */
  replaceLast(extent: AllocatorExtent): void {
    const last = defined(this.#extents.pop(), 'last extent');
    assert(last.firstBlock === extent.firstBlock && last.blocks <= extent.blocks, 'extent grows');
    this.#extents.push(extent);
  }

  /**
   * Chooses `count` blocks and holds them, ascending from the cursor, contiguous where possible.
   * `raise`: the marks must be moved up first. `full`: fewer than `count` (+ `keepFree`) are left.
   */
  allocate(count: number, keepFree = 0): Allocation {
    if (this.availableBlocks - keepFree < count) return { kind: 'full' };
    if (this.#shouldRaise(count)) return { kind: 'raise' };
    const blocks: number[] = [];
    const missing = this.#search(this.#cursor, Infinity, count, blocks);
    if (missing !== undefined) return { kind: 'missing', pages: missing };
    if (blocks.length < count) {
      const wrapped = this.#search(0, this.#cursor, count, blocks);
      if (wrapped !== undefined) return { kind: 'missing', pages: wrapped };
    }
    if (blocks.length < count) return { kind: 'raise' };
    this.#cursor = (blocks.at(-1) ?? -1) + 1;
    return { kind: 'blocks', blocks: blocks.map((block) => this.#choose(block)) };
  }

  /**
   * Chooses consecutive blocks: a run of `count` from `hint` on, or from the start, or the longest
   * that was met within `RUN_SEARCH_GROUPS` groups; at least one. Otherwise as `allocate`.
   * The cursor stays: what is allocated one by one does not come between.
   */
  allocateRun(count: number, keepFree: number, hint: number): Allocation {
    if (this.availableBlocks - keepFree < count) return { kind: 'full' };
    const best: FreeRun = { first: 0, length: 0 };
    let groups = RUN_SEARCH_GROUPS;
    // the second time over everything: a run may begin before the hint and end behind it
    for (const from of [hint, 0]) {
      for (const part of this.#parts(from, Infinity)) {
        if (best.length >= count || groups === 0) break;
        groups -= 1;
        const key: PageKey = { kind: 'bitmap', number: part.group };
        if (!this.#pages.isResident(key.kind, key.number)) {
          return { kind: 'missing', pages: [key, summaryKey(part.group)] };
        }
        const used = this.#pages.page('bitmap', part.group).words;
        findRun(used, this.#held.get(part.group)?.words, part, count, best);
      }
    }
    if (best.length === 0) return this.allocate(1, keepFree);
    const blocks = Array.from({ length: Math.min(count, best.length) }, (_, index) =>
      this.#choose(best.first + index),
    );
    return { kind: 'blocks', blocks };
  }

  /** What may be handed out of [from, to), group by group, full ones left out. */
  *#parts(from: number, to: number): Generator<GroupPart> {
    for (const extent of this.#extents) {
      const end = Math.min(extent.firstBlock + extent.highWater, to);
      let at = Math.max(extent.firstBlock, from);
      while (at < end) {
        const group = Math.floor(at / GROUP_BLOCKS);
        const start = group * GROUP_BLOCKS;
        const stop = Math.min(start + GROUP_BLOCKS, end);
        if (!this.#groupIsFull(group)) yield { group, from: at - start, end: stop - start };
        at = stop;
      }
    }
  }

  /** Pages that must be resident before `apply` or `free` of this block. */
  missingFor(block: number): PageKey[] {
    const group = Math.floor(block / GROUP_BLOCKS);
    const keys: PageKey[] = [{ kind: 'bitmap', number: group }, summaryKey(group)];
    return keys.filter((key) => !this.#pages.isResident(key.kind, key.number));
  }

  /** A held block is now mapped. */
  apply(block: number): void {
    this.#setUsed(block, true);
    this.#unhold(block);
  }

  /** The last reference is gone: the bit is cleared, the block stays held until `release`. */
  free(block: number): void {
    this.#hold(block);
    this.#setUsed(block, false);
  }

  /** A held block may be handed out again. */
  release(block: number): void {
    this.#unhold(block);
  }

  isUsed(block: number): boolean {
    const page = this.#pages.page('bitmap', Math.floor(block / GROUP_BLOCKS));
    return testBit(page.words, block % GROUP_BLOCKS);
  }

  #shouldRaise(count: number): boolean {
    const zone = this.#extents.reduce((sum, extent) => sum + extent.highWater, 0);
    const free = zone - this.#usedBlocks - this.#heldBlocks;
    const canRaise = this.#extents.some((extent) => extent.highWater < extent.blocks);
    if (!canRaise) return false;
    const atEnd = this.#cursor + count > this.#zoneEnd();
    return free < count || (atEnd && free < zone * RECYCLE_PART);
  }

  /** One past the last block that may be handed out. */
  #zoneEnd(): number {
    let end = 0;
    for (const extent of this.#extents) {
      if (extent.highWater > 0) end = extent.firstBlock + extent.highWater;
    }
    return end;
  }

  /** Collects free blocks of [from, to) into `found`; returns keys of pages it would need. */
  #search(from: number, to: number, count: number, found: number[]): PageKey[] | undefined {
    for (const { group, from: first, end } of this.#parts(from, to)) {
      if (found.length >= count) return undefined;
      const key: PageKey = { kind: 'bitmap', number: group };
      if (!this.#pages.isResident(key.kind, key.number)) return [key, summaryKey(group)];
      this.#scanGroup(group, first, end, count, found);
    }
    return undefined;
  }

  #groupIsFull(group: number): boolean {
    const taken = (this.#used[group] ?? 0) + (this.#held.get(group)?.count ?? 0);
    return taken >= GROUP_BLOCKS;
  }

  /** Blocks `from` … `end` - 1 of the group. */
  #scanGroup(group: number, from: number, end: number, count: number, found: number[]): void {
    const used = this.#pages.page('bitmap', group).words;
    const held = this.#held.get(group)?.words;
    let at = from;
    while (at < end && found.length < count) {
      const index = firstClearBit(used, at, end);
      if (index < 0) return;
      if (held !== undefined && testBit(held, index)) {
        const next = firstClearBit(held, index, end);
        at = next < 0 ? end : next;
        continue;
      }
      found.push(group * GROUP_BLOCKS + index);
      at = index + 1;
    }
  }

  #extentOf(block: number): AllocatorExtent {
    const extent = this.#extents.findLast((candidate) => candidate.firstBlock <= block);
    return defined(extent, `extent of block ${block}`);
  }

  #choose(block: number): Chosen {
    const extent = this.#extentOf(block);
    const index = block - extent.firstBlock;
    assert(index < extent.highWater, `block ${block} is above its mark`);
    const virgin = index >= extent.virginFrom;
    extent.virginFrom = Math.max(extent.virginFrom, index + 1);
    this.#hold(block);
    return { block, virgin };
  }

  #hold(block: number): void {
    const group = Math.floor(block / GROUP_BLOCKS);
    const held = this.#held.get(group) ?? { words: new Uint32Array(GROUP_WORDS), count: 0 };
    assert(!testBit(held.words, block % GROUP_BLOCKS), `block ${block} is held twice`);
    setBit(held.words, block % GROUP_BLOCKS);
    held.count += 1;
    this.#heldBlocks += 1;
    this.#held.set(group, held);
  }

  #unhold(block: number): void {
    const group = Math.floor(block / GROUP_BLOCKS);
    const held = defined(this.#held.get(group), `hold of block ${block}`);
    assert(testBit(held.words, block % GROUP_BLOCKS), `block ${block} is not held`);
    clearBit(held.words, block % GROUP_BLOCKS);
    held.count -= 1;
    this.#heldBlocks -= 1;
    if (held.count === 0) this.#held.delete(group);
  }

  #setUsed(block: number, used: boolean): void {
    const group = Math.floor(block / GROUP_BLOCKS);
    const page = this.#pages.page('bitmap', group);
    assert(testBit(page.words, block % GROUP_BLOCKS) !== used, `block ${block} used=${used} twice`);
    this.#pages.change(page);
    if (used) setBit(page.words, block % GROUP_BLOCKS);
    else clearBit(page.words, block % GROUP_BLOCKS);
    const count = (this.#used[group] ?? 0) + (used ? 1 : -1);
    this.#used[group] = count;
    this.#usedBlocks += used ? 1 : -1;
    const key = summaryKey(group);
    const summary = this.#pages.page(key.kind, key.number);
    this.#pages.change(summary);
    summary.words[group % GROUP_WORDS] = count;
  }
}

function summaryKey(group: number): PageKey {
  return { kind: 'bitmap', number: SUMMARY + Math.floor(group / GROUP_WORDS) };
}
