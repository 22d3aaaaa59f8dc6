/**
 * A virtual disk: what it is, who uses it, and its data calls; the work is in read, write,
 * discard and resize beside this file.
 *
 * Invariants:
 *  1. `root` and `generation` change only in a turn in which the gate lets it: data operations
 *     apply inside the gate, a freeze or a table swap changes them with the gate closed.
 *  2. A block is overwritten in place only if its birth is the disk's generation.
 *  3. Bytes of the last block beyond the capacity are zero.
 *  4. A fenced, deleted or unfinished disk answers no data request.
 */
import { StorageError } from '../base/errors.ts';
import { type Deferred, Gate, Mutex } from '../base/mutex.ts';
import { RateLimit } from '../base/rate-limit.ts';
import { blocksFor } from '../base/units.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import type { TableChange, TableRoot } from './allocation-table.ts';
import { discardRange } from './discard.ts';
import { exclusiveBlocks } from './exclusive-blocks.ts';
import { type Lineage, beginLine, continueLine, lineageText } from './lineage.ts';
import { Quota } from './quota.ts';
import { RangeLock } from './range-lock.ts';
import { readRange } from './read.ts';
import { mappedRuns } from './table-walk.ts';
import { assertNone, jobAsUser, type User, Users } from './users.ts';
import { writeRange } from './write.ts';

export type Labels = Readonly<Record<string, string>>;

/** `restoring`: made by a restore that has not finished; not visible by name to data requests. */
export type DiskState = 'ready' | 'fenced' | 'restoring';

export interface DiskRecord {
  readonly id: string;
  name: string;
  capacityBytes: number;
  labels: Labels;
  detectZeroes: boolean;
  reserveBytes: number;
  /** Most bytes that it may map; null: no limit. */
  quotaBytes: number | null;
  /** For data requests, reads and writes together; null: no limit. */
  maxBytesPerSecond: number | null;
  generation: number;
  /** Its last step is in `generation`. */
  lineage: Lineage;
  root: TableRoot;
  state: DiskState;
  /** Job that fences or fills the disk. */
  job: string | null;
  /** Copy that the disk was made from. */
  readonly origin: string | null;
  readonly creation: string;
  version: number;
  readonly createdAtMs: number;
}

/** A block of a disk that a copy may hold too. */
export interface OwedBlock {
  readonly logical: number;
  /** P. */
  readonly block: number;
}

export interface AllocatedRuns {
  readonly runs: readonly { block: number; length: number; physicalBlock?: number }[];
  /** First block of the next page, if there is one. */
  readonly next?: number;
}

export class Disk {
  readonly pool: Pool;
  readonly record: DiskRecord;
  readonly gate = new Gate();
  readonly lock = new RangeLock();
  /** Adopted blocks whose new births may not be durable yet: none is overwritten before. */
  readonly adoptions = new Set<readonly TableChange[]>();
  /** Writes of which a part is applied: a fence waits for the rest. */
  readonly begun = new Set<Promise<unknown>>();
  /** Changes of the record, one at a time. */
  readonly updates = new Mutex();
  readonly quota = new Quota();
  /** What data requests ask before they move bytes. */
  readonly rate = new RateLimit();
  readonly #users = new Users();
  /** Unmappings are remembered while a copy or checkpoint older than them exists. */
  keepsTombstones = false;
  /**
   * Set while a copy may want blocks that this disk is about to move, so that they can stay where
   * they are. @param isFull they cannot move, for want of room
   * Resolves true if they may be free to be overwritten now. @throws if the write must fail
   */
  beforeOverwrite:
    ((blocks: readonly OwedBlock[], isFull: boolean) => Promise<boolean>) | undefined;
  /** What it is for everybody while the end of that, which the record says, is not durable yet. */
  ending: (Pick<DiskRecord, 'state' | 'job'> & { readonly over: Deferred<undefined> }) | undefined;
  #isDeleted = false;
  #exclusive: { readonly key: string; readonly bytes: number } | undefined;

  constructor(pool: Pool, record: DiskRecord) {
    this.pool = pool;
    this.record = record;
    this.rate.set(record.maxBytesPerSecond);
  }

  get id(): string {
    return this.record.id;
  }

  get name(): string {
    return this.record.name;
  }

  get capacityBytes(): number {
    return this.record.capacityBytes;
  }

  get blockSizeBytes(): number {
    return this.pool.blockSizeBytes;
  }

  get labels(): Labels {
    return this.record.labels;
  }

  get detectZeroes(): boolean {
    return this.record.detectZeroes;
  }

  get reserveBytes(): number {
    return this.record.reserveBytes;
  }

  get quotaBytes(): number | null {
    return this.record.quotaBytes;
  }

  get maxBytesPerSecond(): number | null {
    return this.record.maxBytesPerSecond;
  }

  get state(): DiskState {
    return (this.ending ?? this.record).state;
  }

  get fencedBy(): string | undefined {
    return (this.ending ?? this.record).job ?? undefined;
  }

  get version(): number {
    return this.record.version;
  }

  get createdAtMs(): number {
    return this.record.createdAtMs;
  }

  get root(): TableRoot {
    return this.record.root;
  }

  get generation(): number {
    return this.record.generation;
  }

  /** The next generation of the same line: what is there now is frozen. */
  nextGeneration(generation: number): void {
    this.record.lineage = continueLine(this.record.lineage, generation);
    this.record.generation = generation;
  }

  /** Another table, whose history from here on is the disk's; empty: a line without ancestors. */
  takeTable(root: TableRoot, generation: number, on: Lineage = []): void {
    this.record.root = root;
    this.record.lineage = beginLine(generation, on);
    this.record.generation = generation;
  }

  /** Another capacity by a restore: a client can set it, so the version tells. */
  takeCapacity(capacityBytes: number): void {
    if (capacityBytes === this.capacityBytes) return;
    this.record.capacityBytes = capacityBytes;
    this.record.version += 1;
  }

  /** Mapped blocks in bytes. O(1). */
  get usedBytes(): number {
    return this.record.root.mapped * this.blockSizeBytes;
  }

  get isDeleted(): boolean {
    return this.#isDeleted;
  }

  markDeleted(): void {
    this.#isDeleted = true;
  }

  /** The table, for a data operation that is under way. @throws NOT_FOUND if the disk is gone */
  liveRoot(): TableRoot {
    if (this.#isDeleted) throw new StorageError('NOT_FOUND', `disk ${this.name} was deleted`);
    return this.record.root;
  }

  /** The job that fences or fills it is one. */
  users(): User[] {
    const job = this.fencedBy;
    return [
      ...this.#users.list(),
      ...(job === undefined ? [] : [jobAsUser(job, this.createdAtMs)]),
    ];
  }

  /** @throws NOT_FOUND, DISK_FENCED, DISK_IN_USE (it is being deleted); the answer ends the use */
  addUser(user: User): () => void {
    this.assertAccessible();
    return this.#users.add(user);
  }

  /** Ends all users and waits until they are gone; nobody becomes one meanwhile. */
  async endUsers(reason: StorageError): Promise<void> {
    await this.#users.end(reason);
  }

  /** @throws DISK_IN_USE with the users */
  assertUnused(): void {
    const details = { disk: this.name };
    assertNone(this.users(), 'DISK_IN_USE', `disk ${this.name} is in use`, details);
  }

  /** @throws NOT_FOUND, DISK_FENCED */
  assertAccessible(): void {
    this.liveRoot();
    if (this.state !== 'ready') throw this.#fencedError();
  }

  #fencedError(): StorageError {
    return new StorageError('DISK_FENCED', `disk ${this.name} is fenced by a restore`, {
      disk: this.name,
      job: this.fencedBy ?? null,
    });
  }

  /**
   * A check for an operation that waits: it throws once the disk is deleted, or fenced, or given
   * back, since the operation began. In the turn of a good answer the table may be changed.
   * @throws (the check) NOT_FOUND, DISK_FENCED
   */
  admission(): () => void {
    const { state, fencedBy } = this;
    return () => {
      this.liveRoot();
      if (this.state !== state || this.fencedBy !== fencedBy) throw this.#fencedError();
    };
  }

  /** @throws RANGE_NOT_SATISFIABLE unless 0 ≤ offset, offset + length ≤ capacity */
  assertRange(offset: number, length: number): void {
    const end = offset + length;
    if (offset >= 0 && length >= 0 && end <= this.capacityBytes) return;
    throw new StorageError(
      'RANGE_NOT_SATISFIABLE',
      `bytes ${offset} to ${end} are beyond the capacity of ${this.capacityBytes} bytes`,
      { offset, length, capacityBytes: this.capacityBytes },
    );
  }

  /**
   * Fills `into` with the bytes from `offset`; unmapped blocks read as zeros.
   * @throws RANGE_NOT_SATISFIABLE, DISK_FENCED, DATA_UNREADABLE
   */
  async read(offset: number, into: Uint8Array): Promise<void> {
    this.assertRange(offset, into.length);
    this.assertAccessible();
    await readRange(this.pool, () => this.liveRoot(), offset, into);
  }

  /**
   * Writes any byte range of at most 4 MiB, all or nothing. Durable only after `flush`.
   * @throws POOL_FULL, QUOTA_EXCEEDED, RANGE_NOT_SATISFIABLE, DISK_FENCED, POOL_POISONED,
   *   HOST_FULL
   */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.assertRange(offset, bytes.length);
    this.assertAccessible();
    this.pool.assertWritable();
    await writeRange(this, offset, bytes);
  }

  /** Unmaps the whole blocks and zeroes the part blocks of the range. Errors as `write`. */
  async discard(offset: number, length: number): Promise<void> {
    this.assertRange(offset, length);
    this.assertAccessible();
    this.pool.assertWritable();
    await discardRange(this, offset, length);
  }

  /** Makes all completed writes and discards durable. @throws POOL_POISONED */
  async flush(): Promise<void> {
    await this.pool.flush();
  }

  /** Allocated ranges from a block on, ascending. */
  async allocatedRuns(from: number, maxRuns: number, physical: boolean): Promise<AllocatedRuns> {
    const found = await mappedRuns(this.pool, () => this.liveRoot(), {
      from,
      maxRuns: maxRuns + 1,
      physical,
    });
    const page = found.slice(0, maxRuns).map((run) => ({
      block: run.first,
      length: run.length,
      ...(physical ? { physicalBlock: run.physical } : {}),
    }));
    const next = found[maxRuns]?.first;
    return next === undefined ? { runs: page } : { runs: page, next };
  }

  /** What deleting this disk now would free. Walks the table; kept until something changes. */
  async exclusiveBytes(): Promise<number> {
    const { node, mapped } = this.root;
    const key = `${node}/${mapped}/${this.pool.sharing}`;
    if (this.#exclusive?.key === key) return this.#exclusive.bytes;
    const bytes = (await exclusiveBlocks(this.pool, () => this.liveRoot())) * this.blockSizeBytes;
    this.#exclusive = { key, bytes };
    return bytes;
  }

  /** What discarding a byte range now would free: its whole blocks that nobody else holds. */
  async exclusiveBytesIn(offset: number, length: number): Promise<number> {
    this.assertRange(offset, length);
    const size = this.blockSizeBytes;
    const end = offset + length;
    const range = {
      first: Math.ceil(offset / size),
      end: end === this.capacityBytes ? blocksFor(end, size) : Math.floor(end / size),
    };
    return (await exclusiveBlocks(this.pool, () => this.liveRoot(), range)) * size;
  }

  /** The table or record changed: the row goes into the next batch. */
  changed(): void {
    this.pool.changeRow(`disk ${this.id}`, () => this.row());
  }

  row(): RowChange | undefined {
    const { record } = this;
    if (this.#isDeleted) return { table: 'disks', key: { id: record.id }, row: undefined };
    return {
      table: 'disks',
      key: { id: record.id },
      row: {
        name: record.name,
        pool: this.pool.id,
        capacity_bytes: record.capacityBytes,
        labels: JSON.stringify(record.labels),
        detect_zeroes: record.detectZeroes ? 1 : 0,
        reserve_bytes: record.reserveBytes,
        generation: record.generation,
        root_node: record.root.node,
        root_height: record.root.height,
        mapped_blocks: record.root.mapped,
        state: record.state,
        job: record.job,
        origin: record.origin,
        creation: record.creation,
        version: record.version,
        created_at: record.createdAtMs,
        quota_bytes: record.quotaBytes,
        max_bytes_per_second: record.maxBytesPerSecond,
        lineage: lineageText(record.lineage),
      },
    };
  }
}
