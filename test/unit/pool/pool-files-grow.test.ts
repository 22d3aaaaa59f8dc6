import { beforeEach, describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { KIB, MIB, TIB } from '../../../src/base/units.ts';
import { DATA_OFFSET } from '../../../src/pool/format.ts';
import type { FileSpec, PoolLayout } from '../../../src/pool/pool-files.ts';
import { PoolFiles } from '../../../src/pool/pool-files.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';

const SIZE = 64 * KIB;
const identity = {
  storeId: '01890a5d-ac96-774b-bcce-b302099a8057',
  poolId: '01890a5d-ac97-7c21-8f5e-6d1f0a3b9c42',
  blockSizeBytes: SIZE,
  epoch: 3,
};
const OTHER = '01890a5d-ac98-7000-8000-000000000001';

function spec(path: string, blocks: number): FileSpec {
  return { path, sizeBytes: DATA_OFFSET + blocks * SIZE };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => (error instanceof StorageError ? error.code : String(error)),
  );
}

async function contents(pool: PoolFiles, first: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length);
  await pool.read(first, 0, into);
  return into;
}

/** A copy of the lists that later changes do not reach. */
function layoutOf(pool: PoolFiles): PoolLayout {
  return { files: pool.files, extents: pool.extents.map((extent) => ({ ...extent })) };
}

describe('growing pool files', () => {
  let fs: FaultyFileSystem;
  let pool: PoolFiles;

  async function made(own: FaultyFileSystem): Promise<PoolFiles> {
    const files = [spec('/a', 3), spec('/b', 2)];
    const fresh = await PoolFiles.create(own, { ...identity, files, preallocate: true });
    await fresh.write(0, 0, [Buffer.alloc(5 * SIZE, 1)]);
    await fresh.sync();
    return fresh;
  }

  beforeEach(async () => {
    fs = new FaultyFileSystem();
    pool = await made(fs);
  });

  it('a longer last file makes the last extent longer', async () => {
    const grown = await pool.grow([spec('/b', 4)], true);
    expect(grown.extents).toEqual([
      { firstBlock: 0, blocks: 3, file: 0, fileBlock: 0, highWater: 0 },
      { firstBlock: 3, blocks: 4, file: 1, fileBlock: 0, highWater: 0 },
    ]);
    expect(grown.files.map(({ sizeBytes }) => sizeBytes)).toEqual(
      [3, 4].map((blocks) => spec('', blocks).sizeBytes),
    );
  });

  it('a longer first file and a new file add extents at the end', async () => {
    const { extents } = await pool.grow([spec('/a', 5), spec('/c', 1), spec('/b', 3)], true);
    expect(extents.slice(2)).toEqual([
      { firstBlock: 5, blocks: 2, file: 0, fileBlock: 3, highWater: 0 },
      { firstBlock: 7, blocks: 1, file: 2, fileBlock: 0, highWater: 0 },
      { firstBlock: 8, blocks: 1, file: 1, fileBlock: 2, highWater: 0 },
    ]);
    expect(pool.totalBlocks).toBe(9);
  });

  it('keeps every block in its place, and new blocks read zeros', async () => {
    await pool.grow([spec('/a', 5), spec('/c', 1)], false);
    await pool.write(4, 0, [Buffer.alloc(3 * SIZE, 2)]);
    const expected = [Buffer.alloc(4 * SIZE, 1), Buffer.alloc(3 * SIZE, 2), Buffer.alloc(SIZE)];
    expect((await contents(pool, 0, 8 * SIZE)).equals(Buffer.concat(expected))).toBe(true);
    expect(fs.peek('/a', DATA_OFFSET + 4 * SIZE, 1)[0]).toBe(2);
    expect(pool.extents.map((_, index) => pool.canBeVirgin(index))).toEqual([
      true,
      true,
      true,
      true,
    ]);
  });

  it('by less than a block records the size and adds no extent', async () => {
    const before = layoutOf(pool).extents;
    const sizeBytes = spec('', 2).sizeBytes + 512;
    const grown = await pool.grow([{ path: '/b', sizeBytes }], true);
    expect(grown.extents).toEqual(before);
    expect(grown.files[1]).toEqual({ path: '/b', sizeBytes, kind: 'file' });
    expect((await pool.grow([spec('/b', 3)], true)).extents[1]?.blocks).toBe(3);
  });

  it('to the present sizes does nothing', async () => {
    const steps = fs.steps;
    const before = layoutOf(pool);
    expect(await pool.grow([spec('/a', 3), spec('/b', 2)], true)).toEqual(before);
    expect(fs.steps).toBe(steps);
  });

  it.each([
    ['a smaller size', [spec('/a', 2)], 'VALIDATION_FAILED'],
    ['a path given twice', [spec('/a', 4), spec('/a', 5)], 'VALIDATION_FAILED'],
    ['a new file without a block', [{ path: '/c', sizeBytes: MIB }], 'VALIDATION_FAILED'],
    ['too many blocks', [{ path: '/c', sizeBytes: 256 * TIB + MIB }], 'POOL_TOO_LARGE'],
  ])('is refused for %s, before any I/O', async (_, files, code) => {
    const steps = fs.steps;
    expect(await codeOf(pool.grow(files, true))).toBe(code);
    expect(fs.steps).toBe(steps);
  });

  it('changes nothing where there is no room', async () => {
    const before = layoutOf(pool);
    fs.roomBytes = 3 * MIB + 20 * SIZE;
    for (const files of [
      [spec('/c', 2), spec('/b', 100)],
      [spec('/c', 2), spec('/d', 100)],
    ]) {
      expect(await codeOf(pool.grow(files, true))).toBe('HOST_FULL');
      expect(layoutOf(pool)).toEqual(before);
      expect(fs.paths).toEqual(['/a', '/b']);
    }
    expect(pool.poison).toBeUndefined();
    await pool.write(0, 0, [Buffer.alloc(1)]);
    await pool.sync();
  });

  it('goes on beside writes and syncs', async () => {
    const grown = pool.grow([spec('/b', 9), spec('/c', 3)], true);
    const writes = [0, 1, 2, 3, 4].map(async (block) => {
      await pool.write(block, 0, [Buffer.alloc(SIZE, 7)]);
      await pool.sync();
    });
    await Promise.all([grown, ...writes]);
    expect((await contents(pool, 0, 5 * SIZE)).equals(Buffer.alloc(5 * SIZE, 7))).toBe(true);
  });

  it('twice at once happens one after the other', async () => {
    await Promise.all([pool.grow([spec('/c', 1)], true), pool.grow([spec('/d', 1)], true)]);
    expect(pool.files.map(({ path }) => path)).toEqual(['/a', '/b', '/c', '/d']);
    await pool.close();
    await PoolFiles.open(fs, { ...identity, ...layoutOf(pool) });
  });

  it('is durable when it answers', async () => {
    const grown = await pool.grow([spec('/a', 9), spec('/c', 3)], true);
    fs.crash();
    const again = await PoolFiles.open(fs, { ...identity, ...grown });
    expect(again.totalBlocks).toBe(14);
    expect((await contents(again, 5, 9 * SIZE)).equals(Buffer.alloc(9 * SIZE))).toBe(true);
  });

  it('cut at any step leaves the pool as it was, and can be done again', async () => {
    const files = [spec('/a', 6), spec('/c', 2), spec('/d', 1)];
    const whole = new FaultyFileSystem();
    const complete = await made(whole);
    const before = whole.steps;
    await complete.grow(files, true);
    for (let step = 1; step <= whole.steps - before + 1; step += 1) {
      const own = new FaultyFileSystem({ seed: step });
      const victim = await made(own);
      const committed = layoutOf(victim);
      own.cutAt(own.steps + step);
      await victim.grow(files, true).catch(() => undefined);
      own.crash();
      const again = await PoolFiles.open(own, { ...identity, ...committed });
      await again.raiseEpoch(4);
      const grown = await again.grow(files, true);
      expect(grown.extents).toEqual(complete.extents);
      expect((await contents(again, 0, 5 * SIZE)).equals(Buffer.alloc(5 * SIZE, 1))).toBe(true);
      expect((await contents(again, 5, 6 * SIZE)).equals(Buffer.alloc(6 * SIZE))).toBe(true);
    }
  });

  it('fails with the poison if the sync of a known file fails', async () => {
    const before = layoutOf(pool);
    fs.failSync();
    expect(await codeOf(pool.grow([spec('/a', 9)], true))).toBe('POOL_POISONED');
    expect(layoutOf(pool)).toEqual(before);
  });

  it('does not take a copy of one of its own files for the rest of a cut grow', async () => {
    const copy = await fs.create('/copy', spec('', 3).sizeBytes, false);
    await copy.write([fs.peek('/a', 0, 8192)], 0);
    await copy.close();
    expect(await codeOf(pool.grow([spec('/copy', 4)], true))).toBe('POOL_FILE_EXISTS');
    expect(fs.has('/copy')).toBe(true);
  });

  it('does not take files of another pool', async () => {
    const files = [spec('/x', 3), spec('/y', 3), spec('/z', 3)];
    const o = { ...identity, poolId: OTHER, files, preallocate: false };
    await (await PoolFiles.create(fs, o)).close();
    expect(await codeOf(pool.grow([spec('/z', 4)], true))).toBe('POOL_FILE_EXISTS');
  });

  it('onto a device adds blocks that may hold anything', async () => {
    fs.addDevice('/dev/x', 4 * MIB);
    await pool.grow([spec('/dev/x', 2)], true);
    expect(pool.extents[2]).toMatchObject({ blocks: 2, highWater: 2 });
    expect(pool.canBeVirgin(2)).toBe(false);
    await pool.grow([spec('/dev/x', 5)], true);
    expect(pool.extents[2]).toMatchObject({ blocks: 5, highWater: 5 });
    expect(await codeOf(pool.grow([spec('/dev/x', 500)], true))).toBe('VALIDATION_FAILED');
  });
});
