/**
 * Writes an image, head to end or any part of it, from a copy: always the same bytes.
 *
 * How a part is made:
 *  1. It is cut into slices: the header, up to 64 table pages or pages of zero ranges, a segment's
 *     head, up to 1 MiB of its blocks, the trailer.
 *  2. Slices are loaded ahead into a ring of buffers that holds the blocks of one segment: each is
 *     filled with a slice of the next segment as soon as the one in it was taken.
 *  3. A segment's head needs the checksums of all its blocks. If they are not known, it waits for
 *     the slices behind it, and blocks behind the end of the part are read for it; then they are
 *     kept. Blocks alone need no checksum.
 *  4. The trailer needs all zero ranges and heads. A stream from the first segment on collects the
 *     digest of the heads on its way; otherwise it is made from the known checksums, reading the
 *     segments that lack them.
 *
 * Invariants:
 *  1. read(a, b) equals bytes a … b of the whole image, at any time, by anyone.
 *  2. Blocks read where their checksums are known must match them: rot below a copy never gets
 *     into an image unseen.
 *  3. Memory: one segment (8 MiB) for each read in progress, and 2 MiB more while blocks are read
 *     only for their checksums.
 *
 * Bytes: docs/format/image.md.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import { ImageFrame, TABLE_PAGE_ENTRIES, UNIT_BYTES, ZERO_PAGE_RANGES } from './format.ts';
import type { ImageFacts, ImageLayout, ImageRegion } from './format.ts';
import { encodeHeader } from './header.ts';
import { inLanes, readAhead } from './read-ahead.ts';
import type { Slice } from './read-ahead.ts';
import { encodeSegmentHead } from './segment.ts';
import { SegmentChecksums } from './segment-checksums.ts';
import { throwIfStopped } from './stop.ts';
import { encodeTablePage } from './table.ts';
import { chainDigest, chainZeroPage, emptyDigest, encodeTrailer } from './trailer.ts';
import { encodeZeroPage, rangesProblem } from './zero-ranges.ts';

/** Table pages made at a time: 256 KiB. */
const PAGES_AT_ONCE = 64;
/** Reads at once where blocks are read only for their checksums. */
const LANES = 2;

type SegmentRegion = Extract<ImageRegion, { kind: 'segment' }>;
type PageRegion = Extract<ImageRegion, { kind: 'table' | 'zeros' }>;

/** A copy as the writer sees it; all answers are the same for ever. */
export interface ImageSource {
  readonly facts: ImageFacts;
  /** The A of each of X = `first` … `first + count - 1`. */
  sourceBlocks(first: number, count: number): Promise<Float64Array>;
  /**
   * Zero ranges `first` … `first + count - 1` as pairs of first A and number of blocks; they ascend
   * and do not touch each other. Not asked of a full image.
   */
  zeroRangesAt(first: number, count: number): Promise<Float64Array>;
  /** The bytes of these blocks in X order into `into` (count × blockSizeBytes long). */
  readBlocks(first: number, count: number, into: Uint8Array): Promise<void>;
  /** CRC-32 of each block of a segment, if known. */
  knownChecksums(segment: number): Promise<Uint32Array | undefined>;
  /** Called once the checksums of a segment have been computed. */
  keepChecksums(segment: number, checksums: Uint32Array): Promise<void>;
}

export interface RingOptions {
  /** Bytes of one read from the source, rounded down to whole blocks. Default 1 MiB. */
  readonly pieceBytes?: number;
  /** Gives the buffers, for instance aligned ones. */
  readonly allocate?: (bytes: number) => Uint8Array;
}

export interface WriterOptions {
  /** Ends every read in progress with its reason, or CANCELLED. */
  readonly signal?: AbortSignal;
  readonly ring?: RingOptions;
}

/** What a stream knows of the segments it has passed, as promises for each point in it. */
interface PassedSegments {
  /** Done when the checksums of the last one are kept. */
  lastHead: Promise<unknown>;
  /** If the stream began before the first. */
  digest: Promise<Buffer> | undefined;
}

export class ImageWriter {
  readonly layout: ImageLayout;
  readonly imageId: string;
  readonly #frame: ImageFrame;
  readonly #source: ImageSource;
  readonly #signal: AbortSignal | undefined;
  readonly #ring: Required<RingOptions>;
  /** Blocks of one read. */
  readonly #stride: number;
  readonly #header: Buffer;
  readonly #pieceChecksums = new WeakMap<Uint8Array, Uint32Array>();
  #trailer: Buffer | undefined;

  constructor(source: ImageSource, options: WriterOptions = {}) {
    this.#source = source;
    this.#frame = new ImageFrame(source.facts);
    this.layout = this.#frame.layout;
    this.imageId = this.#frame.imageId;
    this.#signal = options.signal;
    this.#ring = {
      pieceBytes: MIB,
      allocate: (bytes) => Buffer.allocUnsafeSlow(bytes),
      ...options.ring,
    };
    this.#stride = Math.max(1, Math.floor(this.#ring.pieceBytes / this.layout.blockSizeBytes));
    this.#header = encodeHeader(this.#frame);
  }

  /**
   * The bytes `from` … `to` - 1 of the image, 0 ≤ from ≤ to ≤ imageBytes, in pieces of up to
   * 1 MiB. Each piece is valid until the next pull; its bytes must not be changed.
   *
   * Cost: one read of each block in the range; see (3) and (4) above for what checksums add.
   * @throws DATA_UNREADABLE blocks that no longer match their checksum; what the source throws
   */
  read(from = 0, to = this.layout.imageBytes): AsyncGenerator<Uint8Array, void, undefined> {
    assert(from >= 0 && from <= to && to <= this.layout.imageBytes, `range ${from} … ${to}`);
    const slots = Math.ceil(this.layout.blocksPerSegment / this.#stride);
    return readAhead(this.#slices(from, to), slots, this.#ring.allocate);
  }

  /** CRC-32 of each block of a piece that `read` gave, if it is whole blocks and they are known. */
  checksumsOf(piece: Uint8Array): Uint32Array | undefined {
    return this.#pieceChecksums.get(piece);
  }

  *#slices(from: number, to: number): Generator<Slice, void, undefined> {
    const passed: PassedSegments = { lastHead: Promise.resolve(), digest: undefined };
    let next = from;
    while (next < to) {
      const start = next;
      const region = this.layout.regionAt(start);
      const end = Math.min(to, this.#sliceEnd(region));
      next = end;
      if (region.kind === 'segment') {
        if (start === region.offset && region.segment === 0) {
          passed.digest = this.#zeroDigest();
          passed.digest.catch(() => undefined); // seen by whoever needs it
        }
        yield* this.#segmentSlices(region, start - region.offset, end - region.offset, passed);
      } else if (region.kind === 'table' || region.kind === 'zeros') {
        yield this.#pageSlice(region, start - region.offset, end - region.offset);
      } else {
        const make = async (): Promise<Buffer> =>
          region.kind === 'header' ? this.#header : this.#makeTrailer(passed);
        yield {
          bytes: 0,
          load: async () => (await make()).subarray(start - region.offset, end - region.offset),
        };
      }
    }
  }

  /** Where the slice that begins in `region` ends at most. */
  #sliceEnd(region: ImageRegion): number {
    if (region.kind !== 'table' && region.kind !== 'zeros') return region.offset + region.length;
    const { tablePages, zeroPages } = this.layout;
    const pages = (region.kind === 'table' ? tablePages : zeroPages) - region.page;
    return region.offset + Math.min(PAGES_AT_ONCE, pages) * UNIT_BYTES;
  }

  /** Bytes `from` … `to` counted from the start of a page of the table or of zero ranges. */
  #pageSlice(region: PageRegion, from: number, to: number): Slice {
    const pages = Math.ceil(to / UNIT_BYTES);
    const load = async (into: Uint8Array): Promise<Uint8Array> => {
      throwIfStopped(this.#signal);
      if (region.kind === 'table') await this.#makeTable(region.page, pages, into);
      else await this.#makeZeroPages(region.page, pages, into);
      return into.subarray(from, to);
    };
    return { bytes: pages * UNIT_BYTES, load };
  }

  async #makeTable(firstPage: number, pages: number, into: Uint8Array): Promise<void> {
    const first = firstPage * TABLE_PAGE_ENTRIES;
    const count = Math.min(pages * TABLE_PAGE_ENTRIES, this.layout.usedBlocks - first);
    const blocks = await this.#sourceBlocks(first, count);
    for (let page = 0; page < pages; page += 1) {
      const entries = blocks.subarray(page * TABLE_PAGE_ENTRIES, (page + 1) * TABLE_PAGE_ENTRIES);
      const bytes = into.subarray(page * UNIT_BYTES, (page + 1) * UNIT_BYTES);
      encodeTablePage(this.#frame, firstPage + page, entries, bytes);
    }
  }

  async #makeZeroPages(firstPage: number, pages: number, into: Uint8Array): Promise<void> {
    const first = firstPage * ZERO_PAGE_RANGES;
    const count = Math.min(pages * ZERO_PAGE_RANGES, this.layout.zeroRanges - first);
    const ranges = await this.#source.zeroRangesAt(first, count);
    assert(ranges.length === 2 * count, `${ranges.length} numbers for ${count} zero ranges`);
    const problem = rangesProblem(this.#frame, ranges, -1);
    assert(problem === undefined, `zero ranges: ${String(problem)}`);
    for (let page = 0; page < pages; page += 1) {
      const [from, to] = [2 * page * ZERO_PAGE_RANGES, 2 * (page + 1) * ZERO_PAGE_RANGES];
      const bytes = into.subarray(page * UNIT_BYTES, (page + 1) * UNIT_BYTES);
      encodeZeroPage(this.#frame, firstPage + page, ranges.subarray(from, to), bytes);
    }
  }

  /** Bytes `from` … `to` counted from the start of a segment. */
  *#segmentSlices(
    region: SegmentRegion,
    from: number,
    to: number,
    passed: PassedSegments,
  ): Generator<Slice, void, undefined> {
    const { segment, headBytes } = region;
    if (from >= headBytes) {
      yield* this.#blockSlices(region, from, to);
      return;
    }
    const count = this.layout.segmentBlocks(segment);
    const asked = Math.max(0, Math.ceil((to - headBytes) / this.layout.blockSizeBytes));
    const checksums = new SegmentChecksums(count, this.#known(segment), asked);
    const makeHead = async (): Promise<Buffer> => {
      const rest = this.#addRest(segment, asked, checksums);
      const [, head] = await Promise.allSettled([rest, this.#makeHead(region, checksums)]);
      if (head.status === 'rejected') throw head.reason;
      return head.value;
    };
    const load = async (): Promise<Uint8Array> => {
      const made = makeHead();
      passed.lastHead = made;
      const before = passed.digest;
      if (before !== undefined) {
        passed.digest = made.then(async (head) =>
          chainDigest(this.#frame, await before, segment, head),
        );
        await passed.digest;
      }
      return (await made).subarray(from, to);
    };
    try {
      yield { bytes: 0, load };
      if (to > headBytes) yield* this.#blockSlices(region, headBytes, to, checksums);
    } finally {
      checksums.end(); // the head must not wait for blocks that nobody asked for
    }
  }

  /** A part of a segment's blocks; without `checksums` they are not compared with any. */
  *#blockSlices(
    region: SegmentRegion,
    from: number,
    to: number,
    checksums?: SegmentChecksums,
  ): Generator<Slice, void, undefined> {
    const { blockSizeBytes } = this.layout;
    const segmentFirst = this.layout.segmentFirstBlock(region.segment);
    const end = Math.ceil((to - region.headBytes) / blockSizeBytes);
    let first = Math.floor((from - region.headBytes) / blockSizeBytes);
    while (first < end) {
      const begin = first;
      const count = Math.min(this.#stride, end - begin);
      const start = region.headBytes + begin * blockSizeBytes;
      const bytes = count * blockSizeBytes;
      const load = async (into: Uint8Array): Promise<Uint8Array> => {
        const reading = this.#readBlocks(segmentFirst + begin, count, into);
        if (checksums === undefined) await reading;
        else {
          const changed = await checksums.add(begin, count, into, reading);
          if (changed !== undefined) await this.#refuse(segmentFirst + changed);
        }
        const piece = into.subarray(Math.max(0, from - start), Math.min(bytes, to - start));
        if (checksums !== undefined && piece.length === bytes) {
          this.#pieceChecksums.set(piece, checksums.of(begin, count));
        }
        return piece;
      };
      yield { bytes, load };
      first += count;
    }
  }

  async #makeHead(region: SegmentRegion, checksums: SegmentChecksums): Promise<Buffer> {
    const { segment, headBytes } = region;
    const first = this.layout.segmentFirstBlock(segment);
    const lookup = this.#sourceBlocks(first, this.layout.segmentBlocks(segment));
    lookup.catch(() => undefined); // seen below
    const all = await checksums.all();
    if (all.isNew) await this.#source.keepChecksums(segment, all.checksums);
    const head = Buffer.alloc(headBytes);
    const entries = { sourceBlocks: await lookup, checksums: all.checksums };
    encodeSegmentHead(this.#frame, segment, entries, head);
    return head;
  }

  async #known(segment: number): Promise<Uint32Array | undefined> {
    const known = await this.#source.knownChecksums(segment);
    const count = this.layout.segmentBlocks(segment);
    assert(known === undefined || known.length === count, `checksums of segment ${segment}`);
    return known;
  }

  /** Reads the blocks of a segment from the one with this index on, if checksums need them. */
  async #addRest(
    segment: number,
    index: number,
    checksums: SegmentChecksums,
    scratch: Uint8Array[] = [],
  ): Promise<void> {
    const rest = this.layout.segmentBlocks(segment) - index;
    if (rest === 0 || (await checksums.known) !== undefined) return;
    const { blockSizeBytes } = this.layout;
    const first = this.layout.segmentFirstBlock(segment);
    await inLanes(rest, this.#stride, LANES, async (from, blocks) => {
      const buffer = scratch.pop() ?? this.#ring.allocate(this.#stride * blockSizeBytes);
      const bytes = buffer.subarray(0, blocks * blockSizeBytes);
      const reading = this.#readBlocks(first + index + from, blocks, bytes);
      await checksums.addRest(index + from, blocks, bytes, reading);
      scratch.push(buffer);
    });
  }

  async #readBlocks(first: number, count: number, into: Uint8Array): Promise<void> {
    throwIfStopped(this.#signal);
    await this.#source.readBlocks(first, count, into);
  }

  async #refuse(block: number): Promise<never> {
    const [place = 0] = await this.#sourceBlocks(block, 1);
    const length = this.layout.blockSizeBytes;
    throw new StorageError(
      'DATA_UNREADABLE',
      `block ${block} of the copy has changed: its checksum is not the one kept`,
      { copyBlock: block, sourceOffset: place * length, length },
    );
  }

  async #sourceBlocks(first: number, count: number): Promise<Float64Array> {
    const blocks = await this.#source.sourceBlocks(first, count);
    assert(blocks.length === count, `${blocks.length} source blocks instead of ${count}`);
    let last = -1;
    for (const block of blocks) {
      assert(block > last && block < this.#frame.diskBlocks, `source block ${block}`);
      last = block;
    }
    return blocks;
  }

  async #makeTrailer(passed: PassedSegments): Promise<Buffer> {
    if (this.#trailer !== undefined) return this.#trailer;
    const { lastHead, digest: ofAll } = passed;
    await lastHead;
    const digest = await (ofAll ?? this.#digestOfAll());
    this.#trailer = encodeTrailer(this.#frame, digest);
    return this.#trailer;
  }

  /** The digest before the first segment. */
  async #zeroDigest(): Promise<Buffer> {
    let digest = emptyDigest();
    const bytes = Buffer.alloc(Math.min(PAGES_AT_ONCE, this.layout.zeroPages) * UNIT_BYTES);
    for (let page = 0; page < this.layout.zeroPages; page += PAGES_AT_ONCE) {
      throwIfStopped(this.#signal);
      const pages = Math.min(PAGES_AT_ONCE, this.layout.zeroPages - page);
      await this.#makeZeroPages(page, pages, bytes);
      for (let at = 0; at < pages * UNIT_BYTES; at += UNIT_BYTES) {
        digest = chainZeroPage(digest, bytes.subarray(at, at + UNIT_BYTES));
      }
    }
    return digest;
  }

  /** One pass over all segments: over their known checksums, over their data where unknown. */
  async #digestOfAll(): Promise<Buffer> {
    let digest = await this.#zeroDigest();
    if (this.layout.segmentCount === 0) return digest;
    const scratch: Uint8Array[] = [];
    for (let segment = 0; segment < this.layout.segmentCount; segment += 1) {
      throwIfStopped(this.#signal);
      const region = this.layout.regionAt(this.layout.segmentOffset(segment));
      assert(region.kind === 'segment', 'a segment at its offset');
      const count = this.layout.segmentBlocks(segment);
      const checksums = new SegmentChecksums(count, this.#known(segment), 0);
      await this.#addRest(segment, 0, checksums, scratch);
      digest = chainDigest(this.#frame, digest, segment, await this.#makeHead(region, checksums));
    }
    return digest;
  }
}
