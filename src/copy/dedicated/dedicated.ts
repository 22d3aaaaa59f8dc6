/**
 * What a dedicated copy has beside its own table: the blocks that the source's pool still owes it,
 * the room that is reserved for them, and what shall happen when the source updates one.
 *
 * Life: all owed → filled by settle.ts (copier, backups, the source's own writes) → nothing owed:
 * it shares nothing with its source. Or invalid: a block could not be preserved.
 *
 * Invariants:
 *  1. Each mapped block is in exactly one of the copy's own table and the owed one, in every turn
 *     and in every commit. The owed table holds references on the source's blocks.
 *  2. The copy's row is written by its own pool's batches, and everything that changes both tables
 *     is one transaction over both pools.
 *  3. `reservedBlocks` of its pool are free for it: no one else is given them.
 *  4. Whatever changes its row runs alone (`exclusively`).
 *
 * Seed: FIG. 3, 4.
 */
import { Mutex } from '../../base/mutex.ts';
import type { ErrorCode } from '../../base/errors.ts';
import type { Chosen } from '../../pool/allocator.ts';
import type { Pool } from '../../pool/pool.ts';
import type { Tree } from '../trees.ts';

/** What the source does with an owed block that it is about to update. */
export type Preserve = 'redirect' | 'copy-first';
export type OnPreserveError = 'fail-write' | 'invalidate-copy';

/** Why a copy is invalid. */
export interface CopyProblem {
  readonly code: ErrorCode;
  readonly detail: string;
  /** Mapped blocks that it had. */
  readonly usedBlocks: number;
}

/** How physically consecutive its blocks came to lie. */
export interface Contiguity {
  /** Blocks brought over. */
  blocks: number;
  /** Runs in which they lie in its pool, in X order. */
  runs: number;
}

/** Blocks that the copier takes out of the pool at once, so that they lie side by side. */
export const ARENA_BYTES = 64 * 1024 * 1024;

export class Dedicated {
  readonly preserve: Preserve;
  readonly onPreserveError: OnPreserveError;
  readonly maxBytesPerSecond: number | undefined;
  /** What the source's pool still holds for it; undefined: it shares nothing any more. */
  owed: Tree | undefined;
  problem: CopyProblem | undefined;
  /** Of an invalid copy: the pool whose batch says so, which may not be durable yet. */
  invalidIn: Pool | undefined;
  /** Chosen blocks that the copier fills next, ascending. */
  readonly arena: Chosen[] = [];
  /** Chosen for blocks that are on their way. */
  underWay = 0;
  /** Where its next block should lie. */
  hint = 0;
  readonly #changes = new Mutex();

  constructor(o: {
    preserve: Preserve;
    onPreserveError: OnPreserveError;
    maxBytesPerSecond: number | undefined;
    owed: Tree | undefined;
    problem?: CopyProblem | undefined;
  }) {
    this.preserve = o.preserve;
    this.onPreserveError = o.onPreserveError;
    this.maxBytesPerSecond = o.maxBytesPerSecond;
    this.owed = o.owed;
    this.problem = o.problem;
  }

  get owedBlocks(): number {
    return this.owed?.root.mapped ?? 0;
  }

  /** Free blocks of its pool that are kept for it. */
  get reservedBlocks(): number {
    return Math.max(0, this.owedBlocks - this.arena.length - this.underWay);
  }

  /** Runs alone among those who change the copy. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#changes.run(work);
  }

  /** Gives back what was taken in advance. */
  releaseArena(pool: Pool): void {
    pool.release(this.arena.splice(0));
  }
}

/** The row's cells. */
export function dedicatedCells(dedicated: Dedicated | undefined): {
  preserve: string | null;
  on_preserve_error: string | null;
  max_bytes_per_second: number | null;
  owed_pool: string | null;
  owed_node: number | null;
  owed_height: number | null;
  owed_blocks: number | null;
  problem: string | null;
} {
  const { owed, problem } = dedicated ?? {};
  return {
    preserve: dedicated?.preserve ?? null,
    on_preserve_error: dedicated?.onPreserveError ?? null,
    max_bytes_per_second: dedicated?.maxBytesPerSecond ?? null,
    owed_pool: owed?.pool.id ?? null,
    owed_node: owed?.root.node ?? null,
    owed_height: owed?.root.height ?? null,
    owed_blocks: owed?.root.mapped ?? null,
    problem: problem === undefined ? null : JSON.stringify(problem),
  };
}
