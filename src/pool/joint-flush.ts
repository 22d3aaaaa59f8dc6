/**
 * One transaction for several pools: what was applied to all of them becomes durable at once.
 *
 * It stands in the line of each pool's flusher from the turn in which it was asked for. A flusher
 * that comes to it waits for the others; the last to arrive takes the batches of all in one turn,
 * syncs the files of all, and commits one batch. So no pool commits a part of it alone.
 *
 * Invariants:
 *  1. All members line up in one turn, so any two joint flushes come in the same order everywhere
 *     and none waits for another in a circle.
 *  2. Either the batches of all members are durable, or those of none; then each that has not
 *     failed itself has its changes back.
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
  take(): TakenBatch;
  lineUp(joint: JointFlush): void;
}

/** How a joint flush ended for its members. */
export type JointOutcome =
  | { readonly kind: 'durable' }
  /** @param members that failed themselves; the others have their changes back */
  | {
      readonly kind: 'failed';
      readonly error: unknown;
      readonly members: ReadonlySet<JointMember>;
    };

export class JointFlush {
  readonly #store: MetadataStore;
  readonly #members: ReadonlySet<JointMember>;
  readonly #rows: RowChange[];
  readonly #arrived = new Set<JointMember>();
  readonly #outcome: Deferred<JointOutcome> = deferred<JointOutcome>();

  /** @param rows committed with the batches, or forgotten */
  constructor(
    store: MetadataStore,
    members: readonly JointMember[],
    rows: readonly RowChange[] = [],
  ) {
    this.#store = store;
    this.#members = new Set(members);
    this.#rows = [...rows];
  }

  /** Lines up with all members, in this turn. @throws what failed, or a member's failure */
  async run(): Promise<void> {
    for (const { failure } of this.#members) if (failure !== undefined) throw failure;
    for (const member of this.#members) member.lineUp(this);
    const outcome = await this.#outcome.promise;
    if (outcome.kind === 'failed') throw outcome.error;
  }

  /** A member has come to it; its waiters' rows go along. Resolves when it is over for all. */
  async arrive(member: JointMember, rows: readonly RowChange[]): Promise<JointOutcome> {
    assert(this.#members.has(member) && !this.#arrived.has(member), 'a member arrives once');
    this.#arrived.add(member);
    this.#rows.push(...rows);
    if (this.#arrived.size === this.#members.size) this.#outcome.resolve(await this.#commit());
    return this.#outcome.promise;
  }

  async #commit(): Promise<JointOutcome> {
    const failed = [...this.#members].filter(({ failure }) => failure !== undefined);
    const [first] = failed;
    if (first !== undefined) {
      return { kind: 'failed', error: first.failure, members: new Set(failed) };
    }
    // one turn: what is applied to one member later is in none of the batches
    const batches = [...this.#members].map((member) => ({ member, batch: member.take() }));
    const syncs = await Promise.allSettled(batches.map(({ batch }) => batch.sync()));
    const bad = syncs.findIndex(({ status }) => status === 'rejected');
    const reason = syncs[bad];
    if (reason?.status === 'rejected') {
      const isBad = (_: unknown, index: number): boolean => syncs[index]?.status === 'rejected';
      const members = new Set(batches.filter(isBad).map(({ member }) => member));
      for (const { member, batch } of batches) if (!members.has(member)) batch.putBack();
      return { kind: 'failed', error: reason.reason, members };
    }
    try {
      await this.#store.commit({
        pages: batches.map(({ batch: { pool, images } }) => ({ pool, images })),
        rows: [...batches.flatMap(({ batch }) => batch.rows), ...this.#rows],
      });
    } catch (error) {
      const passes = isStorageError(error, 'METADATA_FULL');
      if (passes) for (const { batch } of batches) batch.putBack();
      return { kind: 'failed', error, members: passes ? new Set() : this.#members };
    }
    for (const { batch } of batches) batch.settle();
    return { kind: 'durable' };
  }
}
