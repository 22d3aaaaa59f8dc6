/**
 * An engine and the naive model beside it (engine-model.ts), driven by commands
 * (engine-commands.ts). After every command all bytes of all disks and copies are compared.
 */
import { expect } from 'vitest';
import { isStorageError } from '../../src/base/errors.ts';
import { MIB, roundDown, roundUp } from '../../src/base/units.ts';
import type { Copy } from '../../src/copy/copy.ts';
import { freeze } from '../../src/copy/freeze.ts';
import { copyFromDisk } from '../../src/copy/restored-copy.ts';
import { remap } from '../../src/copy/remap.ts';
import { beginFill, fence, finishFill, revertFill, swapTable } from '../../src/copy/write-back.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { writeRange } from '../../src/disk/write.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { checkEngine } from './check-engine.ts';
import { type Engine, openEngine } from './engine.ts';
import { type Command, pattern, rangeOf, SIZE } from './engine-commands.ts';
import { type ModelCopy, type ModelDisk, ModelPool, type Outcome } from './engine-model.ts';
import { FaultyFileSystem } from './faulty-block-file.ts';
import { MemoryMetadata } from './memory-metadata.ts';

interface Pair<T, M> {
  readonly name: string;
  readonly real: T;
  readonly model: M;
}

export interface WorldOptions {
  readonly pools?: readonly number[];
  readonly cacheBytes?: number;
  readonly seed?: number;
  /** Compare after each command; off where only the end matters. */
  readonly compare?: boolean;
  /** Copies at a time; 6 by default. */
  readonly maxCopies?: number;
}

/** A deleted copy that counts as backed up. */
export interface Gone {
  readonly id: string;
  readonly model: ModelCopy;
}

/** An engine and its model. */
export class World {
  readonly files: FaultyFileSystem;
  readonly store = new MemoryMetadata();
  engine: Engine;
  readonly models: Pair<string, ModelPool>[] = [];
  disks: Pair<Disk, ModelDisk>[] = [];
  copies: Pair<Copy, ModelCopy>[] = [];
  readonly gone: Gone[] = [];
  readonly #o: WorldOptions;
  #epoch = 1;
  #names = 0;

  private constructor(engine: Engine, files: FaultyFileSystem, o: WorldOptions) {
    this.engine = engine;
    this.files = files;
    this.#o = o;
  }

  static async open(o: WorldOptions = {}): Promise<World> {
    const files = new FaultyFileSystem({ seed: o.seed ?? 1 });
    const world = new World(undefined as unknown as Engine, files, o);
    world.engine = await world.#openEngine();
    for (const [number, blocks] of (o.pools ?? [24]).entries()) {
      const name = `p${number}`;
      await world.engine.pools.create({
        name,
        blockSizeBytes: SIZE,
        files: [{ path: `/${name}`, sizeBytes: MIB + blocks * SIZE }],
      });
      world.models.push({ name, real: name, model: new ModelPool(SIZE, blocks) });
    }
    return world;
  }

  pool(name: string): Pool {
    return this.engine.pools.get(name);
  }

  async run(commands: readonly Command[]): Promise<void> {
    for (const each of commands) {
      await this.step(each);
      if (this.#o.compare !== false) await this.compare();
    }
    await this.compare();
    await this.settle();
    await this.check();
    await this.engine.close();
    expect(this.engine.errors).toEqual([]);
  }

  async step(each: Command): Promise<void> {
    switch (each.do) {
      case 'create':
        return this.#create(each);
      case 'remap':
        return this.#remap(each);
      case 'restore copy':
        return this.#restoreCopy(each);
      case 'delete copy':
        return this.#deleteCopy(each.copy);
      case 'flush':
        for (const { real } of this.models) await this.pool(real).flush();
        return;
      case 'reopen':
        return this.reopen();
      case 'settle':
        return this.settle();
      case 'check':
        return this.check();
      case 'grow':
        return this.#grow(each);
      case 'write':
      case 'discard':
      case 'resize':
      case 'freeze':
      case 'write back':
      case 'fill':
      case 'delete disk':
        return this.#onDisk(each);
    }
  }

  /** Everything given back is free again, and the counts are those of the model. */
  async settle(): Promise<void> {
    for (const { real, model } of this.models) {
      const pool = this.pool(real);
      const reclaimer = this.engine.disks.reclaimer(pool);
      while (await reclaimer.step()) await pool.throttle();
      await pool.flush();
      await pool.epochs.barrier();
      expect(pool.allocator.heldBlocks).toBe(0);
      expect(pool.allocator.usedBlocks).toBe(model.usedBlocks);
    }
    for (const { real, model } of this.disks) {
      expect(real.lock.isIdle && real.gate.inside === 0).toBe(true);
      expect(await real.exclusiveBytes()).toBe(model.pool.exclusive(model) * SIZE);
      const from = Math.min(2 * SIZE, roundDown(model.capacityBytes, SIZE));
      const own = await real.exclusiveBytesIn(from, model.capacityBytes - from);
      expect(own).toBe(model.pool.exclusive(model, from / SIZE) * SIZE);
    }
    for (const { real, model } of this.copies) {
      expect(await real.exclusiveBytes()).toBe(model.pool.exclusive(model) * SIZE);
    }
  }

  async check(): Promise<void> {
    expect(await checkEngine(this.engine, this.store)).toEqual([]);
  }

  async reopen(): Promise<void> {
    await this.engine.close();
    expect(this.engine.errors).toEqual([]);
    this.#epoch += 1;
    this.engine = await this.#openEngine();
    this.disks = this.disks.map((pair) => ({ ...pair, real: this.engine.disks.get(pair.name) }));
    this.copies = this.copies.map((pair) => ({ ...pair, real: this.engine.copies.get(pair.name) }));
  }

  /** Compares all bytes of mapped blocks and their neighbours, and what is mapped. */
  async compare(): Promise<void> {
    for (const { real, model } of this.disks) {
      expect(real.capacityBytes).toBe(model.capacityBytes);
      const { runs } = await real.allocatedRuns(0, 1000, false);
      const mapped = runs.flatMap((run) =>
        Array.from({ length: run.length }, (_, at) => run.block + at),
      );
      expect(mapped).toEqual(model.pool.mapped(model));
      expect(real.usedBytes).toBe(mapped.length * SIZE);
      await this.#compareBytes(model, model.pool, (offset, into) => real.read(offset, into));
    }
    for (const { real, model } of this.copies) {
      const mapped = model.pool.mapped(model);
      expect(real.usedBlocks).toBe(mapped.length);
      await this.#compareBytes(model, model.pool, (at, into) => real.read('full', at, into));
      const compact = Buffer.alloc(real.viewBytes('compact'));
      await real.read('compact', 0, compact);
      const wanted = mapped.map((block) => model.blocks.get(block)!.data);
      expect(compact.equals(Buffer.concat(wanted))).toBe(true);
      const { runs } = await real.correspondence(0, 1000);
      const blocks = runs.flatMap((run) =>
        Array.from({ length: run.length }, (_, at) => run.sourceBlock + at),
      );
      expect(blocks).toEqual(mapped);
    }
  }

  async #compareBytes(
    model: ModelDisk | ModelCopy,
    pool: ModelPool,
    read: (offset: number, into: Buffer) => Promise<void>,
  ): Promise<void> {
    const blocks = new Set(pool.mapped(model).flatMap((block) => [block - 1, block, block + 1]));
    for (const block of [0, ...blocks]) {
      const offset = Math.max(0, block) * SIZE;
      const bytes = Math.min(SIZE, model.capacityBytes - offset);
      if (bytes <= 0) continue;
      const into = Buffer.alloc(bytes, 0xee);
      await read(offset, into);
      const same = into.equals(pool.read(model, offset, bytes));
      if (!same) expect(`block ${block}: ${hex(into)}`).toBe(hex(pool.read(model, offset, bytes)));
    }
  }

  async #create(each: Command & { do: 'create' }): Promise<void> {
    const { real, model } = this.models[each.pool % this.models.length]!;
    if (this.disks.length >= 5) return;
    const capacityBytes = each.capacity;
    const reserveBytes = Math.min(each.reserve, roundUp(capacityBytes, SIZE));
    const o = { capacityBytes, detectZeroes: each.detectZeroes, reserveBytes };
    // what is being given back does not count as room for a reservation
    if (reserveBytes > 0) await this.settle();
    const name = this.#name('d');
    const made = this.engine.disks.create({ name, pool: real, ...o });
    const fits = model.reservedBytes + reserveBytes <= model.freeBlocks * SIZE;
    await this.#expect(reserveBytes === 0 || fits ? 'ok' : 'full', made);
    const disk = this.engine.disks.find(name);
    if (disk !== undefined) this.disks.push({ name, real: disk, model: model.create(o) });
  }

  async #remap({ copy }: Command & { do: 'remap' }): Promise<void> {
    const source = pick(this.copies, copy);
    if (source === undefined || this.disks.length >= 5) return;
    const name = this.#name('d');
    const real = await remap(this.engine.copies, source.real, { disk: name });
    this.disks.push({ name, real, model: source.model.pool.remap(source.model) });
  }

  /** A copy that is filled as a disk first. */
  async #restoreCopy({ pool, fill }: Command & { do: 'restore copy' }): Promise<void> {
    const { real, model } = this.models[pool % this.models.length]!;
    if (this.#isFull) return;
    const { disks, copies } = this.engine;
    const o = { capacityBytes: 3 * SIZE - 512, detectZeroes: false, reserveBytes: 0 };
    const [name, job] = [this.#name('c'), 'job'];
    const disk = await disks.make(this.pool(real), { ...o, name, state: 'restoring', job });
    const filled = model.create(o);
    const data = pattern(fill, o.capacityBytes);
    const outcome = model.write(filled, 0, data);
    await this.#expect(outcome, writeRange(disk, 0, data, false));
    model.disks.delete(filled);
    if (outcome !== 'ok') return disks.discardDisk(disk);
    const source = { ...o, diskId: disk.id, diskName: 'gone', frozenAtMs: 0 };
    const copy = await copyFromDisk(copies, disk, { source });
    this.copies.push({ name, real: copy, model: model.freeze(filled) });
  }

  async #deleteCopy(copy: number): Promise<void> {
    const found = pick(this.copies, copy);
    if (found === undefined) return;
    await this.engine.copies.delete(found.name);
    found.model.pool.copies.delete(found.model);
    this.gone.push({ id: found.real.id, model: found.model });
    this.copies = this.copies.filter((pair) => pair !== found);
  }

  async #grow(each: Command & { do: 'grow' }): Promise<void> {
    const { real, model } = this.models[each.pool % this.models.length]!;
    model.totalBlocks += each.blocks;
    const sizeBytes = MIB + model.totalBlocks * SIZE;
    await this.engine.pools.update(real, { files: [{ path: `/${real}`, sizeBytes }] });
  }

  async #onDisk(each: Extract<Command, { disk: number }>): Promise<void> {
    const pair = pick(this.disks, each.disk);
    if (pair === undefined) return;
    const { real, model } = pair;
    switch (each.do) {
      case 'write': {
        const { offset, bytes } = rangeOf(model, each.place, each.length);
        const data = pattern(each.fill, bytes);
        const outcome = model.pool.write(model, offset, data);
        return this.#expect(outcome, real.write(offset, data));
      }
      case 'discard': {
        const { offset, bytes } = rangeOf(model, each.place, each.length);
        const outcome = model.pool.discard(model, offset, bytes);
        return this.#expect(outcome, real.discard(offset, bytes));
      }
      case 'resize': {
        const outcome = model.pool.resize(model, each.capacity, each.discard);
        const patch = { capacityBytes: each.capacity, discard: each.discard };
        return this.#expect(outcome, this.engine.disks.update(pair.name, patch));
      }
      case 'freeze': {
        const name = this.#name('c');
        if (this.#isFull) return;
        const copy = await freeze(this.engine.copies, pair.name, { name });
        this.copies.push({ name, real: copy, model: model.pool.freeze(model) });
        return;
      }
      case 'write back':
        return this.#writeBack(pair, each);
      case 'fill':
        return this.#fill(pair, each);
      case 'delete disk':
        await this.engine.disks.delete(pair.name);
        model.pool.disks.delete(model);
        this.disks = this.disks.filter((other) => other !== pair);
    }
  }

  async #writeBack(
    { real, model }: Pair<Disk, ModelDisk>,
    each: Command & { do: 'write back' },
  ): Promise<void> {
    const { copies } = this.engine;
    const source = pick(
      this.copies.filter((copy) => copy.model.pool === model.pool),
      each.copy,
    );
    if (source === undefined) return;
    const safety = each.safety ? this.#name('c') : undefined;
    await fence(real, 'job', false);
    const made = await swapTable(copies, real, source.real, safety);
    expect(made?.name).toBe(safety);
    if (made !== undefined) {
      this.copies.push({ name: made.name, real: made, model: model.pool.freeze(model) });
    }
    model.pool.replace(model, source.model.blocks, source.model.capacityBytes);
  }

  async #fill(
    { real, model }: Pair<Disk, ModelDisk>,
    each: Command & { do: 'fill' },
  ): Promise<void> {
    const { copies } = this.engine;
    await fence(real, 'job', false);
    await beginFill(copies, real, each.keep);
    const before = model.pool.freeze(model);
    if (!each.keep) model.pool.replace(model, new Map());
    const bytes = Math.min(model.capacityBytes, 2 * SIZE + 512);
    const data = pattern(each.fill, bytes);
    const outcome = model.pool.write(model, 0, data, false);
    await this.#expect(outcome, writeRange(real, 0, data, false));
    if (each.end === 'revert' || outcome !== 'ok') {
      await revertFill(copies, real);
      model.pool.replace(model, before.blocks);
      model.pool.copies.delete(before);
      return;
    }
    const safety = each.end === 'safety' ? this.#name('c') : undefined;
    const made = await finishFill(copies, real, model.capacityBytes, safety);
    if (made === undefined) model.pool.copies.delete(before);
    else this.copies.push({ name: made.name, real: made, model: before });
  }

  async #expect(outcome: Outcome, done: Promise<unknown>): Promise<void> {
    const codes = { full: 'POOL_FULL', 'data beyond': 'DISK_HAS_DATA_BEYOND' } as const;
    try {
      await done;
    } catch (error) {
      if (outcome === 'ok' || !isStorageError(error, codes[outcome])) throw error;
      return;
    }
    expect('ok').toBe(outcome);
  }

  get #isFull(): boolean {
    return this.copies.length >= (this.#o.maxCopies ?? 6);
  }

  #name(kind: string): string {
    this.#names += 1;
    return `${kind}${this.#names}`;
  }

  async #openEngine(): Promise<Engine> {
    const { cacheBytes = 2 * MIB } = this.#o;
    const engine = await openEngine({
      store: this.store,
      fileSystem: this.files,
      epoch: this.#epoch,
      cacheBytes,
    });
    // all copies have been backed up
    engine.copies.onBackedUp(() => ({ has: () => true }));
    return engine;
  }
}

function pick<T>(things: readonly T[], number: number): T | undefined {
  return things[number % things.length];
}

function hex(bytes: Buffer): string {
  const runs: string[] = [];
  for (let at = 0; at < bytes.length; at += 512) {
    runs.push(bytes.subarray(at, at + 8).toString('hex'));
  }
  return runs.join(' ');
}
