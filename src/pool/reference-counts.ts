/**
 * Reference counts of blocks and nodes, stored only where something is shared.
 *
 * A slot holds the references *beyond the first*: 0 means exactly one holder (or none: whether a
 * thing exists at all is the bitmap's or the node's business). 1024 u32 slots a page.
 *
 * Invariant: a count never goes below zero nor above 2^32 - 2.
 */
import { assert } from '../base/assert.ts';
import type { MetadataPages, PageKey } from './metadata-pages.ts';

const SLOTS = 1024;
type CountKind = 'node-count' | 'block-count';

export class ReferenceCounts {
  readonly #pages: MetadataPages;
  readonly #kind: CountKind;
  /** How often a count has changed: what was derived from counts holds while it stays. */
  changes = 0;

  constructor(pages: MetadataPages, kind: CountKind) {
    this.#pages = pages;
    this.#kind = kind;
  }

  /** The page that must be resident before `extra`, `add` or `drop` of this id. */
  keyOf(id: number): PageKey {
    return { kind: this.#kind, number: Math.floor(id / SLOTS) };
  }

  isResident(id: number): boolean {
    return this.#pages.isResident(this.#kind, Math.floor(id / SLOTS));
  }

  /** References beyond the first. */
  extra(id: number): number {
    const page = this.#pages.page(this.#kind, Math.floor(id / SLOTS));
    return page.words[id % SLOTS] ?? 0;
  }

  add(id: number): void {
    this.#change(id, 1);
  }

  /** Takes one of several references away. */
  drop(id: number): void {
    this.#change(id, -1);
  }

  #change(id: number, by: number): void {
    const page = this.#pages.page(this.#kind, Math.floor(id / SLOTS));
    const count = (page.words[id % SLOTS] ?? 0) + by;
    assert(count >= 0 && count < 2 ** 32 - 1, `${this.#kind} of ${id} becomes ${count}`);
    this.#pages.change(page);
    this.changes += 1;
    page.words[id % SLOTS] = count;
  }
}
