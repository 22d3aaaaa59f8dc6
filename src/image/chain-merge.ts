/**
 * Merges the images of a chain into the blocks of its newest copy, in ascending places: for each
 * place the newest image that says something decides.
 *
 * How: one cursor for each image stands at its next block; the lowest place among them is next, and
 * of equal ones the newest. Newer images that have a zero range there make it a hole; newer images
 * of which it is not known what they say there make it lost. No data is read.
 *
 * Invariants:
 *  1. A block is given only if no newer image says anything of its place, and it is known of each
 *     that it does not: never an older block in place of a lost newer one.
 *  2. What is withheld for that lies in a lost range that was told.
 *  3. Memory: for each image one cursor; nothing grows with the number of blocks.
 *
 * Rules: docs/format/image.md, "Chains".
 */
import { assert } from '../base/assert.ts';
import { MemberCursor } from './chain-member.ts';
import type { Member } from './chain-member.ts';
import { addRange, problemError, rangeOf } from './damage.ts';
import type { ImageProblem, LostRange, OnDamage, OnProblem } from './damage.ts';
import type { ImageFrame } from './format.ts';
import { UNIT_BYTES } from './format.ts';
import { throwIfStopped } from './stop.ts';
import type { Places } from './zero-pages.ts';

/** Blocks of the newest copy in ascending places, and where their bytes are. */
export interface MergedBlocks {
  /** X of the first. */
  readonly firstBlock: number;
  readonly places: Float64Array;
  /** 0 where lost. */
  readonly checksums: Uint32Array;
  /** Index of the image that holds it. */
  readonly members: Uint32Array;
  /** X in that image. */
  readonly memberBlocks: Float64Array;
  /** Indexes of blocks that nothing proves. */
  readonly lost: ReadonlySet<number>;
}

export interface MergeOptions {
  readonly onDamage: OnDamage;
  readonly onProblem?: OnProblem;
  readonly signal?: AbortSignal;
}

/** What the newer images say of a place. */
type Verdict = 'given' | 'hole' | 'withheld';

export class ChainMerge {
  readonly #frame: ImageFrame;
  readonly #cursors: readonly MemberCursor[];
  readonly #options: MergeOptions;
  readonly #gaps: (Places | undefined)[];
  #withheld: LostRange[] = [];
  #isStarted = false;
  #hasUnknown = false;
  #hasToldCount = false;
  #count = 0;

  /** @param frame of the synthetic full image */
  constructor(members: readonly Member[], frame: ImageFrame, options: MergeOptions) {
    this.#frame = frame;
    this.#options = options;
    this.#gaps = members.map(() => undefined);
    this.#cursors = members.map((member, index) => {
      const report = (problem: ImageProblem): void => {
        this.report(problem, index);
      };
      return new MemberCursor(member, options.onDamage, report);
    });
  }

  get count(): number {
    return this.#count;
  }

  /** Tells a problem of the image with this index, or throws it. */
  report(problem: ImageProblem, index: number): void {
    const reader = this.#cursors[index]?.member.reader;
    assert(reader !== undefined, `image ${index} of a chain`);
    const { copyId } = reader.facts;
    const told = { ...problem, message: `image of copy ${copyId}: ${problem.message}`, copyId };
    if (this.#options.onDamage === 'fail') throw problemError(told);
    this.#options.onProblem?.(told);
  }

  /**
   * The next blocks, `most` of them unless the chain ends before.
   *
   * Cost: reads the heads that it passes.
   * @throws with `fail` IMAGE_DAMAGED, IMAGE_INVALID, IMAGE_TRUNCATED; CANCELLED; errors of the
   *   source
   */
  async next(most: number): Promise<MergedBlocks> {
    if (!this.#isStarted) await this.#start();
    const batch = new Batch(this.#count, most);
    while (batch.length < most) {
      const newest = this.#nearest();
      const cursor = this.#cursors[newest];
      if (cursor === undefined || cursor.place === Infinity) break;
      const { place } = cursor;
      if (this.#mustSeek(newest, place)) await this.#seek(newest, place);
      const verdict = this.#verdict(newest, place);
      if (verdict === 'given') batch.add(place, cursor.checksum, newest, cursor.block);
      else if (verdict === 'withheld') {
        this.#hasUnknown = true;
        addRange(this.#withheld, rangeOf(this.#frame, place, place + 1, false));
      }
      if (!this.#tryPass(place)) await this.#pass(place);
    }
    this.#count += batch.length;
    this.#tellWithheld();
    if (this.#count > this.#frame.facts.copyBlocks) this.#tellCount();
    if (batch.length < most) await this.#finish();
    return batch.blocks();
  }

  async #start(): Promise<void> {
    this.#isStarted = true;
    for (const cursor of this.#cursors) await cursor.start(this.#options.signal);
    this.#cursors.forEach((_, index) => {
      this.#tellGap(index);
    });
  }

  /** The cursor at the lowest place, the newest of them; -1 if all are at their end. */
  #nearest(): number {
    let nearest = -1;
    let lowest = Infinity;
    for (let index = 0; index < this.#cursors.length; index += 1) {
      const place = this.#cursors[index]?.place ?? Infinity;
      if (place > lowest || place === Infinity) continue;
      lowest = place;
      nearest = index;
    }
    return nearest;
  }

  #mustSeek(index: number, place: number): boolean {
    for (let newer = index + 1; newer < this.#cursors.length; newer += 1) {
      if ((this.#cursors[newer]?.zeros.end ?? Infinity) <= place) return true;
    }
    return false;
  }

  async #seek(index: number, place: number): Promise<void> {
    for (const cursor of this.#cursors.slice(index + 1)) await cursor.zeros.seek(place);
  }

  /** What the images newer than this one say of a place where they have no block. */
  #verdict(index: number, place: number): Verdict {
    for (let newer = this.#cursors.length - 1; newer > index; newer -= 1) {
      const cursor = this.#cursors[newer];
      if (cursor === undefined) continue;
      const { gap, zeros } = cursor;
      const isCovered = place >= zeros.first;
      if (isCovered && zeros.isKnown) return 'hole';
      if (isCovered || (gap !== undefined && gap.first <= place && place < gap.end)) {
        return 'withheld';
      }
    }
    return 'given';
  }

  /** All cursors leave this place; false if some have to load for it. */
  #tryPass(place: number): boolean {
    let isDone = true;
    for (const cursor of this.#cursors) {
      if (cursor.place === place && !cursor.tryAdvance()) isDone = false;
    }
    return isDone;
  }

  async #pass(place: number): Promise<void> {
    throwIfStopped(this.#options.signal);
    for (const [index, cursor] of this.#cursors.entries()) {
      if (cursor.place !== place) continue;
      await cursor.advance();
      this.#tellGap(index);
    }
  }

  #tellGap(index: number): void {
    const cursor = this.#cursors[index];
    const gap = cursor?.gap;
    if (cursor === undefined || gap === undefined || this.#gaps[index] === gap) return;
    this.#gaps[index] = gap;
    this.#hasUnknown = true;
    const end = Math.min(gap.end, cursor.member.limit, this.#frame.diskBlocks);
    if (gap.first >= end) return;
    this.report(
      {
        code: 'IMAGE_DAMAGED',
        message: 'it is not known where on the disk lost blocks were',
        imageOffset: cursor.member.reader.layout.tableOffset,
        length: cursor.member.reader.layout.tablePages * UNIT_BYTES,
        lost: [rangeOf(this.#frame, gap.first, end, false)],
      },
      index,
    );
  }

  #tellWithheld(): void {
    if (this.#withheld.length === 0) return;
    const lost = this.#withheld;
    this.#withheld = [];
    const newest = this.#cursors.length - 1;
    const message = 'it is not known which places are zero or lost, so older blocks are not given';
    this.report({ code: 'IMAGE_DAMAGED', message, imageOffset: 0, length: 0, lost }, newest);
  }

  async #finish(): Promise<void> {
    for (const cursor of this.#cursors) await cursor.finish();
    if (this.#count !== this.#frame.facts.copyBlocks) this.#tellCount();
  }

  /** The chain has other blocks than its newest image says, though the places of all are known. */
  #tellCount(): void {
    if (this.#hasUnknown || this.#hasToldCount) return;
    this.#hasToldCount = true;
    const { copyBlocks } = this.#frame.facts;
    const message = `the chain does not give the ${copyBlocks} blocks of the copy`;
    const problem = { imageOffset: 0, length: UNIT_BYTES, lost: [] };
    this.report({ ...problem, code: 'IMAGE_INVALID', message }, this.#cursors.length - 1);
  }
}

/** Blocks that are being collected. */
class Batch {
  length = 0;
  readonly #first: number;
  readonly #places: Float64Array;
  readonly #checksums: Uint32Array;
  readonly #members: Uint32Array;
  readonly #memberBlocks: Float64Array;
  readonly #lost = new Set<number>();

  constructor(first: number, most: number) {
    this.#first = first;
    this.#places = new Float64Array(most);
    this.#checksums = new Uint32Array(most);
    this.#members = new Uint32Array(most);
    this.#memberBlocks = new Float64Array(most);
  }

  add(place: number, checksum: number | undefined, member: number, block: number): void {
    const at = this.length;
    this.length += 1;
    this.#places[at] = place;
    this.#checksums[at] = checksum ?? 0;
    this.#members[at] = member;
    this.#memberBlocks[at] = block;
    if (checksum === undefined) this.#lost.add(at);
  }

  blocks(): MergedBlocks {
    const { length } = this;
    return {
      firstBlock: this.#first,
      places: this.#places.subarray(0, length),
      checksums: this.#checksums.subarray(0, length),
      members: this.#members.subarray(0, length),
      memberBlocks: this.#memberBlocks.subarray(0, length),
      lost: this.#lost,
    };
  }
}
