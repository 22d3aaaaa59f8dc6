/**
 * The contract of targets as tests: a new kind of target is done when this suite passes.
 *
 *     describeTarget('directory', async () => harness);
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StorageError } from '../../src/base/errors.ts';
import type { BackupEntry, BackupSink, Target } from '../../src/target/target.ts';

/** One empty medium and what can happen to it. */
export interface TargetHarness {
  readonly target: Target;
  /** The same medium after the program died: what `target` remembered is gone. */
  reopen(): Promise<Target>;
  /** Everything that was not made durable is gone from the medium. */
  cutPower(): Promise<void>;
  /** From now on the medium refuses bytes: it is full, or broken. */
  failWrites(kind: 'full' | 'broken'): void;
  mend(): void;
  dispose(): Promise<void>;
}

const manifest = { format: 1, image: { sizeBytes: 3 }, name: 'monday', note: 'ä"\n' };

/** Bytes that tell where they belong. */
export function patterned(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 1) bytes[at] = (at * 31 + (at >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

async function entries(target: Target): Promise<BackupEntry[]> {
  const found: BackupEntry[] = [];
  for await (const entry of target.list()) found.push(entry);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function store(target: Target, name: string, bytes: Uint8Array): Promise<void> {
  const sink = await target.createBackup(name);
  await sink.write([bytes]);
  await sink.commit(manifest);
}

async function contents(target: Target, name: string): Promise<Buffer> {
  const backup = await target.open(name);
  const bytes = Buffer.alloc(backup.sizeBytes);
  await backup.read(0, bytes);
  await backup.close();
  return bytes;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => (error as StorageError).code,
  );
}

/** Writes until something throws: a target may take bytes before it notices. */
async function writeUntilError(sink: BackupSink): Promise<StorageError> {
  try {
    for (let round = 0; round < 16; round += 1) await sink.write([patterned(512 * 1024)]);
    await sink.confirm();
  } catch (error) {
    return error as StorageError;
  }
  throw new Error('every byte was taken');
}

const sizes = [0, 1, 4095, 4096, 4097, 65_536, 1_048_576, 5 * 1_048_576 + 8192 + 5];
const hostile = [
  '',
  '.',
  '..',
  '../x',
  'a/b',
  '/etc',
  'A',
  '-a',
  '.a',
  'a\0b',
  'ä',
  'a'.repeat(64),
];
const uuidName = '0193a3c5-1c5e-7aaa-8bbb-0123456789ab';

export function describeTarget(name: string, make: () => Promise<TargetHarness>): void {
  describe(`the ${name} target`, () => {
    let harness: TargetHarness;
    let target: Target;
    /** Sinks of programs that died: closed at the end, for their descriptors. */
    const dropped: BackupSink[] = [];

    const begin = async (on: Target, backup: string, resumeFrom?: number): Promise<BackupSink> => {
      const sink = await on.createBackup(backup, resumeFrom === undefined ? {} : { resumeFrom });
      dropped.push(sink);
      return sink;
    };

    beforeEach(async () => {
      harness = await make();
      target = harness.target;
    });

    afterEach(async () => {
      harness.mend();
      for (const sink of dropped.splice(0)) await sink.abort(true);
      await harness.dispose();
    });

    describe('a complete backup', () => {
      it.each(sizes)('of %i bytes reads as what was written', async (size) => {
        const bytes = patterned(size);
        await store(target, 'b1', bytes);
        expect((await contents(target, 'b1')).equals(bytes)).toBe(true);
        expect(await target.readManifest('b1')).toEqual(manifest);
        expect(await entries(target)).toEqual([{ name: 'b1', complete: true }]);
      });

      it('is the same bytes however they were cut into buffers', async () => {
        const bytes = patterned(3 * 1_048_576 + 777);
        const sink = await begin(target, 'b1');
        for (let at = 0, step = 1; at < bytes.length; at += step, step = (step * 7) % 300_007) {
          const part = bytes.subarray(at, at + step);
          const middle = Math.floor(part.length / 2);
          await sink.write([part.subarray(0, middle), part.subarray(middle)]);
          expect(sink.offset).toBe(Math.min(bytes.length, at + step));
        }
        await sink.commit(manifest);
        expect((await contents(target, 'b1')).equals(bytes)).toBe(true);
      });

      it('keeps the bytes of a buffer that is used again after the write', async () => {
        const buffer = patterned(100_000);
        const sink = await begin(target, 'b1');
        await sink.write([buffer]);
        buffer.fill(0xee);
        await sink.commit(manifest);
        expect((await contents(target, 'b1')).equals(patterned(100_000))).toBe(true);
      });

      it('reads any range, and none beyond its end', async () => {
        const bytes = patterned(70_000);
        await store(target, 'b1', bytes);
        const backup = await target.open('b1');
        const part = Buffer.alloc(5000);
        await backup.read(61_234, part);
        expect(part.equals(bytes.subarray(61_234, 66_234))).toBe(true);
        await backup.read(70_000, Buffer.alloc(0));
        expect(await codeOf(backup.read(69_999, Buffer.alloc(2)))).toBe('IMAGE_TRUNCATED');
        await backup.close();
        await backup.close();
      });

      it('is not mixed up with others that are written at the same time', async () => {
        const names = ['b1', 'b2', 'b3', 'b4', 'b5', 'b6'];
        if (!target.capabilities.parallelWrites) {
          const only = await begin(target, 'b1');
          expect(await codeOf(target.createBackup('b2'))).toBe('TARGET_IN_USE');
          await only.write([patterned(3_000_000)]);
          expect(await codeOf(target.createBackup('b2'))).toBe('TARGET_IN_USE');
          await only.commit(manifest);
          await store(target, 'b2', patterned(3_000_000, 2));
          expect((await contents(target, 'b1')).equals(patterned(3_000_000))).toBe(true);
          expect((await contents(target, 'b2')).equals(patterned(3_000_000, 2))).toBe(true);
          return;
        }
        const sinks = await Promise.all(names.map((backup) => begin(target, backup)));
        for (let at = 0; at < 3_000_000; at += 700_001) {
          await Promise.all(
            sinks.map((sink, seed) => {
              return sink.write([patterned(3_000_000, seed).subarray(at, at + 700_001)]);
            }),
          );
        }
        for (const sink of sinks) await sink.commit(manifest);
        for (const [seed, backup] of names.entries()) {
          const expected = patterned(3_000_000, seed);
          expect((await contents(target, backup)).equals(expected)).toBe(true);
        }
      });

      it('survives a power cut and a new start', async () => {
        const bytes = patterned(2 * 1_048_576 + 99);
        await store(target, 'b1', bytes);
        await harness.cutPower();
        const after = await harness.reopen();
        expect((await contents(after, 'b1')).equals(bytes)).toBe(true);
        expect(await after.readManifest('b1')).toEqual(manifest);
      });

      it('keeps its name until it is removed', async () => {
        await store(target, 'b1', patterned(10));
        expect(await codeOf(target.createBackup('b1'))).toBe('NAME_TAKEN');
        expect(await codeOf(target.createBackup('b1', { resumeFrom: 5 }))).toBe('NAME_TAKEN');
        await target.remove('b1');
        await store(target, 'b1', patterned(20, 9));
        expect((await contents(target, 'b1')).equals(patterned(20, 9))).toBe(true);
      });
    });

    describe('a backup without its manifest', () => {
      it('is listed as incomplete and cannot be opened', async () => {
        const sink = await begin(target, 'b1');
        await sink.write([patterned(9000)]);
        await sink.confirm();
        for (const on of [target, await harness.reopen()]) {
          expect(await entries(on)).toEqual([{ name: 'b1', complete: false }]);
          expect(await codeOf(on.open('b1'))).toBe('BACKUP_INCOMPLETE');
          expect(await codeOf(on.readManifest('b1'))).toBe('BACKUP_INCOMPLETE');
        }
      });

      it('is gone after an abort that keeps nothing', async () => {
        const sink = await begin(target, 'b1');
        await sink.write([patterned(9000)]);
        await sink.abort(false);
        await sink.abort(false);
        expect(await entries(target)).toEqual([]);
        expect(await codeOf(target.open('b1'))).toBe('NOT_FOUND');
      });

      it('begins again at nothing unless it is resumed', async () => {
        const sink = await begin(target, 'b1');
        await sink.write([patterned(50_000)]);
        await sink.abort(true);
        await store(target, 'b1', patterned(300, 5));
        expect((await contents(target, 'b1')).equals(patterned(300, 5))).toBe(true);
      });

      it('can be removed', async () => {
        const sink = await begin(target, 'b1');
        await sink.write([patterned(9000)]);
        await sink.abort(true);
        await target.remove('b1');
        expect(await entries(target)).toEqual([]);
      });
    });

    describe('a transfer that was cut', () => {
      const bytes = patterned(4 * 1_048_576 + 4096 * 3 + 11);

      it.each([0, 1, 4096, 5000, 1_048_576, 1_048_577, 3_500_000])(
        'after %i confirmed bytes gives the same bytes when it goes on',
        async (cut) => {
          const first = await begin(target, 'b1');
          await first.write([bytes.subarray(0, cut)]);
          const confirmed = await first.confirm();
          expect(confirmed).toBeLessThanOrEqual(cut);
          await first.write([patterned(100_000, 77)]);
          const after = await harness.reopen();
          const second = await begin(after, 'b1', confirmed);
          expect(second.offset).toBe(confirmed);
          await second.write([bytes.subarray(confirmed)]);
          await second.commit(manifest);
          expect((await contents(after, 'b1')).equals(bytes)).toBe(true);
        },
      );

      it('by a power cut has every confirmed byte', async () => {
        const first = await begin(target, 'b1');
        await first.write([bytes.subarray(0, 2_000_001)]);
        const confirmed = await first.confirm();
        await first.write([bytes.subarray(2_000_001, 4_000_000)]);
        await first.abort(true);
        await harness.cutPower();
        const after = await harness.reopen();
        const second = await begin(after, 'b1', confirmed);
        await second.write([bytes.subarray(confirmed)]);
        await second.commit(manifest);
        expect((await contents(after, 'b1')).equals(bytes)).toBe(true);
      });

      it('cannot go on behind the bytes that are there', async () => {
        const first = await begin(target, 'b1');
        await first.write([bytes.subarray(0, 5000)]);
        await first.confirm();
        await first.abort(true);
        expect(await codeOf(target.createBackup('b1', { resumeFrom: 9000 }))).toBe(
          'TARGET_INVALID',
        );
        expect(await codeOf(target.createBackup('b2', { resumeFrom: 1 }))).toBe('TARGET_INVALID');
        await store(target, 'b1', patterned(20));
      });

      it('goes on after an abort that keeps', async () => {
        const first = await begin(target, 'b1');
        await first.write([bytes.subarray(0, 70_000)]);
        const confirmed = await first.confirm();
        await first.abort(true);
        const second = await begin(target, 'b1', confirmed);
        await second.write([bytes.subarray(confirmed)]);
        await second.commit(manifest);
        expect((await contents(target, 'b1')).equals(bytes)).toBe(true);
      });
    });

    describe('bytes that have a name', () => {
      const bytes = patterned(3_000_000);
      const named = { contentId: 'image-1' };

      it('are the same bytes in the end, wherever the next transfer begins', async () => {
        const first = await target.createBackup('b1', named);
        dropped.push(first);
        await first.write([bytes.subarray(0, 1_700_000)]);
        await first.confirm();
        const after = await harness.reopen();
        const second = await after.createBackup('b1', named);
        dropped.push(second);
        expect(second.offset).toBe(0);
        for (let at = 0; at < bytes.length; at += 450_000) {
          await second.write([bytes.subarray(at, at + 450_000)]);
        }
        await second.commit(manifest);
        expect((await contents(after, 'b1')).equals(bytes)).toBe(true);
      });

      it('are other bytes under another name', async () => {
        const first = await target.createBackup('b1', named);
        dropped.push(first);
        await first.write([bytes.subarray(0, 1_700_000)]);
        await first.confirm();
        await first.abort(true);
        const second = await target.createBackup('b1', { contentId: 'image-2' });
        await second.write([patterned(2_000_000, 8)]);
        await second.commit(manifest);
        expect((await contents(target, 'b1')).equals(patterned(2_000_000, 8))).toBe(true);
      });
    });

    describe('a name', () => {
      it.each([...hostile, uuidName])('%j is refused everywhere', async (bad) => {
        for (const call of ['createBackup', 'open', 'readManifest', 'remove'] as const) {
          expect(await codeOf(target[call](bad))).toBe('NAME_INVALID');
        }
      });

      it('that is being written is in use', async () => {
        const sink = await begin(target, 'b1');
        expect(await codeOf(target.createBackup('b1'))).toBe('BACKUP_IN_USE');
        expect(await codeOf(target.remove('b1'))).toBe('BACKUP_IN_USE');
        await sink.abort(false);
        await store(target, 'b1', patterned(1));
      });

      it('that is gone is not found', async () => {
        await store(target, 'b1', patterned(1));
        await target.remove('b1');
        expect(await codeOf(target.remove('b1'))).toBe('NOT_FOUND');
        expect(await codeOf(target.open('b1'))).toBe('NOT_FOUND');
        expect(await codeOf(target.readManifest('b1'))).toBe('NOT_FOUND');
      });
    });

    describe('a medium', () => {
      it('lists every backup and its state', async () => {
        expect(await entries(target)).toEqual([]);
        await store(target, 'b2', patterned(3));
        await store(target, 'b1', patterned(3));
        await begin(target, 'b3');
        expect(await entries(target)).toEqual([
          { name: 'b1', complete: true },
          { name: 'b2', complete: true },
          { name: 'b3', complete: false },
        ]);
      });

      it.each([
        ['full', 'TARGET_FULL'],
        ['broken', 'TARGET_UNAVAILABLE'],
      ] as const)('that is %s breaks the sink, not what is confirmed', async (kind, code) => {
        const bytes = patterned(3_000_000);
        const sink = await begin(target, 'b1');
        await sink.write([bytes.subarray(0, 1_200_000)]);
        const confirmed = await sink.confirm();
        harness.failWrites(kind);
        const error = await writeUntilError(sink);
        expect(error.code).toBe(code);
        expect(error.details.backup).toBe('b1');
        expect(error.details.target).toBeTypeOf('string');
        harness.mend();
        expect(await codeOf(sink.write([bytes]))).not.toBe('no error');
        expect(await codeOf(sink.confirm())).not.toBe('no error');
        expect(await codeOf(sink.commit(manifest))).not.toBe('no error');
        expect(await entries(target)).toEqual([{ name: 'b1', complete: false }]);
        await sink.abort(true);
        const second = await begin(target, 'b1', confirmed);
        await second.write([bytes.subarray(confirmed)]);
        await second.commit(manifest);
        expect((await contents(target, 'b1')).equals(bytes)).toBe(true);
      });

      it('tells its room or that it does not know', async () => {
        const free = await target.freeBytes();
        expect(free === undefined || (Number.isSafeInteger(free) && free >= 0)).toBe(true);
      });
    });
  });
}
