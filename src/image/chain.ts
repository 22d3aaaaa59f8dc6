/**
 * A full image and the incremental ones on top of it, read as the image of the newest copy.
 *
 * How: the members are merged by their heads (chain-merge.ts); of each member only the blocks that
 * no newer one decides about are read and proven. The blocks of the newest copy come in segments,
 * as from an ImageReader.
 *
 * Invariants:
 *  1. Without `skip`, no segment with any damage is given, and a pass that ends is proof of all
 *     that was given: it is the copy, block by block.
 *  2. With `skip`, every lost block lies in a reported range; none is replaced by an older one.
 *  3. Memory: two segments (16.8 MiB), and for each member a head, a page of its table and one of
 *     its zero ranges.
 *
 * Rules: docs/format/image.md, "Chains".
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { readMerged } from './chain-blocks.ts';
import type { Member } from './chain-member.ts';
import { ChainMerge } from './chain-merge.ts';
import type { MergedBlocks, MergeOptions } from './chain-merge.ts';
import { problemError, rangeOf } from './damage.ts';
import type { ImageProblem, LostRange } from './damage.ts';
import { ImageFrame } from './format.ts';
import type { ImageFacts, ImageLayout } from './format.ts';
import type { ImageBytes } from './image-bytes.ts';
import { readAhead } from './read-ahead.ts';
import type { Slice } from './read-ahead.ts';
import { ImageReader } from './reader.ts';
import type { PassOptions } from './reader.ts';
import type { ImageSegment } from './segment-check.ts';
import { throwIfStopped } from './stop.ts';

/**
 * Opens the images of a chain: the full one first, then each one after its base, the newest last.
 * One full image is a chain, too. Cost: reads the headers.
 *
 * @throws BASE_MISSING (details: copyId, baseCopyId, baseGeneration) if the first image is not full
 *   or one does not follow its base; IMAGE_INVALID for a full image on top of another, other block
 *   sizes, or a header that is none; IMAGE_UNSUPPORTED, IMAGE_TRUNCATED
 */
export async function openChain(members: readonly ImageBytes[]): Promise<ChainReader> {
  assert(members.length > 0, 'a chain of no images');
  const readers: ImageReader[] = [];
  for (const bytes of members) readers.push(await ImageReader.open(bytes));
  readers.forEach((reader, index) => {
    checkLink(readers[index - 1]?.facts, reader.facts);
  });
  let limit = Infinity;
  const chain: Member[] = [];
  for (const [index, reader] of [...readers.entries()].reverse()) {
    const bytes = members[index];
    assert(bytes !== undefined, 'the bytes of an image');
    limit = Math.min(limit, reader.frame.diskBlocks);
    chain.unshift({ bytes, reader, limit });
  }
  return new ChainReader(chain);
}

/** @param base the image before, undefined for the first */
function checkLink(base: ImageFacts | undefined, facts: ImageFacts): void {
  const { copyId } = facts;
  if (facts.base === null) {
    if (base === undefined) return;
    const message = `the image of copy ${copyId} is full and cannot follow another`;
    throw new StorageError('IMAGE_INVALID', message, { copyId });
  }
  const { copyId: baseCopyId, generation: baseGeneration } = facts.base;
  if (base?.copyId !== baseCopyId || base.generation !== baseGeneration) {
    throw new StorageError(
      'BASE_MISSING',
      `the image of copy ${copyId} needs that of copy ${baseCopyId}, generation ${baseGeneration}`,
      { copyId, baseCopyId, baseGeneration },
    );
  }
  if (base.blockSizeBytes !== facts.blockSizeBytes) {
    const message = `the image of copy ${copyId} has another block size than its base`;
    throw new StorageError('IMAGE_INVALID', message, { copyId, baseCopyId });
  }
}

export class ChainReader {
  readonly members: readonly Member[];
  readonly #frame: ImageFrame;

  /** Use `openChain`. */
  constructor(members: readonly Member[]) {
    const newest = members.at(-1);
    assert(newest !== undefined, 'a chain of no images');
    const { facts } = newest.reader;
    const whole = { base: null, zeroRanges: 0, usedBlocks: facts.copyBlocks };
    this.members = members;
    this.#frame = new ImageFrame({ ...facts, ...whole });
  }

  /** Those of the full image of the newest copy. */
  get facts(): ImageFacts {
    return this.#frame.facts;
  }

  /** Of the full image of the newest copy. */
  get imageId(): string {
    return this.#frame.imageId;
  }

  /** Of the full image of the newest copy. */
  get layout(): ImageLayout {
    return this.#frame.layout;
  }

  /** @throws IMAGE_TRUNCATED, IMAGE_INVALID as ImageReader.checkComplete, for any of the images */
  async checkComplete(): Promise<void> {
    for (const { reader } of this.members) {
      const [problem] = await reader.endProblems('fail');
      if (problem !== undefined) throw problemError({ ...problem, copyId: reader.facts.copyId });
    }
  }

  /** The blocks without their bytes, from the first on. */
  merge(options: MergeOptions): ChainMerge {
    return new ChainMerge(this.members, this.#frame, options);
  }

  /**
   * The segments of the newest copy from `from` on, in order, each valid until the next pull.
   *
   * Where blocks are lost at unknown places, later segments hold what follows them: `firstBlock`
   * counts the blocks of known places. Problems name the copy whose image it is.
   *
   * Cost: reads the heads of all members, and each block of the copy once.
   * @throws with `fail`: IMAGE_TRUNCATED, IMAGE_INVALID, IMAGE_DAMAGED (details.damaged: ranges,
   *   copyId); with both: errors of the sources
   */
  async *segments(options: PassOptions): AsyncGenerator<ImageSegment, void, undefined> {
    const { from = 0 } = options;
    const { layout } = this;
    assert(from >= 0 && from <= layout.segmentCount, `first segment ${from}`);
    const most = Math.max(1, Math.min(layout.blocksPerSegment, layout.usedBlocks));
    const pass = new ChainPass(this, options, most);
    for (let segment = 0; segment < from; segment += 1) await pass.pass();
    const bytes = most * layout.blockSizeBytes;
    const allocate = (length: number): Uint8Array => Buffer.allocUnsafeSlow(length);
    let index = from;
    for await (const data of readAhead(pass.slices(bytes), 2, allocate)) {
      if (data.length === 0) return;
      yield pass.segment(index, data);
      index += 1;
    }
  }

  /** Where on the disk each of these places lies, cut at the capacity. */
  rangeOf(first: number, end: number): LostRange {
    return rangeOf(this.#frame, first, end, true);
  }
}

/** One walk over the segments of a chain. */
class ChainPass {
  readonly #chain: ChainReader;
  readonly #options: PassOptions;
  readonly #most: number;
  readonly #merge: ChainMerge;
  readonly #merging = new Mutex();
  /** Loaded and not given yet, in order. */
  readonly #loaded: { readonly blocks: MergedBlocks; bad: ReadonlySet<number> }[] = [];
  #isDone = false;

  constructor(chain: ChainReader, options: PassOptions, most: number) {
    this.#chain = chain;
    this.#options = options;
    this.#most = most;
    this.#merge = chain.merge(options);
  }

  /** Goes by one segment without reading its blocks. */
  async pass(): Promise<void> {
    throwIfStopped(this.#options.signal);
    await this.#next();
  }

  /** Reads ahead without end; an empty one is the end. */
  *slices(bytes: number): Generator<Slice, void, undefined> {
    for (;;) yield { bytes, load: (into) => this.#load(into) };
  }

  async #load(into: Uint8Array): Promise<Uint8Array> {
    throwIfStopped(this.#options.signal);
    const next = await this.#merging.run(async () => {
      const blocks = await this.#next();
      const loaded = { blocks, bad: new Set<number>() };
      if (blocks.places.length > 0) this.#loaded.push(loaded);
      return loaded;
    });
    const count = next.blocks.places.length;
    const data = into.subarray(0, count * this.#chain.layout.blockSizeBytes);
    if (count === 0) return data;
    next.bad = await readMerged(this.#chain.members, next.blocks, data, this.#options.onDamage);
    return data;
  }

  async #next(): Promise<MergedBlocks> {
    const nothing = new Float64Array();
    const none = new Uint32Array();
    if (this.#isDone) {
      const [places, memberBlocks] = [nothing, nothing];
      const lost = new Set<number>();
      return { firstBlock: 0, places, checksums: none, members: none, memberBlocks, lost };
    }
    const blocks = await this.#merge.next(this.#most);
    this.#isDone = blocks.places.length < this.#most;
    return blocks;
  }

  /** The segment whose bytes were loaded longest ago. */
  segment(segment: number, data: Uint8Array): ImageSegment {
    const loaded = this.#loaded.shift();
    assert(loaded !== undefined, 'a segment that was loaded');
    const { blocks, bad } = loaded;
    const { firstBlock, places: sourceBlocks, checksums } = blocks;
    const damaged: LostRange[] = [];
    for (const problem of this.#problems(blocks, bad)) {
      damaged.push(...problem.problem.lost);
      this.#merge.report(problem.problem, problem.member);
    }
    return { segment, firstBlock, sourceBlocks, checksums, data, bad, damaged };
  }

  /** One for each run of bad blocks of one image. */
  #problems(
    blocks: MergedBlocks,
    bad: ReadonlySet<number>,
  ): { readonly problem: ImageProblem; readonly member: number }[] {
    const found: { problem: ImageProblem; member: number }[] = [];
    const indexes = [...bad].sort((a, b) => a - b);
    for (let at = 0; at < indexes.length;) {
      const first = indexes[at] ?? 0;
      const member = blocks.members[first] ?? 0;
      const place = blocks.places[first] ?? 0;
      let count = 1;
      while (
        indexes[at + count] === first + count &&
        blocks.members[first + count] === member &&
        blocks.places[first + count] === place + count
      ) {
        count += 1;
      }
      at += count;
      found.push({ problem: this.#problem(blocks, first, count), member });
    }
    return found;
  }

  #problem(blocks: MergedBlocks, first: number, count: number): ImageProblem {
    const reader = this.#chain.members[blocks.members[first] ?? -1]?.reader;
    assert(reader !== undefined, 'the image of a block');
    const { layout } = reader;
    const segment = Math.floor((blocks.memberBlocks[first] ?? 0) / layout.blocksPerSegment);
    const place = blocks.places[first] ?? 0;
    const what = count === 1 ? '1 block' : `${count} blocks`;
    return {
      code: 'IMAGE_DAMAGED',
      message: `${what} of segment ${segment} cannot be proven`,
      imageOffset: layout.segmentOffset(segment),
      length: layout.segmentBytes(segment),
      lost: [this.#chain.rangeOf(place, place + count)],
    };
  }
}
