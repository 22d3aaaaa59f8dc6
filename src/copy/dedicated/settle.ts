/**
 * Brings owed blocks of a dedicated copy to their reserved room, a run of at most 4 MiB at a time.
 *
 *  1. plan: the next owed blocks in ascending A (or those that the source is about to update);
 *  2. take blocks of the copy's pool, read from the source's, write;
 *  3. apply, in one turn: the copy's own table maps them, the owed one does not any more;
 *  4. one transaction over both pools. If it cannot be, step 3 is undone in both.
 *
 * Births go along. When no block is owed any more, the tombstones of the owed table are brought
 * over in the same way, and then nothing is shared.
 *
 * Invariants:
 *  1. One step at a time for each copy: so each block is read from the source once.
 *  2. A step changes the tables whole or not at all; what it had chosen and not used is given back.
 */
import { assert, defined } from '../../base/assert.ts';
import { MIB } from '../../base/units.ts';
import { FAN_OUT, entryAt, lookup, missingForLookup } from '../../disk/allocation-table.ts';
import { walkLeaves } from '../../disk/table-walk.ts';
import type { Chosen } from '../../pool/allocator.ts';
import type { Pool } from '../../pool/pool.ts';
import type { Copies } from '../copies.ts';
import type { Copy } from '../copy.ts';
import type { Tree } from '../trees.ts';
import { type Move, moveEntries } from './apply-moves.ts';
import { ARENA_BYTES, type Dedicated } from './dedicated.ts';
import { nextTombstones } from './tombstones.ts';

const RUN_BYTES = 4 * MIB;
/** What follows a run shorter than this is taken block by block. */
const SHORT_RUN_BYTES = MIB;
/** Leaves that one transaction may change. */
const RUN_LEAVES = 8;

/** All that is owed; A = `from` … `to` - 1 of it; or what a list names, if it is there still. */
export type Wanted =
  | { readonly kind: 'all' }
  | { readonly kind: 'range'; readonly from: number; readonly to: number }
  | {
      readonly kind: 'blocks';
      /** Ascending by A. */
      readonly blocks: readonly { readonly logical: number; readonly block: number }[];
    };

export interface Step {
  /** Blocks brought over. */
  readonly blocks: number;
  /** Nothing that is wanted was owed any more. */
  readonly isDone: boolean;
}

/**
 * One step. @param inAdvance takes blocks for steps to come, too, so that they lie side by side;
 *   whoever asks for it calls `releaseArena` in the end
 * @throws DATA_UNREADABLE, POOL_POISONED, HOST_FULL, METADATA_FULL, NOT_FOUND (the copy was
 *   deleted), COPY_INVALID
 */
export async function settleStep(
  copies: Copies,
  copy: Copy,
  wanted: Wanted,
  inAdvance = false,
): Promise<Step> {
  const { dedicated } = copy;
  if (dedicated === undefined) return { blocks: 0, isDone: true };
  return dedicated.exclusively(() => stepAlone(copies, copy, dedicated, wanted, inAdvance));
}

/** Step after step. @throws as settleStep; the signal's reason */
export async function settle(
  copies: Copies,
  copy: Copy,
  wanted: Wanted,
  signal?: AbortSignal,
): Promise<void> {
  let isDone = false;
  while (!isDone) {
    signal?.throwIfAborted();
    ({ isDone } = await settleStep(copies, copy, wanted));
  }
}

async function stepAlone(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  wanted: Wanted,
  inAdvance: boolean,
): Promise<Step> {
  copy.assertServed();
  const { owed } = dedicated;
  if (owed === undefined) return { blocks: 0, isDone: true };
  await copy.pool.throttle();
  await owed.pool.throttle();
  const moves = await planOf(dedicated, wanted, Math.max(1, RUN_BYTES / copy.blockSizeBytes));
  if (moves.length > 0) {
    const blocks = await bring(copies, copy, dedicated, moves, inAdvance);
    return { blocks, isDone: false };
  }
  if (wanted.kind !== 'all') return { blocks: 0, isDone: true };
  const tombstones = await nextTombstones(() => liveOwed(dedicated), RUN_LEAVES);
  await moveEntries(copies, copy, dedicated, tombstones, []);
  return { blocks: 0, isDone: dedicated.owed === undefined };
}

/** Nobody else changes it while a step is under way. */
function liveOwed(dedicated: Dedicated): Tree {
  return defined(dedicated.owed, 'an owed table');
}

async function planOf(dedicated: Dedicated, wanted: Wanted, limit: number): Promise<Move[]> {
  if (wanted.kind === 'blocks') return planBlocks(dedicated, wanted.blocks, limit);
  const { from, to } = wanted.kind === 'all' ? { from: 0, to: Infinity } : wanted;
  const moves: Move[] = [];
  let leaves = 0;
  const { pool } = liveOwed(dedicated);
  await walkLeaves(
    pool,
    () => liveOwed(dedicated).root,
    from,
    (first, leaf) => {
      leaves += 1;
      if (leaves > RUN_LEAVES) return false;
      for (let slot = Math.max(0, from - first); slot < FAN_OUT; slot += 1) {
        const { block, birth } = entryAt(leaf, slot);
        if (block < 0) continue;
        if (moves.length === limit || first + slot >= to) return false;
        moves.push({ logical: first + slot, block, birth });
      }
      return true;
    },
  );
  return moves;
}

async function planBlocks(
  dedicated: Dedicated,
  blocks: readonly { readonly logical: number; readonly block: number }[],
  limit: number,
): Promise<Move[]> {
  const moves: Move[] = [];
  const leaves = new Set<number>();
  for (const { logical, block } of blocks) {
    const { pool, root } = liveOwed(dedicated);
    for (;;) {
      const missing = missingForLookup(pool, root, logical, 1);
      if (missing.length === 0) break;
      await pool.pages.ensure(missing);
    }
    const entry = lookup(pool, root, logical);
    if (entry.block !== block) continue;
    leaves.add(Math.floor(logical / FAN_OUT));
    if (moves.length === limit || leaves.size > RUN_LEAVES) break;
    moves.push({ logical, ...entry });
  }
  return moves;
}

/** Reads, writes and moves them; fewer if the tables did not take all at once. */
async function bring(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  moves: readonly Move[],
  inAdvance: boolean,
): Promise<number> {
  const { pool } = copy;
  const chosen: Chosen[] = [];
  try {
    await take(copies, copy, dedicated, { count: moves.length, inAdvance, chosen });
    const bytes = new Uint8Array(moves.length * pool.blockSizeBytes);
    const from = moves.map(({ block }) => block);
    const to = chosen.map(({ block }) => block);
    await transfer(liveOwed(dedicated).pool, from, bytes, 'read');
    await transfer(pool, to, bytes, 'write');
    const count = await moveEntries(copies, copy, dedicated, moves, chosen);
    dedicated.hint = defined(to[count - 1], 'last block') + 1;
    copies.filled(count, runsOf(to.slice(0, count)).length);
    return count;
  } finally {
    dedicated.underWay = 0;
    pool.release(chosen);
  }
}

/** Takes blocks of the copy's pool for the next moves out of its reserved room. */
async function take(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  o: { readonly count: number; readonly inAdvance: boolean; readonly chosen: Chosen[] },
): Promise<void> {
  const { pool } = copy;
  const arenaBlocks = ARENA_BYTES / pool.blockSizeBytes;
  for (;;) {
    o.chosen.push(...dedicated.arena.splice(0, o.count - o.chosen.length));
    dedicated.underWay = o.chosen.length;
    const lacking = o.count - o.chosen.length;
    if (lacking === 0) return;
    const ahead = Math.min(arenaBlocks, dedicated.owedBlocks - o.chosen.length);
    const wanted = o.inAdvance ? Math.max(lacking, ahead) : lacking;
    const keepFree = (): number => copies.reservedBlocksIn(pool, copy);
    const { arena, hint } = dedicated;
    await pool.allocateRun(wanted, keepFree, hint, arena);
    const rest = lacking - arena.length;
    // where no longer runs are left another search would find none either
    if (rest > 0 && arena.length < SHORT_RUN_BYTES / pool.blockSizeBytes) {
      arena.push(...(await pool.allocate(rest, keepFree)));
    }
  }
}

/** Indexes of consecutive blocks. */
function runsOf(blocks: readonly number[]): { first: number; count: number }[] {
  const runs: { first: number; count: number }[] = [];
  blocks.forEach((block, index) => {
    const last = runs.at(-1);
    if (last !== undefined && blocks[index - 1] === block - 1) last.count += 1;
    else runs.push({ first: index, count: 1 });
  });
  return runs;
}

/** One call a consecutive stretch; waits for every one, even if one fails. */
async function transfer(
  pool: Pool,
  blocks: readonly number[],
  bytes: Uint8Array,
  direction: 'read' | 'write',
): Promise<void> {
  const size = pool.blockSizeBytes;
  const work = runsOf(blocks).map(({ first, count }) => {
    const part = bytes.subarray(first * size, (first + count) * size);
    const block = blocks[first];
    assert(block !== undefined, 'block');
    if (direction === 'read') return pool.files.read(block, 0, part);
    return pool.files.write(block, 0, [part]);
  });
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
