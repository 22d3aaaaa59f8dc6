/**
 * A disk, its dedicated and shared copies in two pools, and what happens to them all at once:
 * writes, discards, resizes, filling, leases of places, deletions, restarts.
 *
 * What each copy shows when it is made must be the disk before or after the operation beside it,
 * block by block; it never changes afterwards. After each round the tables are checked, and the
 * figures of the pools compared with them.
 */
import { expect } from 'vitest';
import { type ErrorCode, errnoOf, isStorageError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import type { Copy } from '../../src/copy/copy.ts';
import { leasePlaces } from '../../src/copy/dedicated/lease.ts';
import { settle, settleStep } from '../../src/copy/dedicated/settle.ts';
import { freeze } from '../../src/copy/freeze.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { checkEngine } from './check-engine.ts';
import { CutStore, untilCut } from './cut-store.ts';
import { type Engine, openEngine } from './engine.ts';
import { FaultyFileSystem } from './faulty-block-file.ts';
import { SIZE, restOf } from './small-engine.ts';
import { generator } from './volatile-medium.ts';

export interface DedicatedOptions {
  readonly seed: number;
  readonly rounds: number;
  readonly sourceBlocks: number;
  readonly otherBlocks: number;
  readonly diskBlocks: number;
  readonly cacheBytes?: number;
}

interface Shown {
  readonly name: string;
  readonly bytes: Buffer;
  mayBeGone: boolean;
}

const user = { kind: 'test', id: 'test', sinceMs: 0, abort: () => undefined };

export class DedicatedWorkload {
  readonly files: FaultyFileSystem;
  readonly #store: CutStore;
  readonly #o: DedicatedOptions;
  readonly #random: () => number;
  #engine!: Engine;
  #copies: Shown[] = [];
  #contents: Buffer;
  #epoch = 0;
  #isOpen = false;
  /** Background work may meet the error, too. */
  #mayFail = false;
  #names = 0;
  /** How often each thing was done. */
  readonly counts: Record<string, number> = {};

  constructor(o: DedicatedOptions) {
    this.#o = o;
    this.files = new FaultyFileSystem({ seed: o.seed });
    this.#store = new CutStore(this.files);
    this.#random = generator(o.seed + 7);
    this.#contents = Buffer.alloc(o.diskBlocks * SIZE);
  }

  /** Makes pools and the disk; nothing is cut before it has ended. */
  async open(): Promise<void> {
    await this.#openEngine();
    const { sourceBlocks, otherBlocks, diskBlocks } = this.#o;
    for (const [name, blocks] of Object.entries({ p: sourceBlocks, o: otherBlocks })) {
      const files = [{ path: `/${name}`, sizeBytes: MIB + blocks * SIZE }];
      await this.#engine.pools.create({ name, blockSizeBytes: SIZE, files });
    }
    const capacityBytes = diskBlocks * SIZE;
    await this.#engine.disks.create({ name: 'd', pool: 'p', capacityBytes });
  }

  /** All rounds, or as far as the files let it. @returns whether it was cut */
  async run(): Promise<boolean> {
    return untilCut(this.files, async () => {
      for (let round = 0; round < this.#o.rounds; round += 1) await this.round();
    });
  }

  /** Rounds until an error of I/O has come through; then copies are read on, if they can be. */
  async runUntilFailure(step: number): Promise<void> {
    this.files.failAt(step, 'EIO');
    this.#mayFail = true;
    try {
      for (let round = 0; round < this.#o.rounds; round += 1) await this.round();
    } catch (error) {
      // a commit that fails is no coded error here
      if (!isStorageError(error) && errnoOf(error) !== 'EIO') throw error;
    }
    if (!this.#isOpen) return;
    // if it comes only now, the second time is without it
    await this.#compare().catch((error: unknown) => {
      if (!isStorageError(error, 'DATA_UNREADABLE')) throw error;
      return this.#compare();
    });
  }

  async round(): Promise<void> {
    const before = Buffer.from(this.#contents);
    const work = [this.#change()];
    for (let count = this.#pick(3); count > 0; count -= 1) work.push(this.#onCopies(before));
    const results = await Promise.allSettled(work);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    await this.#compare();
    await this.#check();
    if (this.#pick(12) === 0) await this.#reopen();
  }

  /** Power is lost; everything that was answered is found after it. */
  async recover(): Promise<void> {
    this.files.crash();
    this.#store.crash();
    await this.#openEngine();
    const found = new Set(this.#engine.copies.list().map(({ name }) => name));
    for (const { name, mayBeGone } of this.#copies) {
      if (!found.has(name) && !mayBeGone) throw new Error(`copy ${name} is gone`);
    }
    this.#copies = this.#copies.filter(({ name }) => found.has(name));
    await this.#check();
    await this.#compare();
    this.#contents = await this.#readDisk();
  }

  /** Fills all, compares, deletes all: nothing is left. */
  async end(): Promise<void> {
    const { copies, disks, pools } = this.#engine;
    for (const { name } of this.#copies) {
      const copy = copies.get(name);
      await settle(copies, copy, { kind: 'all' });
      expect(copy.isWhole).toBe(true);
    }
    await this.#compare();
    await this.#check();
    if (this.#pick(2) === 0) await disks.delete('d');
    await this.#compare();
    for (const { name } of copies.list()) await copies.delete(name);
    for (const { name } of disks.list()) await disks.delete(name);
    await restOf(this.#engine);
    expect(await checkEngine(this.#engine, this.#store.open())).toEqual([]);
    for (const pool of pools.list()) {
      expect([pool.name, pool.allocator.usedBlocks, pool.reservedBytes]).toEqual([pool.name, 0, 0]);
    }
    expect(this.#engine.errors).toEqual([]);
    await this.#engine.close();
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  get #disk(): Disk {
    return this.#engine.disks.get('d');
  }

  /** One change of the disk, which goes into the model when it is answered. */
  async #change(): Promise<void> {
    const capacity = this.#disk.capacityBytes;
    const sectors = capacity / 512;
    const first = this.#pick(sectors);
    const count = 1 + this.#pick(Math.min(sectors - first, 120));
    const kind = this.#pick(20);
    if (kind < 13) {
      const bytes = Buffer.alloc(count * 512, 1 + this.#pick(255));
      if (!(await this.#done('write', this.#disk.write(first * 512, bytes)))) return;
      bytes.copy(this.#contents, first * 512);
    } else if (kind < 17) {
      if (!(await this.#done('discard', this.#disk.discard(first * 512, count * 512)))) {
        this.#contents = await this.#readDisk();
        return;
      }
      this.#contents.fill(0, first * 512, (first + count) * 512);
    } else if (kind < 18) {
      const blocks = 1 + this.#pick(this.#o.diskBlocks);
      const patch = { capacityBytes: blocks * SIZE, discard: true };
      await this.#done('resize', this.#engine.disks.update('d', patch));
      this.#contents = await this.#readDisk();
    } else {
      await this.#done('flush', this.#disk.flush());
    }
  }

  async #onCopies(before: Buffer): Promise<void> {
    const kind = this.#pick(10);
    if (this.#copies.length === 0 || (kind < 2 && this.#copies.length < 4)) {
      return this.#freeze(before);
    }
    const shown = this.#copies[this.#pick(this.#copies.length)]!;
    const copy = this.#engine.copies.find(shown.name);
    if (copy === undefined || shown.mayBeGone) return;
    if (kind < 6) return this.#settle(copy);
    if (kind < 8) return this.#lease(copy, shown);
    if (kind < 9) return this.#readShown(copy, shown);
    shown.mayBeGone = true;
    await this.#done('delete', this.#engine.copies.delete(shown.name, { force: true }));
    this.#copies = this.#copies.filter((each) => each !== shown);
  }

  async #freeze(before: Buffer): Promise<void> {
    this.#names += 1;
    const name = `c${this.#names}`;
    const dedicated = {
      pool: this.#pick(4) === 0 ? 'p' : 'o',
      preserve: this.#pick(2) === 0 ? ('copy-first' as const) : ('redirect' as const),
    };
    const wanted = this.#pick(5) === 0 ? { name } : { name, dedicated };
    let copy: Copy | undefined;
    const made = freeze(this.#engine.copies, 'd', wanted).then((answer) => {
      copy = answer;
    });
    const what = 'dedicated' in wanted ? `dedicated ${dedicated.preserve}` : 'shared';
    if (!(await this.#done(what, made)) || copy === undefined) return;
    const bytes = await readFull(copy);
    const after = this.#contents;
    for (let at = 0; at < bytes.length; at += SIZE) {
      const block = bytes.subarray(at, at + SIZE);
      const isOld = block.equals(zeroFilled(before, at));
      const isNew = block.equals(zeroFilled(after, at));
      // a change beside it may be applied and not answered
      if (!isOld && !isNew) this.#count('between');
    }
    this.#copies.push({ name, bytes, mayBeGone: false });
  }

  async #settle(copy: Copy): Promise<void> {
    const { copies } = this.#engine;
    const from = this.#pick(this.#o.diskBlocks);
    const wanted =
      this.#pick(2) === 0
        ? ({ kind: 'all' } as const)
        : ({ kind: 'range', from, to: from + 1 + this.#pick(4) } as const);
    const inAdvance = this.#pick(2) === 0;
    await this.#done('settle', settleStep(copies, copy, wanted, inAdvance), ['NOT_FOUND']);
    copy.dedicated?.releaseArena(copy.pool);
  }

  /** As a job's worker reads: places first, then the pool's files. */
  async #lease(copy: Copy, { bytes }: Shown): Promise<void> {
    const { usedBlocks } = copy;
    if (usedBlocks === 0 || copy.isDeleted) return;
    const release = copy.addUser({ ...user });
    try {
      const first = this.#pick(usedBlocks);
      const count = 1 + this.#pick(usedBlocks - first);
      const { source, physical } = await leasePlaces(this.#engine.copies, copy, first, count);
      this.#count('lease');
      for (let index = 0; index < count; index += 1) {
        const found = Buffer.alloc(SIZE);
        await copy.pool.files.read(physical[index]!, 0, found);
        expect(found.equals(zeroFilled(bytes, source[index]! * SIZE))).toBe(true);
      }
    } catch (error) {
      if (!isStorageError(error, 'POOL_FULL')) throw error;
    } finally {
      release();
    }
  }

  async #readShown(copy: Copy, { bytes }: Shown): Promise<void> {
    const release = copy.addUser({ ...user });
    try {
      expect((await readFull(copy)).equals(bytes)).toBe(true);
    } finally {
      release();
    }
  }

  /** Both views of every copy, as at the beginning. */
  async #compare(): Promise<void> {
    for (const { name, bytes, mayBeGone } of this.#copies) {
      if (mayBeGone && this.#engine.copies.find(name) === undefined) continue;
      const copy = this.#engine.copies.get(name);
      expect((await readFull(copy)).equals(bytes), `copy ${name}`).toBe(true);
      const compact = Buffer.alloc(copy.viewBytes('compact'), 0xee);
      await copy.read('compact', 0, compact);
      const { runs } = await copy.dataBlocks(0, 1000);
      let owed = 0;
      for (const { copyBlock, sourceBlock, length, state } of runs) {
        if (state === 'owed') owed += length;
        for (let index = 0; index < length; index += 1) {
          const at = (copyBlock + index) * SIZE;
          const wanted = zeroFilled(bytes, (sourceBlock + index) * SIZE);
          expect(compact.subarray(at, at + SIZE).equals(wanted)).toBe(true);
        }
      }
      expect(owed).toBe(copy.dedicated?.owedBlocks ?? 0);
    }
  }

  /** The committed tables, and the figures that pools show. */
  async #check(): Promise<void> {
    expect(await checkEngine(this.#engine, this.#store.open())).toEqual([]);
    const { pools, copies } = this.#engine;
    for (const pool of pools.list()) {
      const here = copies.list().filter((copy) => copy.pool === pool);
      const owed = here.reduce((sum, copy) => sum + (copy.dedicated?.owedBlocks ?? 0), 0);
      expect([pool.name, pool.reservedBytes]).toEqual([pool.name, owed * SIZE]);
      expect(pool.freeBytes).toBeGreaterThanOrEqual(pool.reservedBytes);
    }
  }

  async #readDisk(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.#disk.capacityBytes);
    await this.#disk.read(0, bytes);
    const whole = Buffer.alloc(this.#o.diskBlocks * SIZE);
    bytes.copy(whole);
    return whole;
  }

  /** False if it was refused for want of room, or for another reason that is given. */
  async #done(
    what: string,
    work: Promise<unknown>,
    codes: readonly ErrorCode[] = [],
  ): Promise<boolean> {
    try {
      await work;
      this.#count(what);
      return true;
    } catch (error) {
      if (![...codes, 'POOL_FULL' as const].some((code) => isStorageError(error, code))) {
        throw error;
      }
      this.#count(`${what} refused`);
      return false;
    }
  }

  async #reopen(): Promise<void> {
    this.#isOpen = false;
    await this.#engine.close();
    if (!this.#mayFail) expect(this.#engine.errors).toEqual([]);
    await this.#openEngine();
    this.#count('reopen');
  }

  async #openEngine(): Promise<void> {
    this.#epoch += 1;
    this.#engine = await openEngine({
      store: this.#store.open(),
      fileSystem: this.files,
      epoch: this.#epoch,
      cacheBytes: this.#o.cacheBytes ?? MIB,
    });
    this.#isOpen = true;
  }
}

async function readFull(copy: Copy): Promise<Buffer> {
  const bytes = Buffer.alloc(copy.record.sourceCapacityBytes, 0xee);
  await copy.read('full', 0, bytes);
  return bytes;
}

/** A block; what lies beyond the bytes is zeros. */
function zeroFilled(bytes: Buffer, at: number): Buffer {
  const block = Buffer.alloc(SIZE);
  bytes.copy(block, 0, at, Math.min(bytes.length, at + SIZE));
  return block;
}
