import { describe, expect, it } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { freezeGroup } from '../../src/copy/freeze-group.ts';
import type { MetadataStore } from '../../src/pool/metadata-store.ts';
import { checkEngine } from '../support/check-engine.ts';
import { CutStore, untilCut } from '../support/cut-store.ts';
import { type Engine, openEngine } from '../support/engine.ts';
import { FaultyFileSystem } from '../support/faulty-block-file.ts';
import { restOf, SIZE } from '../support/small-engine.ts';

const DISKS = ['x', 'y', 'z'];
/** What became of a group: it was asked for, answered, asked to go, answered to be gone. */
type Stage = 'asked' | 'there' | 'going' | 'gone';

/** Three disks in two pools are written, frozen together, overwritten; groups come and go. */
class GroupWorkload {
  readonly files: FaultyFileSystem;
  readonly store: CutStore;
  readonly stages = new Map<string, Stage>();
  /** The number that each disk's every block shows in a group. */
  readonly #shown = new Map<string, number>();
  #session: MetadataStore;
  #engine: Engine | undefined;
  #epoch = 0;

  constructor(seed: number) {
    this.files = new FaultyFileSystem({ seed });
    this.store = new CutStore(this.files);
    this.#session = this.store.open();
  }

  async run(): Promise<boolean> {
    return untilCut(this.files, async () => {
      await this.#open();
      await this.#make();
      for (let number = 1; number <= 4; number += 1) {
        await this.#writeAll(number);
        await this.#freeze(`g${number}`, number);
        if (number === 2) await this.#deleteCopy('g1-y');
        if (number === 3) await this.#delete('g2');
        if (number === 4) await this.#delete('g1');
      }
      await this.#close();
    });
  }

  /** Power loss, and the next start: groups are whole, with what they showed, or not there. */
  async recover(): Promise<void> {
    this.files.crash();
    this.store.crash();
    await this.#open();
    const { engine } = this;
    expect(await checkEngine(engine, this.#session)).toEqual([]);
    const { copies } = engine;
    const members = new Set<string>();
    for (const [name, stage] of this.stages) {
      const group = copies.groups.find(name);
      if (stage === 'there') expect(group, name).toBeDefined();
      if (stage === 'gone') expect(group, name).toBeUndefined();
      if (group === undefined) continue;
      expect(group.members.map(({ diskName }) => diskName)).toEqual(DISKS);
      for (const member of group.members) {
        const copy = copies.groups.copyOf(member);
        const mayBeGone = member.copyName === 'g1-y' && this.stages.has('g2');
        if (copy === undefined) expect([member.copyName, mayBeGone]).toEqual(['g1-y', true]);
        else await this.#expectShows(copy.name, this.#shown.get(name)!);
        members.add(member.copyName);
      }
    }
    // no copy without its group
    expect(copies.list().filter(({ name }) => !members.has(name))).toEqual([]);
    await this.#goOn();
  }

  async #expectShows(name: string, number: number): Promise<void> {
    const copy = this.engine.copies.get(name);
    const bytes = Buffer.alloc(copy.record.sourceCapacityBytes);
    await copy.read('full', 0, bytes);
    const [first] = bytes;
    expect([name, first]).toEqual([name, number]);
    expect(bytes.equals(Buffer.alloc(bytes.length, number))).toBe(true);
  }

  /** The same again works, and in the end all room comes back. */
  async #goOn(): Promise<void> {
    const { engine } = this;
    const { copies, disks } = engine;
    if (disks.list().length === DISKS.length) {
      await this.#writeAll(9);
      await freezeGroup(copies, { name: 'again', disks: DISKS });
    }
    for (const { name } of copies.groups.list()) await copies.groups.delete(name);
    for (const { name } of disks.list()) await disks.delete(name);
    await restOf(engine);
    for (const pool of engine.pools.list()) expect(pool.allocator.usedBlocks).toBe(0);
    expect(await checkEngine(engine, this.#session)).toEqual([]);
    await this.#close();
    expect(engine.errors).toEqual([]);
  }

  get engine(): Engine {
    if (this.#engine === undefined) throw new Error('not open');
    return this.#engine;
  }

  async #open(): Promise<void> {
    this.#epoch += 1;
    this.#session = this.store.open();
    const o = { store: this.#session, fileSystem: this.files, epoch: this.#epoch };
    this.#engine = await openEngine(o);
  }

  async #close(): Promise<void> {
    const { engine } = this;
    this.#engine = undefined;
    await engine.close();
  }

  async #make(): Promise<void> {
    const { pools, disks } = this.engine;
    for (const name of ['p', 'q']) {
      const files = [{ path: `/${name}`, sizeBytes: MIB + 40 * SIZE }];
      await pools.create({ name, blockSizeBytes: SIZE, files });
    }
    for (const [index, name] of DISKS.entries()) {
      await disks.create({ name, capacityBytes: 3 * SIZE, pool: index === 1 ? 'q' : 'p' });
    }
  }

  async #writeAll(number: number): Promise<void> {
    const { disks } = this.engine;
    const bytes = Buffer.alloc(3 * SIZE, number);
    await Promise.all(DISKS.map((name) => disks.get(name).write(0, bytes)));
  }

  async #freeze(name: string, number: number): Promise<void> {
    this.stages.set(name, 'asked');
    this.#shown.set(name, number);
    await freezeGroup(this.engine.copies, { name, disks: DISKS });
    this.stages.set(name, 'there');
  }

  async #deleteCopy(name: string): Promise<void> {
    await this.engine.copies.delete(name);
  }

  async #delete(name: string): Promise<void> {
    this.stages.set(name, 'going');
    await this.engine.copies.groups.delete(name);
    this.stages.set(name, 'gone');
  }
}

describe('a group of copies in two pools', { timeout: 120_000 }, () => {
  it('is there with all its copies or not at all, after a power cut at any step', async () => {
    const whole = new GroupWorkload(3);
    expect(await whole.run()).toBe(false);
    const found = { there: 0, absent: 0 };
    for (let step = 1; step <= whole.files.steps; step += 1) {
      const workload = new GroupWorkload(3);
      workload.files.cutAt(step);
      try {
        await workload.run();
        const last = [...workload.stages.values()].at(-1);
        await workload.recover();
        found[last === 'asked' ? 'absent' : 'there'] += 1;
      } catch (error) {
        throw new Error(`cut at step ${step}`, { cause: error });
      }
    }
    // the cuts met both sides of the commit
    expect(Math.min(found.there, found.absent)).toBeGreaterThan(3);
  });
});
