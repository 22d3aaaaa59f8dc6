/**
 * Many operations at once on a small engine, with the history of every sector beside them.
 *
 * Actors are loops that begin their operations without asking each other. What each read sees is
 * judged by the history; a copy must be a cut of it, and never change afterwards.
 */
import { expect } from 'vitest';
import { isStorageError, type ErrorCode } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { Copy } from '../../src/copy/copy.ts';
import { freeze } from '../../src/copy/freeze.ts';
import { remap } from '../../src/copy/remap.ts';
import { fence, swapTable, unfence } from '../../src/copy/write-back.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { checkEngine } from './check-engine.ts';
import { type Engine, openEngine } from './engine.ts';
import { Clock, differences, History, SECTOR, sectorsOf, type Write } from './history.ts';
import { JumpyFiles, JumpyMetadata, turns, within } from './jumpy.ts';
import { outcomeOf } from './outcome.ts';
import { generator } from './volatile-medium.ts';

const SIZE = 16 * KIB;

export interface LiveDisk {
  readonly disk: Disk;
  readonly history: History;
  isDeleted: boolean;
}

export interface LiveCopy {
  readonly copy: Copy;
  readonly bytes: Buffer;
  readonly history: History;
  isDeleted: boolean;
}

const user = { kind: 'test', id: 'test', sinceMs: 0, abort: () => undefined };

export interface StormOptions {
  readonly seed: number;
  readonly poolBlocks: number;
  readonly diskBlocks: number;
  readonly cacheBytes: number;
  readonly actors: number;
  readonly operations: number;
  /** Longest write, in sectors. */
  readonly maxSectors: number;
  /** Now and then a commit or write finds no room, or a read fails. */
  readonly troubles?: boolean;
}

/** Someone else has the disk, or it is gone. */
const gone: readonly ErrorCode[] = ['NOT_FOUND', 'DISK_FENCED', 'DISK_IN_USE'];
/** What an operation may be refused with beside its own reasons, once there are troubles. */
const troubles: readonly ErrorCode[] = ['METADATA_FULL', 'HOST_FULL', 'DATA_UNREADABLE'];

export class Storm {
  readonly engine: Engine;
  readonly store: JumpyMetadata;
  readonly files: JumpyFiles;
  readonly #o: StormOptions;
  readonly #random: () => number;
  readonly #clock = new Clock();
  readonly #disks: LiveDisk[] = [];
  readonly #copies: LiveCopy[] = [];
  /** When the last flush that was answered had been called. */
  #durableAt = 0;
  #names = 0;
  #blocks: number;
  readonly counts: Record<string, number> = {};

  private constructor(engine: Engine, store: JumpyMetadata, files: JumpyFiles, o: StormOptions) {
    this.engine = engine;
    this.store = store;
    this.files = files;
    this.#o = o;
    this.#random = generator(o.seed);
    this.#blocks = o.poolBlocks;
  }

  static async open(o: StormOptions): Promise<Storm> {
    const files = new JumpyFiles(o.seed);
    const store = new JumpyMetadata(o.seed);
    const engine = await openEngine({ store, fileSystem: files, cacheBytes: o.cacheBytes });
    const storm = new Storm(engine, store, files, o);
    await engine.pools.create({
      name: 'p',
      blockSizeBytes: SIZE,
      files: [{ path: '/p', sizeBytes: MIB + o.poolBlocks * SIZE }],
    });
    await storm.#create();
    await storm.#create();
    return storm;
  }

  /** What there is, and what of it must be found after a power cut. */
  get found(): { disks: readonly LiveDisk[]; copies: readonly LiveCopy[]; durableAt: number } {
    return { disks: this.#disks, copies: this.#copies, durableAt: this.#durableAt };
  }

  /** Runs all actors until something is cut. */
  async runUntilCut(): Promise<void> {
    const actors = Array.from({ length: this.#o.actors }, () => this.#act());
    const cut = async (): Promise<void> => {
      for (let turn = 0; turn < 10_000 && !this.files.isCut; turn += 1) await turns(1);
    };
    await Promise.race([Promise.allSettled(actors), cut()]);
  }

  /** Runs all actors to their end, then looks whether everything has come to rest. */
  async run(): Promise<void> {
    const actors = Array.from({ length: this.#o.actors }, () => this.#act());
    await within(60_000, Promise.all(actors), () => `the storm is stuck: ${this.#state()}`);
    this.store.isFull = false;
    this.files.failNoMore();
    await within(10_000, this.#rest(), () => `it does not come to rest: ${this.#state()}`);
    for (const live of this.#copies) await this.#readCopy(live);
    for (const live of this.#disks) await this.#readDisk(live, 0, this.#sectors(live));
    expect(await checkEngine(this.engine, this.store)).toEqual([]);
    const errors = this.engine.errors.filter((error) => !isStorageError(error, 'METADATA_FULL'));
    expect(errors).toEqual([]);
    await this.engine.close();
  }

  #state(): string {
    const { heldBlocks: held, usedBlocks: used } = this.engine.pools.get('p').allocator;
    const locks = this.#disks.map(({ disk: { lock, gate } }) => [lock.isIdle, gate.inside]);
    return JSON.stringify({ held, used, counts: this.counts, locks });
  }

  async #rest(): Promise<void> {
    const pool = this.engine.pools.get('p');
    const reclaimer = this.engine.disks.reclaimer(pool);
    while (await reclaimer.step()) await pool.throttle();
    await pool.flush();
    await pool.epochs.barrier();
    expect(pool.allocator.heldBlocks).toBe(0);
    for (const { disk } of this.#disks) {
      expect(disk.lock.isIdle && disk.gate.inside === 0 && disk.gate.isOpen).toBe(true);
    }
  }

  async #act(): Promise<void> {
    for (let step = 0; step < this.#o.operations; step += 1) {
      if (this.#pick(3) === 0) await turns(this.#pick(3));
      await this.#operate();
    }
  }

  async #operate(): Promise<void> {
    const live = this.#disks[this.#pick(this.#disks.length)];
    if (live === undefined) return this.#create();
    const kind = this.#pick(100);
    if (kind < 45) return this.#write(live, this.#pick(8) === 0);
    if (kind < 57) return this.#read(live);
    if (kind < 60) return this.#look(live);
    if (kind < 68) return this.#discard(live);
    if (kind < 72) return this.#flush(live);
    if (kind < 78) return this.#freeze(live);
    const copy = this.#copies[this.#pick(this.#copies.length)];
    if (kind < 84) return copy && this.#readCopy(copy);
    if (kind < 89) return this.#deleteCopy();
    if (kind < 92) return this.#remap();
    if (kind < 94) return this.#deleteDisk(live);
    if (kind < 96) return this.#create();
    if (kind < 97) return this.#resize(live);
    if (kind < 98) return this.#grow();
    if (this.#o.troubles === true && this.#pick(2) === 0) return this.#makeTrouble();
    return this.#writeBack(live);
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #name(kind: string): string {
    this.#names += 1;
    return `${kind}${this.#names}`;
  }

  #sectors({ disk }: LiveDisk): number {
    return disk.capacityBytes / SECTOR;
  }

  #range(live: LiveDisk, max = this.#o.maxSectors): { first: number; count: number } {
    const sectors = this.#sectors(live);
    const count = 1 + this.#pick(Math.min(max, sectors));
    return { first: this.#pick(sectors - count + 1), count };
  }

  async #create(): Promise<void> {
    if (this.#disks.length >= 4) return;
    const capacityBytes = this.#o.diskBlocks * SIZE - SECTOR * this.#pick(3);
    const detectZeroes = this.#pick(2) === 0;
    const name = this.#name('d');
    const number = this.#names;
    const made = this.engine.disks.create({ name, capacityBytes, detectZeroes });
    const disk = (await this.#valueOf(made, []))?.disk;
    if (disk === undefined) return;
    this.#disks.push({ disk, history: new History(number, this.#clock), isDeleted: false });
  }

  async #write(live: LiveDisk, zeroes: boolean): Promise<void> {
    const { first, count } = this.#range(live);
    const write = live.history.call(first, count, zeroes);
    const bytes = live.history.bytesOf(write);
    await this.#change(live, write, live.disk.write(first * SECTOR, bytes));
  }

  async #discard(live: LiveDisk): Promise<void> {
    const { first, count } = this.#range(live, this.#o.maxSectors * 4);
    const write = live.history.call(first, count, true);
    await this.#change(live, write, live.disk.discard(first * SECTOR, count * SECTOR), true);
  }

  async #resize(live: LiveDisk): Promise<void> {
    const old = this.#sectors(live);
    const sectors = this.#o.diskBlocks * (SIZE / SECTOR) - this.#pick(old);
    const write = live.history.call(sectors, Math.max(0, 2 * old), true);
    const patch = { capacityBytes: sectors * SECTOR, discard: true };
    await this.#change(live, write, this.engine.disks.update(live.disk.id, patch), true);
  }

  async #change(
    live: LiveDisk,
    write: Write,
    done: Promise<unknown>,
    inParts = false,
  ): Promise<void> {
    const code = await this.#codeOf(done, [...gone, 'POOL_FULL', 'RANGE_NOT_SATISFIABLE']);
    if (code === undefined) {
      live.history.answer(write);
      return;
    }
    const clean = code === 'POOL_FULL' || code === 'DISK_FENCED' || code === 'NOT_FOUND';
    if (clean && !inParts) live.history.refuse(write);
    else write.partly = true;
    live.history.answer(write);
    if (code === 'NOT_FOUND' && write.contents === undefined) expect(live.isDeleted).toBe(true);
  }

  /** Figures are those of some moment. */
  async #look({ disk }: LiveDisk): Promise<void> {
    const own = await this.#valueOf(disk.exclusiveBytes(), ['NOT_FOUND']);
    expect(own ?? 0).toBeLessThanOrEqual(this.engine.pools.get('p').capacityBytes);
    const page = await this.#valueOf(disk.allocatedRuns(0, 1000, true), ['NOT_FOUND']);
    let end = 0;
    for (const { block, length } of page?.runs ?? []) {
      expect(block).toBeGreaterThanOrEqual(end);
      end = block + length;
    }
  }

  async #read(live: LiveDisk): Promise<void> {
    const { first, count } = this.#range(live);
    await this.#readDisk(live, first, count);
  }

  async #readDisk(live: LiveDisk, first: number, count: number): Promise<void> {
    const calledAt = this.#clock.tick();
    const bytes = Buffer.alloc(count * SECTOR, 0xee);
    const read = live.disk.read(first * SECTOR, bytes);
    const code = await this.#codeOf(read, [...gone, 'RANGE_NOT_SATISFIABLE']);
    if (code !== undefined) return;
    const why = live.history.explain(first, bytes, calledAt, this.#clock.tick());
    expect(why).toBeUndefined();
  }

  async #flush(live: LiveDisk): Promise<void> {
    const calledAt = this.#clock.tick();
    if ((await this.#codeOf(live.disk.flush(), [])) !== undefined) return;
    this.#durableAt = Math.max(this.#durableAt, calledAt);
  }

  async #makeTrouble(): Promise<void> {
    const kind = this.#pick(3);
    if (kind === 0) this.store.isFull = true;
    else if (kind === 1) this.files.failNext('write', 'ENOSPC');
    else this.files.failNext('read', 'EIO');
  }

  /** The disk gets the bytes of a copy: like a write of them all. */
  async #writeBack(live: LiveDisk): Promise<void> {
    const source = this.#copies[this.#pick(this.#copies.length)];
    if (source === undefined) return;
    const job = this.#name('job');
    const fenced = fence(live.disk, job, true);
    if ((await this.#codeOf(fenced, gone)) !== undefined) return;
    const sectors = Math.max(this.#sectors(live), source.bytes.length / SECTOR);
    const write = live.history.call(0, sectors, true, sectorsOf(source.bytes));
    const swapped = swapTable(this.engine.copies, live.disk, source.copy, undefined);
    await this.#change(live, write, swapped, true);
    while (live.disk.fencedBy === job) await this.#codeOf(unfence(live.disk), []);
  }

  async #freeze(live: LiveDisk): Promise<void> {
    if (this.#copies.length >= 8) return;
    const calledAt = this.#clock.tick();
    const name = this.#name('c');
    const frozen = freeze(this.engine.copies, live.disk.id, { name });
    const copy = await this.#valueOf(frozen, ['NOT_FOUND', 'DISK_FENCED']);
    if (copy === undefined) return;
    const answeredAt = this.#clock.tick();
    const release = copy.addUser({ ...user });
    const bytes = Buffer.alloc(copy.record.sourceCapacityBytes, 0xee);
    await this.#retried(() => copy.read('full', 0, bytes));
    release();
    expect(live.history.explain(0, bytes, calledAt, answeredAt)).toBeUndefined();
    expect(live.history.explainCut(sectorsOf(bytes))).toBeUndefined();
    this.#copies.push({ copy, bytes, history: live.history, isDeleted: false });
  }

  /** Twice: as a user, who must be waited for, and by X. */
  async #readCopy(live: LiveCopy): Promise<void> {
    const { copy, bytes } = live;
    if (live.isDeleted) return;
    const release = copy.addUser({ ...user });
    try {
      const full = Buffer.alloc(bytes.length, 0xee);
      await this.#retried(() => copy.read('full', 0, full));
      expect(differences(full, bytes)).toEqual([]);
      const compact = Buffer.alloc(copy.viewBytes('compact'), 0xee);
      await this.#retried(() => copy.read('compact', 0, compact));
      const { runs } = await copy.correspondence(0, 10_000);
      for (const run of runs) {
        const from = run.sourceBlock * SIZE;
        const wanted = bytes.subarray(from, from + run.length * SIZE);
        const found = compact.subarray(run.copyBlock * SIZE);
        expect(found.subarray(0, wanted.length).equals(wanted)).toBe(true);
      }
    } finally {
      release();
    }
  }

  async #deleteCopy(): Promise<void> {
    const live = this.#copies[this.#pick(this.#copies.length)];
    if (live === undefined || live.isDeleted) return;
    live.isDeleted = true;
    await this.#codeOf(this.engine.copies.delete(live.copy.id, { force: true }), []);
    this.#copies.splice(this.#copies.indexOf(live), 1);
  }

  async #remap(): Promise<void> {
    const live = this.#copies[this.#pick(this.#copies.length)];
    if (live === undefined || this.#disks.length >= 4) return;
    const name = this.#name('d');
    const number = this.#names;
    const made = remap(this.engine.copies, live.copy, { disk: name });
    const disk = await this.#valueOf(made, ['NOT_FOUND']);
    if (disk === undefined) return;
    const history = new History(number, this.#clock, sectorsOf(live.bytes));
    this.#disks.push({ disk, history, isDeleted: false });
  }

  async #deleteDisk(live: LiveDisk): Promise<void> {
    if (live.isDeleted || this.#disks.length < 2) return;
    live.isDeleted = true;
    const deleted = this.engine.disks.delete(live.disk.id);
    const code = await this.#codeOf(deleted, ['DISK_FENCED', 'DISK_IN_USE']);
    if (code === 'DISK_FENCED' || code === 'DISK_IN_USE') {
      live.isDeleted = false;
      return;
    }
    this.#disks.splice(this.#disks.indexOf(live), 1);
  }

  async #grow(): Promise<void> {
    this.#blocks += 1;
    const files = [{ path: '/p', sizeBytes: MIB + this.#blocks * SIZE }];
    await this.#codeOf(this.engine.pools.update('p', { files }), []);
  }

  /** A read that finds trouble is tried again. */
  async #retried(read: () => Promise<void>): Promise<void> {
    while ((await this.#codeOf(read(), [])) !== undefined) await turns(1);
  }

  async #valueOf<T>(done: Promise<T>, allowed: readonly ErrorCode[]): Promise<T | undefined> {
    const { value, code = 'ok' } = await outcomeOf(done, this.#refusals(allowed));
    this.counts[code] = (this.counts[code] ?? 0) + 1;
    return value;
  }

  async #codeOf(
    done: Promise<unknown>,
    allowed: readonly ErrorCode[],
  ): Promise<ErrorCode | undefined> {
    const { code } = await outcomeOf(done, this.#refusals(allowed));
    this.counts[code ?? 'ok'] = (this.counts[code ?? 'ok'] ?? 0) + 1;
    return code;
  }

  #refusals(allowed: readonly ErrorCode[]): readonly ErrorCode[] {
    return this.#o.troubles === true ? [...allowed, ...troubles] : allowed;
  }
}
