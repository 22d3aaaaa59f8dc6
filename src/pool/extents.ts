/**
 * How far a pool's blocks reach: its files grow, and the high-water marks of its extents rise.
 *
 * Invariants:
 *  1. A row of an extent is committed before any block that it allows is handed out.
 *  2. Such rows are committed one at a time: none says less than one before it.
 */
import { Mutex } from '../base/mutex.ts';
import { GIB } from '../base/units.ts';
import { type Allocator, openExtent } from './allocator.ts';
import { extentRow, layoutRows } from './layout-rows.ts';
import type { RowChange } from './metadata-store.ts';
import type { FileSpec, PoolFiles } from './pool-files.ts';

const MARK_STEP_BYTES = GIB;

/** What is needed of the pool. */
interface GrowingPool {
  readonly id: string;
  readonly record: { readonly preallocate: boolean };
  readonly blockSizeBytes: number;
  readonly files: PoolFiles;
  readonly allocator: Allocator;
  flush(rows: readonly RowChange[]): Promise<void>;
}

export class Extents {
  readonly #pool: GrowingPool;
  readonly #commits = new Mutex();
  #raising: Promise<void> | undefined;

  constructor(pool: GrowingPool) {
    this.#pool = pool;
  }

  /** Adds files or room; the new blocks are used once their rows are durable. */
  async grow(specs: readonly FileSpec[]): Promise<void> {
    const pool = this.#pool;
    await pool.files.grow(specs, pool.record.preallocate);
    await this.#commits.run(async () => {
      await pool.flush(layoutRows(pool));
      this.#takeExtents();
    });
  }

  /** Moves the marks up by a step, at least `count` blocks; calls at one time share it. */
  async raise(count: number): Promise<void> {
    this.#raising ??= this.#raiseMarks(count);
    await this.#raising;
  }

  /** Lowers the marks to what was really written, for a clean end. */
  async lower(flush: (rows: readonly RowChange[]) => Promise<void>): Promise<void> {
    await this.#commits.run(async () => {
      const rows = this.#pool.allocator.extents.map((extent, index) => {
        extent.highWater = extent.virginFrom;
        return extentRow(this.#pool, index, extent);
      });
      await flush(rows);
    });
  }

  /** The allocator gets what the files have more, which is durable now. */
  #takeExtents(): void {
    const { files, allocator } = this.#pool;
    files.extents.forEach((extent, index) => {
      const known = allocator.extents[index];
      const { firstBlock, blocks } = extent;
      if (known === undefined) {
        allocator.addExtent(openExtent(extent, files.canBeVirgin(index)));
      } else if (known.blocks < blocks) {
        const virgin = files.canBeVirgin(index);
        const highWater = virgin ? known.highWater : blocks;
        const virginFrom = virgin ? known.virginFrom : blocks;
        allocator.replaceLast({ firstBlock, blocks, highWater, virginFrom });
      }
    });
  }

  async #raiseMarks(count: number): Promise<void> {
    const pool = this.#pool;
    try {
      await this.#commits.run(async () => {
        const step = Math.max(count, MARK_STEP_BYTES / pool.blockSizeBytes);
        const { extents } = pool.allocator;
        const index = extents.findIndex((candidate) => candidate.highWater < candidate.blocks);
        const extent = extents[index];
        if (extent === undefined) return;
        const highWater = Math.min(extent.blocks, extent.highWater + step);
        // as long as the allocator knows it: what the files have more may not be durable
        await pool.flush([extentRow(pool, index, { blocks: extent.blocks, highWater })]);
        extent.highWater = highWater;
      });
    } finally {
      this.#raising = undefined;
    }
  }
}
