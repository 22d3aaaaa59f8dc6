/**
 * Reads an image that arrives as a stream (an upload, a pipe, a tape) in pieces of any length.
 *
 * Life cycle: header → table → zero ranges → segments → trailer → ended. Each structure is
 * collected whole, so memory is one segment (8.4 MiB), and is checked before it is given. The
 * place in the stream alone says what the next structure is: damage never shifts what follows.
 *
 * Invariants:
 *  1. Nothing is believed before its CRC is right; no length is used before it is bounded.
 *  2. Without `skip`, no segment with any damage is given, and `end` comes only after a complete
 *     image. With `skip`, every problem is reported and names the ranges that it costs.
 *  3. `confirmedBytes` is 0 or the boundary behind a structure; a reader that is resumed from the
 *     state at that point gives the same as one that saw everything.
 *
 * Bytes: docs/format/image.md; which check gives which code and costs what: "Reading" there.
 */
import { assert, defined } from '../base/assert.ts';
import { crc32 } from '../base/checksum.ts';
import { Fault, LossList, problemError } from './damage.ts';
import type { ImageProblem, OnDamage, OnProblem } from './damage.ts';
import { ImageFrame, TABLE_PAGE_ENTRIES, UNIT_BYTES } from './format.ts';
import type { ImageFacts, ImageLayout, ImageRegion } from './format.ts';
import { decodeHeader } from './header.ts';
import { examineSegment, overlapMessage } from './segment-check.ts';
import type { ImageSegment } from './segment-check.ts';
import { StreamedZeros } from './streamed-zeros.ts';
import { decodeTablePage } from './table.ts';
import { chainDigest, chainZeroPage, decodeTrailer, emptyDigest } from './trailer.ts';

/** Pages of the table that are remembered, to know where lost blocks belonged: 8 MiB. */
const PAGES_KEPT = 2048;

export type ImageEvent =
  | {
      readonly kind: 'header';
      readonly facts: ImageFacts;
      readonly imageId: string;
      readonly layout: ImageLayout;
    }
  | { readonly kind: 'segment'; readonly segment: ImageSegment }
  | { readonly kind: 'end' };

/** All that a reader has to know to go on at a segment's start. Plain JSON. */
export interface ImageStreamState {
  readonly facts: ImageFacts;
  /** The next segment; the number of segments if the trailer is next. */
  readonly segment: number;
  /** Digest of the heads so far, in hex; absent once a head proved nothing. */
  readonly digest?: string;
  /** CRC-32 of all A by the table, and of those of the segments so far; absent after damage. */
  readonly tableChecksum?: number;
  readonly placesChecksum?: number;
  /** Highest A in good heads so far, or -1. */
  readonly before: number;
}

export interface StreamOptions {
  /** `fail` by default. */
  readonly onDamage?: OnDamage;
  readonly onProblem?: OnProblem;
}

/** A structure that is being collected. */
type Expected = ImageRegion | { readonly kind: 'ended'; readonly offset: number };

const headerRegion: ImageRegion = { kind: 'header', offset: 0, length: UNIT_BYTES };

export class ImageStreamReader {
  readonly #options: StreamOptions;
  #frame: ImageFrame | undefined;
  #zeros: StreamedZeros | undefined;
  #expected: Expected = headerRegion;
  #buffer: Uint8Array = Buffer.alloc(UNIT_BYTES);
  #filled = 0;
  #reading = false;
  #hasExcess = false;
  #digest: Buffer | undefined = emptyDigest();
  #tableChecksum: number | undefined = 0;
  #placesChecksum: number | undefined = 0;
  /** Highest A in good heads so far. */
  #beforeHead = -1;
  /** The same, or the highest A that the table gave for a lost block. */
  #before = -1;
  /** Highest A on good pages so far. */
  #beforePage = -1;
  readonly #pages: (Float64Array | undefined)[] = [];

  constructor(options: StreamOptions = {}) {
    this.#options = options;
  }

  /**
   * A reader that goes on where `state` was taken: the next byte pushed is that at its
   * `confirmedBytes`. No header event comes again.
   */
  static resume(state: ImageStreamState, options: StreamOptions = {}): ImageStreamReader {
    const reader = new ImageStreamReader(options);
    reader.#frame = new ImageFrame(state.facts);
    reader.#digest = state.digest === undefined ? undefined : Buffer.from(state.digest, 'hex');
    reader.#tableChecksum = state.tableChecksum;
    reader.#placesChecksum = state.placesChecksum;
    reader.#beforeHead = state.before;
    reader.#before = state.before;
    const { layout } = reader.#frame;
    assert(state.segment <= layout.segmentCount, `segment ${state.segment}`);
    const next = state.segment < layout.segmentCount;
    reader.#expect(next ? layout.segmentOffset(state.segment) : layout.trailerOffset);
    return reader;
  }

  /** Bytes from the start that never have to be sent again. */
  get confirmedBytes(): number {
    const { kind, offset } = this.#expected;
    return kind === 'segment' || kind === 'trailer' || kind === 'ended' ? offset : 0;
  }

  /** For `resume` at `confirmedBytes`; undefined while that is 0, and after the end. */
  get state(): ImageStreamState | undefined {
    const expected = this.#expected;
    const frame = this.#frame;
    if (frame === undefined || expected.kind === 'ended') return undefined;
    if (expected.kind === 'header' || expected.kind === 'table') return undefined;
    const isSegment = expected.kind === 'segment';
    return {
      facts: frame.facts,
      segment: isSegment ? expected.segment : frame.layout.segmentCount,
      ...(this.#digest === undefined ? {} : { digest: this.#digest.toString('hex') }),
      ...(this.#tableChecksum === undefined ? {} : { tableChecksum: this.#tableChecksum }),
      ...(this.#placesChecksum === undefined ? {} : { placesChecksum: this.#placesChecksum }),
      before: this.#beforeHead,
    };
  }

  /**
   * Takes the next bytes of the image and gives what they complete. The generator must be run to
   * its end before the next push; a segment is valid until the generator goes on.
   *
   * @throws IMAGE_INVALID, IMAGE_UNSUPPORTED; with `fail` also IMAGE_DAMAGED, IMAGE_TRUNCATED
   */
  *push(bytes: Uint8Array): Generator<ImageEvent, void, undefined> {
    assert(!this.#reading, 'a push before the last one was read to its end');
    this.#reading = true;
    let rest = bytes;
    while (rest.length > 0) {
      const expected = this.#expected;
      if (expected.kind === 'ended') {
        this.#takeExcess(expected.offset, rest.length);
        break;
      }
      const taken = rest.subarray(0, expected.length - this.#filled);
      this.#buffer.set(taken, this.#filled);
      this.#filled += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#filled === expected.length) yield* this.#complete(expected);
    }
    this.#reading = false;
  }

  /**
   * The stream has ended. With `skip`, gives what an incomplete last segment still holds.
   *
   * @throws IMAGE_TRUNCATED before the trailer (with `skip`: before the header)
   */
  *finish(): Generator<ImageEvent, void, undefined> {
    const expected = this.#expected;
    if (expected.kind === 'ended') return;
    const got = expected.offset + this.#filled;
    const truncated: ImageProblem = {
      code: 'IMAGE_TRUNCATED',
      message: `the stream ended after ${got} bytes, before the image's trailer`,
      imageOffset: got,
      length: (this.#frame?.layout.imageBytes ?? 2 * UNIT_BYTES) - got,
      lost: [],
    };
    if (this.#frame === undefined) throw problemError(truncated);
    this.#report(truncated);
    this.#buffer.fill(0, this.#filled);
    if (this.#filled > 0 && expected.kind === 'segment') yield* this.#complete(expected);
    this.#reportMissing(this.#frame);
  }

  *#complete(region: ImageRegion): Generator<ImageEvent, void, undefined> {
    const bytes = this.#buffer.subarray(0, region.length);
    const frame = region.kind === 'header' ? decodeHeader(bytes) : defined(this.#frame, 'header');
    switch (region.kind) {
      case 'header':
        this.#frame = frame;
        this.#zeros = new StreamedZeros(frame);
        yield { kind: 'header', facts: frame.facts, imageId: frame.imageId, layout: frame.layout };
        break;
      case 'table':
        this.#takePage(frame, region.page, bytes);
        break;
      case 'zeros':
        this.#takeZeroPage(frame, region.page, bytes);
        break;
      case 'segment':
        yield { kind: 'segment', segment: this.#takeSegment(frame, region.segment, bytes) };
        break;
      case 'trailer':
        this.#takeTrailer(frame, bytes);
        this.#expected = { kind: 'ended', offset: frame.layout.imageBytes };
        yield { kind: 'end' };
        return;
    }
    this.#expect(region.offset + region.length);
  }

  #expect(offset: number): void {
    const { layout } = defined(this.#frame, 'header');
    this.#expected = layout.regionAt(offset);
    this.#filled = 0;
    if (this.#buffer.length < this.#expected.length) {
      this.#buffer = Buffer.allocUnsafeSlow(layout.longestSegmentBytes);
    }
  }

  #takePage(frame: ImageFrame, page: number, bytes: Uint8Array): void {
    const decoded = decodeTablePage(frame, page, bytes, this.#beforePage);
    const blocks = decoded instanceof Fault ? undefined : decoded;
    this.#beforePage = blocks?.at(-1) ?? this.#beforePage;
    this.#tableChecksum = checksumOf(this.#tableChecksum, blocks);
    if (this.#options.onDamage === 'skip' && page < PAGES_KEPT) this.#pages[page] = blocks;
    if (!(decoded instanceof Fault)) return;
    const { code, message } = decoded;
    const imageOffset = frame.layout.pageOffset(page);
    this.#report({ code, message, imageOffset, length: UNIT_BYTES, lost: [] });
  }

  #takeZeroPage(frame: ImageFrame, page: number, bytes: Uint8Array): void {
    const zeros = defined(this.#zeros, 'header');
    const { isGood, fault, told } = zeros.take(page, bytes);
    this.#digest = isGood && this.#digest ? chainZeroPage(this.#digest, bytes) : undefined;
    if (fault !== undefined && this.#options.onDamage !== 'skip') {
      const imageOffset = frame.layout.zeroPageOffset(page);
      const { code, message } = fault;
      throw problemError({ code, message, imageOffset, length: UNIT_BYTES, lost: [] });
    }
    if (page + 1 === frame.layout.zeroPages) told.push(...zeros.end(page + 1));
    for (const problem of told) this.#report(problem);
  }

  #takeSegment(frame: ImageFrame, index: number, bytes: Uint8Array): ImageSegment {
    const { layout } = frame;
    const first = layout.segmentFirstBlock(index);
    const end = first + layout.segmentBlocks(index);
    const table = Float64Array.from({ length: end - first }, (_, at) => this.#placeOf(first + at));
    const after = this.#placeAfter(frame, end);
    const places = { table, beforeHead: this.#beforeHead, before: this.#before, after };
    const { segment, problems, head } = examineSegment(frame, index, bytes, places);
    for (const problem of problems) {
      this.#report(problem);
      if (problem.code === 'IMAGE_INVALID') this.#tableChecksum = undefined; // it has been told
    }
    if (head?.sourceBlocks.some((place) => this.#zeros?.has(place)) === true) {
      const [imageOffset, length] = [layout.segmentOffset(index), layout.segmentBytes(index)];
      const message = overlapMessage(index);
      this.#report({ code: 'IMAGE_INVALID', message, imageOffset, length, lost: [] });
    }
    const last = segment.sourceBlocks.findLast((block) => !Number.isNaN(block)) ?? -1;
    if (head !== undefined) this.#beforeHead = last;
    this.#before = Math.max(head === undefined ? this.#before : -1, last);
    this.#placesChecksum = checksumOf(this.#placesChecksum, head?.sourceBlocks);
    this.#digest = this.#digest && head && chainDigest(frame, this.#digest, index, head.bare);
    return segment;
  }

  #takeTrailer(frame: ImageFrame, bytes: Uint8Array): void {
    const { imageBytes, trailerOffset } = frame.layout;
    const at = { imageOffset: trailerOffset, length: imageBytes - trailerOffset, lost: [] };
    const stated = decodeTrailer(frame, bytes);
    if (stated instanceof Fault) {
      this.#report({ ...at, code: stated.code, message: stated.message });
    } else if (this.#digest !== undefined && !stated.equals(this.#digest)) {
      const message = 'the trailer belongs to other segments: its digest differs';
      this.#report({ ...at, code: 'IMAGE_INVALID', message });
    }
    const [table, places] = [this.#tableChecksum, this.#placesChecksum];
    if (table === undefined || places === undefined || table === places) return;
    const message = 'the correspondence table and the segments disagree';
    this.#report({ ...at, code: 'IMAGE_INVALID', message });
  }

  /** A of X by the remembered part of the table, or NaN. */
  #placeOf(copyBlock: number): number {
    const page = this.#pages[Math.floor(copyBlock / TABLE_PAGE_ENTRIES)];
    return page?.[copyBlock % TABLE_PAGE_ENTRIES] ?? NaN;
  }

  /** The lowest A that a block from X = `end` on can have, as far as remembered pages tell. */
  #placeAfter(frame: ImageFrame, end: number): number {
    const fromPage = Math.ceil(end / TABLE_PAGE_ENTRIES);
    const next = this.#pages.find((blocks, page) => page >= fromPage && blocks !== undefined);
    return next?.[0] ?? frame.diskBlocks - (frame.layout.usedBlocks - end);
  }

  /** Reports the zero ranges and segments that never came, if any. */
  #reportMissing(frame: ImageFrame): void {
    const expected = this.#expected;
    const { layout } = frame;
    if (expected.kind === 'table' || expected.kind === 'zeros') {
      const next = expected.kind === 'zeros' ? expected.page : 0;
      for (const problem of this.#zeros?.end(next) ?? []) this.#report(problem);
    }
    if (expected.kind === 'trailer' || layout.segmentCount === 0) return;
    const index = expected.kind === 'segment' ? expected.segment : 0;
    const first = layout.segmentFirstBlock(index);
    const before = expected.kind === 'segment' ? this.#before : -1;
    const losses = new LossList(frame, Math.max(before, first - 1));
    const known = Math.min(layout.usedBlocks, this.#pages.length * TABLE_PAGE_ENTRIES);
    for (let block = first; block < known; block += 1) losses.next(this.#placeOf(block), true);
    if (known < layout.usedBlocks) losses.next(NaN, true);
    losses.end(frame.diskBlocks);
    const imageOffset = layout.segmentOffset(index);
    this.#report({
      code: 'IMAGE_TRUNCATED',
      message: `the image ends before segment ${index} of ${layout.segmentCount}`,
      imageOffset,
      length: layout.trailerOffset - imageOffset,
      lost: losses.ranges,
    });
  }

  /** Bytes behind the trailer are reported once. */
  #takeExcess(imageOffset: number, length: number): void {
    if (this.#hasExcess) return;
    this.#hasExcess = true;
    const message = 'bytes follow the end of the image';
    this.#report({ code: 'IMAGE_INVALID', message, imageOffset, length, lost: [] });
  }

  #report(problem: ImageProblem): void {
    if (this.#options.onDamage !== 'skip') throw problemError(problem);
    this.#options.onProblem?.(problem);
  }
}

/** CRC-32 of places, continued; undefined once something is missing. */
function checksumOf(
  before: number | undefined,
  blocks: Float64Array | undefined,
): number | undefined {
  if (before === undefined || blocks === undefined) return undefined;
  return crc32(new Uint8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength), before);
}
