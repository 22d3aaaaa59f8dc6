/**
 * The correspondence table of an image with random access: where blocks belong whose head is lost.
 *
 * Invariant: memory is one page; each page that is not good is reported when it is asked for.
 */
import { Fault } from './damage.ts';
import type { ImageProblem, OnDamage } from './damage.ts';
import { TABLE_PAGE_ENTRIES, UNIT_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';
import { readParts } from './image-bytes.ts';
import type { ImageBytes } from './image-bytes.ts';
import { decodeTablePage } from './table.ts';

/** Table pages looked through for the next place that is known. */
const PAGES_LOOKED_THROUGH = 64;

export class TablePages {
  readonly #bytes: ImageBytes;
  readonly #frame: ImageFrame;
  readonly #onDamage: OnDamage;
  readonly #report: (problem: ImageProblem) => void;
  #page: { readonly number: number; readonly blocks: Float64Array | undefined } | undefined;
  /** Highest A on the good pages so far. */
  #before = -1;

  constructor(
    bytes: ImageBytes,
    frame: ImageFrame,
    onDamage: OnDamage,
    report: (problem: ImageProblem) => void,
  ) {
    this.#bytes = bytes;
    this.#frame = frame;
    this.#onDamage = onDamage;
    this.#report = report;
  }

  /** The A of X = `first` … `end` - 1; NaN where its page is not good. X must not go back. */
  async places(first: number, end: number): Promise<Float64Array> {
    const places = new Float64Array(end - first).fill(NaN);
    let next = first;
    while (next < end) {
      const page = Math.floor(next / TABLE_PAGE_ENTRIES);
      const pageStart = page * TABLE_PAGE_ENTRIES;
      const pageEnd = Math.min(end, pageStart + TABLE_PAGE_ENTRIES);
      const blocks = await this.page(page);
      const part = blocks?.subarray(next - pageStart, pageEnd - pageStart);
      if (part !== undefined) places.set(part, next - first);
      next = pageEnd;
    }
    return places;
  }

  /** One page, or undefined if it is not good; the last one asked for is kept. */
  async page(page: number): Promise<Float64Array | undefined> {
    if (this.#page?.number === page) return this.#page.blocks;
    const decoded = await this.#decode(page);
    const isGood = !(decoded instanceof Fault);
    this.#page = { number: page, blocks: isGood ? decoded : undefined };
    if (isGood) {
      this.#before = decoded.at(-1) ?? this.#before;
      return decoded;
    }
    const { code, message } = decoded;
    const imageOffset = this.#frame.layout.pageOffset(page);
    this.#report({ code, message, imageOffset, length: UNIT_BYTES, lost: [] });
    return undefined;
  }

  /** The lowest A that a block from X = `end` on can have, as far as good pages tell. */
  async placeAfter(end: number): Promise<number> {
    const { layout, diskBlocks } = this.#frame;
    const firstPage = Math.ceil(end / TABLE_PAGE_ENTRIES);
    const endPage = Math.min(layout.tablePages, firstPage + PAGES_LOOKED_THROUGH);
    for (let page = firstPage; page < endPage; page += 1) {
      const blocks = await this.#decode(page);
      const first = blocks instanceof Fault ? undefined : blocks[0];
      if (first !== undefined) return first;
    }
    return diskBlocks - (layout.usedBlocks - end);
  }

  async #decode(page: number): Promise<Float64Array | Fault> {
    const bytes = Buffer.alloc(UNIT_BYTES);
    const offset = this.#frame.layout.pageOffset(page);
    await readParts(this.#bytes, offset, bytes, [UNIT_BYTES], this.#onDamage);
    return decodeTablePage(this.#frame, page, bytes, this.#before);
  }
}
