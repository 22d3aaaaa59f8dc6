import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { StorageError } from '../../../src/base/errors.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { DATA_OFFSET } from '../../../src/pool/format.ts';
import { PoolFiles } from '../../../src/pool/pool-files.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';

const SIZE = 16 * KIB;
const identity = {
  storeId: '01890a5d-ac96-774b-bcce-b302099a8057',
  poolId: '01890a5d-ac97-7c21-8f5e-6d1f0a3b9c42',
  blockSizeBytes: SIZE,
  epoch: 3,
};
/** 3, 1 and 4 blocks. */
const files = [
  { path: '/a', sizeBytes: DATA_OFFSET + 3 * SIZE },
  { path: '/b', sizeBytes: DATA_OFFSET + SIZE + 100 },
  { path: '/c', sizeBytes: DATA_OFFSET + 4 * SIZE },
];
const TOTAL_BYTES = 8 * SIZE;

function create(fs: FaultyFileSystem): Promise<PoolFiles> {
  return PoolFiles.create(fs, { ...identity, files, preallocate: true });
}

function reopen(fs: FaultyFileSystem, pool: PoolFiles): Promise<PoolFiles> {
  return PoolFiles.open(fs, { ...identity, files: pool.files, extents: pool.extents });
}

async function contents(pool: PoolFiles, first = 0, length = TOTAL_BYTES): Promise<Buffer> {
  const into = Buffer.alloc(length);
  await pool.read(first, 0, into);
  return into;
}

async function errorOf(work: Promise<unknown>): Promise<StorageError> {
  return work.then(
    () => expect.unreachable('it should have failed'),
    (error: unknown) => error as StorageError,
  );
}

describe('blocks of pool files', () => {
  let fs: FaultyFileSystem;
  let pool: PoolFiles;

  beforeEach(async () => {
    fs = new FaultyFileSystem();
    pool = await create(fs);
  });

  it('are those of the files, one after the other', () => {
    expect(pool.totalBlocks).toBe(8);
    expect(pool.blockSizeBytes).toBe(SIZE);
    expect(pool.extents).toEqual([
      { firstBlock: 0, blocks: 3, file: 0, fileBlock: 0, highWater: 0 },
      { firstBlock: 3, blocks: 1, file: 1, fileBlock: 0, highWater: 0 },
      { firstBlock: 4, blocks: 4, file: 2, fileBlock: 0, highWater: 0 },
    ]);
    expect(pool.files).toEqual(files.map((file) => ({ ...file, kind: 'file' })));
  });

  it('read zeros before their first write', async () => {
    expect(await contents(pool)).toEqual(Buffer.alloc(TOTAL_BYTES));
    expect([0, 1, 2].map((extent) => pool.canBeVirgin(extent))).toEqual([true, true, true]);
  });

  it('lie in their files from the first MiB on', async () => {
    await pool.write(5, 10, [Buffer.from('block 5')]);
    expect(fs.peek('/c', DATA_OFFSET + SIZE + 10, 7).toString()).toBe('block 5');
  });

  it('are read and written across blocks and extents as one row of bytes', async () => {
    const part = fc.uint8Array({ minLength: 0, maxLength: 3 * SIZE, size: 'max' });
    const write = fc.record({ at: fc.nat(TOTAL_BYTES), parts: fc.array(part, { maxLength: 3 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 6 }), async (writes) => {
        const own = new FaultyFileSystem();
        const tested = await create(own);
        const model = Buffer.alloc(TOTAL_BYTES);
        for (const { at, parts } of writes) {
          const whole = Buffer.concat(parts);
          if (at + whole.length > TOTAL_BYTES) continue;
          whole.copy(model, at);
          await tested.write(Math.floor(at / SIZE), at % SIZE, parts);
        }
        expect((await contents(tested)).equals(model)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('outside the pool are a bug', async () => {
    await expect(pool.read(8, 0, Buffer.alloc(1))).rejects.toThrow('assertion failed');
    await expect(pool.write(7, 1, [Buffer.alloc(SIZE)])).rejects.toThrow('assertion failed');
    await expect(pool.read(-1, 0, Buffer.alloc(1))).rejects.toThrow('assertion failed');
  });
});

describe('a sync of pool files', () => {
  let fs: FaultyFileSystem;
  let pool: PoolFiles;

  beforeEach(async () => {
    fs = new FaultyFileSystem();
    pool = await create(fs);
  });

  it('touches only files that have unsynced bytes', async () => {
    await pool.write(0, 0, [Buffer.alloc(100)]);
    await pool.write(4, 0, [Buffer.alloc(50)]);
    expect(pool.unsyncedBytes).toBe(150);
    const steps = fs.steps;
    await pool.sync();
    expect(fs.steps - steps).toBe(2);
    expect(pool.unsyncedBytes).toBe(0);
    await pool.sync();
    expect(fs.steps - steps).toBe(2);
  });

  it('keeps what was written before, whatever a crash does to the rest', async () => {
    const write = fc.record({
      at: fc.nat(TOTAL_BYTES / 512 - 1),
      sectors: fc.integer({ min: 1, max: 70 }),
    });
    const phase = fc.array(write, { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(fc.nat(), phase, phase, async (seed, synced, unsynced) => {
        const own = new FaultyFileSystem({ seed });
        const tested = await create(own);
        // what each sector may hold after the crash, as the number of the write
        const allowed = Array.from({ length: TOTAL_BYTES / 512 }, () => new Set([0]));
        let number = 0;
        const run = async (writes: typeof synced, keep: boolean): Promise<void> => {
          for (const { at, sectors } of writes) {
            number += 1;
            const end = Math.min(at + sectors, allowed.length);
            const bytes = Buffer.alloc((end - at) * 512, number);
            await tested.write(Math.floor((at * 512) / SIZE), (at * 512) % SIZE, [bytes]);
            for (let sector = at; sector < end; sector += 1) {
              if (keep) allowed[sector]!.clear();
              allowed[sector]!.add(number);
            }
          }
        };
        await run(synced, true);
        await tested.sync();
        await run(unsynced, false);
        own.crash();
        const found = await contents(await reopen(own, tested));
        for (const [sector, values] of allowed.entries()) {
          const bytes = found.subarray(sector * 512, sector * 512 + 512);
          expect(values).toContain(bytes[0]);
          expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('is not there: a crash really loses bytes', async () => {
    await pool.write(0, 0, [Buffer.alloc(3 * SIZE, 1)]);
    fs.crash();
    const kept = (await contents(await reopen(fs, pool))).filter((byte) => byte === 1).length;
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThan(3 * SIZE);
  });
});

describe('a failure below a pool', () => {
  let fs: FaultyFileSystem;
  let pool: PoolFiles;

  beforeEach(async () => {
    fs = new FaultyFileSystem();
    pool = await create(fs);
    await pool.write(0, 0, [Buffer.from('kept')]);
    await pool.sync();
  });

  async function expectPoisoned(path: string, operation: string): Promise<void> {
    const { poison } = pool;
    expect(poison).toMatchObject({
      code: 'POOL_POISONED',
      details: { path, operation, reason: 'EIO' },
    });
    const steps = fs.steps;
    expect(await errorOf(pool.write(4, 0, [Buffer.alloc(1)]))).toBe(poison);
    expect(await errorOf(pool.sync())).toBe(poison);
    expect(await errorOf(pool.raiseEpoch(9))).toBe(poison);
    expect(await errorOf(pool.grow([{ path: '/d', sizeBytes: 2 * MIB }], true))).toBe(poison);
    expect(fs.steps).toBe(steps);
    expect((await contents(pool, 0, 4)).toString()).toBe('kept');
  }

  it('in a write poisons the pool: nothing is written any more, reads go on', async () => {
    fs.failAt(fs.steps + 1);
    const error = await errorOf(pool.write(1, 0, [Buffer.alloc(10)]));
    expect(error).toBe(pool.poison);
    await expectPoisoned('/a', 'write');
  });

  it('in a sync poisons the pool for every file', async () => {
    await pool.write(3, 0, [Buffer.alloc(10)]);
    fs.failSync();
    expect(await errorOf(pool.sync())).toBe(pool.poison);
    await expectPoisoned('/b', 'sync');
  });

  it('is over when the pool is opened again, with the synced bytes', async () => {
    await pool.write(0, 0, [Buffer.from('lost')]);
    fs.failSync();
    await errorOf(pool.sync());
    await pool.close();
    fs.crash();
    const again = await reopen(fs, pool);
    expect(['kept', 'lost']).toContain((await contents(again, 0, 4)).toString());
    await again.write(0, 0, [Buffer.from('more')]);
    await again.sync();
    expect(again.poison).toBeUndefined();
  });

  it('for want of room refuses that write and poisons nothing', async () => {
    fs.failAt(fs.steps + 1, 'ENOSPC');
    expect(await errorOf(pool.write(1, 0, [Buffer.alloc(10)]))).toMatchObject({
      code: 'HOST_FULL',
      details: { path: '/a' },
    });
    await pool.write(1, 0, [Buffer.from('again')]);
    await pool.sync();
    expect((await contents(pool, 1, 5)).toString()).toBe('again');
  });

  it('in a read names its range and poisons nothing', async () => {
    fs.failAt(fs.steps + 1);
    expect(await errorOf(contents(pool, 5, 100))).toMatchObject({
      code: 'DATA_UNREADABLE',
      details: { path: '/c', position: DATA_OFFSET + SIZE, length: 100 },
    });
    expect(pool.poison).toBeUndefined();
    await pool.write(0, 0, [Buffer.alloc(1)]);
    await pool.sync();
  });
});
