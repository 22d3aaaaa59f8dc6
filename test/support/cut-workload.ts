/**
 * A workload that is cut at any step, and what may be found after it.
 *
 * Operations run one after the other; what they write is numbered, and every sector knows the
 * numbers that it may show: the last durable one and all later ones. A copy that was answered is
 * exactly the disk of its moment. Beside the engine's own background work nothing else runs, so a
 * seed gives the same workload each time.
 */
import { expect } from 'vitest';
import { isStorageError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { freeze } from '../../src/copy/freeze.ts';
import { remap } from '../../src/copy/remap.ts';
import { beginFill, fence, finishFill, revertFill, swapTable } from '../../src/copy/write-back.ts';
import { writeRange } from '../../src/disk/write.ts';
import type { MetadataStore } from '../../src/pool/metadata-store.ts';
import { checkEngine } from './check-engine.ts';
import {
  type Contents,
  type Expected,
  expectOnlyReads,
  explain,
  isFull,
  latest,
  learn,
  mark,
  SECTORS,
  settle,
  SIZE,
  touchHoles,
} from './cut-expectations.ts';
import { CutStore, untilCut } from './cut-store.ts';
import { type Engine, openEngine } from './engine.ts';
import { FaultyFileSystem } from './faulty-block-file.ts';
import { SECTOR, sectorOf } from './history.ts';
import { restOf } from './small-engine.ts';
import { generator } from './volatile-medium.ts';

export interface CutOptions {
  readonly seed: number;
  readonly poolBlocks: number;
  readonly diskBlocks: number;
  readonly operations: number;
  readonly cacheBytes?: number;
}

export class CutWorkload {
  readonly files: FaultyFileSystem;
  readonly store: CutStore;
  readonly #o: CutOptions;
  readonly #random: () => number;
  readonly #expected = new Map<string, Expected>();
  #poolMade = false;
  #session: MetadataStore;
  #engine: Engine | undefined;
  #epoch = 0;
  #numbers = 0;
  #names = 0;
  refused = 0;

  constructor(o: CutOptions) {
    this.#o = o;
    this.files = new FaultyFileSystem({ seed: o.seed });
    this.store = new CutStore(this.files);
    this.#session = this.store.open();
    this.#random = generator(o.seed);
  }

  /** Runs to the end, or until the cut; answers whether it was cut. */
  async run(): Promise<boolean> {
    return untilCut(this.files, () => this.#work());
  }

  async #work(): Promise<void> {
    await this.#open();
    await this.#makePool();
    await this.#create();
    for (let count = 0; count < this.#o.operations; count += 1) await this.#operate();
    await this.#close();
  }

  /** Runs until a call of I/O or a commit fails with EIO; reads must go on, nothing else may. */
  async runUntilFailure(step: number): Promise<void> {
    this.files.failAt(step);
    try {
      await this.#work();
    } catch (error) {
      const known = ['POOL_POISONED', 'DATA_UNREADABLE', 'POOL_UNAVAILABLE'] as const;
      if (!known.some((code) => isStorageError(error, code))) throw error;
    }
    if (this.#engine !== undefined) await expectOnlyReads(this.#engine);
  }

  /** Power loss; then opens again and compares with what was answered. */
  async recover(): Promise<void> {
    this.crash();
    await this.#open();
    const { engine } = this;
    expect(await checkEngine(engine, this.#session)).toEqual([]);
    if (this.#poolMade) expect(engine.pools.list()).toHaveLength(1);
    const names = new Set(
      [...engine.disks.list(), ...engine.copies.list()].map(({ name }) => name),
    );
    for (const [name, expected] of this.#expected) {
      if (!names.has(name)) {
        if (expected.made && !expected.mayBeGone) throw new Error(`${name} is gone`);
        this.#expected.delete(name);
        continue;
      }
      names.delete(name);
      await this.#compare(name, expected);
    }
    expect([...names]).toEqual([]);
    expect(engine.errors).toEqual([]);
  }

  /** Power loss without a look at what is left. */
  crash(): void {
    this.files.crash();
    this.store.crash();
  }

  /** Tries to open while a cut is set; answers whether that was cut. */
  async openUntilCut(step: number): Promise<boolean> {
    this.files.cutAt(this.files.steps + step);
    return untilCut(this.files, async () => {
      await this.#open();
      await this.#close();
    });
  }

  /** Goes on a little: new blocks show nothing of earlier lives, and all room comes back. */
  async goOn(): Promise<void> {
    const { engine } = this;
    await this.#makePool();
    for (const disk of engine.disks.list()) {
      await touchHoles(disk);
    }
    await restOf(engine);
    for (const { name } of engine.disks.list()) await engine.disks.delete(name);
    for (const { name } of engine.copies.list()) await engine.copies.delete(name);
    await restOf(engine);
    expect(engine.pools.get('p').allocator.usedBlocks).toBe(0);
    expect(await checkEngine(engine, this.#session)).toEqual([]);
    await engine.close();
    expect(engine.errors).toEqual([]);
  }

  get engine(): Engine {
    if (this.#engine === undefined) throw new Error('not open');
    return this.#engine;
  }

  async #open(): Promise<void> {
    this.#epoch += 1;
    this.#session = this.store.open();
    this.#engine = await openEngine({
      store: this.#session,
      fileSystem: this.files,
      epoch: this.#epoch,
      cacheBytes: this.#o.cacheBytes ?? 2 * MIB,
    });
  }

  async #close(): Promise<void> {
    const { engine } = this;
    this.#engine = undefined;
    await engine.close();
  }

  async #makePool(): Promise<void> {
    await this.engine.pools.create({
      name: 'p',
      blockSizeBytes: SIZE,
      files: [{ path: '/p', sizeBytes: MIB + this.#o.poolBlocks * SIZE }],
    });
    this.#poolMade = true;
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #oneOf(kind: 'disk' | 'copy'): [string, Expected] | undefined {
    const all = [...this.#expected].filter(([, expected]) => expected.kind === kind);
    return all[this.#pick(all.length)];
  }

  #expect(kind: 'disk' | 'copy', contents: Contents, capacity: number): [string, Expected] {
    this.#names += 1;
    const name = `${kind}${this.#names}`;
    const capacities = [capacity];
    const expected = { kind, contents, made: false, mayBeGone: false, capacities };
    this.#expected.set(name, expected);
    return [name, expected];
  }

  async #operate(): Promise<void> {
    const kind = this.#pick(100);
    const disk = this.#oneOf('disk');
    const copy = this.#oneOf('copy');
    if (disk === undefined) return this.#create();
    if (kind < 48) return this.#write(disk, this.#pick(6) === 0);
    if (kind < 56) return this.#discard(disk);
    if (kind < 66) return this.#flush();
    if (kind < 76) return this.#freeze(disk);
    if (kind < 82) return copy && this.#delete(copy);
    if (kind < 86) return copy && this.#remap(copy);
    if (kind < 89) return copy && this.#swap(disk, copy);
    if (kind < 91) return this.#resize(disk);
    if (kind < 93) return this.#fill(disk);
    if (kind < 95) return this.#delete(disk);
    if (kind < 97) return this.#create();
    await this.#close();
    this.#durable();
    return this.#open();
  }

  /** All that was written is durable now. */
  #durable(): void {
    for (const { contents } of this.#expected.values()) settle(contents);
  }

  async #flush(): Promise<void> {
    await this.engine.pools.get('p').flush();
    this.#durable();
  }

  async #create(): Promise<void> {
    if ([...this.#expected.values()].filter(({ kind }) => kind === 'disk').length >= 3) return;
    const capacityBytes = this.#o.diskBlocks * SIZE - SECTOR * this.#pick(3);
    const [name, expected] = this.#expect('disk', new Map(), capacityBytes);
    const detectZeroes = this.#pick(2) === 0;
    await this.engine.disks.create({ name, capacityBytes, detectZeroes });
    this.#durable();
    expected.made = true;
  }

  async #write([name, { contents }]: [string, Expected], zeroes: boolean): Promise<void> {
    const disk = this.engine.disks.get(name);
    const sectors = disk.capacityBytes / SECTOR;
    const count = 1 + this.#pick(Math.min(4 * SECTORS, sectors));
    const first = this.#pick(sectors - count + 1);
    this.#numbers += 1;
    const number = zeroes ? 0 : this.#numbers;
    const sector = zeroes ? Buffer.alloc(SECTOR) : sectorOf(0, number);
    const bytes = Buffer.concat(Array.from({ length: count }, () => sector));
    const before = new Map(contents);
    mark(contents, first, count, number);
    if (!(await this.#isRefused(disk.write(first * SECTOR, bytes)))) return;
    contents.clear();
    for (const [key, numbers] of before) contents.set(key, numbers);
  }

  async #discard([name, { contents }]: [string, Expected]): Promise<void> {
    const disk = this.engine.disks.get(name);
    const sectors = disk.capacityBytes / SECTOR;
    const count = 1 + this.#pick(sectors);
    const first = this.#pick(sectors - count + 1);
    mark(contents, first, count, 0);
    // a refused discard may have done some of it
    if (await this.#isRefused(disk.discard(first * SECTOR, count * SECTOR))) {
      await learn(disk, contents);
    }
  }

  async #isRefused(done: Promise<unknown>): Promise<boolean> {
    const refused = await isFull(done);
    if (refused) this.refused += 1;
    return refused;
  }

  async #freeze([name, { contents, capacities }]: [string, Expected]): Promise<void> {
    const now = latest(contents);
    const [copy, expected] = this.#expect('copy', now, capacities.at(-1)!);
    await freeze(this.engine.copies, name, { name: copy });
    this.#durable();
    expected.made = true;
  }

  async #remap([name, { contents, capacities }]: [string, Expected]): Promise<void> {
    const [disk, expected] = this.#expect('disk', latest(contents), capacities[0]!);
    const { copies } = this.engine;
    await remap(copies, copies.get(name), { disk });
    this.#durable();
    expected.made = true;
  }

  async #swap(
    [name, expected]: [string, Expected],
    [from, source]: [string, Expected],
  ): Promise<void> {
    const { copies, disks } = this.engine;
    const disk = disks.get(name);
    const [safety, kept] = this.#expect('copy', latest(expected.contents), disk.capacityBytes);
    await fence(disk, 'job', false);
    this.#durable();
    expected.capacities.push(Math.max(disk.capacityBytes, source.capacities[0]!));
    expected.restored = latest(source.contents);
    await swapTable(copies, disk, copies.get(from), safety);
    this.#restored(expected);
    kept.made = true;
  }

  #restored(expected: Expected): void {
    expected.contents = expected.restored ?? expected.contents;
    expected.restored = undefined;
    expected.capacities = expected.capacities.slice(-1);
    this.#durable();
  }

  /** A restore from an image that begins with the present table or anew, and ends well or not. */
  async #fill([name, expected]: [string, Expected]): Promise<void> {
    const { copies, disks } = this.engine;
    const disk = disks.get(name);
    const [keep, end] = [this.#pick(2) === 0, this.#pick(3)];
    await fence(disk, 'job', false);
    this.#durable();
    await beginFill(copies, disk, keep);
    const filled: Contents = keep ? latest(expected.contents) : new Map();
    for (let count = this.#pick(4); count >= 0; count -= 1) {
      const first = this.#pick(disk.capacityBytes / SECTOR - SECTORS);
      this.#numbers += 1;
      for (let at = first; at < first + SECTORS; at += 1) filled.set(at, [this.#numbers]);
      const sector = sectorOf(0, this.#numbers);
      const bytes = Buffer.concat(Array.from({ length: SECTORS }, () => sector));
      try {
        await writeRange(disk, first * SECTOR, bytes, false);
      } catch (error) {
        if (!isStorageError(error, 'POOL_FULL')) throw error;
        return revertFill(copies, disk);
      }
      if (this.#pick(3) === 0) await disk.flush();
    }
    if (end === 0) return revertFill(copies, disk);
    expected.restored = filled;
    const [safety, kept] = this.#expect('copy', latest(expected.contents), disk.capacityBytes);
    if (end === 1) this.#expected.delete(safety);
    await finishFill(copies, disk, 0, end === 1 ? undefined : safety);
    this.#restored(expected);
    kept.made = true;
  }

  async #resize([name, expected]: [string, Expected]): Promise<void> {
    const { contents } = expected;
    const capacityBytes = this.#o.diskBlocks * SIZE - SECTOR * this.#pick(5 * SECTORS);
    const sectors = capacityBytes / SECTOR;
    for (const sector of contents.keys()) {
      if (sector >= sectors) mark(contents, sector, 1, 0);
    }
    expected.capacities.push(capacityBytes);
    const updated = this.engine.disks.update(name, { capacityBytes, discard: true });
    if (await this.#isRefused(updated)) {
      expected.capacities.pop();
      await learn(this.engine.disks.get(name), contents);
    }
    await this.#flush();
    expected.capacities = expected.capacities.slice(-1);
  }

  async #delete([name, expected]: [string, Expected]): Promise<void> {
    expected.mayBeGone = true;
    if (expected.kind === 'disk') await this.engine.disks.delete(name);
    else await this.engine.copies.delete(name);
    this.#durable();
    this.#expected.delete(name);
  }

  async #compare(name: string, expected: Expected): Promise<void> {
    const { disks, copies } = this.engine;
    const { contents, restored, capacities } = expected;
    if (expected.kind === 'copy') {
      const copy = copies.get(name);
      const bytes = Buffer.alloc(copy.record.sourceCapacityBytes, 0xee);
      await copy.read('full', 0, bytes);
      expect(explain(bytes, contents)).toBeUndefined();
      expect(capacities).toContain(bytes.length);
      return;
    }
    const disk = disks.get(name);
    const wasFenced = disk.state === 'fenced';
    if (wasFenced) await revertFill(copies, disk);
    const bytes = Buffer.alloc(disk.capacityBytes, 0xee);
    await disk.read(0, bytes);
    expect(capacities).toContain(bytes.length);
    const whyNot = explain(bytes, contents);
    if (whyNot === undefined) return;
    if (wasFenced || restored === undefined) throw new Error(`${name}: ${whyNot}`);
    expect(explain(bytes, restored)).toBeUndefined();
  }
}
