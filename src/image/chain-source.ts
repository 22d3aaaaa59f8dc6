/**
 * A chain as the source of the full image of its newest copy: the synthetic full image.
 *
 * How: a merge walks forward and gives the blocks of one segment at a time; the last few segments
 * are remembered. To go back, it begins anew. A writer goes back once: from table to segments.
 *
 * Invariants:
 *  1. Nothing damaged is given: a block that does not match its checksum ends the reading.
 *  2. Memory: the chain's and the places of a few segments; it is meant for one reader.
 */
import { assert } from '../base/assert.ts';
import { Mutex } from '../base/mutex.ts';
import { readMerged } from './chain-blocks.ts';
import type { ChainReader } from './chain.ts';
import type { ChainMerge, MergedBlocks, MergeOptions } from './chain-merge.ts';
import { problemError } from './damage.ts';
import type { ImageFacts } from './format.ts';
import type { ImageSource } from './writer.ts';

/** Segments that are remembered: a writer has two in work. */
const SEGMENTS_KEPT = 4;

/**
 * What an ImageWriter makes the synthetic full image from: the very bytes of a full image of the
 * newest copy. Use one for each writer.
 *
 * Its calls throw IMAGE_DAMAGED, IMAGE_INVALID or IMAGE_TRUNCATED (details: copyId, damaged) at the
 * first damage that is met, CANCELLED or its reason if the signal fires. Cost: each reading from
 * the start walks over all heads.
 */
export function chainSource(chain: ChainReader, signal?: AbortSignal): ImageSource {
  return new ChainSource(chain, { onDamage: 'fail', ...(signal === undefined ? {} : { signal }) });
}

class ChainSource implements ImageSource {
  readonly facts: ImageFacts;
  readonly #chain: ChainReader;
  readonly #options: MergeOptions;
  readonly #walking = new Mutex();
  #merge: ChainMerge;
  /** The next segment that the merge gives. */
  #next = 0;
  readonly #kept = new Map<number, MergedBlocks>();

  constructor(chain: ChainReader, options: MergeOptions) {
    this.facts = chain.facts;
    this.#chain = chain;
    this.#options = options;
    this.#merge = chain.merge(options);
  }

  async sourceBlocks(first: number, count: number): Promise<Float64Array> {
    const places = new Float64Array(count);
    await this.#forEach(first, count, (blocks, from, end, at) => {
      places.set(blocks.places.subarray(from, end), at);
      return Promise.resolve();
    });
    return places;
  }

  zeroRangesAt(): Promise<Float64Array> {
    return Promise.resolve(new Float64Array());
  }

  async readBlocks(first: number, count: number, into: Uint8Array): Promise<void> {
    const { members, layout } = this.#chain;
    await this.#forEach(first, count, async (blocks, from, end, at) => {
      const part = partOf(blocks, from, end);
      const size = layout.blockSizeBytes;
      const bytes = into.subarray(at * size, (at + end - from) * size);
      const bad = await readMerged(members, part, bytes, 'fail');
      const [lowest] = [...bad].sort((a, b) => a - b);
      if (lowest !== undefined) throw this.#damaged(part, lowest);
    });
  }

  async knownChecksums(segment: number): Promise<Uint32Array> {
    return (await this.#segment(segment)).checksums;
  }

  /** They come from the images and are never new. */
  keepChecksums(): Promise<void> {
    return Promise.resolve();
  }

  /** Cuts X = `first` … at segments; `at` counts from `first`. */
  async #forEach(
    first: number,
    count: number,
    step: (blocks: MergedBlocks, from: number, end: number, at: number) => Promise<void>,
  ): Promise<void> {
    const { layout } = this.#chain;
    for (let done = 0; done < count;) {
      const segment = Math.floor((first + done) / layout.blocksPerSegment);
      const from = first + done - layout.segmentFirstBlock(segment);
      const end = Math.min(layout.segmentBlocks(segment), from + count - done);
      await step(await this.#segment(segment), from, end, done);
      done += end - from;
    }
  }

  async #segment(segment: number): Promise<MergedBlocks> {
    return this.#walking.run(async () => {
      const kept = this.#kept.get(segment);
      if (kept !== undefined) return kept;
      if (segment < this.#next) this.#restart();
      try {
        for (;;) {
          const blocks = await this.#walk();
          if (this.#next > segment) return blocks;
        }
      } catch (error) {
        this.#restart(); // where the merge stands now is not known
        throw error;
      }
    });
  }

  #restart(): void {
    this.#merge = this.#chain.merge(this.#options);
    this.#next = 0;
    this.#kept.clear();
  }

  /** The next segment; behind the last one the chain is compared with what it says of itself. */
  async #walk(): Promise<MergedBlocks> {
    const { layout } = this.#chain;
    const segment = this.#next;
    const count = layout.segmentBlocks(segment);
    const blocks = await this.#merge.next(count);
    if (segment === layout.segmentCount - 1) await this.#merge.next(1);
    assert(blocks.places.length === count, `blocks of segment ${segment} of a chain`);
    this.#next += 1;
    this.#kept.set(segment, blocks);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > SEGMENTS_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    return blocks;
  }

  #damaged(blocks: MergedBlocks, index: number): Error {
    const reader = this.#chain.members[blocks.members[index] ?? -1]?.reader;
    assert(reader !== undefined, 'the image of a block');
    const { layout } = reader;
    const segment = Math.floor((blocks.memberBlocks[index] ?? 0) / layout.blocksPerSegment);
    const place = blocks.places[index] ?? 0;
    const { copyId } = reader.facts;
    return problemError({
      code: 'IMAGE_DAMAGED',
      message: `image of copy ${copyId}: a block of segment ${segment} cannot be proven`,
      imageOffset: layout.segmentOffset(segment),
      length: layout.segmentBytes(segment),
      lost: [this.#chain.rangeOf(place, place + 1)],
      copyId,
    });
  }
}

function partOf(blocks: MergedBlocks, from: number, end: number): MergedBlocks {
  return {
    firstBlock: blocks.firstBlock + from,
    places: blocks.places.subarray(from, end),
    checksums: blocks.checksums.subarray(from, end),
    members: blocks.members.subarray(from, end),
    memberBlocks: blocks.memberBlocks.subarray(from, end),
    lost: new Set(),
  };
}
