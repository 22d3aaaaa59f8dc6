/**
 * The blocks [first, end) of a pool: who holds each, and whether counts, bits and marks say so.
 *
 * Two u32 a block, so a pool is checked window by window: `load` reads the stored counts, `take`
 * counts the entries of each leaf that may hold blocks of the window, `compare` reads the bitmap
 * and reports.
 */
import { countBits, testBit } from '../base/bitmap.ts';
import { GROUP_BLOCKS } from '../pool/allocator.ts';
import { FAN_OUT, entryAt } from '../disk/allocation-table.ts';
import type { Page } from '../pool/metadata-pages.ts';
import { RunFindings } from './run-findings.ts';
import type { LeafFacts } from './node-table.ts';
import { SLOTS, SUMMARY, hasLength, slices, wordsOf } from './pages.ts';
import { type PoolState, badLength } from './pool-state.ts';

export class BlockWindow {
  readonly first: number;
  readonly end: number;
  readonly #state: PoolState;
  readonly #holders: Uint32Array;
  /** Stored references beyond the first. */
  readonly #extra: Uint32Array;
  /** Count pages that could not be read. */
  readonly #unreadable: number[] = [];
  #isQuiet = true;

  /**
   * @param first, end multiples of GROUP_BLOCKS
   * @param room two arrays of at least end - first words, used by one window at a time
   */
  constructor(state: PoolState, first: number, end: number, room: readonly Uint32Array[]) {
    this.#state = state;
    this.first = first;
    this.end = end;
    const [holders = new Uint32Array(), extra = new Uint32Array()] = room;
    this.#holders = holders.subarray(0, end - first).fill(0);
    this.#extra = extra.subarray(0, end - first).fill(0);
  }

  /** Reads the counts of the window's blocks. */
  load(): void {
    const { source, place } = this.#state;
    const pool = place.pool.number;
    const from = this.first / SLOTS;
    for (const slice of slices(source, pool, 'block-count', from, this.end / SLOTS)) {
      this.#isQuiet = false;
      for (const page of slice) {
        if (hasLength('block-count', page.data)) {
          this.#extra.set(wordsOf(page.data), page.number * SLOTS - this.first);
        } else {
          this.#unreadable.push(page.number);
          badLength(this.#state, 'block-count', page);
        }
      }
    }
  }

  overlaps({ low, high }: LeafFacts): boolean {
    return low < this.end && high >= this.first && low <= high;
  }

  /** Counts the entries of a leaf. */
  take(index: number, leaf: Page): void {
    const { nodes, place } = this.#state;
    const holders = this.#holders;
    const size = Math.min(this.end, place.totalBlocks) - this.first;
    let shared = 0;
    for (let slot = 0; slot < FAN_OUT; slot += 1) {
      const { block, birth } = entryAt(leaf, slot);
      const at = block - this.first;
      if (block < 0 || at < 0 || at >= size) continue;
      holders[at] = (holders[at] ?? 0) + 1;
      if (birth > shared && (this.#extra[at] ?? 0) > 0) shared = birth;
    }
    this.#isQuiet = false;
    if (shared > 0) nodes.raiseSharedBirth(index, shared);
  }

  compare(): void {
    const bits = this.#bitmaps();
    this.#compareGroups(bits);
    if (this.#isQuiet && bits.size === 0) return;
    for (const number of this.#unreadable) this.#believe(number * SLOTS, SLOTS);
    this.#compareBits(bits);
    this.#compareCounts();
    this.#compareMarks(bits);
  }

  /** Bitmap pages by group. One of a wrong length is as the leaves would have it. */
  #bitmaps(): Map<number, Uint32Array> {
    const { source, place } = this.#state;
    const bits = new Map<number, Uint32Array>();
    const [from, end] = [this.first / GROUP_BLOCKS, this.end / GROUP_BLOCKS];
    for (const slice of slices(source, place.pool.number, 'bitmap', from, end)) {
      for (const page of slice) {
        const readable = hasLength('bitmap', page.data);
        bits.set(page.number, readable ? wordsOf(page.data) : new Uint32Array());
        if (!readable) badLength(this.#state, 'bitmap', page);
      }
    }
    return bits;
  }

  #compareGroups(bits: ReadonlyMap<number, Uint32Array>): void {
    const { source, place, findings } = this.#state;
    const firstGroup = this.first / GROUP_BLOCKS;
    let summary: Uint32Array | undefined;
    for (let group = firstGroup; group < this.end / GROUP_BLOCKS; group += 1) {
      if (group === firstGroup || group % SLOTS === 0) {
        const number = SUMMARY + Math.floor(group / SLOTS);
        const data = source.page(place.pool.number, 'bitmap', number);
        const readable = data === undefined || hasLength('bitmap', data);
        summary = readable ? wordsOf(data ?? new Uint8Array(SLOTS * 4)) : undefined;
      }
      const words = bits.get(group) ?? new Uint32Array(SLOTS);
      const counted = summary?.[group % SLOTS];
      const used = countBits(words);
      if (counted === undefined || words.length === 0 || counted === used) continue;
      findings.add('GROUP_COUNT', `group ${group} has ${used} used blocks, counted ${counted}`, {
        pool: place.pool.id,
        group,
        used,
        counted,
      });
    }
  }

  /** Counts that cannot be read are taken to be right. */
  #believe(block: number, count: number): void {
    const from = block - this.first;
    for (let at = from; at < from + count; at += 1) {
      this.#extra[at] = Math.max(1, this.#holders[at] ?? 0) - 1;
    }
  }

  #compareBits(bits: ReadonlyMap<number, Uint32Array>): void {
    const { findings, place, unknownHolders } = this.#state;
    const { name, id } = place.pool;
    const leaked = new RunFindings(findings, 'BLOCK_LEAKED', id, (run) => {
      return `${run} of pool ${name}: used, but no leaf holds it`;
    });
    const held = new RunFindings(findings, 'BLOCK_FREE_BUT_HELD', id, (run) => {
      return `${run} of pool ${name}: free, but a leaf holds it`;
    });
    const holders = this.#holders;
    for (let group = this.first; group < this.end; group += GROUP_BLOCKS) {
      const words = bits.get(group / GROUP_BLOCKS);
      if (words?.length === 0) continue;
      for (let index = 0; index < GROUP_BLOCKS; index += 1) {
        const isUsed = words !== undefined && testBit(words, index);
        const isHeld = (holders[group - this.first + index] ?? 0) > 0;
        if (isUsed === isHeld) continue;
        if (isHeld) held.add(group + index);
        else if (!unknownHolders.ofBlocks) leaked.add(group + index);
      }
    }
    leaked.end();
    held.end();
  }

  #compareCounts(): void {
    const { findings, place, unknownHolders, wrongBlocks } = this.#state;
    const { name, id } = place.pool;
    for (let at = 0; at < this.#holders.length; at += 1) {
      const holders = this.#holders[at] ?? 0;
      const counted = (this.#extra[at] ?? 0) + 1;
      if (counted === Math.max(1, holders)) continue;
      if (unknownHolders.ofBlocks && counted > holders) continue;
      const block = this.first + at;
      const message = `block ${block} of pool ${name}: ${holders} leaves hold it`;
      const details = { pool: id, block, holders, counted };
      if (!findings.isFull) wrongBlocks.add(block);
      findings.add('BLOCK_COUNT', `${message}, its count says ${counted}`, details);
    }
  }

  /** Blocks in use where the extents say that nothing was ever written. */
  #compareMarks(bits: ReadonlyMap<number, Uint32Array>): void {
    const { findings, place } = this.#state;
    const { name, id } = place.pool;
    const above = new RunFindings(findings, 'BLOCK_ABOVE_MARK', id, (run) => {
      return `${run} of pool ${name}: in use above the high-water mark`;
    });
    for (const { firstBlock, blocks, highWater } of place.extents) {
      const from = Math.max(this.first, firstBlock + highWater);
      const end = Math.min(this.end, firstBlock + blocks);
      for (let block = from; block < end; block += 1) {
        const words = bits.get(Math.floor(block / GROUP_BLOCKS));
        const isUsed = words !== undefined && testBit(words, block % GROUP_BLOCKS);
        if (isUsed || (this.#holders[block - this.first] ?? 0) > 0) above.add(block);
      }
    }
    above.end();
  }
}
