/**
 * Any history of backups on small cartridges: whatever is written, confirmed, killed, cut, resumed
 * and damaged, what was confirmed is read as it was written, and a scan finds what the catalog has.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assembleBackups, resumePosition } from '../../src/tape/assemble.ts';
import { isStorageError } from '../../src/base/errors.ts';
import type { TapeBackup, TapeSetWriter } from '../../src/tape/set-writer.ts';
import { cutFilemark, dispose, patterned, TapeWorld } from '../support/tape-world.ts';

const KIB = 1024;
const P = 64 * KIB - 128;

type Command =
  | { readonly kind: 'write'; readonly bytes: number }
  | { readonly kind: 'confirm' | 'commit' | 'kill' | 'close' | 'lose-power' | 'forget' | 'worm' }
  | { readonly kind: 'fault'; readonly operation: 'write' | 'filemarks'; readonly after: number };

const sizes = fc.oneof(
  fc.integer({ min: 0, max: 5 * P }),
  fc.constantFrom(1, P - 1, P, P + 1, 2 * P, 12 * P),
);

const commands: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), bytes: sizes }) },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constantFrom(
          ...(['confirm', 'confirm', 'commit', 'kill', 'close', 'lose-power', 'forget'] as const),
          'worm' as const,
        ),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('fault' as const),
        operation: fc.constantFrom('write', 'filemarks'),
        after: fc.nat({ max: 12 }),
      }),
    },
  ),
  { minLength: 1, maxLength: 14 },
);

const shapes = fc.record({
  sizeBytes: fc.constantFrom(5, 8, 14, 20).map((records) => records * 64 * KIB),
  earlyWarningBytes: fc.constantFrom(0, 1, 2, 3).map((records) => records * 64 * KIB),
  partRecords: fc.constantFrom(1, 3, 1000),
});

/** One backup after the other, of which all bytes can be given again at any time. */
class History {
  readonly world: TapeWorld;
  readonly #partBytes: number;
  readonly #done: { backup: TapeBackup; seed: number; length: number }[] = [];
  #writer: TapeSetWriter | undefined;
  #seed = 1;
  /** The highest offset that a confirm has answered for the backup in work. */
  #confirmed = 0;
  /** Volumes that can be written once only: what was never confirmed stays there. */
  readonly #onceOnly = new Set<string>();

  constructor(world: TapeWorld, partBytes: number) {
    this.world = world;
    this.#partBytes = partBytes;
  }

  get #backup(): TapeBackup {
    return this.world.backup(`b${this.#seed}`, String.fromCharCode(96 + this.#seed));
  }

  /** Bytes `from` … of the backup in work, which is the same however often it is asked. */
  #bytes(from: number, length: number, seed = this.#seed): Buffer {
    const start = from - (from % 4);
    const all = Buffer.alloc(length + 8);
    for (let at = 0; at + 4 <= all.length; at += 4) {
      all.writeUInt32LE((start + at + seed * 2 ** 28) % 2 ** 32, at);
    }
    return all.subarray(from - start, from - start + length);
  }

  async run(command: Command): Promise<void> {
    const { world } = this;
    if (command.kind === 'fault') {
      world.library.injectFault({ operation: command.operation, after: command.after, count: 1 });
    } else if (command.kind === 'write') {
      const writer = await this.#open();
      const bytes = this.#bytes(writer?.offset ?? 0, command.bytes);
      await this.#attempt(writer, (open) => open.write([bytes]));
    } else if (command.kind === 'confirm') {
      await this.#attempt(await this.#open(), (open) => open.confirm());
    } else if (command.kind === 'commit') await this.#commit();
    else await this.#end(command.kind);
  }

  async #commit(): Promise<void> {
    const writer = await this.#open();
    const length = writer?.offset ?? 0;
    if (!(await this.#attempt(writer, (open) => open.commit(Buffer.from('{"m":1}'))))) return;
    this.#finished(length);
  }

  #finished(length: number): void {
    this.#done.push({ backup: this.#backup, seed: this.#seed, length });
    this.#writer = undefined;
    this.#seed += 1;
    this.#confirmed = 0;
  }

  async #end(how: 'kill' | 'close' | 'lose-power' | 'forget' | 'worm'): Promise<void> {
    const { world } = this;
    if (how === 'worm') {
      const volume = world.volumes.at(-1);
      if (volume === undefined) return;
      await world.library.change(volume.cartridge, { worm: true });
      this.#onceOnly.add(volume.label.volumeId);
      return;
    }
    const writer = this.#writer;
    this.#writer = undefined;
    if (writer === undefined) return;
    if (how === 'forget') {
      // The part is confirmed on tape, but the catalog does not get to know of it.
      world.forgetsParts = true;
      await writer.confirm().catch(() => undefined);
      world.forgetsParts = false;
    }
    const volume = world.volumes.at(-1);
    const open = how === 'lose-power' && volume !== undefined && !volume.isFull;
    if (how === 'kill' || how === 'lose-power') await world.kill(writer);
    else await writer.abort();
    if (open) await cutFilemark(world, volume);
  }

  /** The writer, resumed if there is none; undefined if a fault hit that. */
  async #open(): Promise<TapeSetWriter | undefined> {
    if (this.#writer !== undefined) return this.#writer;
    try {
      this.#writer = await this.world.resume(this.#backup, this.#partBytes);
    } catch (error) {
      if (!isStorageError(error, 'TARGET_UNAVAILABLE')) throw error;
      return undefined;
    }
    expect(this.#writer.offset).toBeGreaterThanOrEqual(this.#confirmed);
    return this.#writer;
  }

  async #attempt(
    writer: TapeSetWriter | undefined,
    work: (writer: TapeSetWriter) => Promise<unknown>,
  ): Promise<boolean> {
    if (writer === undefined) return false;
    try {
      await work(writer);
      this.#confirmed = Math.max(this.#confirmed, writer.confirmedOffset);
      return true;
    } catch (error) {
      if (!isStorageError(error)) throw error;
      expect(['TARGET_UNAVAILABLE', 'TARGET_FULL']).toContain(error.code);
      this.#confirmed = Math.max(this.#confirmed, writer.confirmedOffset);
      this.#writer = undefined;
      await writer.abort();
      if (error.code === 'TARGET_FULL') throw error;
      return false;
    }
  }

  async #close(): Promise<void> {
    await this.#writer?.abort();
    this.#writer = undefined;
  }

  /** All laws at the end. */
  async check(): Promise<void> {
    const { world } = this;
    await this.#close();
    while ((await this.#open()) === undefined); // faults that have not come yet
    await this.#close();
    const found = assembleBackups(await world.scanAll());
    for (const { backup, seed, length } of this.#done) {
      const scanned = found.find(({ backupId }) => backupId === backup.backupId);
      expect(scanned).toMatchObject({ isComplete: true, imageBytes: length, missing: [] });
      expect(scanned?.manifest).toEqual({ m: 1 });
      const expected = this.#bytes(0, length, seed);
      expect((await world.read(backup, length)).equals(expected)).toBe(true);
      const reader = world.readerOf(scanned!.parts, length);
      const into = Buffer.alloc(length);
      await reader.read(0, into);
      await reader.close();
      expect(into.equals(expected)).toBe(true);
    }
    await this.#checkUnfinished(found);
    await this.#checkCatalog(found.flatMap(({ parts }) => parts));
  }

  async #checkUnfinished(found: ReturnType<typeof assembleBackups>): Promise<void> {
    const backup = this.#backup;
    const { offset } = resumePosition(this.world.partsOf(backup));
    expect(offset).toBeGreaterThanOrEqual(this.#confirmed);
    const scanned = found.find(({ backupId }) => backupId === backup.backupId);
    // A commit whose answer was an error may have completed it all the same.
    if (scanned?.isComplete === true) expect(scanned.missing).toEqual([]);
    const reader = this.world.reader(backup, offset);
    const into = Buffer.alloc(offset);
    await reader.read(0, into);
    await reader.close();
    expect(into.equals(this.#bytes(0, offset))).toBe(true);
  }

  /**
   * Each part of the catalog is found as it is known; no closed part but those is there, or, where
   * nothing can be written over, none that has other bytes than the image has at that place.
   */
  async #checkCatalog(found: ReturnType<typeof assembleBackups>[0]['parts']): Promise<void> {
    const byId = new Map(found.map((part) => [part.partId, part]));
    for (const known of this.world.parts) {
      const part = byId.get(known.partId);
      if (known.state === 'open') expect(part).toMatchObject({ dataBytes: known.dataBytes });
      else expect(part).toEqual(known);
    }
    const ids = this.world.parts.map(({ partId }) => partId);
    expect(new Set(ids).size).toBe(ids.length);
    const unknown = found.filter(({ partId, state }) => state !== 'open' && !ids.includes(partId));
    for (const part of unknown) {
      if (!this.#onceOnly.has(part.volumeId)) expect(part.dataBytes).toBe(0);
      const seed = this.#done.find(({ backup }) => backup.backupId === part.backupId)?.seed;
      const into = Buffer.alloc(part.dataBytes);
      const reader = this.world.readerOf([part], part.firstOffset + part.dataBytes);
      await reader.read(part.firstOffset, into);
      await reader.close();
      expect(into.equals(this.#bytes(part.firstOffset, part.dataBytes, seed))).toBe(true);
    }
  }
}

describe('a history of backups on tape', () => {
  it('keeps what was confirmed, and a scan finds what the catalog has', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, commands, async ({ partRecords, ...options }, list) => {
        const world = await TapeWorld.make(options);
        const history = new History(world, partRecords * P);
        try {
          for (const command of list) await history.run(command);
          await history.check();
        } catch (error) {
          // Of cartridges that hold no record nothing is asked but that they are refused.
          if (!isStorageError(error, 'TARGET_FULL')) throw error;
          expect(options.sizeBytes - options.earlyWarningBytes).toBeLessThanOrEqual(4 * 64 * KIB);
        } finally {
          await dispose(world);
        }
      }),
      { numRuns: 30, endOnFailure: true },
    );
  }, 120_000);

  it('is the same bytes for the same reads, wherever they begin', async () => {
    const world = await TapeWorld.make();
    const bytes = patterned(25 * P + 5);
    await world.write(world.backup('monday'), bytes, 4 * P);
    const reader = world.reader(world.backup('monday'), bytes.length);
    const range = fc.tuple(fc.nat(bytes.length), fc.nat(3 * P));
    await fc.assert(
      fc.asyncProperty(range, async ([from, length]) => {
        const into = Buffer.alloc(Math.min(length, bytes.length - from));
        await reader.read(from, into);
        expect(into.equals(bytes.subarray(from, from + into.length))).toBe(true);
      }),
      { numRuns: 60 },
    );
    await reader.close();
  });
});
