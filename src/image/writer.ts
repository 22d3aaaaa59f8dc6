/**
 * Writes an image, head to end or any part of it, from a copy: always the same bytes.
 *
 * How a part is made:
 *  1. It is cut into slices: the header, up to 64 table pages, one segment, the trailer.
 *  2. Slices are loaded ahead into a ring of buffers, each segment by several reads at once.
 *  3. A slice that holds a segment's head needs the checksums of all its blocks. If they are not
 *     known the whole segment is read, and they are kept. Blocks alone need no checksum.
 *  4. The trailer needs all heads. A stream from the first segment on collects their digest on its
 *     way; otherwise it is made from the known checksums, reading the segments that lack them.
 *
 * Invariants:
 *  1. read(a, b) equals bytes a … b of the whole image, at any time, by anyone.
 *  2. Blocks read where their checksums are known must match them: rot below a copy never gets
 *     into an image unseen.
 *  3. Memory: two segments (16.8 MiB) for each read in progress unless the ring says otherwise.
 *
 * Bytes: docs/format/image.md.
 */
import { assert } from '../base/assert.ts';
import { crc32 } from '../base/checksum.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import { ImageFrame, TABLE_PAGE_ENTRIES, UNIT_BYTES } from './format.ts';
import type { ImageFacts, ImageLayout, ImageRegion } from './format.ts';
import { encodeHeader } from './header.ts';
import { inLanes, readAhead } from './read-ahead.ts';
import type { Slice } from './read-ahead.ts';
import { encodeSegmentHead } from './segment.ts';
import { encodeTablePage } from './table.ts';
import { chainDigest, emptyDigest, encodeTrailer } from './trailer.ts';

/** Table pages made at a time: 256 KiB. */
const PAGES_AT_ONCE = 64;

type SegmentRegion = Extract<ImageRegion, { kind: 'segment' }>;

/** A copy as the writer sees it; all answers are the same for ever. */
export interface ImageSource {
  readonly facts: ImageFacts;
  /** The A of each of X = `first` … `first + count - 1`. */
  sourceBlocks(first: number, count: number): Promise<Float64Array>;
  /** The bytes of these blocks in X order into `into` (count × blockSizeBytes long). */
  readBlocks(first: number, count: number, into: Uint8Array): Promise<void>;
  /** CRC-32 of each block of a segment, if known. */
  knownChecksums(segment: number): Promise<Uint32Array | undefined>;
  /** Called once the checksums of a segment have been computed. */
  keepChecksums(segment: number, checksums: Uint32Array): Promise<void>;
}

export interface RingOptions {
  /** Buffers of up to a segment each: one in use, the others being filled. Default 2. */
  readonly slots?: number;
  /** Bytes of one read from the source, rounded down to whole blocks. Default 1 MiB. */
  readonly pieceBytes?: number;
  /** Reads at once for one segment. Default 4. */
  readonly piecesAtOnce?: number;
  /** Gives the buffers, for instance aligned ones. */
  readonly allocate?: (bytes: number) => Uint8Array;
}

export interface WriterOptions {
  /** Ends every read in progress with its reason, or CANCELLED. */
  readonly signal?: AbortSignal;
  readonly ring?: RingOptions;
}

/** Digest of the segments a stream has passed, as a promise for each point in it. */
interface PassedSegments {
  digest: Promise<Buffer>;
}

export class ImageWriter {
  readonly layout: ImageLayout;
  readonly imageId: string;
  readonly #frame: ImageFrame;
  readonly #source: ImageSource;
  readonly #signal: AbortSignal | undefined;
  readonly #ring: Required<RingOptions>;
  readonly #header: Buffer;
  #trailer: Buffer | undefined;

  constructor(source: ImageSource, options: WriterOptions = {}) {
    this.#source = source;
    this.#frame = new ImageFrame(source.facts);
    this.layout = this.#frame.layout;
    this.imageId = this.#frame.imageId;
    this.#signal = options.signal;
    this.#ring = {
      slots: 2,
      pieceBytes: MIB,
      piecesAtOnce: 4,
      allocate: (bytes) => Buffer.allocUnsafeSlow(bytes),
      ...options.ring,
    };
    this.#header = encodeHeader(this.#frame);
  }

  /**
   * The bytes `from` … `to` - 1 of the image, 0 ≤ from ≤ to ≤ imageBytes, in pieces of up to a
   * segment. Each piece is valid until the next pull; its bytes must not be changed.
   *
   * Cost: one read of each block in the range; see (3) and (4) above for what checksums add.
   * @throws DATA_UNREADABLE blocks that no longer match their checksum; what the source throws
   */
  read(from = 0, to = this.layout.imageBytes): AsyncGenerator<Uint8Array, void, undefined> {
    assert(from >= 0 && from <= to && to <= this.layout.imageBytes, `range ${from} … ${to}`);
    return readAhead(this.#slices(from, to), this.#ring.slots, this.#ring.allocate);
  }

  *#slices(from: number, to: number): Generator<Slice, void, undefined> {
    let passed: PassedSegments | undefined;
    let next = from;
    while (next < to) {
      const start = next;
      const region = this.layout.regionAt(start);
      const end = Math.min(to, this.#sliceEnd(region));
      next = end;
      if (region.kind === 'segment') {
        if (start === region.offset && region.segment === 0) {
          passed = { digest: Promise.resolve(emptyDigest()) };
        }
        yield this.#segmentSlice(region, start - region.offset, end - region.offset, passed);
      } else if (region.kind === 'table') {
        yield this.#tableSlice(region.page, start - region.offset, end - region.offset);
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
    if (region.kind !== 'table') return region.offset + region.length;
    const pages = Math.min(PAGES_AT_ONCE, this.layout.tablePages - region.page);
    return region.offset + pages * UNIT_BYTES;
  }

  /** Bytes `from` … `to` counted from the start of table page `firstPage`. */
  #tableSlice(firstPage: number, from: number, to: number): Slice {
    const pages = Math.ceil(to / UNIT_BYTES);
    const load = async (into: Uint8Array): Promise<Uint8Array> => {
      this.#checkSignal();
      const first = firstPage * TABLE_PAGE_ENTRIES;
      const count = Math.min(pages * TABLE_PAGE_ENTRIES, this.layout.usedBlocks - first);
      const blocks = await this.#sourceBlocks(first, count);
      for (let page = 0; page < pages; page += 1) {
        const entries = blocks.subarray(page * TABLE_PAGE_ENTRIES, (page + 1) * TABLE_PAGE_ENTRIES);
        const bytes = into.subarray(page * UNIT_BYTES, (page + 1) * UNIT_BYTES);
        encodeTablePage(this.#frame, firstPage + page, entries, bytes);
      }
      return into.subarray(from, to);
    };
    return { bytes: pages * UNIT_BYTES, load };
  }

  /** Bytes `from` … `to` counted from the start of a segment. */
  #segmentSlice(
    region: SegmentRegion,
    from: number,
    to: number,
    passed: PassedSegments | undefined,
  ): Slice {
    if (from >= region.headBytes) return this.#blocksSlice(region, from, to);
    const { segment } = region;
    if (passed === undefined) {
      const load = async (into: Uint8Array): Promise<Uint8Array> =>
        (await this.#loadSegment(region, to, into)).subarray(from, to);
      return { bytes: region.length, load };
    }
    const load = async (into: Uint8Array): Promise<Uint8Array> => {
      const before = passed.digest;
      const loading = this.#loadSegment(region, to, into);
      passed.digest = loading.then(async (bytes) =>
        chainDigest(this.#frame, await before, segment, bytes),
      );
      await passed.digest; // the buffer is free for other use only when the digest has seen it
      return (await loading).subarray(from, to);
    };
    return { bytes: region.length, load };
  }

  /** A part of a segment's blocks: no checksums needed. */
  #blocksSlice(region: SegmentRegion, from: number, to: number): Slice {
    const { blockSizeBytes } = this.layout;
    const first = Math.floor((from - region.headBytes) / blockSizeBytes);
    const end = Math.ceil((to - region.headBytes) / blockSizeBytes);
    const start = region.headBytes + first * blockSizeBytes;
    const load = async (into: Uint8Array): Promise<Uint8Array> => {
      const firstBlock = this.layout.segmentFirstBlock(region.segment) + first;
      await this.#readBlocks(firstBlock, end - first, into);
      return into.subarray(from - start, to - start);
    };
    return { bytes: (end - first) * blockSizeBytes, load };
  }

  /** A segment with its head and at least its blocks before `to`, at the start of `into`. */
  async #loadSegment(region: SegmentRegion, to: number, into: Uint8Array): Promise<Uint8Array> {
    const { segment, headBytes } = region;
    const { blockSizeBytes } = this.layout;
    const firstBlock = this.layout.segmentFirstBlock(segment);
    const count = this.layout.segmentBlocks(segment);
    const known = await this.#source.knownChecksums(segment);
    assert(known === undefined || known.length === count, `checksums of segment ${segment}`);
    const wanted = Math.ceil(Math.max(0, to - headBytes) / blockSizeBytes);
    const toRead = known === undefined ? count : wanted;
    const computed = new Uint32Array(toRead);
    const data = into.subarray(headBytes, headBytes + toRead * blockSizeBytes);
    const lookup = this.#sourceBlocks(firstBlock, count);
    lookup.catch(() => undefined); // seen below, when nothing is being read any more
    await this.#readBlocks(firstBlock, toRead, data, computed);
    const sourceBlocks = await lookup;
    if (known === undefined) await this.#source.keepChecksums(segment, computed);
    else this.#checkBlocks(firstBlock, sourceBlocks, known, computed);
    const checksums = known ?? computed;
    encodeSegmentHead(this.#frame, segment, { sourceBlocks, checksums }, into);
    return into;
  }

  #checkBlocks(
    firstBlock: number,
    sourceBlocks: Float64Array,
    known: Uint32Array,
    computed: Uint32Array,
  ): void {
    const index = computed.findIndex((checksum, at) => checksum !== known[at]);
    if (index < 0) return;
    const length = this.layout.blockSizeBytes;
    throw new StorageError(
      'DATA_UNREADABLE',
      `block ${firstBlock + index} of the copy has changed: its checksum is not the one kept`,
      { copyBlock: firstBlock + index, sourceOffset: (sourceBlocks[index] ?? 0) * length, length },
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

  /** Reads blocks by several reads at once, with their checksums if there is room for them. */
  async #readBlocks(
    first: number,
    count: number,
    into: Uint8Array,
    checksums?: Uint32Array,
  ): Promise<void> {
    const { blockSizeBytes } = this.layout;
    const { pieceBytes, piecesAtOnce } = this.#ring;
    const stride = Math.max(1, Math.floor(pieceBytes / blockSizeBytes));
    await inLanes(count, stride, piecesAtOnce, async (from, blocks) => {
      this.#checkSignal();
      const end = (from + blocks) * blockSizeBytes;
      await this.#source.readBlocks(
        first + from,
        blocks,
        into.subarray(from * blockSizeBytes, end),
      );
      if (checksums === undefined) return;
      for (let index = from; index < from + blocks; index += 1) {
        const at = index * blockSizeBytes;
        checksums[index] = crc32(into.subarray(at, at + blockSizeBytes));
      }
    });
  }

  async #makeTrailer(passed: PassedSegments | undefined): Promise<Buffer> {
    if (this.#trailer !== undefined) return this.#trailer;
    const digest = passed === undefined ? await this.#digestOfAll() : await passed.digest;
    this.#trailer = encodeTrailer(this.#frame, digest);
    return this.#trailer;
  }

  /** One pass over all segments: over their known checksums, over their data where unknown. */
  async #digestOfAll(): Promise<Buffer> {
    let digest = emptyDigest();
    if (this.layout.segmentCount === 0) return digest;
    const bytes = this.#ring.allocate(this.layout.longestSegmentBytes);
    for (let segment = 0; segment < this.layout.segmentCount; segment += 1) {
      this.#checkSignal();
      const region = this.layout.regionAt(this.layout.segmentOffset(segment));
      assert(region.kind === 'segment', 'a segment at its offset');
      digest = chainDigest(
        this.#frame,
        digest,
        segment,
        await this.#loadSegment(region, region.headBytes, bytes),
      );
    }
    return digest;
  }

  #checkSignal(): void {
    if (this.#signal?.aborted !== true) return;
    const reason: unknown = this.#signal.reason;
    throw isStorageError(reason) ? reason : new StorageError('CANCELLED', 'reading was cancelled');
  }
}
