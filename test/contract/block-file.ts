/**
 * The contract of block files as tests: a new implementation is done when this suite passes.
 *
 *     describeBlockFile('real files', async () => harness);
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StorageError } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { BlockFile, BlockFileSystem } from '../../src/pool/block-file.ts';

/** One empty place for files. */
export interface BlockFileHarness {
  readonly fs: BlockFileSystem;
  /** A path at which nothing is. */
  path(name: string): string;
  dispose(): Promise<void>;
}

/** Bytes that tell where they belong. */
function patterned(length: number, seed = 1): Buffer {
  return Buffer.from(Array.from({ length }, (_, at) => (at * 31 + (at >>> 8) * 7 + seed) & 0xff));
}

async function contents(file: BlockFile, position: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xee);
  await file.read(into, position);
  return into;
}

async function errorOf(work: Promise<unknown>): Promise<StorageError> {
  return work.then(
    () => expect.unreachable('it should have failed'),
    (error: unknown) => error as StorageError,
  );
}

export function describeBlockFile(name: string, make: () => Promise<BlockFileHarness>): void {
  describe(`block file: ${name}`, () => {
    let harness: BlockFileHarness;
    let fs: BlockFileSystem;
    const opened: BlockFile[] = [];

    beforeEach(async () => {
      harness = await make();
      fs = harness.fs;
    });

    afterEach(async () => {
      for (const file of opened.splice(0)) await file.close();
      await harness.dispose();
    });

    async function created(sizeBytes = MIB, preallocate = false): Promise<BlockFile> {
      const file = await fs.create(harness.path('pool'), sizeBytes, preallocate);
      opened.push(file);
      return file;
    }

    async function reopened(file: BlockFile): Promise<BlockFile> {
      await file.close();
      const again = await fs.open(file.path);
      opened.push(again);
      return again;
    }

    it.each([false, true])('a new file has its size and reads zeros (room: %s)', async (room) => {
      const file = await created(3 * MIB + 512, room);
      expect(file.kind).toBe('file');
      expect(file.sizeBytes).toBe(3 * MIB + 512);
      expect(await contents(file, 2 * MIB, MIB + 512)).toEqual(Buffer.alloc(MIB + 512));
    });

    it('bytes written at an odd place are read back, beside them is zero', async () => {
      const file = await created();
      const bytes = patterned(10_001);
      await file.write([bytes], 777);
      expect(await contents(file, 777, bytes.length)).toEqual(bytes);
      expect(await contents(file, 0, 777)).toEqual(Buffer.alloc(777));
      expect(await contents(file, 777 + 10_001, 100)).toEqual(Buffer.alloc(100));
    });

    it('buffers are written one after the other, empty ones too', async () => {
      const file = await created();
      const parts = [patterned(1), patterned(0), patterned(513, 2), patterned(70_000, 3)];
      await file.write(parts, 4096);
      const whole = Buffer.concat(parts);
      expect(await contents(file, 4096, whole.length)).toEqual(whole);
    });

    it.each([3, 300])('more buffers than one call takes are written (%i bytes each)', async (n) => {
      const file = await created();
      const parts = Array.from({ length: 2500 }, (_, index) => patterned(n, index));
      await file.write(parts, 11);
      expect(await contents(file, 11, n * 2500)).toEqual(Buffer.concat(parts));
    });

    it('a write or read of no bytes does nothing', async () => {
      const file = await created();
      await file.write([], 5 * MIB);
      await file.write([Buffer.alloc(0)], 5 * MIB);
      await file.read(Buffer.alloc(0), 0);
      expect(file.sizeBytes).toBe(MIB);
    });

    it('concurrent writes to different places all arrive', async () => {
      const file = await created(8 * MIB);
      const sizes = [4 * KIB, 64 * KIB, 65 * KIB, MIB];
      await Promise.all(sizes.map((size, at) => file.write([patterned(size, at)], at * 2 * MIB)));
      for (const [at, size] of sizes.entries()) {
        expect(await contents(file, at * 2 * MIB, size)).toEqual(patterned(size, at));
      }
    });

    it('what was written is there after close and open', async () => {
      const file = await created();
      await file.write([patterned(5000)], 100);
      await file.sync();
      const again = await reopened(file);
      expect(again.sizeBytes).toBe(MIB);
      expect(await contents(again, 100, 5000)).toEqual(patterned(5000));
    });

    it('a read past the end is unreadable and names its range', async () => {
      const file = await created();
      const error = await errorOf(file.read(Buffer.alloc(1000), MIB - 500));
      expect(error.code).toBe('DATA_UNREADABLE');
      expect(error.details).toEqual({ path: file.path, position: MIB - 500, length: 1000 });
    });

    it('a write past the end extends the file', async () => {
      const file = await created(0);
      await file.write([patterned(8192)], 0);
      expect(file.sizeBytes).toBe(8192);
      expect(await contents(await reopened(file), 0, 8192)).toEqual(patterned(8192));
    });

    it.each([false, true])('growing keeps the data and adds zeros (room: %s)', async (room) => {
      const file = await created();
      await file.write([patterned(1000)], MIB - 1000);
      await file.grow(2 * MIB, room);
      expect(file.sizeBytes).toBe(2 * MIB);
      expect(await contents(file, MIB - 1000, 1000)).toEqual(patterned(1000));
      expect(await contents(file, MIB, MIB)).toEqual(Buffer.alloc(MIB));
      await file.sync();
      expect((await reopened(file)).sizeBytes).toBe(2 * MIB);
    });

    it('growing to a smaller size changes nothing', async () => {
      const file = await created();
      await file.write([patterned(1000)], MIB - 1000);
      await file.grow(4096, true);
      expect(file.sizeBytes).toBe(MIB);
      expect(await contents(file, MIB - 1000, 1000)).toEqual(patterned(1000));
    });

    it('a file that is there and not empty is not created again', async () => {
      const file = await created();
      await file.write([patterned(10)], 0);
      await file.close();
      expect((await errorOf(fs.create(file.path, MIB, false))).code).toBe('POOL_FILE_EXISTS');
      expect(await contents(await reopened(file), 0, 10)).toEqual(patterned(10));
    });

    it('an empty file is taken', async () => {
      await (await created(0)).close();
      expect((await created()).sizeBytes).toBe(MIB);
    });

    it('an open file is locked against everyone until it is closed', async () => {
      const file = await created(0);
      expect((await errorOf(fs.open(file.path))).code).toBe('POOL_FILE_LOCKED');
      expect((await errorOf(fs.create(file.path, 0, false))).code).toBe('POOL_FILE_LOCKED');
      await reopened(file);
      expect((await errorOf(fs.open(file.path))).code).toBe('POOL_FILE_LOCKED');
    });

    it('opening what is not there is unavailable and names the path', async () => {
      const error = await errorOf(fs.open(harness.path('nothing')));
      expect(error.code).toBe('POOL_UNAVAILABLE');
      expect(error.details).toMatchObject({ path: harness.path('nothing') });
    });

    it('a removed file is gone, and removing it again is nothing', async () => {
      const file = await created();
      await fs.remove(file.path);
      await fs.remove(file.path);
      await file.close();
      expect((await errorOf(fs.open(file.path))).code).toBe('POOL_UNAVAILABLE');
    });

    it('close waits for the calls inside, and may be called twice', async () => {
      const file = await created(4 * MIB);
      const bytes = patterned(2 * MIB);
      const write = file.write([bytes], 0);
      await Promise.all([file.close(), write]);
      await file.close();
      expect(await contents(await reopened(file), 0, bytes.length)).toEqual(bytes);
    });

    it('a call after close is a bug', async () => {
      const file = await created();
      await file.close();
      await expect(file.read(Buffer.alloc(1), 0)).rejects.toThrow('after its close');
      await expect(file.write([patterned(1)], 0)).rejects.toThrow('after its close');
      await expect(file.sync()).rejects.toThrow('after its close');
    });
  });
}
