/**
 * Moves entries from the owed table of a dedicated copy to its own, and back if that cannot become
 * durable. All of it in one turn, on resident pages, and the flush is asked for in the same turn:
 * so no batch of either pool holds a part of it. What the source's pool loses is let go only when
 * that is durable (take-out.ts).
 */
import { defined } from '../../base/assert.ts';
import {
  type TableChange,
  change,
  leafEnd,
  missingForChange,
} from '../../disk/allocation-table.ts';
import type { Chosen } from '../../pool/allocator.ts';
import type { PageKey } from '../../pool/metadata-pages.ts';
import { Pool } from '../../pool/pool.ts';
import type { Copies } from '../copies.ts';
import type { Copy } from '../copy.ts';
import type { Tree } from '../trees.ts';
import type { Dedicated } from './dedicated.ts';
import { type TakenOut, takeOut } from './take-out.ts';

/** An entry that the owed table has. */
export interface Move {
  readonly logical: number;
  /** P in the source's pool; -1: a tombstone. */
  readonly block: number;
  readonly birth: number;
}

/** A path has at most six nodes and a taller root six more, in each of two tables. */
const NODES_PER_LEAF = 24;
const COUNTS_PER_PAGE = 1024;

/**
 * Applies as many moves as can be in one turn and makes them durable.
 *
 * @param moves ascending by A
 * @param chosen a block of the copy's pool for each move of data, its bytes written; what is used
 *   is taken out
 * @returns how many were moved, at least one leaf's. @throws as Pool.flushTogether: then none
 */
export async function moveEntries(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  moves: readonly Move[],
  chosen: Chosen[],
): Promise<number> {
  const groups = groupsOf(moves, chosen);
  let owed: Tree;
  for (;;) {
    copy.assertServed();
    owed = defined(dedicated.owed, 'an owed table');
    for (const pool of poolsOf(copy, owed)) pool.assertWritable();
    const missing = groups.map((group) => missingFor(copy, owed, group));
    const own = missing.flatMap((each) => each.own);
    const theirs = missing.flatMap((each) => each.owed);
    own.push(...missingNodes(copy.pool, groups.length));
    theirs.push(...missingNodes(owed.pool, groups.length));
    if (own.length + theirs.length === 0) break;
    await copy.pool.pages.ensure(own);
    await owed.pool.pages.ensure(theirs);
  }
  const applied: Applied[] = [];
  const reclaimer = copies.options.disks.reclaimer(owed.pool);
  for (const group of groups) {
    const { own, owed: theirs } = missingFor(copy, owed, group);
    if (applied.length > 0 && own.length + theirs.length > 0) break;
    const before = owed;
    const taken = takeOut(owed.pool, reclaimer, owed.root, group.moves);
    takeIn(copy, group);
    owed = { pool: owed.pool, root: taken.root };
    applied.push({ ...group, before, taken });
  }
  const count = applied.reduce((sum, { moves: { length } }) => sum + length, 0);
  chosen.splice(0, moves.slice(0, count).filter(({ block }) => block >= 0).length);
  // what was used is owed no more: neither counts as reserved
  dedicated.underWay = chosen.length;
  setOwed(dedicated, owed);
  copies.changed(copy);
  const held = applied.flatMap(({ taken }) => taken.held);
  const pools = poolsOf(copy, owed);
  try {
    await Pool.flushTogether(pools, [], () => undo(copies, copy, dedicated, applied));
  } catch (error) {
    // in one pool what was applied is pending as a whole
    if (pools.length === 1) for (const root of held) reclaimer.release(root);
    throw error;
  }
  for (const root of held) reclaimer.release(root);
  if (copy.isWhole) copies.updateDiskOf(copy);
  try {
    for (const root of held) await reclaimer.reclaim(root);
  } catch (error) {
    // what was moved is durable; it goes on by itself
    copies.options.onError(error);
  }
  return count;
}

interface Applied extends Group {
  readonly before: Tree;
  readonly taken: TakenOut;
}

function poolsOf(copy: Copy, owed: Tree): Pool[] {
  return [...new Set([copy.pool, owed.pool])];
}

function setOwed(dedicated: Dedicated, owed: Tree): void {
  dedicated.owed = owed.root.node === 0 ? undefined : owed;
}

/** Moves within one leaf, and the blocks that those of data go to. */
interface Group {
  readonly moves: readonly Move[];
  readonly targets: readonly number[];
}

function groupsOf(moves: readonly Move[], chosen: readonly Chosen[]): Group[] {
  const groups: { moves: Move[]; targets: number[] }[] = [];
  let end = -1;
  let next = 0;
  for (const move of moves) {
    if (move.logical >= end) groups.push({ moves: [], targets: [] });
    end = leafEnd(move.logical);
    const group = defined(groups.at(-1), 'group');
    group.moves.push(move);
    if (move.block < 0) continue;
    group.targets.push(defined(chosen[next], 'a block for each move').block);
    next += 1;
  }
  return groups;
}

/** First A of the group, and how many lie between that and its last. */
function rangeOf({ moves }: Group): readonly [first: number, count: number] {
  const first = defined(moves[0], 'move').logical;
  return [first, defined(moves.at(-1), 'move').logical - first + 1];
}

function missingFor(copy: Copy, owed: Tree, group: Group): { own: PageKey[]; owed: PageKey[] } {
  const range = rangeOf(group);
  const own = missingForChange(copy.pool, copy.record.root, ...range);
  for (const target of group.targets) own.push(...copy.pool.missingForDrop(target));
  return { own, owed: missingForChange(owed.pool, owed.root, ...range) };
}

/** Counts of the nodes that so many leaves may need. */
function missingNodes(pool: Pool, leaves: number): PageKey[] {
  const missing: PageKey[] = [];
  const end = pool.nextNodeId + leaves * NODES_PER_LEAF;
  for (let id = pool.nextNodeId; id < end + COUNTS_PER_PAGE; id += COUNTS_PER_PAGE) {
    if (!pool.nodeCounts.isResident(id)) missing.push(pool.nodeCounts.keyOf(id));
  }
  return missing;
}

/** The copy's own table gets the entries. */
function takeIn(copy: Copy, { moves, targets }: Group): void {
  for (const target of targets) copy.pool.allocator.apply(target);
  let next = 0;
  const taken = moves.map(({ logical, block, birth }): TableChange => {
    if (block < 0) return { logical, block, birth };
    next += 1;
    return { logical, block: defined(targets[next - 1], 'target'), birth };
  });
  copy.record.root = change(copy.pool, copy.record.root, taken, copy.record.generation);
}

function leaving(moves: readonly Move[]): TableChange[] {
  return moves.map(({ logical }) => ({ logical, block: -1, birth: 0 }));
}

/** Each leaf in one turn, the last first; no batch is taken of either pool before it has ended. */
async function undo(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  applied: readonly Applied[],
): Promise<void> {
  for (const { moves, targets, before, taken } of applied.toReversed()) {
    for (;;) {
      const missing = missingForChange(copy.pool, copy.record.root, ...rangeOf({ moves, targets }));
      if (missing.length === 0) break;
      await copy.pool.pages.ensure(missing);
    }
    copy.record.root = change(copy.pool, copy.record.root, leaving(moves));
    taken.putBack();
    dedicated.owed = before;
  }
  copies.changed(copy);
}
