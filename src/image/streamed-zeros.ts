/**
 * The zero ranges of an incremental image that arrives as a stream.
 *
 * They come before the segments, so ranges are remembered to be compared with the heads. A page
 * that cannot be used is told as a problem once the next range behind it is known.
 *
 * Invariants:
 *  1. What is told of a page is what random access tells of it, if the next range comes at all.
 *  2. Memory: 2048 pages (8 MiB); blocks beyond the last remembered range are not compared.
 *
 * Rules: docs/format/image.md, "Reading".
 */
import { Fault, rangeOf } from './damage.ts';
import type { ImageProblem } from './damage.ts';
import { UNIT_BYTES } from './format.ts';
import type { ImageFrame } from './format.ts';
import { endOf, unknownPlaces } from './zero-pages.ts';
import { decodeZeroPage } from './zero-ranges.ts';

const PAGES_KEPT = 2048;

export class StreamedZeros {
  readonly #frame: ImageFrame;
  readonly #kept: Float64Array[] = [];
  /** Where the last range on a good page ends, or -1. */
  #before = -1;
  /** Pages whose neighbours behind them are not known yet. */
  #waiting: { readonly page: number; readonly pages: number; readonly fault: Fault }[] = [];
  /** The next remembered range that a place can lie in. */
  #page = 0;
  #index = 0;

  constructor(frame: ImageFrame) {
    this.#frame = frame;
  }

  /** The next page: whether it is good, and what can be told by now of those before it. */
  take(page: number, bytes: Uint8Array): { isGood: boolean; fault?: Fault; told: ImageProblem[] } {
    const ranges = decodeZeroPage(this.#frame, page, bytes, this.#before);
    if (ranges instanceof Fault) {
      this.#waiting.push({ page, pages: 1, fault: ranges });
      return { isGood: false, fault: ranges, told: [] };
    }
    const told = this.#tell(ranges[0] ?? NaN);
    this.#before = endOf(ranges);
    if (this.#kept.length < PAGES_KEPT) this.#kept.push(ranges);
    return { isGood: true, told };
  }

  /** No more pages come; those from `next` on are missing. */
  end(next: number): ImageProblem[] {
    const pages = this.#frame.layout.zeroPages - next;
    if (pages > 0) {
      const fault = new Fault('IMAGE_TRUNCATED', `${pages} pages of zero ranges are missing`);
      this.#waiting.push({ page: next, pages, fault });
    }
    return this.#tell(this.#frame.diskBlocks + 1);
  }

  /** True if `place` lies in a remembered range. Places are asked for in ascending order. */
  has(place: number): boolean {
    for (let page = this.#kept[this.#page]; page !== undefined; page = this.#kept[this.#page]) {
      const first = page[this.#index];
      if (first === undefined) {
        this.#page += 1;
        this.#index = 0;
      } else if (first + (page[this.#index + 1] ?? NaN) <= place) this.#index += 2;
      else return first <= place;
    }
    return false;
  }

  /** @param after where the next known range begins */
  #tell(after: number): ImageProblem[] {
    const { first, end } = unknownPlaces(this.#before, after, this.#frame.diskBlocks);
    const lost = [rangeOf(this.#frame, first, end, false)];
    const told = this.#waiting.map(({ page, pages, fault: { code, message } }) => {
      const imageOffset = this.#frame.layout.zeroPageOffset(page);
      return { code, message, imageOffset, length: pages * UNIT_BYTES, lost };
    });
    this.#waiting = [];
    return told;
  }
}
