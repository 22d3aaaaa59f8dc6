/**
 * The data block table of a copy (seed FIG. 3): where each block of it is. It is not stored: which
 * of a copy's tables maps a block says it.
 */
import { type TreesOf, placedRuns, selectBlock } from '../trees.ts';

/**
 * `shared`: it is the source's, for as long as the copy lives; `owed`: the source's, until it is
 * brought over; `settled`: the copy's own.
 */
export type BlockState = 'shared' | 'owed' | 'settled';

/** Neighbours in the copy and in the source, of one state. */
export interface DataBlockRun {
  readonly copyBlock: number;
  readonly sourceBlock: number;
  readonly length: number;
  readonly state: BlockState;
}

/** Runs from X on, as they are now. @param own state of the blocks of the copy's own table */
export async function dataBlockRuns(
  treesOf: TreesOf,
  own: BlockState,
  from: number,
  maxRuns: number,
): Promise<DataBlockRun[]> {
  const first = await selectBlock(treesOf, from);
  const found = await placedRuns(treesOf, { from: first, maxRuns, byTree: true });
  let copyBlock = from;
  return found.map(({ first: sourceBlock, length, tree }): DataBlockRun => {
    const at = copyBlock;
    copyBlock += length;
    return { copyBlock: at, sourceBlock, length, state: tree === 0 ? own : 'owed' };
  });
}

/** In how many physically consecutive runs the blocks lie, in X order. Cost: the leaves. */
export async function countRuns(treesOf: TreesOf): Promise<number> {
  let runs = 0;
  let end = -1;
  for (let from = 0; ;) {
    const page = await placedRuns(treesOf, { from, maxRuns: RUNS_AT_ONCE, physical: true });
    for (const { physical, length } of page) {
      if (physical !== end) runs += 1;
      end = physical + length;
    }
    const last = page.at(-1);
    if (last === undefined) return runs;
    from = last.first + last.length;
  }
}

const RUNS_AT_ONCE = 1000;
