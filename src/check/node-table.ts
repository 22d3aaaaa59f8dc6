/**
 * What the check remembers of each node of a pool: about 40 bytes.
 *
 * Nodes are kept in the order of their numbers and known by their index in it, because numbers are
 * never used again and may be far apart.
 *
 * Invariant: numbers ascend strictly.
 */
import { assert } from '../base/assert.ts';

/** `unreadable`: its page has a wrong length. */
export type NodeShape = 'unreadable' | 'leaf' | 'inner';
const shapes: readonly NodeShape[] = ['unreadable', 'leaf', 'inner'];

const FIRST_ROOM = 1024;

/** Facts of a leaf. */
export interface LeafFacts {
  readonly mapped: number;
  /** Highest mapped slot, or -1. */
  readonly top: number;
  /** Youngest birth of an entry or tombstone. */
  readonly birth: number;
  /** Lowest and highest block; low > high if it holds none. */
  readonly low: number;
  readonly high: number;
}

function columns(room: number) {
  return {
    numbers: new Float64Array(room),
    holders: new Uint32Array(room),
    shapes: new Uint8Array(room),
    mapped: new Uint16Array(room),
    tops: new Int16Array(room),
    births: new Uint32Array(room),
    sharedBirths: new Uint32Array(room),
    lows: new Uint32Array(room),
    highs: new Uint32Array(room),
  };
}

export class NodeTable {
  #columns = columns(FIRST_ROOM);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Index of the new node. */
  add(number: number, shape: NodeShape): number {
    const index = this.#length;
    if (index === this.#columns.numbers.length) this.#grow();
    assert(index === 0 || number > this.number(index - 1), 'nodes come in the order of numbers');
    this.#columns.numbers[index] = number;
    this.#columns.shapes[index] = shapes.indexOf(shape);
    this.#length += 1;
    return index;
  }

  setLeaf(index: number, facts: LeafFacts): void {
    this.#columns.mapped[index] = facts.mapped;
    this.#columns.tops[index] = facts.top;
    this.#columns.births[index] = facts.birth;
    this.#columns.lows[index] = facts.low;
    this.#columns.highs[index] = facts.high;
  }

  leaf(index: number): LeafFacts {
    const { mapped, tops, births, lows, highs } = this.#columns;
    return {
      mapped: mapped[index] ?? 0,
      top: tops[index] ?? -1,
      birth: births[index] ?? 0,
      low: lows[index] ?? 0,
      high: highs[index] ?? 0,
    };
  }

  /** Index of a node, or -1. Cost: a binary search. */
  find(number: number): number {
    const { numbers } = this.#columns;
    let low = 0;
    let high = this.#length - 1;
    while (low <= high) {
      const middle = Math.floor((low + high) / 2);
      const found = numbers[middle] ?? 0;
      if (found === number) return middle;
      if (found < number) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  number(index: number): number {
    return this.#columns.numbers[index] ?? 0;
  }

  shape(index: number): NodeShape {
    return shapes[this.#columns.shapes[index] ?? 0] ?? 'unreadable';
  }

  /** Nodes and roots that hold it, as far as counted. */
  holders(index: number): number {
    return this.#columns.holders[index] ?? 0;
  }

  addHolders(index: number, count: number): void {
    this.#columns.holders[index] = this.holders(index) + count;
  }

  /** Youngest birth in a leaf of a block whose stored count says that others hold it too. */
  sharedBirth(index: number): number {
    return this.#columns.sharedBirths[index] ?? 0;
  }

  raiseSharedBirth(index: number, birth: number): void {
    this.#columns.sharedBirths[index] = Math.max(this.sharedBirth(index), birth);
  }

  #grow(): void {
    const old = this.#columns;
    const grown = columns(old.numbers.length * 2);
    grown.numbers.set(old.numbers);
    grown.holders.set(old.holders);
    grown.shapes.set(old.shapes);
    grown.mapped.set(old.mapped);
    grown.tops.set(old.tops);
    grown.births.set(old.births);
    grown.sharedBirths.set(old.sharedBirths);
    grown.lows.set(old.lows);
    grown.highs.set(old.highs);
    this.#columns = grown;
  }
}
