import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import type { Copies } from '../../src/copy/copies.ts';
import { freeze } from '../../src/copy/freeze.ts';
import { freezeGroup } from '../../src/copy/freeze-group.ts';
import type { GroupRecord } from '../../src/copy/groups.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { checkEngine } from '../support/check-engine.ts';
import { openEngine } from '../support/engine.ts';
import { JumpyFiles, JumpyMetadata, turns } from '../support/jumpy.ts';
import { restOf } from '../support/small-engine.ts';
import { generator } from '../support/volatile-medium.ts';

const SIZE = 16 * KIB;
const SECTOR = 512;
const WRITERS = 3;
const SECTORS_EACH = 40;
const DISKS = ['x', 'y', 'z'];

interface Run {
  readonly seed: number;
  readonly pools: 1 | 2;
  /** For each group: how many turns after the one before, and in which order its disks. */
  readonly groups: readonly { readonly after: number; readonly turned: boolean }[];
  readonly freezes: boolean;
  readonly flushes: boolean;
}

/**
 * Each writer has numbers of its own and writes one after the other, each to any of the disks and
 * only after the one before was answered. So what a moment shows of a writer is its first numbers.
 */
class Writer {
  answered = 0;
  readonly #disks: readonly Disk[];
  readonly #first: number;
  readonly #random: () => number;
  readonly #places: number[] = [];

  constructor(disks: readonly Disk[], index: number, seed: number) {
    this.#disks = disks;
    this.#first = index * SECTORS_EACH;
    this.#random = generator(seed * 31 + index);
  }

  async write(flushes: boolean): Promise<void> {
    for (let number = 1; number <= SECTORS_EACH; number += 1) {
      const place = Math.floor(this.#random() * this.#disks.length);
      this.#places.push(place);
      const disk = this.#disks[place]!;
      await disk.write((this.#first + number - 1) * SECTOR, Buffer.alloc(SECTOR, number));
      if (flushes && this.#random() < 0.2) await disk.flush();
      this.answered = number;
      await turns(Math.floor(this.#random() * 2));
    }
  }

  /** How many of its first numbers are there; throws if a later one is without an earlier. */
  seen(contents: readonly Buffer[]): number {
    const there = this.#places.map((place, index) => {
      const at = (this.#first + index) * SECTOR;
      const found = contents[place]![at]!;
      expect([0, index + 1]).toContain(found);
      return found !== 0;
    });
    const count = !there.includes(false) ? there.length : there.indexOf(false);
    expect(there.slice(count)).not.toContain(true);
    return count;
  }
}

async function contentsOf(copies: Copies, group: GroupRecord): Promise<Buffer[]> {
  return Promise.all(
    DISKS.map(async (name) => {
      const copy = copies.get(`${group.name}-${name}`);
      const bytes = Buffer.alloc(copy.record.sourceCapacityBytes);
      await copy.read('full', 0, bytes);
      return bytes;
    }),
  );
}

async function runOnce(run: Run): Promise<void> {
  const store = new JumpyMetadata(run.seed);
  const engine = await openEngine({ store, fileSystem: new JumpyFiles(run.seed) });
  const { copies, disks } = engine;
  for (let number = 0; number < run.pools; number += 1) {
    const files = [{ path: `/p${number}`, sizeBytes: MIB + 200 * SIZE }];
    await engine.pools.create({ name: `p${number}`, blockSizeBytes: SIZE, files });
  }
  const made: Disk[] = [];
  for (const [index, name] of DISKS.entries()) {
    const pool = `p${index % run.pools}`;
    made.push((await disks.create({ name, capacityBytes: 8 * SIZE, pool })).disk);
  }
  const writers = Array.from({ length: WRITERS }, (_, index) => new Writer(made, index, run.seed));
  const answered = (): number[] => writers.map((writer) => writer.answered);
  const taken = run.groups.map(async ({ after, turned }, index) => {
    await turns(after);
    const before = answered();
    const order = turned ? DISKS.toReversed() : DISKS;
    const frozen = freezeGroup(copies, { name: `g${index}`, disks: order });
    if (run.freezes) await freeze(copies, DISKS[index % 3]!, { name: `s${index}` });
    const group = await frozen;
    return { group, before, after: answered() };
  });
  await Promise.all(writers.map((writer) => writer.write(run.flushes)));
  for (const { group, before, after } of await Promise.all(taken)) {
    const contents = await contentsOf(copies, group);
    const seen = writers.map((writer) => writer.seen(contents));
    for (const [index, count] of seen.entries()) {
      expect(count).toBeGreaterThanOrEqual(before[index]!);
      // one may be under way when the answer comes
      expect(count).toBeLessThanOrEqual(after[index]! + 1);
    }
  }
  await restOf(engine);
  expect(await checkEngine(engine, store)).toEqual([]);
  await engine.close();
  expect(engine.errors).toEqual([]);
}

describe('a group copy beside writers that number what they write', { timeout: 120_000 }, () => {
  it('is one consistent cut, in 500 random runs', async () => {
    const group = fc.record({ after: fc.nat(120), turned: fc.boolean() });
    const run: fc.Arbitrary<Run> = fc.record({
      seed: fc.nat(1_000_000),
      pools: fc.constantFrom(1, 2),
      groups: fc.array(group, { minLength: 1, maxLength: 4 }),
      freezes: fc.boolean(),
      flushes: fc.boolean(),
    });
    await fc.assert(fc.asyncProperty(run, runOnce), { numRuns: 500 });
  });
});
