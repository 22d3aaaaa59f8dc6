/**
 * The correspondence table of a copy (seed FIG. 11): for each copy block X the logical block A
 * that it holds, kept as runs of neighbours.
 *
 * Life cycle: the builder is given the mapped blocks in ascending A; each takes the next X; then
 * the table never changes. A lookup either way is a binary search over the runs.
 *
 * Invariants:
 *  1. X = 0, 1, 2 … without gaps, in ascending A: so A ≥ X, and equal sets make equal tables.
 *  2. Runs are as long as they can be: between two of them A has a gap.
 *  3. copyBlockOf(sourceBlockOf(x)) = x for every X of the table.
 *
 * Memory: 16 bytes a run. Pure: no I/O. In an image its bytes are those of docs/format/image.md,
 * "Correspondence table"; here they are only memory.
 */
import { assert, defined } from '../base/assert.ts';
import { copyBlock, logicalBlock } from '../base/units.ts';
import type { CopyBlock, LogicalBlock } from '../base/units.ts';

/** `length` ≥ 1 blocks that are neighbours in the copy and on the disk. */
export interface CorrespondenceRun {
  readonly copyBlock: CopyBlock;
  readonly sourceBlock: LogicalBlock;
  readonly length: number;
}

export class CorrespondenceTable {
  /** First X and first A of each run; both ascend. */
  readonly #copyBlocks: Float64Array;
  readonly #sourceBlocks: Float64Array;
  /** Number of blocks: X is 0 … usedBlocks - 1. */
  readonly usedBlocks: number;

  /** @param runs in ascending order and complete, as `CorrespondenceTableBuilder` makes them */
  constructor(runs: readonly CorrespondenceRun[]) {
    this.#copyBlocks = Float64Array.from(runs, (run) => run.copyBlock);
    this.#sourceBlocks = Float64Array.from(runs, (run) => run.sourceBlock);
    let usedBlocks = 0;
    let end = -1; // of the run before, on the disk: even the first run may begin at 0
    for (const run of runs) {
      assert(run.copyBlock === usedBlocks, `run at X = ${run.copyBlock} follows ${usedBlocks}`);
      assert(run.sourceBlock > end, `run at A = ${run.sourceBlock} meets the one before`);
      assert(run.length >= 1, `run of ${run.length} blocks`);
      usedBlocks += run.length;
      end = run.sourceBlock + run.length;
    }
    this.usedBlocks = usedBlocks;
  }

  /** The table of these mapped blocks, which ascend. */
  static of(sourceBlocks: Iterable<number>): CorrespondenceTable {
    const builder = new CorrespondenceTableBuilder();
    for (const block of sourceBlocks) builder.add(logicalBlock(block), 1);
    return builder.build();
  }

  get runCount(): number {
    return this.#copyBlocks.length;
  }

  /** A of X (FIG. 11). X must be below `usedBlocks`. */
  sourceBlockOf(block: CopyBlock): LogicalBlock {
    assert(block < this.usedBlocks, `X = ${block} of ${this.usedBlocks}`);
    const run = this.#run(lastAtOrBelow(this.#copyBlocks, block));
    return logicalBlock(run.sourceBlock + (block - run.copyBlock));
  }

  /** X of A, or undefined if the copy holds nothing there: it reads as zeros. */
  copyBlockOf(block: LogicalBlock): CopyBlock | undefined {
    const index = lastAtOrBelow(this.#sourceBlocks, block);
    if (index < 0) return undefined;
    const run = this.#run(index);
    const distance = block - run.sourceBlock;
    return distance < run.length ? copyBlock(run.copyBlock + distance) : undefined;
  }

  /** The runs that hold X = `from` … `end` - 1, cut at both ends. */
  *runs(from = 0, end = this.usedBlocks): Generator<CorrespondenceRun, void, undefined> {
    assert(from >= 0 && from <= end && end <= this.usedBlocks, `X = ${from} … ${end}`);
    let next = from;
    for (let index = lastAtOrBelow(this.#copyBlocks, from); next < end; index += 1) {
      const run = this.#run(index);
      const skipped = next - run.copyBlock;
      const length = Math.min(run.length - skipped, end - next);
      yield {
        copyBlock: copyBlock(next),
        sourceBlock: logicalBlock(run.sourceBlock + skipped),
        length,
      };
      next += length;
    }
  }

  #run(index: number): CorrespondenceRun {
    const first = defined(this.#copyBlocks[index], 'run');
    return {
      copyBlock: copyBlock(first),
      sourceBlock: logicalBlock(defined(this.#sourceBlocks[index], 'run')),
      length: (this.#copyBlocks[index + 1] ?? this.usedBlocks) - first,
    };
  }
}

/** Collects mapped blocks in ascending A and joins neighbours. */
export class CorrespondenceTableBuilder {
  readonly #runs: CorrespondenceRun[] = [];
  #usedBlocks = 0;

  /** Adds `length` ≥ 1 mapped blocks from `sourceBlock` on, all above those added before. */
  add(sourceBlock: LogicalBlock, length: number): void {
    assert(length >= 1, `run of ${length} blocks`);
    const last = this.#runs.at(-1);
    const end = last === undefined ? 0 : last.sourceBlock + last.length;
    assert(sourceBlock >= end, `A = ${sourceBlock} is not above ${end - 1}`);
    if (last !== undefined && sourceBlock === end) {
      this.#runs[this.#runs.length - 1] = { ...last, length: last.length + length };
    } else {
      this.#runs.push({ copyBlock: copyBlock(this.#usedBlocks), sourceBlock, length });
    }
    this.#usedBlocks += length;
  }

  build(): CorrespondenceTable {
    return new CorrespondenceTable(this.#runs);
  }
}

/** Index of the last number ≤ `value` in ascending numbers, or -1. Cost: O(log n). */
function lastAtOrBelow(ascending: Float64Array, value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (defined(ascending[middle], 'number') <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
