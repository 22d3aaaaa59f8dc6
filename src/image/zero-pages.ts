/**
 * Walks over the zero ranges of an incremental image with random access, in ascending order.
 *
 * Where a page cannot be used, nobody knows what the image says of the places between the ranges
 * before and behind it: they are unknown, neither zero nor as in the base.
 *
 * Invariants:
 *  1. Every zero range lies in a good page or within an unknown stretch.
 *  2. Memory: one page; work is bounded by what is there, not by what the image claims.
 *
 * Rules: docs/format/image.md, "Reading".
 */
import { Fault } from './damage.ts';
import type { ImageProblem, OnDamage } from './damage.ts';
import type { ImageFrame } from './format.ts';
import { UNIT_BYTES } from './format.ts';
import { readParts } from './image-bytes.ts';
import type { ImageBytes } from './image-bytes.ts';
import { chainZeroPage, emptyDigest } from './trailer.ts';
import { decodeZeroPage } from './zero-ranges.ts';

/** Pages looked through for the next range that is known. */
const PAGES_LOOKED_THROUGH = 64;

/** Places from `first` up to and without `end`. */
export interface Places {
  readonly first: number;
  readonly end: number;
}

export type ZeroPage =
  | {
      readonly kind: 'good';
      readonly page: number;
      /** Pairs of first place and number of blocks. */
      readonly ranges: Float64Array;
      readonly bytes: Buffer;
    }
  | {
      readonly kind: 'bad';
      /** The first of `pages`. */
      readonly page: number;
      readonly pages: number;
      readonly fault: Fault;
      /** Where the ranges on it lay. */
      readonly unknown: Places;
    };

/** The pages of an image in order. @throws errors of the source, with `fail` also of the medium */
export async function* zeroPages(
  bytes: ImageBytes,
  frame: ImageFrame,
  onDamage: OnDamage,
): AsyncGenerator<ZeroPage, void, undefined> {
  const { layout, diskBlocks } = frame;
  const load = async (page: number): Promise<Buffer> => {
    const buffer = Buffer.alloc(UNIT_BYTES);
    await readParts(bytes, layout.zeroPageOffset(page), buffer, [UNIT_BYTES], onDamage);
    return buffer;
  };
  const isThere = (page: number): boolean =>
    page < layout.zeroPages && layout.zeroPageOffset(page) < bytes.sizeBytes;
  let before = -1;
  for (let page = 0; page < layout.zeroPages; page += 1) {
    if (!isThere(page)) {
      const pages = layout.zeroPages - page;
      const fault = new Fault('IMAGE_TRUNCATED', `${pages} pages of zero ranges are missing`);
      const unknown = unknownPlaces(before, diskBlocks + 1, diskBlocks);
      yield { kind: 'bad', page, pages, fault, unknown };
      return;
    }
    const loaded = await load(page);
    const ranges = decodeZeroPage(frame, page, loaded, before);
    if (!(ranges instanceof Fault)) {
      before = endOf(ranges);
      yield { kind: 'good', page, ranges, bytes: loaded };
      continue;
    }
    let after = diskBlocks + 1;
    for (let next = page + 1; next <= page + PAGES_LOOKED_THROUGH && isThere(next); next += 1) {
      const found = decodeZeroPage(frame, next, await load(next), before);
      if (found instanceof Fault) continue;
      after = found[0] ?? after;
      break;
    }
    const unknown = unknownPlaces(before, after, diskBlocks);
    yield { kind: 'bad', page, pages: 1, fault: ranges, unknown };
  }
}

export type BadZeroPage = Extract<ZeroPage, { kind: 'bad' }>;

/**
 * Reads all pages. @returns the digest before the first segment, undefined if a page is not good
 * @throws what `onPage` throws, errors of the source
 */
export async function digestZeroPages(
  bytes: ImageBytes,
  frame: ImageFrame,
  onDamage: OnDamage,
  onPage: (page: ZeroPage) => void,
): Promise<Buffer | undefined> {
  let digest: Buffer | undefined = emptyDigest();
  for await (const page of zeroPages(bytes, frame, onDamage)) {
    digest = digest && page.kind === 'good' ? chainZeroPage(digest, page.bytes) : undefined;
    onPage(page);
  }
  return digest;
}

/** The problem of pages that cannot be used, without what it costs. */
export function badPageProblem(bad: BadZeroPage, frame: ImageFrame): ImageProblem {
  const { code, message } = bad.fault;
  const imageOffset = frame.layout.zeroPageOffset(bad.page);
  return { code, message, imageOffset, length: bad.pages * UNIT_BYTES, lost: [] };
}

/** Where the last of a page's ranges ends. */
export function endOf(ranges: Float64Array): number {
  return (ranges.at(-2) ?? NaN) + (ranges.at(-1) ?? NaN);
}

/**
 * Where ranges can lie that touch neither those before nor those behind them.
 *
 * @param before where the last known range before them ends, or -1
 * @param after where the first known range behind them begins, or the number of blocks + 1
 */
export function unknownPlaces(before: number, after: number, diskBlocks: number): Places {
  const places = { first: before + 1, end: after - 1 };
  return places.first < places.end ? places : { first: 0, end: diskBlocks }; // known ones that lie
}

/** What an image says of places that are asked for in ascending order. */
export class ZeroCursor {
  readonly #pages: AsyncGenerator<ZeroPage, void, undefined>;
  #page: ZeroPage | undefined;
  #index = 0;
  /** The range with the lowest end above the last place sought. */
  first = -1;
  end = -1;
  /** False if it is not known which of these places are zero. */
  isKnown = true;

  constructor(bytes: ImageBytes, frame: ImageFrame, onDamage: OnDamage) {
    this.#pages = zeroPages(bytes, frame, onDamage);
  }

  /** Moves on to the range that holds `place`, else to the next one behind it. */
  async seek(place: number): Promise<void> {
    while (this.end <= place) await this.#next();
  }

  async #next(): Promise<void> {
    const page = this.#page;
    if (page?.kind === 'good' && this.#index < page.ranges.length) {
      this.first = page.ranges[this.#index] ?? NaN;
      this.end = this.first + (page.ranges[this.#index + 1] ?? NaN);
      this.isKnown = true;
      this.#index += 2;
      return;
    }
    const next = await this.#pages.next();
    this.#page = next.value ?? undefined;
    this.#index = 0;
    if (next.done === true) this.first = this.end = Infinity;
    else if (next.value.kind === 'bad') {
      ({ first: this.first, end: this.end } = next.value.unknown);
      this.isKnown = false;
    }
  }
}
