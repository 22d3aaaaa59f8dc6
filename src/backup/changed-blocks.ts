/**
 * The blocks of an incremental image: those of a copy that changed since its base, numbered in
 * ascending A, and the ranges that are holes now.
 *
 * How: one walk over the changes counts them, and remembers of every 1024 runs where they begin.
 * What lies between two such marks is walked again when it is asked for; the last few are kept. So
 * memory is about 24 bytes for 1024 runs, whatever the disk's size.
 *
 * Only the base's place in history is used, never its table: the answers are the same while the
 * base is still there and when only its checkpoint is left.
 *
 * Invariants:
 *  1. All answers are a function of the copy and the base: after a restart they are the same.
 *  2. Blocks and zero ranges ascend; no two zero ranges touch, and none holds a block.
 */
import { assert } from '../base/assert.ts';
import type { Checkpoint } from '../copy/checkpoints.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy, Places } from '../copy/copy.ts';
import { leaseNeighbours } from '../copy/dedicated/lease.ts';
import { type ChangedRun, changedRuns } from '../copy/difference.ts';

const RUNS_AT_ONCE = 1024;
const PIECES_KEPT = 4;

/** Where a piece of the changes begins: A, and how many blocks and ranges lie before. */
interface Mark {
  readonly from: number;
  readonly block: number;
  readonly range: number;
}

export class ChangedBlocks {
  readonly #copies: Copies;
  readonly #copy: Copy;
  readonly #base: Checkpoint;
  readonly #marks: Mark[] = [];
  readonly #pieces = new Map<number, Promise<readonly ChangedRun[]>>();
  #blocks = 0;
  #ranges = 0;

  private constructor(copies: Copies, copy: Copy, base: Checkpoint) {
    this.#copies = copies;
    this.#copy = copy;
    this.#base = base;
  }

  /**
   * Counts the changes. Cost: what changed, never capacity; gives way to others.
   * @throws COPIES_UNRELATED, NOT_FOUND; the signal's reason
   */
  static async since(
    copies: Copies,
    copy: Copy,
    base: Checkpoint,
    signal?: AbortSignal,
  ): Promise<ChangedBlocks> {
    const made = new ChangedBlocks(copies, copy, base);
    for (let from: number | undefined = 0; from !== undefined;) {
      signal?.throwIfAborted();
      from = await made.#count(from);
    }
    return made;
  }

  /** Blocks that are in the image. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Ranges of holes. */
  get ranges(): number {
    return this.#ranges;
  }

  /** A and P of blocks `first` … `first + count - 1` of the image. */
  async places(first: number, count: number): Promise<Places> {
    assert(first >= 0 && first + count <= this.#blocks, `${count} blocks from ${first} on`);
    const places = { source: new Float64Array(count), physical: new Uint32Array(count) };
    let done = 0;
    let piece = this.#pieceOf(first, 'block');
    while (done < count) {
      const runs = (await this.#runs(piece)).filter(({ kind }) => kind === 'data');
      let block = this.#marks[piece]?.block ?? 0;
      for (const run of runs) {
        const skip = Math.max(0, first + done - block);
        const length = Math.min(run.length - skip, count - done);
        if (length > 0) {
          await this.#placesOf(run.first + skip, length, places, done);
          done += length;
        }
        block += run.length;
      }
      piece += 1;
    }
    return places;
  }

  /** Zero ranges `first` … `first + count - 1` as pairs of first A and number of blocks. */
  async zeroRanges(first: number, count: number): Promise<Float64Array> {
    assert(first >= 0 && first + count <= this.#ranges, `${count} ranges from ${first} on`);
    const pairs = new Float64Array(2 * count);
    let done = 0;
    let piece = this.#pieceOf(first, 'range');
    while (done < count) {
      const runs = (await this.#runs(piece)).filter(({ kind }) => kind === 'zero');
      const skip = first + done - (this.#marks[piece]?.range ?? 0);
      for (const run of runs.slice(skip, skip + count - done)) {
        pairs.set([run.first, run.length], 2 * done);
        done += 1;
      }
      piece += 1;
    }
    return pairs;
  }

  /** The next piece of the first walk. @returns where the one after it begins */
  async #count(from: number): Promise<number | undefined> {
    const { runs, next } = await this.#walk(from);
    if (runs.length === 0) return next;
    this.#keep(this.#marks.length, Promise.resolve(runs));
    this.#marks.push({ from, block: this.#blocks, range: this.#ranges });
    for (const { kind, length } of runs) {
      if (kind === 'data') this.#blocks += length;
      else this.#ranges += 1;
    }
    return next;
  }

  #walk(from: number): ReturnType<typeof changedRuns> {
    const since = { kind: 'checkpoint', checkpoint: this.#base } as const;
    return changedRuns(this.#copy, since, { from, maxRuns: RUNS_AT_ONCE });
  }

  #runs(piece: number): Promise<readonly ChangedRun[]> {
    const there = this.#pieces.get(piece);
    if (there !== undefined) return there;
    const mark = this.#marks[piece];
    assert(mark !== undefined, `piece ${piece} of the changes`);
    const runs = this.#walk(mark.from).then((walked) => walked.runs);
    runs.catch(() => this.#pieces.delete(piece));
    this.#keep(piece, runs);
    return runs;
  }

  #keep(piece: number, runs: Promise<readonly ChangedRun[]>): void {
    this.#pieces.set(piece, runs);
    const [oldest] = this.#pieces.keys();
    if (this.#pieces.size > PIECES_KEPT && oldest !== undefined) this.#pieces.delete(oldest);
  }

  /** The last piece that begins at or before this block or range. */
  #pieceOf(index: number, count: 'block' | 'range'): number {
    let [low, high] = [0, this.#marks.length];
    while (low + 1 < high) {
      const middle = Math.floor((low + high) / 2);
      if ((this.#marks[middle]?.[count] ?? 0) <= index) low = middle;
      else high = middle;
    }
    return low;
  }

  /** Looks up where neighbours on the disk lie in the pool. */
  async #placesOf(first: number, length: number, into: Places, at: number): Promise<void> {
    const { source, physical } = await leaseNeighbours(this.#copies, this.#copy, first, length);
    assert(source[length - 1] === first + length - 1, `${length} mapped blocks from ${first} on`);
    into.source.set(source, at);
    into.physical.set(physical, at);
  }
}
