/**
 * Walks over the blocks of one image of a chain in ascending places: heads only, no data.
 *
 * How: the head of one segment at a time; where a head proves nothing, its blocks are lost, at the
 * places that the table tells. Blocks of unknown places make a gap: they lay somewhere between the
 * known ones around them, so nobody knows what the image says of the places in there.
 *
 * Invariants:
 *  1. Places ascend; a place that does not (a crafted image) counts as unknown.
 *  2. Each block of the image is met at its place, or the gap it lay in is told, never neither.
 *  3. Memory: one head, one page of the table, one page of zero ranges. Work is bounded by what is
 *     there, not by what the image claims.
 *
 * Rules: docs/format/image.md, "Chains".
 */
import { isZero } from '../base/bytes.ts';
import { Fault } from './damage.ts';
import type { ImageProblem, OnDamage } from './damage.ts';
import { TABLE_PAGE_ENTRIES } from './format.ts';
import { readParts } from './image-bytes.ts';
import type { ImageBytes } from './image-bytes.ts';
import type { ImageReader } from './reader.ts';
import { decodeSegmentHead, repairSegmentHead } from './segment.ts';
import type { SegmentHead } from './segment.ts';
import { throwIfStopped } from './stop.ts';
import { placesProblem } from './table.ts';
import { TablePages } from './table-pages.ts';
import { chainDigest, emptyDigest } from './trailer.ts';
import { badPageProblem, digestZeroPages, ZeroCursor } from './zero-pages.ts';
import type { Places } from './zero-pages.ts';

/** One image of a chain. */
export interface Member {
  readonly bytes: ImageBytes;
  readonly reader: ImageReader;
  /** Places from here on are cut off by a newer image of a smaller disk. */
  readonly limit: number;
}

/** Blocks X = `first` … of one segment, or of one page of the table where segments are missing. */
interface Batch {
  readonly first: number;
  /** NaN where not known. */
  readonly places: Float64Array;
  /** Undefined if the blocks are lost. */
  readonly checksums: Uint32Array | undefined;
}

const everywhere: Places = { first: 0, end: Infinity };

export class MemberCursor {
  readonly member: Member;
  readonly zeros: ZeroCursor;
  /** A of the block it stands at: -1 before the first, Infinity behind the last. */
  place = -1;
  /** Where blocks of unknown places may lie, between the last block and this one. */
  gap: Places | undefined;
  readonly #onDamage: OnDamage;
  readonly #report: (problem: ImageProblem) => void;
  readonly #table: TablePages;
  readonly #head: Buffer;
  #batch: Batch = { first: 0, places: new Float64Array(), checksums: undefined };
  #index = -1;
  #beforeHead = -1;
  #isCut = false;
  #digest: Buffer | undefined = emptyDigest();

  /** @param report told of what is wrong, without what it costs; throws to end the walk */
  constructor(member: Member, onDamage: OnDamage, report: (problem: ImageProblem) => void) {
    const { bytes, reader } = member;
    this.member = member;
    this.#onDamage = onDamage;
    this.#report = report;
    this.zeros = new ZeroCursor(bytes, reader.frame, onDamage);
    this.#table = new TablePages(bytes, reader.frame, onDamage, report);
    const { layout } = reader;
    this.#head = Buffer.alloc(layout.segmentCount === 0 ? 0 : layout.segmentHeadBytes(0));
  }

  /** X of the block it stands at. */
  get block(): number {
    return this.#batch.first + this.#index;
  }

  /** CRC-32 of the block, or undefined if it is lost. */
  get checksum(): number | undefined {
    return this.#batch.checksums?.[this.#index];
  }

  /** Checks the end and the zero ranges, and goes to the first block. */
  async start(signal?: AbortSignal): Promise<void> {
    const { bytes, reader } = this.member;
    for (const problem of await reader.problemsBefore(this.#onDamage)) this.#report(problem);
    this.#digest = await digestZeroPages(bytes, reader.frame, this.#onDamage, (page) => {
      throwIfStopped(signal);
      if (page.kind === 'bad') this.#report(badPageProblem(page, reader.frame));
    });
    await this.advance();
  }

  /** Goes to the next block if its head is at hand: then true. */
  tryAdvance(): boolean {
    const next = this.#batch.places[this.#index + 1];
    if (next === undefined || !(next > this.place) || next >= this.member.limit) return false;
    this.#index += 1;
    this.place = next;
    if (this.gap !== everywhere) this.gap = undefined;
    return true;
  }

  /** Goes to the next block of a known place below the limit. Cost: the heads that it passes. */
  async advance(): Promise<void> {
    if (this.gap !== everywhere) this.gap = undefined;
    const { frame } = this.member.reader;
    const before = this.place;
    let firstUnknown: number | undefined;
    let lastUnknown = 0;
    for (;;) {
      if (this.#index + 1 >= this.#batch.places.length && !(await this.#load())) {
        this.place = Infinity;
        break;
      }
      this.#index += 1;
      this.place = this.#batch.places[this.#index] ?? NaN;
      if (this.place > before) break;
      firstUnknown ??= this.block;
      lastUnknown = this.#isCut ? frame.layout.usedBlocks - 1 : this.block;
    }
    if (firstUnknown !== undefined && this.gap !== everywhere) {
      const first = Math.max(before + 1, firstUnknown);
      const highest = frame.diskBlocks - (frame.layout.usedBlocks - 1 - lastUnknown);
      const end = Math.min(this.place, highest);
      this.gap = first < end ? { first, end } : everywhere; // known places that lie
    }
    if (this.place >= this.member.limit) this.place = Infinity;
  }

  /** Checks the end if that is last; compares the digest if all heads were read and good. */
  async finish(): Promise<void> {
    for (const problem of await this.member.reader.problemsAfter(this.#onDamage)) {
      this.#report(problem);
    }
    const isRead = this.#nextBlock === this.member.reader.layout.usedBlocks;
    if (!isRead || this.#digest === undefined) return;
    const problem = await this.member.reader.digestProblem(this.#digest, this.#onDamage);
    if (problem !== undefined) this.#report(problem);
  }

  get #nextBlock(): number {
    return this.#batch.first + this.#batch.places.length;
  }

  /** The next batch; false if there is none. */
  async #load(): Promise<boolean> {
    const { bytes, reader } = this.member;
    const { layout } = reader;
    const first = this.#nextBlock;
    this.#index = -1;
    this.#batch = { first, places: new Float64Array(), checksums: undefined };
    if (first >= layout.usedBlocks || this.#isCut) return false;
    const segment = Math.floor(first / layout.blocksPerSegment);
    if (layout.segmentOffset(segment) >= bytes.sizeBytes) {
      this.#batch = { first, places: await this.#missing(first), checksums: undefined };
      return true;
    }
    const end = first + layout.segmentBlocks(segment);
    const { head, table } = await this.#loadHead(segment, first, end);
    this.#digest =
      this.#digest && head && chainDigest(reader.frame, this.#digest, segment, head.bare);
    if (head !== undefined) {
      this.#beforeHead = head.sourceBlocks.at(-1) ?? this.#beforeHead;
      this.#batch = { first, places: head.sourceBlocks, checksums: head.checksums };
      return true;
    }
    const places = table ?? (await this.#table.places(first, end));
    this.#batch = { first, places, checksums: undefined };
    return true;
  }

  /** Places of blocks behind the end of a cut image, as far as its table is there. */
  async #missing(first: number): Promise<Float64Array> {
    const { bytes, reader } = this.member;
    const { layout } = reader;
    const page = Math.floor(first / TABLE_PAGE_ENTRIES);
    this.#digest = undefined;
    if (layout.pageOffset(page) >= bytes.sizeBytes) {
      this.#isCut = true; // this one stands for all that follow
      return Float64Array.of(NaN);
    }
    const end = page * TABLE_PAGE_ENTRIES + layout.pageEntries(page);
    return this.#table.places(first, end);
  }

  /** The proven head of a segment, and the places of X = `first` … by the table if asked for. */
  async #loadHead(
    segment: number,
    first: number,
    end: number,
  ): Promise<{ readonly head?: SegmentHead; readonly table?: Float64Array }> {
    const { bytes, reader } = this.member;
    const { frame, layout } = reader;
    const imageOffset = layout.segmentOffset(segment);
    const length = layout.segmentBytes(segment);
    const stored = this.#head.subarray(0, layout.segmentHeadBytes(segment));
    await readParts(bytes, imageOffset, stored, [stored.length], this.#onDamage);
    const decoded = decodeSegmentHead(frame, segment, stored);
    const report = (code: Fault['code'], message: string): void => {
      this.#report({ code, message, imageOffset, length, lost: [] });
    };
    let head = decoded instanceof Fault ? undefined : decoded;
    let table: Float64Array | undefined;
    if (decoded instanceof Fault) {
      report(decoded.code, decoded.message);
      table = await this.#table.places(first, end);
      head = await this.#repair(segment, table);
      if (head === undefined) return { table };
    }
    if (head === undefined) return {};
    const problem = placesProblem(frame, first, head.sourceBlocks, this.#beforeHead);
    if (problem !== undefined) {
      report('IMAGE_INVALID', `segment ${segment} makes no sense: ${problem}`);
      return table === undefined ? {} : { table };
    }
    if (!isZero(stored.subarray(head.bare.length))) {
      report('IMAGE_DAMAGED', `the padding of segment ${segment} is damaged; no data is lost`);
    }
    return { head };
  }

  /** Cost: reads the whole segment. */
  async #repair(segment: number, table: Float64Array): Promise<SegmentHead | undefined> {
    const { bytes, reader } = this.member;
    const { layout } = reader;
    const whole = Buffer.allocUnsafeSlow(layout.segmentBytes(segment));
    const cuts = layout.segmentCuts(segment);
    await readParts(bytes, layout.segmentOffset(segment), whole, cuts, this.#onDamage);
    return repairSegmentHead(reader.frame, segment, whole, table);
  }
}
