/**
 * A read-only point-in-time copy of a disk, and its views.
 *
 * A copy is a root of its own on the source's table at the freeze: nothing was moved. `full` reads
 * by A, `compact` by X: the mapped blocks in ascending A, one after the other (FIG. 11). As the
 * source of an image it hands out blocks in X order. A dedicated copy that is being filled has its
 * blocks in two tables (trees.ts, dedicated/dedicated.ts).
 *
 * Invariants:
 *  1. Generation, contents and all facts of the freeze never change.
 *  2. Everything that reads is a user: a copy with users is not deleted.
 *  3. An invalid copy is never read.
 *
 * Seed: FIG. 3, 9–12.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { CopyChecksums } from './checksums.ts';
import { EMPTY_ROOT, type TableRoot } from '../disk/allocation-table.ts';
import type { Labels } from '../disk/disk.ts';
import type { TableInSpace } from '../disk/table-difference.ts';
import { assertNone, type User, Users } from '../disk/users.ts';
import { exclusiveBlocks } from '../disk/exclusive-blocks.ts';
import type { Lineage } from '../disk/lineage.ts';
import type { MappedRun } from '../disk/table-walk.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import { copyRow } from './copy-row.ts';
import { type DataBlockRun, countRuns, dataBlockRuns } from './dedicated/data-blocks.ts';
import type { Dedicated } from './dedicated/dedicated.ts';
import {
  type Tree,
  placedRuns,
  placesOf,
  readByAddress,
  readByRank,
  selectBlock,
} from './trees.ts';

export type Layout = 'compact' | 'full';
export type CopyView = 'compact' | 'full';
export type Placement = 'shared' | 'dedicated';

export interface CopyRecord {
  readonly id: string;
  name: string;
  readonly diskId: string;
  readonly diskName: string;
  readonly layout: Layout;
  readonly placement: Placement;
  /** Every block of the copy was born in this generation or before. */
  readonly generation: number;
  /** Where in the history of its disk it stands; the last step is in `generation`. */
  readonly lineage: Lineage;
  readonly sourceCapacityBytes: number;
  /** Its own table; a dedicated copy's grows while it is filled. */
  root: TableRoot;
  /** Known when the freeze is over; of a group the same for all. */
  haltMicroseconds: number;
  labels: Labels;
  /**
   * `internal`: the root that a write-back returns to if it fails; not visible. `invalid`: a block
   * could not be preserved; it is listed and can be deleted, nothing else.
   */
  state: 'ready' | 'internal' | 'invalid';
  version: number;
  readonly frozenAtMs: number;
  /** The group that it was frozen with; absent: it was frozen alone. */
  readonly groupId?: string;
}

export interface CorrespondenceRun {
  readonly copyBlock: number;
  readonly sourceBlock: number;
  readonly length: number;
  readonly physicalBlock?: number;
}

/** A and P of blocks. */
export interface Places {
  readonly source: Float64Array;
  readonly physical: Uint32Array;
}

export class Copy {
  readonly pool: Pool;
  readonly record: CopyRecord;
  /** Of placement `dedicated`. */
  readonly dedicated: Dedicated | undefined;
  readonly #checksums: CopyChecksums;
  readonly #users = new Users();
  #isDeleted = false;
  #exclusive: { readonly key: string; readonly bytes: number } | undefined;

  constructor(pool: Pool, record: CopyRecord, checksums: CopyChecksums, dedicated?: Dedicated) {
    this.pool = pool;
    this.record = record;
    this.dedicated = dedicated;
    this.#checksums = checksums;
  }

  get id(): string {
    return this.record.id;
  }

  get name(): string {
    return this.record.name;
  }

  get usedBlocks(): number {
    const { problem, owedBlocks = 0 } = this.dedicated ?? {};
    return problem?.usedBlocks ?? this.record.root.mapped + owedBlocks;
  }

  /** All its blocks are in its own table: it holds nothing of another pool. */
  get isWhole(): boolean {
    return this.dedicated?.owed === undefined;
  }

  get blockSizeBytes(): number {
    return this.pool.blockSizeBytes;
  }

  /** By layout: the used area only, or the source's capacity. */
  get capacityBytes(): number {
    return this.viewBytes(this.record.layout);
  }

  get isDeleted(): boolean {
    return this.#isDeleted;
  }

  markDeleted(): void {
    this.#isDeleted = true;
  }

  viewBytes(view: CopyView): number {
    if (view === 'full') return this.record.sourceCapacityBytes;
    return this.usedBlocks * this.blockSizeBytes;
  }

  users(): User[] {
    return this.#users.list();
  }

  /** @throws NOT_FOUND, COPY_INVALID, COPY_IN_USE (being deleted); the answer ends the use */
  addUser(user: User): () => void {
    this.assertServed();
    return this.#users.add(user);
  }

  /** Ends all users and waits until they are gone; nobody becomes one meanwhile. */
  async endUsers(reason: StorageError): Promise<void> {
    await this.#users.end(reason);
  }

  /** @throws COPY_IN_USE with the users */
  assertUnused(): void {
    const details = { copy: this.name };
    assertNone(this.users(), 'COPY_IN_USE', `copy ${this.name} is in use`, details);
  }

  /** @throws RANGE_NOT_SATISFIABLE, DATA_UNREADABLE, NOT_FOUND, COPY_INVALID */
  async read(view: CopyView, offset: number, into: Uint8Array): Promise<void> {
    const end = offset + into.length;
    if (offset < 0 || end > this.viewBytes(view)) {
      throw new StorageError(
        'RANGE_NOT_SATISFIABLE',
        `bytes ${offset} to ${end} are beyond the view of ${this.viewBytes(view)} bytes`,
        { offset, length: into.length, capacityBytes: this.viewBytes(view) },
      );
    }
    const read = view === 'full' ? readByAddress : readByRank;
    await read(this.#trees, this.blockSizeBytes, offset, into);
  }

  /** Runs X → A from X on, ascending. */
  async correspondence(
    from: number,
    maxRuns: number,
    physical = false,
  ): Promise<{ runs: CorrespondenceRun[]; next?: number }> {
    this.assertServed();
    if (from >= this.usedBlocks) return { runs: [] };
    const first = await selectBlock(this.#trees, from);
    const found = await placedRuns(this.#trees, { from: first, maxRuns, physical });
    let copyBlock = from;
    const runs = found.map((run): CorrespondenceRun => {
      const at = copyBlock;
      copyBlock += run.length;
      const place = physical ? { physicalBlock: run.physical } : {};
      return { copyBlock: at, sourceBlock: run.first, length: run.length, ...place };
    });
    return copyBlock < this.usedBlocks ? { runs, next: copyBlock } : { runs };
  }

  /** The data block table from X on, as it is now (FIG. 3). */
  async dataBlocks(
    from: number,
    maxRuns: number,
  ): Promise<{ runs: DataBlockRun[]; next?: number }> {
    this.assertServed();
    if (from >= this.usedBlocks) return { runs: [] };
    const own = this.dedicated === undefined ? 'shared' : 'settled';
    const runs = await dataBlockRuns(this.#trees, own, from, maxRuns);
    const last = runs.at(-1);
    const next = last === undefined ? this.usedBlocks : last.copyBlock + last.length;
    return next < this.usedBlocks ? { runs, next } : { runs };
  }

  /** In how many physically consecutive runs its blocks lie. Cost: its leaves. */
  async physicalRuns(): Promise<number> {
    return countRuns(this.#trees);
  }

  /** Allocated ranges by A from a block on. */
  async allocatedRuns(
    from: number,
    maxRuns: number,
    physical: boolean,
  ): Promise<{ runs: MappedRun[]; next?: number }> {
    const options = { from, maxRuns: maxRuns + 1, physical };
    const found = await placedRuns(this.#trees, options);
    const next = found[maxRuns]?.first;
    const runs = found.slice(0, maxRuns);
    return next === undefined ? { runs } : { runs, next };
  }

  /** What a difference reads: tables of which at most one maps each block. @throws NOT_FOUND */
  tables(): TableInSpace[] {
    return this.#trees().map(({ pool, root }) => ({ space: pool, root }));
  }

  /**
   * A and P of `count` blocks from X on, for a reader outside the engine. Cost: the leaves met.
   * All of them must be in the copy's own pool: dedicated/lease.ts sees to that.
   */
  async places(first: number, count: number): Promise<Places> {
    if (count === 0) return { source: new Float64Array(), physical: new Uint32Array() };
    return this.placesAt(await selectBlock(this.#trees, first), count);
  }

  /** As `places`, of the first `count` blocks at or behind an A. */
  async placesAt(from: number, count: number): Promise<Places> {
    const source = new Float64Array(count);
    const physical = new Uint32Array(count);
    const options = { from, maxRuns: count, maxBlocks: count, physical: true };
    let at = 0;
    for (const run of await placedRuns(this.#trees, options)) {
      assert(run.pool === this.pool, 'a block that is handed out is in the pool of its copy');
      for (let index = 0; index < run.length; index += 1) {
        source[at] = run.first + index;
        physical[at] = run.physical + index;
        at += 1;
      }
    }
    return { source, physical };
  }

  get facts(): {
    copyId: string;
    diskId: string;
    diskName: string;
    frozenAtMs: number;
    generation: number;
    capacityBytes: number;
    blockSizeBytes: number;
    usedBlocks: number;
    base: null;
    zeroRanges: 0;
    copyBlocks: number;
  } {
    const { id, diskId, diskName, frozenAtMs, generation, sourceCapacityBytes } = this.record;
    return {
      copyId: id,
      diskId,
      diskName,
      frozenAtMs,
      generation,
      capacityBytes: sourceCapacityBytes,
      blockSizeBytes: this.blockSizeBytes,
      usedBlocks: this.usedBlocks,
      base: null,
      zeroRanges: 0,
      copyBlocks: this.usedBlocks,
    };
  }

  async sourceBlocks(first: number, count: number): Promise<Float64Array> {
    const source = new Float64Array(count);
    let at = 0;
    for (const run of await placesOf(this.#trees, first, count)) {
      for (let index = 0; index < run.length; index += 1) source[at + index] = run.first + index;
      at += run.length;
    }
    return source;
  }

  /** The image of a copy by itself is full. */
  zeroRangesAt(): Promise<Float64Array> {
    return Promise.resolve(new Float64Array());
  }

  async readBlocks(first: number, count: number, into: Uint8Array): Promise<void> {
    const size = this.blockSizeBytes;
    await readByRank(this.#trees, size, first * size, into.subarray(0, count * size));
  }

  async knownChecksums(segment: number): Promise<Uint32Array | undefined> {
    return this.#checksums.known(this.id, segment);
  }

  async keepChecksums(segment: number, checksums: Uint32Array): Promise<void> {
    await this.#checksums.keep(this.id, segment, checksums);
  }

  /** What deleting this copy now would free. Walks its own; kept until a change. */
  async exclusiveBytes(): Promise<number> {
    const trees = this.#heldTrees();
    const key = trees.map(({ pool, root }) => `${root.node}/${root.mapped}/${pool.sharing}`).join();
    if (this.#exclusive?.key === key) return this.#exclusive.bytes;
    let blocks = 0;
    for (const [index, { pool }] of trees.entries()) {
      blocks += await exclusiveBlocks(pool, () => this.#heldTrees()[index]?.root ?? EMPTY_ROOT);
    }
    this.#exclusive = { key, bytes: blocks * this.blockSizeBytes };
    return this.#exclusive.bytes;
  }

  row(): RowChange {
    return copyRow(this);
  }

  /**
   * The one table of a copy that has all its blocks, for whoever shares it.
   * @throws NOT_FOUND if the copy is gone; COPY_INVALID; COPY_IN_USE while it is being filled
   */
  liveRoot(): TableRoot {
    this.assertServed();
    if (this.isWhole) return this.record.root;
    throw new StorageError('COPY_IN_USE', `copy ${this.name} is being filled`, {
      copy: this.name,
      owedBlocks: this.dedicated?.owedBlocks ?? 0,
    });
  }

  /** @throws NOT_FOUND */
  assertLive(): void {
    if (this.#isDeleted) throw new StorageError('NOT_FOUND', `copy ${this.name} was deleted`);
  }

  /** Runs alone among those who change a dedicated copy; a shared one changes in one turn. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.dedicated === undefined ? work() : this.dedicated.exclusively(work);
  }

  /** @throws NOT_FOUND, COPY_INVALID with the reason */
  assertServed(): void {
    this.assertLive();
    if (this.record.state !== 'invalid') return;
    const { code = 'INTERNAL', detail = '' } = this.dedicated?.problem ?? {};
    throw new StorageError(
      'COPY_INVALID',
      `copy ${this.name} is invalid: a block could not be preserved`,
      { copy: this.name, reason: { code, detail } },
    );
  }

  /** The tables, for a read that is under way. @throws NOT_FOUND, COPY_INVALID */
  readonly #trees = (): readonly Tree[] => {
    this.assertServed();
    return this.#heldTrees();
  };

  /** The tables that it holds, whether it is served or not. */
  #heldTrees(): readonly Tree[] {
    const own = { pool: this.pool, root: this.record.root };
    const owed = this.dedicated?.owed;
    return owed === undefined ? [own] : [own, owed];
  }
}
