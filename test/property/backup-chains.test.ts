import fc from 'fast-check';
import { expect, it } from 'vitest';
import { beginConsolidate } from '../../src/backup/consolidate-job.ts';
import { deleteBackup } from '../../src/backup/delete-backup.ts';
import { isStorageError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { freeze } from '../../src/copy/freeze.ts';
import type { Disk } from '../../src/disk/disk.ts';
import { backUp, contentOf } from '../support/chain-work.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../support/work.ts';

const BLOCK = 16 * KIB;
const BLOCKS = 24;

const place = fc.record({ at: fc.nat(BLOCKS - 1), length: fc.integer({ min: 1, max: 6 }) });
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('write' as const), place, byte: fc.nat(255) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('discard' as const), place }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('resize' as const), size: fc.nat(BLOCKS * 32) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('freeze' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('delete-copy' as const), index: fc.nat(9) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revert' as const), index: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('restore' as const), index: fc.nat(9) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('back-up' as const),
      full: fc.nat(6),
      named: fc.nat(12),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('back-up-copy' as const), index: fc.nat(9) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('consolidate' as const), index: fc.nat(9) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('delete' as const),
      index: fc.nat(9),
      cascade: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A disk, its copies and backups, and what each must hold. */
class Chained {
  readonly dir: string;
  bench: WorkBench;
  /** Of copies and backups, by name. */
  readonly copies = new Map<string, Buffer>();
  readonly backups = new Map<string, Buffer>();
  counts = { incremental: 0, members: 0 };
  #names = 0;

  constructor(dir: string, bench: WorkBench) {
    this.dir = dir;
    this.bench = bench;
  }

  get disk(): Disk {
    return this.bench.disks.get('d');
  }

  async content(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.disk.capacityBytes);
    await this.disk.read(0, bytes);
    return bytes;
  }

  #pick<T>(map: Map<string, T>, index: number): string | undefined {
    return [...map.keys()][index % Math.max(1, map.size)];
  }

  #name(kind: string): string {
    this.#names += 1;
    return `${kind}${this.#names}`;
  }

  async step(each: Step): Promise<void> {
    const copy = 'index' in each ? this.#pick(this.copies, each.index) : undefined;
    const backup = 'index' in each ? this.#pick(this.backups, each.index) : undefined;
    switch (each.do) {
      case 'write':
      case 'discard':
        await this.#change(each.place, each.do === 'write' ? each.byte : undefined);
        return;
      case 'resize':
        await this.bench.disks.update('d', { capacityBytes: (each.size + 1) * 512, discard: true });
        return;
      case 'freeze':
        await this.#freeze();
        return;
      case 'restart':
        expect(this.bench.errors).toEqual([]);
        await this.bench.close();
        this.bench = await openWork(this.dir);
        return;
      case 'delete-copy':
        if (copy !== undefined) await this.bench.copies.delete(copy);
        if (copy !== undefined) this.copies.delete(copy);
        return;
      case 'revert':
        if (copy !== undefined) await this.#revert(copy);
        return;
      case 'restore':
        if (backup !== undefined) await this.#restore(backup);
        return;
      case 'back-up':
        await this.#backUp(await this.content(), { disk: 'd' }, each);
        return;
      case 'back-up-copy':
        if (copy === undefined) return;
        await this.#backUp(this.copies.get(copy)!, { copy }, { full: 1, named: 12 });
        return;
      case 'consolidate':
        if (backup !== undefined) await this.#consolidate(backup);
        return;
      case 'delete':
        if (backup !== undefined) await this.#delete(backup, each.cascade);
    }
  }

  /** @param byte undefined: a discard */
  async #change(range: { at: number; length: number }, byte: number | undefined): Promise<void> {
    const offset = range.at * BLOCK;
    const length = Math.min(range.length * BLOCK - 100, this.disk.capacityBytes - offset);
    if (length <= 0) return;
    if (byte === undefined) await this.disk.discard(offset, length);
    else await this.disk.write(offset, Buffer.alloc(length, byte));
  }

  async #freeze(): Promise<void> {
    const name = this.#name('copy');
    const content = await this.content();
    await freeze(this.bench.copies, 'd', { name });
    this.copies.set(name, content);
  }

  async #revert(copy: string): Promise<void> {
    const request = { method: 'write-back', disk: 'd' } as const;
    const made = await this.bench.work.restores.fromCopy(copy, request);
    if (!('job' in made)) throw new Error('a write-back is a job');
    expect(await this.bench.ended(made.job)).toMatchObject({ state: 'succeeded' });
  }

  async #consolidate(backup: string): Promise<void> {
    const { bench } = this;
    const name = this.#name('whole');
    const job = await beginConsolidate(bench.work.backups, backup, { name });
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    this.backups.set(name, this.backups.get(backup)!);
  }

  async #backUp(
    content: Buffer,
    source: { disk: string } | { copy: string },
    { full, named }: { full: number; named: number },
  ): Promise<void> {
    const name = this.#name('backup');
    const base = this.#pick(this.backups, named);
    const about = named > 6 || base === undefined ? {} : { base };
    const level =
      full === 0 ? {} : { level: 'incremental' as const, onMissingBase: 'full' as const, ...about };
    const result = await backUp(this.bench, { name, ...source, ...level });
    this.backups.set(name, content);
    if (result['level'] === 'incremental') this.counts.incremental += 1;
  }

  async #delete(backup: string, cascade: boolean): Promise<void> {
    const { backups } = this.bench.work;
    try {
      await deleteBackup(backups, backup, { cascade });
    } catch (error) {
      if (!isStorageError(error, 'BACKUP_NEEDED') || cascade) throw error;
    }
    const there = new Set(backups.list().map(({ name }) => name));
    for (const name of this.backups.keys()) if (!there.has(name)) this.backups.delete(name);
  }

  async #restore(backup: string): Promise<void> {
    const { bench } = this;
    const request = {
      method: 'write-back',
      disk: 'd',
      onlyDiffering: backup.length % 2 === 0,
    } as const;
    const job = await bench.work.restores.fromBackup(backup, request);
    expect(await bench.ended(job)).toMatchObject({ state: 'succeeded' });
    const wanted = this.backups.get(backup)!;
    const found = await this.content();
    expect(found.subarray(0, wanted.length).equals(wanted)).toBe(true);
    expect(found.subarray(wanted.length).every((byte) => byte === 0)).toBe(true);
  }

  /** Each backup by its images alone, and each copy, is what it was. */
  async check(): Promise<void> {
    const { bench } = this;
    expect(bench.work.backups.list().map(({ name }) => name)).toEqual([...this.backups.keys()]);
    for (const [name, content] of this.backups) {
      expect((await contentOf(bench, name)).equals(content)).toBe(true);
      const { length } = bench.work.backups.readableChain(name);
      this.counts.members = Math.max(this.counts.members, length);
    }
    for (const [name, content] of this.copies) {
      const bytes = Buffer.alloc(content.length);
      await bench.copies.get(name).read('full', 0, bytes);
      expect(bytes.equals(content)).toBe(true);
    }
  }
}

it('every backup holds its moment, whatever it is built on', { timeout: 120_000 }, async () => {
  const counts = { incremental: 0, members: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 40 }), async (steps) => {
      const dir = await makeFolder();
      const bench = await openWork(dir, { blockSizeBytes: BLOCK, poolBytes: 32 * 1024 * KIB });
      await bench.disks.create({ name: 'd', capacityBytes: BLOCKS * BLOCK });
      const chained = new Chained(dir, bench);
      try {
        for (const each of steps) await chained.step(each);
        await chained.check();
        expect(chained.bench.errors).toEqual([]);
        counts.incremental += chained.counts.incremental;
        counts.members = Math.max(counts.members, chained.counts.members);
      } finally {
        await chained.bench.close();
        await removeFolder(dir);
      }
    }),
    { numRuns: 6 },
  );
  expect(counts.incremental).toBeGreaterThan(3);
  expect(counts.members).toBeGreaterThan(2);
});
