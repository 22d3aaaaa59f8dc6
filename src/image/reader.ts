/**
 * Reads an image with random access (a file, an object): checks everything, gives segments.
 *
 * How a pass works: the end of the image is checked first, so that an incomplete one is refused
 * before anything is restored (last where going to and fro is dear); then all zero ranges (of an
 * incremental), then table and segments side by side, the next segment while the last one is used;
 * at the end the digest of all heads is compared with the trailer's.
 *
 * Invariants:
 *  1. Nothing is believed before its CRC is right; no length is used before it is bounded.
 *  2. Without `skip`, no segment with any damage is given, and a pass that ends is proof that the
 *     whole image is good (a pass from a later segment: all segments from there on).
 *  3. With `skip`, every problem is reported and every lost block lies in a reported range.
 *  4. With `skip`, nothing but the header and errors of the source end a pass early.
 *
 * Bytes: docs/format/image.md; which check gives which code and costs what: "Reading" there.
 */
import { assert } from '../base/assert.ts';
import { Fault, LossList, problemError, rangeOf } from './damage.ts';
import type { ImageProblem, OnDamage, OnProblem } from './damage.ts';
import { TABLE_PAGE_ENTRIES, UNIT_BYTES } from './format.ts';
import type { ImageFacts, ImageFrame, ImageLayout } from './format.ts';
import { decodeHeader } from './header.ts';
import { readAhead } from './read-ahead.ts';
import type { Slice } from './read-ahead.ts';
import { examineSegment, overlapMessage } from './segment-check.ts';
import type { ImageSegment } from './segment-check.ts';
import { throwIfStopped } from './stop.ts';
import { TablePages } from './table-pages.ts';
import { readParts } from './image-bytes.ts';
import type { ImageBytes } from './image-bytes.ts';
import { chainDigest, decodeTrailer, emptyDigest } from './trailer.ts';
import { badPageProblem, digestZeroPages, ZeroCursor } from './zero-pages.ts';

export interface PassOptions {
  /** First segment, 0 by default. */
  readonly from?: number;
  readonly onDamage: OnDamage;
  /** Told of each problem that is skipped; together they name all that is lost. */
  readonly onProblem?: OnProblem;
  readonly signal?: AbortSignal;
}

export class ImageReader {
  readonly #bytes: ImageBytes;
  readonly #frame: ImageFrame;

  private constructor(bytes: ImageBytes, frame: ImageFrame) {
    this.#bytes = bytes;
    this.#frame = frame;
  }

  /**
   * Reads and checks the header.
   *
   * @throws IMAGE_INVALID, IMAGE_UNSUPPORTED, IMAGE_TRUNCATED (shorter than a header)
   */
  static async open(bytes: ImageBytes): Promise<ImageReader> {
    const header = Buffer.alloc(Math.min(bytes.sizeBytes, UNIT_BYTES));
    await bytes.read(0, header);
    return new ImageReader(bytes, decodeHeader(header));
  }

  get frame(): ImageFrame {
    return this.#frame;
  }

  get facts(): ImageFacts {
    return this.#frame.facts;
  }

  get imageId(): string {
    return this.#frame.imageId;
  }

  get layout(): ImageLayout {
    return this.#frame.layout;
  }

  /** @throws IMAGE_TRUNCATED without its whole length and trailer; IMAGE_INVALID if longer */
  async checkComplete(): Promise<void> {
    const [problem] = await this.endProblems('fail');
    if (problem !== undefined) throw problemError(problem);
  }

  /** What is wrong with the image's length and its trailer. */
  async endProblems(onDamage: OnDamage): Promise<readonly ImageProblem[]> {
    return [...this.#lengthProblems(), ...(await this.#trailerProblems(onDamage))];
  }

  /** Those of `endProblems` to be told before a pass; those to be told after it are the others. */
  async problemsBefore(onDamage: OnDamage): Promise<readonly ImageProblem[]> {
    return this.#endsLast ? this.#lengthProblems() : this.endProblems(onDamage);
  }

  async problemsAfter(onDamage: OnDamage): Promise<readonly ImageProblem[]> {
    return this.#endsLast ? this.#trailerProblems(onDamage) : [];
  }

  /**
   * The segments from `from` on, in order, each valid until the next pull.
   *
   * Cost: reads the image once; memory two segments (16.8 MiB).
   * @throws with `fail`: IMAGE_TRUNCATED, IMAGE_INVALID, IMAGE_DAMAGED (details.damaged: ranges);
   *   with both: errors of the source
   */
  async *segments(options: PassOptions): AsyncGenerator<ImageSegment, void, undefined> {
    const { from = 0 } = options;
    assert(from >= 0 && from <= this.layout.segmentCount, `first segment ${from}`);
    const pass = new Pass(this.#bytes, this.#frame, options);
    for (const problem of await this.problemsBefore(options.onDamage)) pass.report(problem);
    if (from === 0) await pass.checkZeroRanges();
    let index = from;
    const allocate = (bytes: number): Uint8Array => Buffer.allocUnsafeSlow(bytes);
    for await (const bytes of readAhead(pass.slices(from), 2, allocate)) {
      yield await pass.examine(index, bytes);
      index += 1;
    }
    if (index < this.layout.segmentCount) await pass.reportMissing(index);
    for (const problem of await this.problemsAfter(options.onDamage)) pass.report(problem);
    if (from !== 0 || pass.digest === undefined) return;
    const problem = await this.digestProblem(pass.digest, options.onDamage);
    if (problem !== undefined) pass.report(problem);
  }

  /** The digest that the trailer states, or why there is none. */
  async #readTrailer(onDamage: OnDamage): Promise<Buffer | Fault> {
    const trailer = Buffer.alloc(UNIT_BYTES);
    await readParts(this.#bytes, this.layout.trailerOffset, trailer, [UNIT_BYTES], onDamage);
    return decodeTrailer(this.#frame, trailer);
  }

  get #endsLast(): boolean {
    return this.#bytes.isSequential === true;
  }

  /** Bytes that are missing at the end, or follow it. */
  #lengthProblems(): readonly ImageProblem[] {
    const { imageBytes, trailerOffset } = this.layout;
    const { sizeBytes } = this.#bytes;
    if (sizeBytes < imageBytes) {
      const message = `the image has ${sizeBytes} of its ${imageBytes} bytes`;
      const found = { imageOffset: trailerOffset, length: UNIT_BYTES, lost: [] };
      return [{ ...found, code: 'IMAGE_TRUNCATED', message }];
    }
    const length = sizeBytes - imageBytes;
    if (length === 0) return [];
    const message = `${length} bytes follow the end of the image`;
    return [{ code: 'IMAGE_INVALID', message, imageOffset: imageBytes, length, lost: [] }];
  }

  /** None of a trailer that is not there: the length tells that. */
  async #trailerProblems(onDamage: OnDamage): Promise<readonly ImageProblem[]> {
    const { imageBytes, trailerOffset } = this.layout;
    if (this.#bytes.sizeBytes < imageBytes) return [];
    const trailer = await this.#readTrailer(onDamage);
    if (!(trailer instanceof Fault)) return [];
    const { code, message } = trailer;
    return [{ code, message, imageOffset: trailerOffset, length: UNIT_BYTES, lost: [] }];
  }

  /** What is wrong if the image has this digest; undefined if the trailer states none. */
  async digestProblem(digest: Buffer, onDamage: OnDamage): Promise<ImageProblem | undefined> {
    const stated = await this.#readTrailer(onDamage);
    if (stated instanceof Fault || stated.equals(digest)) return undefined;
    return {
      code: 'IMAGE_INVALID',
      message: 'the trailer belongs to other segments: its digest differs',
      imageOffset: this.layout.trailerOffset,
      length: UNIT_BYTES,
      lost: [],
    };
  }
}

/** What one walk over the segments remembers. */
class Pass {
  /** Of the zero ranges and the heads so far; undefined once one proved nothing. */
  digest: Buffer | undefined = emptyDigest();
  readonly #bytes: ImageBytes;
  readonly #frame: ImageFrame;
  readonly #options: PassOptions;
  readonly #table: TablePages;
  readonly #zeros: ZeroCursor;
  /** Highest A in good heads so far. */
  #beforeHead = -1;
  /** The same, or the highest A that the table gave for a lost block. */
  #before = -1;

  constructor(bytes: ImageBytes, frame: ImageFrame, options: PassOptions) {
    this.#bytes = bytes;
    this.#frame = frame;
    this.#options = options;
    this.#table = new TablePages(bytes, frame, options.onDamage, (problem) => {
      this.report(problem);
    });
    this.#zeros = new ZeroCursor(bytes, frame, options.onDamage);
  }

  get onDamage(): OnDamage {
    return this.#options.onDamage;
  }

  report(problem: ImageProblem): void {
    if (this.onDamage === 'fail') throw problemError(problem);
    this.#options.onProblem?.(problem);
  }

  *slices(from: number): Generator<Slice, void, undefined> {
    const { layout } = this.#frame;
    for (let index = from; index < layout.segmentCount; index += 1) {
      const offset = layout.segmentOffset(index);
      if (offset >= this.#bytes.sizeBytes) return;
      const load = async (into: Uint8Array): Promise<Uint8Array> => {
        throwIfStopped(this.#options.signal);
        await this.#readSegment(index, offset, into);
        return into;
      };
      yield { bytes: layout.segmentBytes(index), load };
    }
  }

  /** Reads all zero ranges and reports those that cannot be used. */
  async checkZeroRanges(): Promise<void> {
    this.digest = await digestZeroPages(this.#bytes, this.#frame, this.onDamage, (page) => {
      throwIfStopped(this.#options.signal);
      if (page.kind === 'good') return;
      const { first, end } = page.unknown;
      const lost = [rangeOf(this.#frame, first, end, false)];
      this.report({ ...badPageProblem(page, this.#frame), lost });
    });
  }

  async examine(index: number, bytes: Uint8Array): Promise<ImageSegment> {
    const { layout } = this.#frame;
    const first = layout.segmentFirstBlock(index);
    const end = first + layout.segmentBlocks(index);
    const table = await this.#table.places(first, end);
    const after = Number.isNaN(table.at(-1))
      ? await this.#table.placeAfter(end)
      : this.#frame.diskBlocks;
    const places = { table, beforeHead: this.#beforeHead, before: this.#before, after };
    const { segment, problems, head } = examineSegment(this.#frame, index, bytes, places);
    for (const problem of problems) this.report(problem);
    if (head !== undefined) await this.#checkOverlap(index, head.sourceBlocks);
    const last = segment.sourceBlocks.findLast((block) => !Number.isNaN(block)) ?? -1;
    if (head !== undefined) this.#beforeHead = last;
    this.#before = Math.max(head === undefined ? this.#before : -1, last);
    this.digest = this.digest && head && chainDigest(this.#frame, this.digest, index, head.bare);
    return segment;
  }

  /** Reports that the image ends before segment `index`. Cost: the rest of the table. */
  async reportMissing(index: number): Promise<void> {
    const { layout, diskBlocks } = this.#frame;
    const first = layout.segmentFirstBlock(index);
    const losses = new LossList(this.#frame, Math.max(this.#before, first - 1));
    let page = Math.floor(first / TABLE_PAGE_ENTRIES);
    let skip = first % TABLE_PAGE_ENTRIES;
    while (page < layout.tablePages && layout.pageOffset(page) < this.#bytes.sizeBytes) {
      throwIfStopped(this.#options.signal);
      const blocks = (await this.#table.page(page))?.subarray(skip) ?? [NaN];
      for (const block of blocks) losses.next(block, true);
      page += 1;
      skip = 0;
    }
    if (page < layout.tablePages) losses.next(NaN, true);
    losses.end(diskBlocks);
    this.report({
      code: 'IMAGE_TRUNCATED',
      message: `the image ends before segment ${index} of ${layout.segmentCount}`,
      imageOffset: layout.segmentOffset(index),
      length: layout.trailerOffset - layout.segmentOffset(index),
      lost: losses.ranges,
    });
  }

  /** Reports a block that lies in a zero range. The block counts. */
  async #checkOverlap(index: number, sourceBlocks: Float64Array): Promise<void> {
    const { layout } = this.#frame;
    if (layout.zeroRanges === 0) return;
    for (const place of sourceBlocks) {
      if (this.#zeros.end <= place) await this.#zeros.seek(place);
      if (place < this.#zeros.first || !this.#zeros.isKnown) continue;
      const [imageOffset, length] = [layout.segmentOffset(index), layout.segmentBytes(index)];
      const message = overlapMessage(index);
      this.report({ code: 'IMAGE_INVALID', message, imageOffset, length, lost: [] });
      return;
    }
  }

  async #readSegment(index: number, offset: number, into: Uint8Array): Promise<void> {
    const cuts = this.#frame.layout.segmentCuts(index);
    await readParts(this.#bytes, offset, into, cuts, this.onDamage);
  }
}
