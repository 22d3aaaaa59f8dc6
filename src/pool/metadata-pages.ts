/**
 * The pages of one pool's tables in memory: read on demand, changed in place, committed in batches.
 *
 * Life of a page: absent → clean (read, or created) → dirty (`change`) → taken (its image is in a
 * batch on its way to the store; it may become dirty again) → clean → evicted within the budget.
 * Whoever works on pages first makes them resident (`ensure`), then works without any `await`:
 * nothing is evicted in between, since eviction has turns of the event loop to itself. Nor is what
 * someone looked at before a call of `ensure` evicted before that call has ended: an operation
 * that needs more pages than the budget gets them all, one after the other.
 *
 * Invariants:
 *  1. A dirty or taken page is resident: the store may not have its last contents yet.
 *  2. A page is changed only after `change` was called for it since the last `take`.
 *  3. An image in a batch is a copy: later changes do not touch it.
 *  4. Count and bitmap pages that are all zeros are stored as absent and read as zeros.
 */
import { assert, defined } from '../base/assert.ts';
import { isZero } from '../base/bytes.ts';
import { StorageError } from '../base/errors.ts';
import { type MetadataStore, type PageImage, type PageKind, pageKinds } from './metadata-store.ts';

/** Bytes of a leaf, count or bitmap page. */
export const PAGE_BYTES = 4096;
/** Of an inner table node: 512 child ids (u64), mapped counts (u32) and youngest births (u32). */
export const INNER_BYTES = 4096 + 2048 + 2048;
/** Inner nodes from before there were youngest births; they stay as they are until copied. */
export const OLD_INNER_BYTES = 4096 + 2048;
const KIND_SPAN = 2 ** 46;
/** How many pages are looked at for eviction for each that came: keeps the cost of it bounded. */
const EVICTION_STEPS = 16;

export interface PageKey {
  readonly kind: PageKind;
  readonly number: number;
}

export class Page implements PageKey {
  readonly kind: PageKind;
  readonly number: number;
  readonly words: Uint32Array;
  dirty = false;
  /** Batches on their way that hold an image of this page. */
  taken = 0;
  /** Used since the eviction hand last passed. */
  used = true;
  /** How many calls of `ensure` there had been when it was last looked at. */
  seenAt = 0;

  constructor(kind: PageKind, number: number, words: Uint32Array) {
    this.kind = kind;
    this.number = number;
    this.words = words;
  }
}

export class MetadataPages {
  readonly #store: MetadataStore;
  readonly #pool: number;
  readonly #budgetBytes: number;
  readonly #pages = new Map<number, Page>();
  readonly #dirty = new Set<Page>();
  readonly #removed = new Map<number, PageKey>();
  readonly #loading = new Map<number, Promise<void>>();
  readonly #ensuring = new Set<number>();
  #ensured = 0;
  #bytes = 0;
  #evictionSteps = 0;
  #evictionIsDue = false;

  /** @param budgetBytes soft bound of clean pages kept in memory */
  constructor(store: MetadataStore, pool: number, budgetBytes: number) {
    this.#store = store;
    this.#pool = pool;
    this.#budgetBytes = budgetBytes;
  }

  get dirtyCount(): number {
    return this.#dirty.size + this.#removed.size;
  }

  get residentBytes(): number {
    return this.#bytes;
  }

  /** True answers stay true for this turn, and until a call of `ensure` that follows has ended. */
  isResident(kind: PageKind, number: number): boolean {
    const page = this.#pages.get(keyOf(kind, number));
    if (page === undefined) return false;
    page.seenAt = this.#ensured;
    return true;
  }

  /** The page, which the caller has made resident. */
  page(kind: PageKind, number: number): Page {
    const page = this.#pages.get(keyOf(kind, number));
    if (page === undefined) assert(false, `${kind} page ${number} is not resident`);
    page.used = true;
    page.seenAt = this.#ensured;
    return page;
  }

  /** Reads what is missing. After it, work at once: an `await` may evict again. */
  async ensure(keys: readonly PageKey[]): Promise<void> {
    this.#ensured += 1;
    const call = this.#ensured;
    this.#ensuring.add(call);
    try {
      await this.#read(keys);
    } finally {
      this.#ensuring.delete(call);
      this.#evictSoon(EVICTION_STEPS);
    }
  }

  async #read(keys: readonly PageKey[]): Promise<void> {
    const waits: Promise<void>[] = [];
    for (const kind of pageKinds) {
      const numbers = new Set<number>();
      for (const key of keys) {
        if (key.kind !== kind || this.isResident(kind, key.number)) continue;
        const loading = this.#loading.get(keyOf(kind, key.number));
        if (loading === undefined) numbers.add(key.number);
        else waits.push(loading);
      }
      if (numbers.size > 0) waits.push(this.#load(kind, [...numbers]));
    }
    await Promise.all(waits);
  }

  /** Announces a change of a resident page. */
  change(page: Page): void {
    if (page.dirty) return;
    page.dirty = true;
    this.#dirty.add(page);
  }

  /** A new node page of zeros, dirty at once. */
  create(kind: PageKind, number: number, bytes: number): Page {
    const key = keyOf(kind, number);
    assert(!this.#pages.has(key) && !this.#removed.has(key), `${kind} page ${number} exists`);
    const page = new Page(kind, number, new Uint32Array(bytes / 4));
    this.#insert(key, page);
    this.change(page);
    return page;
  }

  /** Removes a node page for ever; its number is never used again. */
  remove(page: Page): void {
    const key = keyOf(page.kind, page.number);
    this.#dirty.delete(page);
    page.dirty = false;
    this.#pages.delete(key);
    this.#bytes -= page.words.byteLength;
    this.#removed.set(key, { kind: page.kind, number: page.number });
  }

  /** The page is changed; one that was removed since it was last taken for good is back. */
  putBack(page: Page): void {
    const key = keyOf(page.kind, page.number);
    if (this.#pages.get(key) !== page) {
      assert(this.#removed.delete(key), `${page.kind} page ${page.number} is gone`);
      page.taken = 0;
      this.#insert(key, page);
    }
    this.change(page);
  }

  /**
   * Images of all that changed since the last call. Cost: one copy of each changed page, all in
   * one buffer: many small ones would leave the heap in pieces.
   * The caller commits them and calls `settle` with the same array when they are durable.
   */
  take(): PageImage[] {
    const images: PageImage[] = [...this.#removed.values()].map((key) => ({
      ...key,
      data: undefined,
    }));
    this.#removed.clear();
    let length = 0;
    for (const page of this.#dirty) length += page.words.byteLength;
    const batch = new Uint8Array(length);
    let end = 0;
    for (const page of this.#dirty) {
      const bytes = batch.subarray(end, end + page.words.byteLength);
      end += bytes.length;
      bytes.set(new Uint8Array(page.words.buffer));
      const absent = page.kind !== 'node' && isZero(bytes);
      images.push({ kind: page.kind, number: page.number, data: absent ? undefined : bytes });
      page.dirty = false;
      page.taken += 1;
    }
    this.#dirty.clear();
    return images;
  }

  settle(images: readonly PageImage[]): void {
    for (const { kind, number } of images) {
      const page = this.#pages.get(keyOf(kind, number));
      if (page !== undefined && page.taken > 0) page.taken -= 1;
    }
    this.#evictSoon(images.length);
  }

  /** The batch did not commit: what it held is changed once more. */
  restore(images: readonly PageImage[]): void {
    for (const { kind, number, data } of images) {
      const page = this.#pages.get(keyOf(kind, number));
      if (page !== undefined && page.taken > 0) {
        page.taken -= 1;
        this.change(page);
      } else if (kind === 'node' && data === undefined) {
        this.#removed.set(keyOf(kind, number), { kind, number });
      }
    }
  }

  async #load(kind: PageKind, numbers: number[]): Promise<void> {
    const read = this.#store.readPages(this.#pool, kind, numbers);
    const done = read.then((contents) => {
      numbers.forEach((number, index) => {
        const key = keyOf(kind, number);
        this.#loading.delete(key);
        if (!this.#pages.has(key)) this.#insert(key, decode(kind, number, contents[index]));
      });
    });
    for (const number of numbers) this.#loading.set(keyOf(kind, number), done);
    try {
      await done;
    } catch (error) {
      for (const number of numbers) this.#loading.delete(keyOf(kind, number));
      throw error;
    }
  }

  #insert(key: number, page: Page): void {
    this.#pages.set(key, page);
    this.#bytes += page.words.byteLength;
    page.seenAt = this.#ensured;
    this.#evictSoon(EVICTION_STEPS);
  }

  #evictSoon(steps: number): void {
    this.#evictionSteps += steps;
    if (this.#evictionIsDue || this.#bytes <= this.#budgetBytes) return;
    this.#evictionIsDue = true;
    setImmediate(() => {
      this.#evictionIsDue = false;
      this.#evict();
    });
  }

  /** Second chance: the oldest page goes, unless it was used since the hand last passed. */
  #evict(): void {
    const [oldestCall = Infinity] = this.#ensuring;
    const steps = Math.min(this.#evictionSteps, 2 * this.#pages.size);
    this.#evictionSteps = 0;
    for (let step = 0; step < steps && this.#bytes > this.#budgetBytes; step += 1) {
      const key = defined(this.#pages.keys().next().value, 'oldest page');
      const page = defined(this.#pages.get(key), 'oldest page');
      this.#pages.delete(key);
      // looked at by the turn that made the oldest call, or later
      const isWanted = page.seenAt >= oldestCall - 1;
      if (page.used || page.dirty || page.taken > 0 || isWanted) {
        page.used = false;
        this.#pages.set(key, page);
      } else {
        this.#bytes -= page.words.byteLength;
      }
    }
  }
}

/** True for the length of an inner table node. */
export function isInnerLength(bytes: number): boolean {
  return bytes === INNER_BYTES || bytes === OLD_INNER_BYTES;
}

function keyOf(kind: PageKind, number: number): number {
  return pageKinds.indexOf(kind) * KIND_SPAN + number;
}

function decode(kind: PageKind, number: number, data: Uint8Array | undefined): Page {
  const expected = kind === 'node' ? [PAGE_BYTES, INNER_BYTES, OLD_INNER_BYTES] : [PAGE_BYTES];
  if (data === undefined && kind !== 'node') {
    return new Page(kind, number, new Uint32Array(PAGE_BYTES / 4));
  }
  if (data === undefined || !expected.includes(data.byteLength)) {
    const found = data === undefined ? 'missing' : `${data.byteLength} bytes long`;
    throw new StorageError('METADATA_INVALID', `${kind} page ${number} is ${found}`);
  }
  const words = new Uint32Array(data.byteLength / 4);
  new Uint8Array(words.buffer).set(data);
  return new Page(kind, number, words);
}
