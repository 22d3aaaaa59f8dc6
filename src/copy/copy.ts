/**
 * A read-only point-in-time copy of a disk, and its views.
 *
 * A copy is a root of its own on the source's table at the freeze: nothing was moved. `full` reads
 * by A, `compact` by X: the mapped blocks in ascending A, one after the other (FIG. 11). As the
 * source of an image it hands out blocks in X order.
 *
 * Invariants:
 *  1. Root, generation and all facts of the freeze never change.
 *  2. Everything that reads is a user: a copy with users is not deleted.
 *
 * Seed: FIG. 3, 9–12.
 */
import { StorageError } from '../base/errors.ts';
import { SEGMENT_BLOCK_BYTES } from './checksums.ts';
import type { CopyChecksums } from './checksums.ts';
import type { TableRoot } from '../disk/allocation-table.ts';
import type { Labels } from '../disk/disk.ts';
import type { TableInSpace } from '../disk/table-difference.ts';
import { type User, Users } from '../disk/users.ts';
import { exclusiveBlocks } from '../disk/exclusive-blocks.ts';
import { type Lineage, lineageText } from '../disk/lineage.ts';
import { readRange } from '../disk/read.ts';
import { type MappedRun, mappedRuns, selectMapped } from '../disk/table-walk.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';

export type Layout = 'compact' | 'full';
export type CopyView = 'compact' | 'full';

export interface CopyRecord {
  readonly id: string;
  name: string;
  readonly diskId: string;
  readonly diskName: string;
  readonly layout: Layout;
  readonly placement: 'shared';
  /** Every block of the copy was born in this generation or before. */
  readonly generation: number;
  /** Where in the history of its disk it stands; the last step is in `generation`. */
  readonly lineage: Lineage;
  readonly sourceCapacityBytes: number;
  readonly root: TableRoot;
  /** Known when the freeze is over; of a group the same for all. */
  haltMicroseconds: number;
  labels: Labels;
  /** `internal`: the root that a write-back returns to if it fails; not visible. */
  state: 'ready' | 'internal';
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

export class Copy {
  readonly pool: Pool;
  readonly record: CopyRecord;
  readonly #checksums: CopyChecksums;
  readonly #users = new Users();
  #isDeleted = false;
  #exclusive: { readonly key: string; readonly bytes: number } | undefined;

  constructor(pool: Pool, record: CopyRecord, checksums: CopyChecksums) {
    this.pool = pool;
    this.record = record;
    this.#checksums = checksums;
  }

  get id(): string {
    return this.record.id;
  }

  get name(): string {
    return this.record.name;
  }

  get usedBlocks(): number {
    return this.record.root.mapped;
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

  /** @throws NOT_FOUND, COPY_IN_USE (it is being deleted); the answer ends the use */
  addUser(user: User): () => void {
    this.liveRoot();
    return this.#users.add(user);
  }

  /** Ends all users and waits until they are gone; nobody becomes one meanwhile. */
  async endUsers(reason: StorageError): Promise<void> {
    await this.#users.end(reason);
  }

  /** @throws COPY_IN_USE with the users */
  assertUnused(): void {
    const message = `copy ${this.name} is in use`;
    this.#users.assertNone('COPY_IN_USE', message, { copy: this.name });
  }

  /** @throws RANGE_NOT_SATISFIABLE, DATA_UNREADABLE, NOT_FOUND */
  async read(view: CopyView, offset: number, into: Uint8Array): Promise<void> {
    const end = offset + into.length;
    if (offset < 0 || end > this.viewBytes(view)) {
      throw new StorageError(
        'RANGE_NOT_SATISFIABLE',
        `bytes ${offset} to ${end} are beyond the view of ${this.viewBytes(view)} bytes`,
        { offset, length: into.length, capacityBytes: this.viewBytes(view) },
      );
    }
    if (view === 'full') await readRange(this.pool, () => this.liveRoot(), offset, into);
    else await this.#readCompact(offset, into);
  }

  /** Runs X → A from X on, ascending. */
  async correspondence(
    from: number,
    maxRuns: number,
    physical = false,
  ): Promise<{ runs: CorrespondenceRun[]; next?: number }> {
    if (from >= this.usedBlocks) return { runs: [] };
    const first = await selectMapped(this.pool, () => this.liveRoot(), from);
    const found = await mappedRuns(this.pool, () => this.liveRoot(), {
      from: first,
      maxRuns,
      physical,
    });
    let copyBlock = from;
    const runs = found.map((run): CorrespondenceRun => {
      const at = copyBlock;
      copyBlock += run.length;
      const place = physical ? { physicalBlock: run.physical } : {};
      return { copyBlock: at, sourceBlock: run.first, length: run.length, ...place };
    });
    return copyBlock < this.usedBlocks ? { runs, next: copyBlock } : { runs };
  }

  /** Allocated ranges by A from a block on. */
  async allocatedRuns(
    from: number,
    maxRuns: number,
    physical: boolean,
  ): Promise<{ runs: MappedRun[]; next?: number }> {
    const options = { from, maxRuns: maxRuns + 1, physical };
    const found = await mappedRuns(this.pool, () => this.liveRoot(), options);
    const next = found[maxRuns]?.first;
    const runs = found.slice(0, maxRuns);
    return next === undefined ? { runs } : { runs, next };
  }

  /** What a difference reads: tables of which at most one maps each block. @throws NOT_FOUND */
  tables(): TableInSpace[] {
    return [{ space: this.pool, root: this.liveRoot() }];
  }

  /** Places of `count` blocks from X on: A and P of each. Cost: the leaves met. */
  async places(
    first: number,
    count: number,
  ): Promise<{ source: Float64Array; physical: Uint32Array }> {
    if (count === 0) return { source: new Float64Array(), physical: new Uint32Array() };
    return this.placesAt(await selectMapped(this.pool, () => this.liveRoot(), first), count);
  }

  /** Places of the first `count` blocks at or behind an A: A and P of each. */
  async placesAt(
    from: number,
    count: number,
  ): Promise<{ source: Float64Array; physical: Uint32Array }> {
    const source = new Float64Array(count);
    const physical = new Uint32Array(count);
    const options = { from, maxRuns: count, maxBlocks: count, physical: true };
    const runs = await mappedRuns(this.pool, () => this.liveRoot(), options);
    let at = 0;
    for (const run of runs) {
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
    return (await this.places(first, count)).source;
  }

  /** The image of a copy by itself is full. */
  zeroRangesAt(): Promise<Float64Array> {
    return Promise.resolve(new Float64Array());
  }

  async readBlocks(first: number, count: number, into: Uint8Array): Promise<void> {
    await this.#readCompact(
      first * this.blockSizeBytes,
      into.subarray(0, count * this.blockSizeBytes),
    );
  }

  async knownChecksums(segment: number): Promise<Uint32Array | undefined> {
    return this.#checksums.known(this.id, segment);
  }

  async keepChecksums(segment: number, checksums: Uint32Array): Promise<void> {
    await this.#checksums.keep(this.id, segment, checksums);
  }

  /** What deleting this copy now would free. Walks its own; kept until a change. */
  async exclusiveBytes(): Promise<number> {
    const key = this.pool.sharing;
    if (this.#exclusive?.key === key) return this.#exclusive.bytes;
    const blocks = await exclusiveBlocks(this.pool, () => this.liveRoot());
    this.#exclusive = { key, bytes: blocks * this.blockSizeBytes };
    return this.#exclusive.bytes;
  }

  row(): RowChange {
    const { record } = this;
    return {
      table: 'copies',
      key: { id: record.id },
      row: {
        name: record.name,
        disk_id: record.diskId,
        disk_name: record.diskName,
        pool: this.pool.id,
        layout: record.layout,
        placement: record.placement,
        generation: record.generation,
        block_size_bytes: this.blockSizeBytes,
        source_capacity_bytes: record.sourceCapacityBytes,
        root_node: record.root.node,
        root_height: record.root.height,
        mapped_blocks: record.root.mapped,
        halt_microseconds: record.haltMicroseconds,
        labels: JSON.stringify(record.labels),
        state: this.#isDeleted ? 'deleted' : record.state,
        lineage: lineageText(record.lineage),
        version: record.version,
        frozen_at: record.frozenAtMs,
        group_id: record.groupId ?? null,
      },
    };
  }

  /** The table, for a read that is under way. @throws NOT_FOUND if the copy is gone */
  liveRoot(): TableRoot {
    if (this.#isDeleted) throw new StorageError('NOT_FOUND', `copy ${this.name} was deleted`);
    return this.record.root;
  }

  /** By X: places first, then one read for each physically consecutive stretch. */
  async #readCompact(offset: number, into: Uint8Array): Promise<void> {
    const size = this.blockSizeBytes;
    const step = SEGMENT_BLOCK_BYTES;
    for (let at = 0; at < into.length; at += step) {
      const part = into.subarray(at, Math.min(into.length, at + step));
      const first = Math.floor((offset + at) / size);
      const skip = offset + at - first * size;
      const count = Math.ceil((skip + part.length) / size);
      // as in readRange: what was looked up is not handed out before it is read
      const epoch = this.pool.enterRead();
      try {
        const { physical } = await this.places(first, count);
        await readStretches(this.pool, physical, skip, part);
      } finally {
        this.pool.leaveRead(epoch);
      }
    }
  }
}

/** Reads blocks listed by P, from byte `skip` of the first, one read a stretch. */
async function readStretches(
  pool: Pool,
  physical: Uint32Array,
  skip: number,
  into: Uint8Array,
): Promise<void> {
  const size = pool.blockSizeBytes;
  const reads: Promise<void>[] = [];
  let index = 0;
  let done = 0;
  while (index < physical.length) {
    let end = index + 1;
    while (end < physical.length && physical[end] === (physical[end - 1] ?? 0) + 1) end += 1;
    const from = index === 0 ? skip : 0;
    const length = Math.min((end - index) * size - from, into.length - done);
    const target = into.subarray(done, done + length);
    reads.push(pool.files.read(physical[index] ?? 0, from, target));
    done += length;
    index = end;
  }
  await Promise.all(reads);
}
