/**
 * Pages as the check reads them: from end to end in slices, and as words.
 */
import { PAGE_BYTES, Page, isInnerLength } from '../pool/metadata-pages.ts';
import type { PageKind } from '../pool/metadata-store.ts';
import type { CheckSource, CheckedPage } from './source.ts';

/** Slots of a count or summary page. */
export const SLOTS = PAGE_BYTES / 4;
/** Where the summary pages begin among the bitmap pages. */
export const SUMMARY = 2 ** 32;
/** Beyond every page number. */
export const PAGES_END = 2 ** 40;
const SLICE = 64;

/** Pages with numbers in [from, end), in slices of about 256 KiB. */
export function* slices(
  source: CheckSource,
  pool: number,
  kind: PageKind,
  from: number,
  end: number,
): Generator<readonly CheckedPage[]> {
  let at = from;
  while (at < end) {
    const slice = source.pages(pool, kind, { from: at, end, limit: SLICE });
    const last = slice.at(-1);
    if (last === undefined) return;
    yield slice;
    at = last.number + 1;
  }
}

export function hasLength(kind: PageKind, data: Uint8Array): boolean {
  return data.length === PAGE_BYTES || (kind === 'node' && isInnerLength(data.length));
}

export function wordsOf(data: Uint8Array): Uint32Array {
  const { buffer, byteOffset, byteLength } = data;
  if (byteOffset % 4 === 0) return new Uint32Array(buffer, byteOffset, byteLength / 4);
  return new Uint32Array(data.slice().buffer);
}

/** A node as the table code reads it. */
export function nodePage(number: number, data: Uint8Array): Page {
  return new Page('node', number, wordsOf(data));
}
