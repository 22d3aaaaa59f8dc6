import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { KIB, MIB, TIB } from '../../../src/base/units.ts';
import { blockFileSystem } from '../../../src/pool/block-file.ts';
import { DATA_OFFSET, encodeHeader, HEADER_AREA_BYTES } from '../../../src/pool/format.ts';
import type { CreateOptions, FileSpec } from '../../../src/pool/pool-files.ts';
import { PoolFiles } from '../../../src/pool/pool-files.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';

const SIZE = 64 * KIB;
const STORE = '01890a5d-ac96-774b-bcce-b302099a8057';
const POOL = '01890a5d-ac97-7c21-8f5e-6d1f0a3b9c42';
const OTHER = '01890a5d-ac98-7000-8000-000000000001';
const identity = { storeId: STORE, poolId: POOL, blockSizeBytes: SIZE, epoch: 3 };

function spec(path: string, blocks: number): FileSpec {
  return { path, sizeBytes: DATA_OFFSET + blocks * SIZE };
}

const files = [spec('/a', 3), spec('/b', 5)];

function create(fs: FaultyFileSystem, o: Partial<CreateOptions> = {}): Promise<PoolFiles> {
  return PoolFiles.create(fs, { ...identity, files, preallocate: true, ...o });
}

function open(fs: FaultyFileSystem, pool: PoolFiles, epoch = 3): Promise<PoolFiles> {
  return PoolFiles.open(fs, { ...identity, epoch, files: pool.files, extents: pool.extents });
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => (error instanceof StorageError ? error.code : String(error)),
  );
}

async function contents(pool: PoolFiles, block: number, length = SIZE): Promise<Buffer> {
  const into = Buffer.alloc(length);
  await pool.read(block, 0, into);
  return into;
}

/** Runs the work once for every I/O step of it, cut there, and hands over what a crash left. */
async function cutEverywhere(
  prepare: (fs: FaultyFileSystem) => Promise<() => Promise<unknown>>,
  after: (fs: FaultyFileSystem) => Promise<void>,
): Promise<void> {
  const whole = new FaultyFileSystem();
  const complete = await prepare(whole);
  const before = whole.steps;
  await complete();
  const count = whole.steps - before;
  expect(count).toBeGreaterThan(1);
  for (let step = 1; step <= count + 1; step += 1) {
    for (let seed = 1; seed <= 5; seed += 1) {
      const fs = new FaultyFileSystem({ seed: seed * 1000 + step });
      const work = await prepare(fs);
      fs.cutAt(fs.steps + step);
      await work().catch(() => undefined);
      fs.crash();
      await after(fs);
    }
  }
}

describe('creating pool files', () => {
  let fs: FaultyFileSystem;
  beforeEach(() => {
    fs = new FaultyFileSystem();
  });

  it.each<[string, Partial<CreateOptions>, string]>([
    ['no file', { files: [] }, 'VALIDATION_FAILED'],
    ['a file without room for a block', { files: [spec('/a', 0.5)] }, 'VALIDATION_FAILED'],
    ['a size that is no integer', { files: [{ path: '/a', sizeBytes: NaN }] }, 'VALIDATION_FAILED'],
    ['a file given twice', { files: [spec('/a', 1), spec('/a', 2)] }, 'VALIDATION_FAILED'],
    ['a block size that is none', { blockSizeBytes: 65_000 }, 'VALIDATION_FAILED'],
    [
      'more than 2^32 - 2 blocks',
      { files: [{ path: '/a', sizeBytes: 256 * TIB + MIB }] },
      'POOL_TOO_LARGE',
    ],
  ])('is refused for %s, before any I/O', async (_, o, code) => {
    expect(await codeOf(create(fs, o))).toBe(code);
    expect(fs.steps).toBe(0);
  });

  it('leaves nothing behind where there is no room', async () => {
    fs.roomBytes = DATA_OFFSET + 4 * SIZE;
    expect(await codeOf(create(fs))).toBe('HOST_FULL');
    expect(fs.paths).toEqual([]);
  });

  it('leaves nothing behind and nothing open whichever step fails', async () => {
    const whole = new FaultyFileSystem();
    await create(whole);
    for (let step = 1; step <= whole.steps; step += 1) {
      const own = new FaultyFileSystem();
      own.failAt(step);
      expect(await codeOf(create(own))).toBe('POOL_UNAVAILABLE');
      expect(own.paths).toEqual([]);
      await create(own);
    }
  });

  it('does not touch files of others', async () => {
    const foreign = await fs.create('/b', MIB, false);
    await foreign.write([Buffer.from('precious')], 0);
    await foreign.close();
    expect(await codeOf(create(fs))).toBe('POOL_FILE_EXISTS');
    expect(fs.paths).toEqual(['/b']);
    expect(fs.peek('/b', 0, 8).toString()).toBe('precious');
  });

  it('is refused while another has the file open', async () => {
    await create(fs);
    expect(await codeOf(create(fs))).toBe('POOL_FILE_LOCKED');
    expect(await codeOf(create(fs, { poolId: OTHER }))).toBe('POOL_FILE_LOCKED');
  });

  it('does not take the files of a pool that the store knows', async () => {
    await (await create(fs)).close();
    expect(await codeOf(create(fs, { poolId: OTHER }))).toBe('POOL_FILE_EXISTS');
    const theirs = { poolId: OTHER, isAbandoned: () => true };
    expect(await codeOf(create(fs, { ...theirs, storeId: OTHER }))).toBe('POOL_FILE_EXISTS');
    expect(await codeOf(create(fs, { ...theirs, epoch: 2 }))).toBe('POOL_FILE_EXISTS');
  });

  it('takes what a cut creation left, wherever it was cut', async () => {
    await cutEverywhere(
      async (cut) => () => create(cut),
      async (cut) => {
        const pool = await create(cut, { poolId: OTHER, isAbandoned: (id) => id === POOL });
        expect(await contents(pool, 0, 8 * SIZE)).toEqual(Buffer.alloc(8 * SIZE));
        await pool.close();
        const layout = { files: pool.files, extents: pool.extents };
        await PoolFiles.open(cut, { ...identity, poolId: OTHER, ...layout });
      },
    );
  });
});

describe('opening pool files', () => {
  let fs: FaultyFileSystem;
  let pool: PoolFiles;
  beforeEach(async () => {
    fs = new FaultyFileSystem();
    pool = await create(fs);
    await pool.close();
  });

  function header(change: Partial<Parameters<typeof encodeHeader>[0]>): Buffer {
    const copy = encodeHeader({ ...identity, fileIndex: 1, ...change });
    return Buffer.concat([copy, copy]);
  }

  it.each<[string, string, (own: FaultyFileSystem) => unknown]>([
    ['is missing', 'POOL_UNAVAILABLE', (own) => own.remove('/b')],
    ['is truncated', 'POOL_FILE_INVALID', (own) => own.truncate('/b', spec('/b', 5).sizeBytes - 1)],
    ['has lost its header to a cut', 'POOL_FILE_INVALID', (own) => own.truncate('/b', 100)],
    ['has no header', 'POOL_FILE_INVALID', (own) => own.edit('/b', 0, Buffer.alloc(8192))],
    [
      'has a damaged header',
      'POOL_FILE_INVALID',
      (own) => {
        own.edit('/b', 100, Buffer.from('x'));
        own.edit('/b', 5000, Buffer.from('x'));
      },
    ],
    [
      'is of another store',
      'POOL_FILE_FOREIGN',
      (own) => own.edit('/b', 0, header({ storeId: OTHER })),
    ],
    [
      'is of another pool',
      'POOL_FILE_FOREIGN',
      (own) => own.edit('/b', 0, header({ poolId: OTHER })),
    ],
    [
      'has another block size',
      'POOL_FILE_INVALID',
      (own) => own.edit('/b', 0, header({ blockSizeBytes: MIB })),
    ],
    [
      'has another index',
      'POOL_FILE_INVALID',
      (own) => own.edit('/b', 0, header({ fileIndex: 0 })),
    ],
    [
      'is younger than the metadata',
      'METADATA_OLDER_THAN_POOL',
      (own) => own.edit('/b', 0, header({ epoch: 4 })),
    ],
    ['cannot be read', 'DATA_UNREADABLE', (own) => own.failAt(own.steps + 2)],
  ])('is refused if one %s (%s), and nothing stays open', async (_, code, damage) => {
    await damage(fs);
    const error = await open(fs, pool).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code, details: { path: '/b' } });
    await (await fs.open('/a')).close();
  });

  it('works with one damaged header copy', async () => {
    fs.edit('/b', 4096, Buffer.alloc(4096, 0xff));
    await (await open(fs, pool)).close();
  });

  it('works with a file longer than recorded', async () => {
    const file = await fs.open('/b');
    await file.grow(9 * MIB, false);
    await file.close();
    expect((await open(fs, pool)).files).toEqual(pool.files);
  });

  it('is refused while they are open', async () => {
    await open(fs, pool);
    expect(await codeOf(open(fs, pool))).toBe('POOL_FILE_LOCKED');
  });

  it.each([
    ['leaves a gap', { firstBlock: 4, blocks: 4, file: 1, fileBlock: 0, highWater: 0 }],
    ['is longer than its file', { firstBlock: 3, blocks: 6, file: 1, fileBlock: 0, highWater: 0 }],
    ['shares blocks of a file', { firstBlock: 3, blocks: 1, file: 0, fileBlock: 2, highWater: 0 }],
    ['is of no file', { firstBlock: 3, blocks: 1, file: 2, fileBlock: 0, highWater: 0 }],
    ['has a mark beyond it', { firstBlock: 3, blocks: 1, file: 1, fileBlock: 0, highWater: 2 }],
  ])('is refused if an extent %s', async (_, extent) => {
    const extents = [pool.extents[0]!, extent];
    const opening = PoolFiles.open(fs, { ...identity, files: pool.files, extents });
    expect(await codeOf(opening)).toBe('METADATA_INVALID');
  });

  it('survives a cut at every step of raising the epoch', async () => {
    await cutEverywhere(
      async (cut) => {
        const raised = await create(cut);
        await raised.raiseEpoch(4);
        return () => raised.raiseEpoch(5);
      },
      async (cut) => {
        const again = await open(cut, pool, 5);
        await again.raiseEpoch(6);
        await again.close();
        expect(await codeOf(open(cut, pool, 5))).toBe('METADATA_OLDER_THAN_POOL');
        await open(cut, pool, 6);
      },
    );
  });
});

describe('removing pool files', () => {
  it('removes all of them, with their locks', async () => {
    const fs = new FaultyFileSystem();
    await (await create(fs)).remove();
    expect(fs.paths).toEqual([]);
    await create(fs);
  });
});

describe('pool files on block devices', () => {
  let fs: FaultyFileSystem;
  const device = { path: '/dev/x', sizeBytes: DATA_OFFSET + 3 * SIZE };
  beforeEach(() => {
    fs = new FaultyFileSystem();
    fs.addDevice('/dev/x', 2 * MIB);
  });

  it('have old bytes, so none of their blocks is virgin', async () => {
    const pool = await create(fs, { files: [device] });
    expect(pool.files).toEqual([{ ...device, kind: 'device' }]);
    expect(pool.canBeVirgin(0)).toBe(false);
    expect(pool.extents[0]).toMatchObject({ blocks: 3, highWater: 3 });
    expect((await contents(pool, 2)).equals(Buffer.alloc(SIZE, 0xa5))).toBe(true);
    await pool.close();
    expect((await open(fs, pool)).canBeVirgin(0)).toBe(false);
  });

  it('are not virgin either when a device has taken the place of a file', async () => {
    const pool = await create(fs, { files: [device] });
    await pool.close();
    const recorded = [{ ...device, kind: 'file' as const }];
    const opened = await PoolFiles.open(fs, {
      ...identity,
      files: recorded,
      extents: pool.extents,
    });
    expect(opened.canBeVirgin(0)).toBe(false);
  });

  it('are refused if larger than the device, which is then as before', async () => {
    const tooLarge = [{ path: '/dev/x', sizeBytes: 2 * MIB + 1 }];
    expect(await codeOf(create(fs, { files: tooLarge }))).toBe('VALIDATION_FAILED');
    const before = Buffer.alloc(HEADER_AREA_BYTES, 0xa5);
    expect(fs.peek('/dev/x', 0, HEADER_AREA_BYTES).equals(before)).toBe(true);
  });

  it('are refused where a header of any pool is, valid or damaged', async () => {
    await (await create(fs, { files: [device] })).close();
    const theirs = { files: [device], poolId: OTHER };
    expect(await codeOf(create(fs, theirs))).toBe('POOL_FILE_FOREIGN');
    expect(await codeOf(create(fs, { ...theirs, storeId: OTHER }))).toBe('POOL_FILE_FOREIGN');
    fs.edit('/dev/x', 20, Buffer.from('damage'));
    fs.edit('/dev/x', 4116, Buffer.from('damage'));
    expect(await codeOf(create(fs, theirs))).toBe('POOL_FILE_FOREIGN');
  });

  it('can be taken after a creation that was cut, and after a removal', async () => {
    await (await create(fs, { files: [device] })).close();
    const pool = await create(fs, { files: [device], poolId: OTHER, isAbandoned: () => true });
    await pool.remove();
    expect(fs.peek('/dev/x', 0, HEADER_AREA_BYTES).equals(Buffer.alloc(8192))).toBe(true);
    await create(fs, { files: [device] });
  });

  it('keep no header of a creation that failed', async () => {
    fs.roomBytes = MIB;
    expect(await codeOf(create(fs, { files: [device, spec('/b', 5)] }))).toBe('HOST_FULL');
    expect(fs.peek('/dev/x', 0, 8).equals(Buffer.alloc(8))).toBe(true);
  });
});

describe('pool files of this machine', () => {
  it('are made, locked, reopened, grown and removed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'spindle-pool-files-'));
    try {
      const path = (name: string): string => join(folder, 'pools', name);
      const real = await PoolFiles.create(blockFileSystem, {
        ...identity,
        files: [spec(path('a'), 3), spec(path('b'), 5)],
        preallocate: true,
      });
      await real.write(2, 100, [Buffer.alloc(SIZE, 1), Buffer.alloc(SIZE, 2)]);
      await real.sync();
      await real.grow([spec(path('b'), 6), spec(path('c'), 2)], false);
      await real.raiseEpoch(4);
      const layout = { files: real.files, extents: real.extents };
      const again = { ...identity, ...layout, epoch: 4 };
      expect(await codeOf(PoolFiles.open(blockFileSystem, again))).toBe('POOL_FILE_LOCKED');
      await real.close();
      const older = PoolFiles.open(blockFileSystem, { ...again, epoch: 3 });
      expect(await codeOf(older)).toBe('METADATA_OLDER_THAN_POOL');
      const opened = await PoolFiles.open(blockFileSystem, again);
      expect(opened.totalBlocks).toBe(11);
      const bytes = Buffer.alloc(2 * SIZE + 1);
      await opened.read(2, 100, bytes);
      const parts = [Buffer.alloc(SIZE, 1), Buffer.alloc(SIZE, 2), Buffer.alloc(1)];
      expect(bytes.equals(Buffer.concat(parts))).toBe(true);
      expect(statSync(path('a')).size).toBe(spec('', 3).sizeBytes);
      await opened.remove();
      expect(['a', 'b', 'c'].map(path).filter(existsSync)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('work on a raw device', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'spindle-pool-device-'));
    writeFileSync(join(folder, 'image'), Buffer.alloc(4 * MIB, 0xa5));
    const made = spawnSync('losetup', ['-f', '--show', join(folder, 'image')], {
      encoding: 'utf8',
    });
    const device = { path: made.stdout.trim(), sizeBytes: 4 * MIB };
    try {
      if (made.status !== 0 && process.env['CI'] === undefined) context.skip(made.stderr.trim());
      const o = { ...identity, files: [device], preallocate: true };
      const real = await PoolFiles.create(blockFileSystem, o);
      await real.write(47, 0, [Buffer.alloc(SIZE, 7)]);
      await real.sync();
      await real.close();
      const layout = { files: real.files, extents: real.extents };
      const opened = await PoolFiles.open(blockFileSystem, { ...identity, ...layout });
      expect((await contents(opened, 47)).equals(Buffer.alloc(SIZE, 7))).toBe(true);
      expect(await codeOf(PoolFiles.create(blockFileSystem, o))).toBe('POOL_FILE_LOCKED');
      await opened.close();
      const theirs = PoolFiles.create(blockFileSystem, { ...o, poolId: OTHER });
      expect(await codeOf(theirs)).toBe('POOL_FILE_FOREIGN');
    } finally {
      if (made.status === 0) spawnSync('losetup', ['-d', device.path]);
      rmSync(folder, { recursive: true });
    }
  });
});
