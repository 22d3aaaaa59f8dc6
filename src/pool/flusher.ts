/**
 * Makes what was applied durable: group commit of one pool.
 *
 * A flush: (1) take the batch: images of all changed pages and the rows that changed with them;
 * (2) sync the pool files, so that data is durable before the tables that point at it; (3) commit
 * exactly that batch; (4) answer everyone who asked before (1). Callers who come later share the
 * next one. Batches commit in order, one at a time. A flush of several pools stands in the line of
 * each of them (joint-flush.ts).
 *
 * Invariants:
 *  1. A batch holds only changes whose data was written before it was taken.
 *  2. Blocks freed in a batch are released only after it is durable and its readers have left.
 *  3. After a failure nothing is committed any more: the pool is poisoned. Only METADATA_FULL
 *     (no room for the database) leaves everything pending, to be tried again; but rows that a
 *     caller gave with a flush that failed are forgotten, for he was told that they failed.
 */
import { StorageError, isStorageError } from '../base/errors.ts';
import { type Deferred, deferred } from '../base/mutex.ts';
import type { Gathering, JointMember, TakenBatch } from './joint-flush.ts';
import type { MetadataStore, PageImage, RowChange } from './metadata-store.ts';

/** What the flusher needs of its pool. */
export interface FlushSource {
  /** Images of changed pages; `settle` is called with them when they are durable. */
  takePages(): PageImage[];
  settlePages(images: readonly PageImage[]): void;
  /** The batch did not commit and may be tried again: these changes are pending once more. */
  restore(images: readonly PageImage[], freed: readonly number[]): void;
  /** Blocks freed since the last call. */
  takeFreed(): number[];
  /** The batch that freed these blocks is durable. */
  freed(blocks: readonly number[]): void;
  hasChanges(): boolean;
  syncFiles(): Promise<void>;
}

/** Makes the row at the moment the batch is taken. */
export type RowMaker = () => RowChange | undefined;

interface Waiter {
  readonly done: Deferred<undefined>;
  readonly rows: readonly RowChange[];
}

export class Flusher implements JointMember {
  readonly #store: MetadataStore;
  readonly #pool: number;
  readonly #source: FlushSource;
  readonly #rows = new Map<string, RowMaker>();
  #effects: RowChange[] = [];
  #waiting: Waiter[] = [];
  #gathering: Gathering | undefined;
  #running: Promise<void> | undefined;
  #failure: StorageError | undefined;

  constructor(store: MetadataStore, pool: number, source: FlushSource) {
    this.#store = store;
    this.#pool = pool;
    this.#source = source;
  }

  get failure(): StorageError | undefined {
    return this.#failure;
  }

  get gathering(): Gathering | undefined {
    return this.#gathering;
  }

  /** Something is applied but not durable. */
  get isDirty(): boolean {
    return this.#rows.size > 0 || this.#effects.length > 0 || this.#source.hasChanges();
  }

  /** The row under this name has changed: its maker runs when the next batch is taken. */
  changeRow(name: string, make: RowMaker): void {
    this.#rows.set(name, make);
  }

  /** A row that goes into the next batch as it is, or into a later one if that fails. */
  addRow(...changes: readonly RowChange[]): void {
    this.#effects.push(...changes);
  }

  /**
   * Resolves when all that was applied before this call is durable, in one batch with these rows.
   * If it rejects, the rows are not and will not be.
   */
  flush(rows: readonly RowChange[] = []): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const done = deferred<undefined>();
    this.#waiting.push({ done, rows });
    this.#running ??= this.#run();
    return done.promise;
  }

  /** From this turn on the next batch is that of this joint flush. */
  lineUp(gathering: Gathering | undefined): void {
    this.#gathering = gathering;
    if (gathering !== undefined) this.#running ??= this.#run();
  }

  /** All that is applied but not durable, in this turn. */
  take(): TakenBatch {
    const images = this.#source.takePages();
    const freed = this.#source.takeFreed();
    const makers = new Map(this.#rows);
    const effects = this.#effects;
    this.#rows.clear();
    this.#effects = [];
    const made = [...makers.values()].map((make) => make()).filter((row) => row !== undefined);
    return {
      pool: this.#pool,
      images,
      rows: [...made, ...effects],
      sync: () => this.#source.syncFiles(),
      settle: () => {
        this.#source.settlePages(images);
        this.#source.freed(freed);
      },
      putBack: () => {
        this.#source.restore(images, freed);
        for (const [name, make] of makers) if (!this.#rows.has(name)) this.#rows.set(name, make);
        this.#effects.unshift(...effects);
      },
    };
  }

  async #run(): Promise<void> {
    // callers of the same turn share the first batch
    await Promise.resolve();
    while (this.#waiting.length > 0 || this.#gathering !== undefined) {
      const waiters = this.#waiting;
      this.#waiting = [];
      try {
        const isDone = await this.#commitNext(waiters);
        // the fault was another pool's: it is tried again without that
        if (!isDone) this.#waiting.unshift(...waiters);
        else for (const { done } of waiters) done.resolve(undefined);
        if (!isDone) await new Promise((resolve) => setImmediate(resolve));
      } catch (error) {
        const failure = this.#fail(error);
        for (const { done } of waiters) done.reject(failure);
        // so that what they take back is not in the next batch
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    this.#running = undefined;
  }

  /** False if nothing was committed and the fault is not this pool's. */
  async #commitNext(waiters: readonly Waiter[]): Promise<boolean> {
    const given = waiters.flatMap(({ rows }) => rows);
    const joint = this.#gathering;
    if (joint === undefined) {
      if (this.#failure !== undefined) throw this.#failure;
      await this.#commitOnce(given);
      return true;
    }
    const outcome = await joint.arrive(this, given);
    if (outcome.kind === 'durable') return true;
    const { error, members } = outcome;
    if (members.has(this) || isStorageError(error, 'METADATA_FULL')) throw error;
    return false;
  }

  async #commitOnce(given: readonly RowChange[]): Promise<void> {
    const batch = this.take();
    const { images } = batch;
    const rows = [...batch.rows, ...given];
    try {
      await batch.sync();
      if (images.length > 0 || rows.length > 0) {
        await this.#store.commit({ pages: [{ pool: this.#pool, images }], rows });
      }
    } catch (error) {
      if (isStorageError(error, 'METADATA_FULL')) batch.putBack();
      throw error;
    }
    batch.settle();
  }

  #fail(error: unknown): StorageError {
    if (isStorageError(error, 'METADATA_FULL')) return error;
    this.#failure ??=
      error instanceof StorageError
        ? error
        : new StorageError('POOL_POISONED', 'a flush failed', {}, error);
    return this.#failure;
  }
}
