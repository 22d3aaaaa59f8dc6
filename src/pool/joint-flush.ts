/**
 * One transaction for several pools: what was applied to all of them becomes durable at once.
 *
 * A joint flush stands before the next batch of each of its pools from the turn in which it was
 * asked for. A flusher that comes to it waits for the others; the last to arrive takes the batches
 * of all in one turn, syncs the files of all, and commits one batch. So no pool commits a part of
 * it alone. Joint flushes that share a pool before anything was taken become one (a `Gathering`):
 * a batch of the shared pool holds parts of both.
 *
 * If a pool fails, or the database has no room, what the others have of the same change must not be
 * committed alone: the caller's `undo` takes it back in memory before any of them goes on.
 *
 * Invariants:
 *  1. A pool stands before at most one gathering that has taken nothing, and all members line up
 *     in one turn: so none waits for another in a circle.
 *  2. Either the batches of all members are durable, or those of none; then each has its changes
 *     back, but for those that were undone. One that has failed commits them no more, but shows
 *     them: what is undone is undone there, too.
 */
import { assert } from '../base/assert.ts';
import { type StorageError, isStorageError } from '../base/errors.ts';
import { type Deferred, deferred } from '../base/mutex.ts';
import type { MetadataStore, PageImage, RowChange } from './metadata-store.ts';

/** What a flusher took for a batch, until it is known whether that became durable. */
export interface TakenBatch {
  readonly pool: number;
  readonly images: readonly PageImage[];
  readonly rows: readonly RowChange[];
  /** Forces the data that the images point at to the medium. */
  sync(): Promise<void>;
  /** It is durable. */
  settle(): void;
  /** It is not: the changes are pending again. */
  putBack(): void;
}

/** A pool's flusher, as a joint flush sees it. */
export interface JointMember {
  readonly failure: StorageError | undefined;
  /** What its next batch belongs to, while that takes in more. */
  readonly gathering: Gathering | undefined;
  take(): TakenBatch;
  /** undefined: its next batch is its own again. */
  lineUp(gathering: Gathering | undefined): void;
}

/** How a joint flush ended for its members. */
export type JointOutcome =
  | { readonly kind: 'durable' }
  /** @param members that failed themselves */
  | {
      readonly kind: 'failed';
      readonly error: unknown;
      readonly members: ReadonlySet<JointMember>;
    };

export class JointFlush {
  readonly members: ReadonlySet<JointMember>;
  readonly rows: readonly RowChange[];
  /** Takes what was applied back, in memory; called if it cannot become durable as a whole. */
  readonly undo: () => Promise<void>;
  readonly #store: MetadataStore;

  /** @param rows committed with the batches, or forgotten */
  constructor(
    store: MetadataStore,
    members: readonly JointMember[],
    rows: readonly RowChange[] = [],
    undo: () => Promise<void> = () => Promise.resolve(),
  ) {
    this.#store = store;
    this.members = new Set(members);
    this.rows = rows;
    this.undo = undo;
  }

  /** Lines up with all members, in this turn. @throws what failed, or a member's failure */
  async run(): Promise<void> {
    for (const { failure } of this.members) if (failure !== undefined) throw failure;
    for (;;) {
      const outcome = await this.#lineUp().outcome.promise;
      if (outcome.kind === 'durable') return;
      if (this.failsWith(outcome)) throw outcome.error;
      // the fault was a pool of others; no batch was taken since
    }
  }

  /** True if the outcome is its own failure: nothing of it will be committed. */
  failsWith({ error, members }: Extract<JointOutcome, { kind: 'failed' }>): boolean {
    if (isStorageError(error, 'METADATA_FULL')) return true;
    return [...this.members].some((member) => members.has(member));
  }

  #lineUp(): Gathering {
    const open = [...this.members].map(({ gathering }) => gathering);
    const [first, ...others] = new Set(open.filter((each) => each !== undefined));
    const gathering = first ?? new Gathering(this.#store);
    for (const other of others) gathering.absorb(other);
    gathering.add(this);
    return gathering;
  }
}

/** Joint flushes that are committed as one. */
export class Gathering {
  readonly outcome: Deferred<JointOutcome> = deferred<JointOutcome>();
  readonly #store: MetadataStore;
  readonly #flushes: JointFlush[] = [];
  readonly #members = new Set<JointMember>();
  readonly #arrived = new Set<JointMember>();
  /** Of those who wait at its members. */
  readonly #rows: RowChange[] = [];

  constructor(store: MetadataStore) {
    this.#store = store;
  }

  add(flush: JointFlush): void {
    this.#flushes.push(flush);
    for (const member of flush.members) {
      this.#members.add(member);
      if (member.gathering !== this) member.lineUp(this);
    }
  }

  /** Everyone of the other stands here now. */
  absorb(other: Gathering): void {
    for (const flush of other.#flushes) this.add(flush);
    for (const member of other.#arrived) this.#arrived.add(member);
    this.#rows.push(...other.#rows);
    void this.outcome.promise.then(other.outcome.resolve);
  }

  /** A member has come to it; its waiters' rows go along. Resolves when it is over for all. */
  async arrive(member: JointMember, rows: readonly RowChange[]): Promise<JointOutcome> {
    assert(this.#members.has(member) && !this.#arrived.has(member), 'a member arrives once');
    this.#arrived.add(member);
    this.#rows.push(...rows);
    if (this.#arrived.size === this.#members.size) this.outcome.resolve(await this.#commit());
    return this.outcome.promise;
  }

  async #commit(): Promise<JointOutcome> {
    for (const member of this.#members) member.lineUp(undefined);
    const failed = [...this.#members].filter(({ failure }) => failure !== undefined);
    const [first] = failed;
    if (first !== undefined) return this.#fail(first.failure, new Set(failed));
    // one turn: what is applied to one member later is in none of the batches
    const batches = [...this.#members].map((member) => ({ member, batch: member.take() }));
    const syncs = await Promise.allSettled(batches.map(({ batch }) => batch.sync()));
    const bad = syncs.findIndex(({ status }) => status === 'rejected');
    const reason = syncs[bad];
    if (reason?.status === 'rejected') {
      const isBad = (_: unknown, index: number): boolean => syncs[index]?.status === 'rejected';
      const members = new Set(batches.filter(isBad).map(({ member }) => member));
      for (const { batch } of batches) batch.putBack();
      return this.#fail(reason.reason, members);
    }
    try {
      await this.#store.commit({
        pages: batches.map(({ batch: { pool, images } }) => ({ pool, images })),
        rows: [
          ...batches.flatMap(({ batch }) => batch.rows),
          ...this.#rows,
          ...this.#flushes.flatMap(({ rows }) => rows),
        ],
      });
    } catch (error) {
      if (!isStorageError(error, 'METADATA_FULL')) {
        return { kind: 'failed', error, members: this.#members };
      }
      for (const { batch } of batches) batch.putBack();
      return this.#fail(error, new Set());
    }
    for (const { batch } of batches) batch.settle();
    return { kind: 'durable' };
  }

  /** Undoes what failed while its healthy members still wait here. */
  async #fail(error: unknown, members: ReadonlySet<JointMember>): Promise<JointOutcome> {
    const outcome = { kind: 'failed', error, members } as const;
    try {
      for (const flush of this.#flushes.toReversed()) {
        const isHealthy = (member: JointMember): boolean => !members.has(member);
        const isHalf = flush.failsWith(outcome) && [...flush.members].some(isHealthy);
        if (isHalf) await flush.undo();
      }
    } catch {
      // a part of it cannot be taken back, so none of them may commit
      return { ...outcome, members: this.#members };
    }
    return outcome;
  }
}
