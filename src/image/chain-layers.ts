/**
 * A chain read image by image, the newest first, where going to and fro between images is dear: on
 * tape each image is read from its beginning to its end. What is given is what a merge gives
 * (chain-merge.ts), in another order.
 *
 * How: of each image those blocks are given of whose places no newer one says anything. An image
 * says something of the places of its blocks, of its zero ranges, and of all that is lost of it.
 *
 * Invariants:
 *  1. A block is given only if no newer image says anything of its place, and it is known of each
 *     that it does not: never an older block in place of a lost newer one.
 *  2. A place that a newer image decides about is not told as lost of an older one.
 *  3. Memory: two segments, and 16 bytes for each run of places that newer images decide about.
 *
 * Rules: docs/format/image.md, "Chains".
 */
import { assert } from '../base/assert.ts';
import type { Member } from './chain-member.ts';
import type { ChainReader } from './chain.ts';
import { problemError } from './damage.ts';
import type { ImageProblem, LostRange } from './damage.ts';
import { UNIT_BYTES } from './format.ts';
import { PlaceRuns } from './place-runs.ts';
import type { PassOptions } from './reader.ts';
import type { ImageSegment } from './segment-check.ts';
import { zeroPages } from './zero-pages.ts';

/**
 * The segments of all images, numbered from the first of the newest one on; `segment` skips those
 * of which nothing is given. Each is valid until the next pull.
 *
 * @param options `from`: the first that is given; what precedes it is read for its places only
 * @throws with `fail`: IMAGE_TRUNCATED, IMAGE_INVALID, IMAGE_DAMAGED (details.damaged, copyId);
 *   with both: errors of the sources
 */
export async function* layeredSegments(
  chain: ChainReader,
  options: PassOptions,
): AsyncGenerator<ImageSegment, void, undefined> {
  const { from = 0 } = options;
  const layers = new Layers(chain, options);
  let number = 0;
  for (const member of chain.members.toReversed()) {
    yield* layers.segments(member, number, from);
    number += member.reader.layout.segmentCount;
  }
  if (from === 0) layers.checkCount();
}

class Layers {
  readonly #chain: ChainReader;
  readonly #options: PassOptions;
  /** Places that newer images decide about. */
  #decided = new PlaceRuns();
  #given = 0;
  #hasLost = false;

  constructor(chain: ChainReader, options: PassOptions) {
    this.#chain = chain;
    this.#options = options;
  }

  /** @param number of the member's first segment */
  async *segments(
    member: Member,
    number: number,
    from: number,
  ): AsyncGenerator<ImageSegment, void, undefined> {
    const { reader } = member;
    const isOldest = member === this.#chain.members[0];
    const blocks = new PlaceRuns();
    const lost: LostRange[] = [];
    const segments = reader.segments({
      ...this.#options,
      from: isOldest ? Math.min(Math.max(0, from - number), reader.layout.segmentCount) : 0,
      onDamage: 'skip',
      onProblem: (problem) => {
        lost.push(...problem.lost);
        this.#report(member, problem);
      },
    });
    for await (const segment of segments) {
      if (!isOldest) addBlocks(blocks, segment);
      const at = number + segment.segment;
      if (at < from) continue;
      const given = this.#undecided(member, segment);
      this.#given += given.sourceBlocks.length - given.bad.size;
      if (given.sourceBlocks.length > given.bad.size) yield { ...given, segment: at };
    }
    if (isOldest) return;
    this.#decided = this.#decided
      .with(blocks)
      .with(await zerosOf(member))
      .with(placesOf(lost, reader.layout.blockSizeBytes));
  }

  /** As ChainMerge tells it: all places are known, and there are more or fewer. */
  checkCount(): void {
    const { copyBlocks, copyId } = this.#chain.facts;
    if (this.#hasLost || this.#given === copyBlocks) return;
    const message = `the chain does not give the ${copyBlocks} blocks of the copy`;
    this.#tell(
      { code: 'IMAGE_INVALID', message, imageOffset: 0, length: UNIT_BYTES, lost: [] },
      copyId,
    );
  }

  /** The segment with only those good blocks that no newer image decides about. */
  #undecided(member: Member, segment: ImageSegment): ImageSegment {
    const { sourceBlocks, checksums, data } = segment;
    const damaged = segment.damaged.flatMap((range) => this.#stillLost(member, range));
    const kept: number[] = [];
    sourceBlocks.forEach((place, index) => {
      const isOut = segment.bad.has(index) || !(place < member.limit) || this.#decided.has(place);
      if (!isOut) kept.push(index);
    });
    if (kept.length === sourceBlocks.length) return { ...segment, damaged };
    const size = member.reader.layout.blockSizeBytes;
    // In place: what is moved comes from behind.
    kept.forEach((from, to) => {
      data.copyWithin(to * size, from * size, (from + 1) * size);
    });
    return {
      ...segment,
      sourceBlocks: Float64Array.from(kept, (index) => sourceBlocks[index] ?? NaN),
      checksums: Uint32Array.from(kept, (index) => checksums[index] ?? 0),
      data: data.subarray(0, kept.length * size),
      bad: new Set(),
      damaged,
    };
  }

  /** A problem that costs only what newer images decide about is none. */
  #report(member: Member, problem: ImageProblem): void {
    const { facts } = member.reader;
    const lost = problem.lost.flatMap((range) => this.#stillLost(member, range));
    if (lost.length === 0 && problem.lost.length > 0) return;
    this.#hasLost ||= lost.length > 0;
    this.#tell({ ...problem, lost }, facts.copyId);
  }

  #tell(problem: ImageProblem, copyId: string): void {
    const told = { ...problem, message: `image of copy ${copyId}: ${problem.message}`, copyId };
    if (this.#options.onDamage === 'fail') throw problemError(told);
    this.#options.onProblem?.(told);
  }

  #stillLost({ limit, reader }: Member, range: LostRange): LostRange[] {
    const { blockSizeBytes: size } = reader.layout;
    const first = Math.floor(range.sourceOffset / size);
    const end = Math.min(limit, Math.ceil((range.sourceOffset + range.length) / size));
    return Array.from(this.#decided.without(first, end), (run) => {
      const { exact } = range;
      return { ...this.#chain.rangeOf(run.first, run.end), exact };
    });
  }
}

function addBlocks(blocks: PlaceRuns, { sourceBlocks, bad }: ImageSegment): void {
  sourceBlocks.forEach((place, index) => {
    // What is lost is told as a range.
    if (!bad.has(index)) blocks.add(place, place + 1);
  });
}

async function zerosOf({ bytes, reader }: Member): Promise<PlaceRuns> {
  const zeros = new PlaceRuns();
  for await (const page of zeroPages(bytes, reader.frame, 'skip')) {
    if (page.kind === 'bad') continue;
    for (let at = 0; at < page.ranges.length; at += 2) {
      const [first = 0, length = 0] = page.ranges.subarray(at, at + 2);
      zeros.add(first, first + length);
    }
  }
  return zeros;
}

function placesOf(lost: readonly LostRange[], size: number): PlaceRuns {
  const places = new PlaceRuns();
  const sorted = lost.toSorted((a, b) => a.sourceOffset - b.sourceOffset);
  for (const { sourceOffset, length } of sorted) {
    assert(length >= 0, 'a lost range');
    places.add(Math.floor(sourceOffset / size), Math.ceil((sourceOffset + length) / size));
  }
  return places;
}
