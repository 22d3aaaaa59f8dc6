/**
 * The image's constants, facts and closed formulas: where every byte of an image lies.
 *
 * An image is header, correspondence table, zero ranges (of an incremental only), segments and
 * trailer, each a multiple of 4096 bytes long. Nothing here does I/O. All integers are
 * little-endian.
 *
 * Invariants:
 *  1. Every offset is a function of usedBlocks, zeroRanges and blockSizeBytes only.
 *  2. The image UUID is a function of the copy's UUID, the format version and the options only.
 *  3. Facts that pass `factsProblem` make every formula here exact (below 2^53).
 *
 * Bytes: docs/format/image.md. The table is the seed's FIG. 11.
 */
import { assert } from '../base/assert.ts';
import { readU64, writeU64 } from '../base/bytes.ts';
import { sha256 } from '../base/checksum.ts';
import { formatUuid, isUuid, parseUuid, uuidv8 } from '../base/clock.ts';
import {
  isBlockSize,
  MAX_CAPACITY_BYTES,
  MAX_POOL_BLOCKS,
  MIB,
  MIN_CAPACITY_BYTES,
  roundUp,
  SECTOR_BYTES,
} from '../base/units.ts';

export const FORMAT_VERSION = 1;
/** Header, trailer and table pages are one unit long; everything starts at a multiple of it. */
export const UNIT_BYTES = 4096;
/** Blocks of a full segment together. */
export const SEGMENT_DATA_BYTES = 8 * MIB;
export const SEGMENT_HEADER_BYTES = 256;
/** u64 A, u32 CRC-32. */
export const SEGMENT_ENTRY_BYTES = 12;
/** u64 A each; 16 bytes of the page remain for its check. */
export const TABLE_PAGE_ENTRIES = 510;
/** u64 A, u64 blocks each; 16 bytes of the page remain for its check. */
export const ZERO_PAGE_RANGES = 255;
/** Last millisecond that has an RFC 3339 date in JavaScript (ECMA-262, 21.4.1.1). */
const MAX_TIME_MS = 8.64e15;
/** One byte of length, up to 254 of name. */
export const MAX_NAME_BYTES = 254;
/** Option flags, base copy, base generation, reserved: all zero in a full image. */
export const OPTIONS_BYTES = 64;
/** Places in the options. */
const optionsAt = { baseCopyId: 8, baseGeneration: 24 } as const;
/** Incompatible feature bit 0: the image is incremental, it needs that of its base. */
export const INCREMENTAL_FEATURE = 1n;

/** The copy that an incremental image is the difference to. */
export interface ImageBase {
  /** UUID of the base's copy. */
  readonly copyId: string;
  /** The base's generation: below that of the image. */
  readonly generation: number;
}

/** What a copy's immutable record says and an image repeats. */
export interface ImageFacts {
  /** UUID of the copy. */
  readonly copyId: string;
  /** UUID of the disk it was taken of. */
  readonly diskId: string;
  /** The disk's name at the freeze: 1 … 254 bytes of UTF-8 without control characters. */
  readonly diskName: string;
  /** Milliseconds since 1970. */
  readonly frozenAtMs: number;
  readonly generation: number;
  /** The disk's capacity at the freeze: a multiple of 512. */
  readonly capacityBytes: number;
  readonly blockSizeBytes: number;
  /** Blocks in the image (n): all of the copy, in an incremental those that differ. */
  readonly usedBlocks: number;
  /** Null for a full image. */
  readonly base: ImageBase | null;
  /**
   * Ranges of places that are holes now and may hold blocks in the base; 0 in a full image. They
   * ascend, do not touch each other, hold no block of the image, and lie on the disk.
   */
  readonly zeroRanges: number;
  /** Blocks of the whole copy; equal to usedBlocks in a full image. */
  readonly copyBlocks: number;
}

/** What is wrong with the facts, or undefined. */
export function factsProblem(facts: ImageFacts): string | undefined {
  const { capacityBytes, blockSizeBytes, usedBlocks, frozenAtMs, generation, diskName } = facts;
  if (!isPlainUuid(facts.copyId) || !isPlainUuid(facts.diskId)) return 'ids must be UUIDs';
  if (!isBlockSize(blockSizeBytes)) return `block size ${blockSizeBytes}`;
  if (!isWithin(capacityBytes, MIN_CAPACITY_BYTES, MAX_CAPACITY_BYTES)) return 'capacity';
  if (capacityBytes % SECTOR_BYTES !== 0) return 'capacity is no multiple of 512';
  const mostBlocks = Math.min(MAX_POOL_BLOCKS, Math.ceil(capacityBytes / blockSizeBytes));
  if (!isWithin(usedBlocks, 0, mostBlocks)) return `${usedBlocks} used blocks`;
  if (!isWithin(frozenAtMs, 0, MAX_TIME_MS)) return 'time of the freeze';
  if (!isWithin(generation, 1, Number.MAX_SAFE_INTEGER)) return 'generation';
  const nameBytes = Buffer.byteLength(diskName);
  if (!diskName.isWellFormed() || /\p{Cc}/u.test(diskName)) return 'disk name has odd characters';
  if (!isWithin(nameBytes, 1, MAX_NAME_BYTES)) return `disk name of ${nameBytes} bytes`;
  return differenceProblem(facts);
}

/** The same for the facts of an increment. */
function differenceProblem(facts: ImageFacts): string | undefined {
  const { base, usedBlocks, zeroRanges, copyBlocks } = facts;
  const free = Math.ceil(facts.capacityBytes / facts.blockSizeBytes) - usedBlocks;
  const mostRanges = base === null ? 0 : Math.min(MAX_POOL_BLOCKS, free);
  if (!isWithin(zeroRanges, 0, mostRanges)) return `${zeroRanges} zero ranges`;
  const mostCopied = Math.min(MAX_POOL_BLOCKS, usedBlocks + free - zeroRanges);
  const mostBlocks = base === null ? usedBlocks : mostCopied;
  if (!isWithin(copyBlocks, usedBlocks, mostBlocks)) return `${copyBlocks} blocks of the copy`;
  if (base === null) return undefined;
  if (!isPlainUuid(base.copyId) || base.copyId === facts.copyId) return 'base copy';
  if (!isWithin(base.generation, 1, facts.generation - 1)) return 'generation of the base';
  return undefined;
}

/** A UUID in the one spelling that the header's text repeats. */
function isPlainUuid(text: string): boolean {
  return isUuid(text) && text === text.toLowerCase();
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isSafeInteger(value) && value >= least && value <= most;
}

/** One structure of an image and where it lies. */
export type ImageRegion =
  | { readonly kind: 'header'; readonly offset: number; readonly length: number }
  | {
      readonly kind: 'table';
      readonly page: number;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly kind: 'zeros';
      readonly page: number;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly kind: 'segment';
      readonly segment: number;
      readonly headBytes: number;
      readonly offset: number;
      readonly length: number;
    }
  | { readonly kind: 'trailer'; readonly offset: number; readonly length: number };

export class ImageLayout {
  readonly usedBlocks: number;
  readonly blockSizeBytes: number;
  /** Blocks of every segment but a short last one: 8 … 512. */
  readonly blocksPerSegment: number;
  readonly tableOffset = UNIT_BYTES;
  readonly tablePages: number;
  readonly zeroRanges: number;
  readonly zeroPagesOffset: number;
  readonly zeroPages: number;
  readonly segmentsOffset: number;
  readonly segmentCount: number;
  readonly trailerOffset: number;
  readonly imageBytes: number;
  readonly #fullSegmentBytes: number;

  /** @param size numbers that passed `factsProblem` */
  constructor(size: {
    readonly usedBlocks: number;
    readonly blockSizeBytes: number;
    readonly zeroRanges?: number;
  }) {
    const { usedBlocks, blockSizeBytes, zeroRanges = 0 } = size;
    assert(isBlockSize(blockSizeBytes), `block size ${blockSizeBytes}`);
    assert(isWithin(usedBlocks, 0, MAX_POOL_BLOCKS), `${usedBlocks} used blocks`);
    assert(isWithin(zeroRanges, 0, MAX_POOL_BLOCKS), `${zeroRanges} zero ranges`);
    this.usedBlocks = usedBlocks;
    this.blockSizeBytes = blockSizeBytes;
    this.blocksPerSegment = SEGMENT_DATA_BYTES / blockSizeBytes;
    this.tablePages = Math.ceil(usedBlocks / TABLE_PAGE_ENTRIES);
    this.segmentCount = Math.ceil(usedBlocks / this.blocksPerSegment);
    this.zeroRanges = zeroRanges;
    this.zeroPagesOffset = this.tableOffset + this.tablePages * UNIT_BYTES;
    this.zeroPages = Math.ceil(zeroRanges / ZERO_PAGE_RANGES);
    this.segmentsOffset = this.zeroPagesOffset + this.zeroPages * UNIT_BYTES;
    this.#fullSegmentBytes = headBytesFor(this.blocksPerSegment) + SEGMENT_DATA_BYTES;
    const last = this.segmentCount - 1;
    this.trailerOffset =
      last < 0 ? this.segmentsOffset : this.segmentOffset(last) + this.segmentBytes(last);
    this.imageBytes = this.trailerOffset + UNIT_BYTES;
    assert(Number.isSafeInteger(this.imageBytes), 'image of 2^53 bytes');
  }

  /** Entries on a table page: 510, fewer on the last. */
  pageEntries(page: number): number {
    assert(isWithin(page, 0, this.tablePages - 1), `table page ${page}`);
    return Math.min(TABLE_PAGE_ENTRIES, this.usedBlocks - page * TABLE_PAGE_ENTRIES);
  }

  pageOffset(page: number): number {
    assert(isWithin(page, 0, this.tablePages), `table page ${page}`);
    return this.tableOffset + page * UNIT_BYTES;
  }

  /** Ranges on a page of zero ranges: 255, fewer on the last. */
  zeroPageRanges(page: number): number {
    assert(isWithin(page, 0, this.zeroPages - 1), `page ${page} of zero ranges`);
    return Math.min(ZERO_PAGE_RANGES, this.zeroRanges - page * ZERO_PAGE_RANGES);
  }

  zeroPageOffset(page: number): number {
    assert(isWithin(page, 0, this.zeroPages), `page ${page} of zero ranges`);
    return this.zeroPagesOffset + page * UNIT_BYTES;
  }

  segmentOffset(segment: number): number {
    assert(isWithin(segment, 0, this.segmentCount - 1), `segment ${segment}`);
    return this.segmentsOffset + segment * this.#fullSegmentBytes;
  }

  /** First X of a segment. */
  segmentFirstBlock(segment: number): number {
    return segment * this.blocksPerSegment;
  }

  segmentBlocks(segment: number): number {
    assert(isWithin(segment, 0, this.segmentCount - 1), `segment ${segment}`);
    return Math.min(this.blocksPerSegment, this.usedBlocks - this.segmentFirstBlock(segment));
  }

  /** Header, entries and padding of a segment: where its blocks begin, from its start. */
  segmentHeadBytes(segment: number): number {
    return headBytesFor(this.segmentBlocks(segment));
  }

  /** Ends of a segment's head and of each of its blocks, from its beginning. */
  segmentCuts(segment: number): number[] {
    const headBytes = this.segmentHeadBytes(segment);
    const ends = { length: this.segmentBlocks(segment) + 1 };
    return Array.from(ends, (_, block) => headBytes + block * this.blockSizeBytes);
  }

  segmentBytes(segment: number): number {
    const blocks = this.segmentBlocks(segment);
    return headBytesFor(blocks) + blocks * this.blockSizeBytes;
  }

  /** Length of the longest segment, 0 if there is none: what a reader has to buffer. */
  get longestSegmentBytes(): number {
    return this.segmentCount === 0 ? 0 : this.segmentBytes(0);
  }

  /** The structure that holds the byte at `offset`. */
  regionAt(offset: number): ImageRegion {
    assert(isWithin(offset, 0, this.imageBytes - 1), `image offset ${offset}`);
    if (offset < this.tableOffset) return { kind: 'header', offset: 0, length: UNIT_BYTES };
    if (offset >= this.trailerOffset) {
      return { kind: 'trailer', offset: this.trailerOffset, length: UNIT_BYTES };
    }
    if (offset < this.zeroPagesOffset) {
      const page = Math.floor((offset - this.tableOffset) / UNIT_BYTES);
      return { kind: 'table', page, offset: this.pageOffset(page), length: UNIT_BYTES };
    }
    if (offset < this.segmentsOffset) {
      const page = Math.floor((offset - this.zeroPagesOffset) / UNIT_BYTES);
      return { kind: 'zeros', page, offset: this.zeroPageOffset(page), length: UNIT_BYTES };
    }
    const segment = Math.floor((offset - this.segmentsOffset) / this.#fullSegmentBytes);
    return {
      kind: 'segment',
      segment,
      headBytes: this.segmentHeadBytes(segment),
      offset: this.segmentOffset(segment),
      length: this.segmentBytes(segment),
    };
  }
}

/** Bytes of a segment's header and entries without the padding. */
export function bareHeadBytes(blocks: number): number {
  return SEGMENT_HEADER_BYTES + blocks * SEGMENT_ENTRY_BYTES;
}

function headBytesFor(blocks: number): number {
  return roundUp(bareHeadBytes(blocks), UNIT_BYTES);
}

/** One image's facts with all that follows from them; the encoders and decoders take it. */
export class ImageFrame {
  readonly facts: ImageFacts;
  readonly layout: ImageLayout;
  /** UUIDv8 of SHA-256(copy UUID, format version, options). */
  readonly imageId: string;
  readonly imageIdBytes: Buffer;
  readonly copyIdBytes: Buffer;
  readonly diskIdBytes: Buffer;
  /** Feature bits that a reader must know. */
  readonly incompatible: bigint;
  /** The 64 bytes that the header repeats and the image UUID covers. */
  readonly optionsBytes: Buffer;
  /** Blocks of the disk: every A is below. */
  readonly diskBlocks: number;

  /** @param facts that passed `factsProblem` */
  constructor(facts: ImageFacts) {
    const problem = factsProblem(facts);
    assert(problem === undefined, `image facts: ${String(problem)}`);
    this.facts = facts;
    this.layout = new ImageLayout(facts);
    this.copyIdBytes = parseUuid(facts.copyId);
    this.diskIdBytes = parseUuid(facts.diskId);
    this.incompatible = facts.base === null ? 0n : INCREMENTAL_FEATURE;
    this.optionsBytes = encodeOptions(facts.base);
    this.imageId = imageIdOf(this.copyIdBytes, this.optionsBytes);
    this.imageIdBytes = parseUuid(this.imageId);
    this.diskBlocks = Math.ceil(facts.capacityBytes / facts.blockSizeBytes);
  }
}

function imageIdOf(copyIdBytes: Buffer, optionsBytes: Buffer): string {
  const version = Buffer.alloc(4);
  version.writeUInt32LE(FORMAT_VERSION);
  return uuidv8(sha256(Buffer.concat([copyIdBytes, version, optionsBytes])));
}

function encodeOptions(base: ImageBase | null): Buffer {
  const bytes = Buffer.alloc(OPTIONS_BYTES);
  if (base === null) return bytes;
  parseUuid(base.copyId).copy(bytes, optionsAt.baseCopyId);
  writeU64(bytes, base.generation, optionsAt.baseGeneration);
  return bytes;
}

/** The base that options name, or undefined if its generation is no number (2^53 or above). */
export function decodeBase(options: Buffer): ImageBase | undefined {
  const generation = readU64(options, optionsAt.baseGeneration);
  if (generation === undefined) return undefined;
  const id = options.subarray(optionsAt.baseCopyId, optionsAt.baseGeneration);
  return { copyId: formatUuid(id), generation };
}
