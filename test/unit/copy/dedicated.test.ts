import { describe, expect, it, vi } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { settle, settleStep } from '../../../src/copy/dedicated/settle.ts';
import { changedRuns } from '../../../src/copy/difference.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { remap } from '../../../src/copy/remap.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import type { Pool } from '../../../src/pool/pool.ts';
import { SIZE, type SmallEngine, readAll, smallEngine } from '../../support/small-engine.ts';

interface Two {
  readonly small: SmallEngine;
  readonly other: Pool;
  readonly disk: Disk;
}

/** A source pool `p` with a disk of 10 blocks mapped at even places, and a pool `o`. */
async function two(blocks = 64, otherBlocks = 64): Promise<Two> {
  const small = await smallEngine({ blocks });
  const { pool: other } = await small.engine.pools.create({
    name: 'o',
    blockSizeBytes: SIZE,
    files: [{ path: '/o', sizeBytes: MIB + otherBlocks * SIZE }],
  });
  const disk = await small.disk({ pool: 'p' });
  for (let block = 0; block < 20; block += 2) await disk.write(block * SIZE, fill(block + 1));
  return { small, other, disk };
}

function fill(number: number, blocks = 1): Buffer {
  return Buffer.alloc(blocks * SIZE, number);
}

function wanted(): Buffer {
  const full = Buffer.alloc(100 * SIZE);
  for (let block = 0; block < 20; block += 2) fill(block + 1).copy(full, block * SIZE);
  return full;
}

async function expectWhole(copy: Copy): Promise<void> {
  const full = Buffer.alloc(100 * SIZE, 0xee);
  await copy.read('full', 0, full);
  expect(full.equals(wanted())).toBe(true);
  const compact = Buffer.alloc(10 * SIZE, 0xee);
  await copy.read('compact', 0, compact);
  for (let x = 0; x < 10; x += 1) {
    expect(compact.subarray(x * SIZE, (x + 1) * SIZE).equals(fill(2 * x + 1))).toBe(true);
  }
  const { runs } = await copy.correspondence(0, 100);
  expect(runs.map(({ copyBlock, sourceBlock }) => [copyBlock, sourceBlock])).toEqual(
    Array.from({ length: 10 }, (_, x) => [x, 2 * x]),
  );
  expect(copy.usedBlocks).toBe(10);
}

function made(
  small: SmallEngine,
  o: Parameters<typeof freeze>[2]['dedicated'] = {},
): Promise<Copy> {
  return freeze(small.engine.copies, 'd', { name: 'c', dedicated: o });
}

describe('a dedicated copy', () => {
  it('reserves room for all its blocks and is read at once', async () => {
    const { small, other } = await two();
    const copy = await made(small, { pool: 'o' });
    expect(copy.pool).toBe(other);
    expect(other.reservedBytes).toBe(10 * SIZE);
    expect(other.allocatedBytes).toBe(0);
    await expectWhole(copy);
    await small.rest();
    const engine = await small.reopen();
    expect(engine.pools.get('o').reservedBytes).toBe(10 * SIZE);
    await expectWhole(engine.copies.get('c'));
    await small.rest();
  });

  it('comes over step by step, the same at each moment, and then shares nothing', async () => {
    const { small, other, disk } = await two();
    const copy = await made(small, { pool: 'o' });
    for (const x of [3, 7]) {
      await settle(small.engine.copies, copy, { kind: 'range', from: 2 * x, to: 2 * x + 1 });
    }
    expect(other.reservedBytes).toBe(8 * SIZE);
    expect(other.allocatedBytes).toBe(2 * SIZE);
    await expectWhole(copy);
    await disk.write(0, fill(99, 4));
    await disk.discard(10 * SIZE, 4 * SIZE);
    await expectWhole(copy);
    await small.rest();
    await settle(small.engine.copies, copy, { kind: 'all' });
    expect(copy.isWhole).toBe(true);
    expect([other.reservedBytes, other.allocatedBytes]).toEqual([0, 10 * SIZE]);
    await expectWhole(copy);
    await small.engine.disks.delete('d');
    await small.rest();
    expect(small.engine.pools.get('p').allocator.usedBlocks).toBe(0);
    await small.engine.pools.delete('p');
    await expectWhole(copy);
    const engine = await small.reopen();
    await expectWhole(engine.copies.get('c'));
    await engine.copies.delete('c');
    await small.rest();
    expect(engine.pools.get('o').allocator.usedBlocks).toBe(0);
  });

  it('is read on whichever call of I/O fails while the last of it comes over', async () => {
    for (let step = 1, failed = true; failed; step += 1) {
      const { small, disk } = await two();
      const copy = await made(small, { pool: 'o' });
      // the copy's way to its blocks is its own now, and what follows must be synced
      await disk.write(0, fill(99, 20));
      small.files.failAt(small.files.steps + step);
      failed = await settle(small.engine.copies, copy, { kind: 'all' }).then(
        () => false,
        () => true,
      );
      if (!failed) continue;
      expect(copy.isWhole).toBe(false);
      await expectWhole(copy);
    }
  });

  it('knows of its youngest blocks where older ones make its table taller', async () => {
    const { small } = await two();
    const wide = await small.disk({ name: 'w', pool: 'p', capacityBytes: 2 ** 40 });
    await wide.write(1000 * SIZE, fill(1));
    await freeze(small.engine.copies, 'w', { name: 'before' });
    await wide.write(0, fill(2));
    const copy = await freeze(small.engine.copies, 'w', { name: 'c', dedicated: { pool: 'o' } });
    await settle(small.engine.copies, copy, { kind: 'all' });
    // every bound of births is checked there
    await small.rest();
    const since = { kind: 'copy', copy: small.engine.copies.get('before') } as const;
    const { runs } = await changedRuns(copy, since, { from: 0, maxRuns: 10 });
    expect(runs).toEqual([{ first: 0, length: 1, kind: 'data' }]);
  });

  it.each([0, 8, 20])('takes its checksums along with %i of its places filled', async (to) => {
    const { small } = await two();
    const copy = await made(small, { pool: 'o' });
    await settle(small.engine.copies, copy, { kind: 'range', from: 0, to });
    if (to === 20) await settle(small.engine.copies, copy, { kind: 'all' });
    await copy.keepChecksums(
      0,
      Uint32Array.from({ length: 10 }, (_, index) => index),
    );
    await small.engine.copies.checksums.write();
    expect(await small.store.rows('checksums')).toHaveLength(1);
    await small.engine.copies.delete('c');
    await vi.waitFor(async () => {
      expect(await small.store.rows('copies')).toEqual([]);
    });
    expect(await small.store.rows('checksums')).toEqual([]);
    await small.rest();
  });

  it('may lie in the pool of its source', async () => {
    const { small, disk } = await two();
    const copy = await made(small);
    expect(small.pool.reservedBytes).toBe(10 * SIZE);
    await settleStep(small.engine.copies, copy, { kind: 'range', from: 0, to: 5 });
    expect(small.pool.reservedBytes).toBe(7 * SIZE);
    expect(small.pool.allocatedBytes).toBe(13 * SIZE);
    expect(await copy.exclusiveBytes()).toBe(3 * SIZE);
    await disk.write(18 * SIZE, fill(98));
    expect(await copy.exclusiveBytes()).toBe(4 * SIZE);
    await expectWhole(copy);
    await settle(small.engine.copies, copy, { kind: 'all' });
    await expectWhole(copy);
    await small.rest();
    expect(small.pool.allocatedBytes).toBe(20 * SIZE);
    expect(await copy.exclusiveBytes()).toBe(10 * SIZE);
  });

  it('is deleted in any phase without a trace', async () => {
    for (const blocks of [0, 4, 20]) {
      const { small, other } = await two();
      const copy = await made(small, { pool: 'o' });
      await settle(small.engine.copies, copy, { kind: 'range', from: 0, to: blocks });
      await small.engine.copies.delete('c');
      await small.rest();
      expect([other.allocator.usedBlocks, other.reservedBytes]).toEqual([0, 0]);
      expect(small.pool.allocator.usedBlocks).toBe(10);
      await small.engine.disks.delete('d');
      await small.rest();
      expect(small.pool.allocator.usedBlocks).toBe(0);
    }
  });

  it('is refused without room, or where blocks have another size', async () => {
    const { small, other } = await two(64, 9);
    await expect(made(small, { pool: 'o' })).rejects.toMatchObject({ code: 'POOL_FULL' });
    expect(other.reservedBytes).toBe(0);
    await small.engine.pools.create({
      name: 'wide',
      blockSizeBytes: 4 * SIZE,
      files: [{ path: '/wide', sizeBytes: 2 * MIB }],
    });
    await expect(made(small, { pool: 'wide' })).rejects.toMatchObject({ code: 'POOL_MISMATCH' });
    await expect(made(small, { pool: 'none' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await small.rest();
    await freeze(small.engine.copies, 'd', { name: 'c' });
  });

  it('does not come to lie in a pool that is deleted while its source is frozen', async () => {
    const { small, disk } = await two();
    small.files.hold('write');
    const write = disk.write(0, fill(99));
    await small.files.waiting();
    // the freeze waits for what is inside the gate
    const refused = expect(made(small, { pool: 'o' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await small.engine.pools.delete('o');
    small.files.release();
    await write;
    await refused;
    await small.rest();
    const engine = await small.reopen();
    expect(engine.copies.list()).toEqual([]);
    await small.rest();
  });

  it('keeps its room from everyone else', async () => {
    const { small, other } = await two(64, 12);
    const copy = await made(small, { pool: 'o' });
    const { disk } = await small.engine.disks.create({
      name: 'e',
      pool: 'o',
      capacityBytes: 100 * SIZE,
    });
    await disk.write(0, fill(1, 2));
    const beyond = disk.write(3 * SIZE, fill(1));
    await expect(beyond).rejects.toMatchObject({ code: 'POOL_FULL' });
    const reserving = small.engine.disks.update('e', { reserveBytes: SIZE });
    await expect(reserving).rejects.toMatchObject({ code: 'POOL_FULL' });
    await settle(small.engine.copies, copy, { kind: 'all' });
    expect(other.freeBytes).toBe(0);
    await small.rest();
  });

  it('becomes the table of a disk only when it is whole', async () => {
    const { small } = await two();
    const copy = await made(small, { pool: 'o' });
    const { copies } = small.engine;
    const early = remap(copies, copy, { disk: 'r' });
    await expect(early).rejects.toMatchObject({ code: 'COPY_IN_USE' });
    await settle(copies, copy, { kind: 'all' });
    const disk = await remap(copies, copy, { disk: 'r' });
    expect((await readAll(disk, 0, 100 * SIZE)).equals(wanted())).toBe(true);
    await small.rest();
  });

  it('of an empty disk is whole at once', async () => {
    const small = await smallEngine();
    await small.disk();
    const copy = await made(small);
    expect([copy.isWhole, copy.usedBlocks, copy.record.placement]).toEqual([true, 0, 'dedicated']);
    await small.reopen();
    expect(small.engine.copies.get('c').isWhole).toBe(true);
    await small.rest();
  });

  it('takes tombstones along', async () => {
    const { small, disk } = await two();
    await freeze(small.engine.copies, 'd', { name: 'first' });
    await disk.discard(0, 2 * SIZE);
    const copy = await made(small, { pool: 'o' });
    await settle(small.engine.copies, copy, { kind: 'all' });
    expect([copy.isWhole, copy.usedBlocks, copy.record.root.mapped]).toEqual([true, 9, 9]);
    await disk.discard(0, 100 * SIZE);
    const empty = await freeze(small.engine.copies, 'd', { name: 'e', dedicated: { pool: 'o' } });
    expect([empty.isWhole, empty.usedBlocks]).toEqual([false, 0]);
    await small.reopen();
    const { copies } = small.engine;
    await settle(copies, copies.get('e'), { kind: 'all' });
    expect([copies.get('e').isWhole, copies.get('e').record.root.node > 0]).toEqual([true, true]);
    await small.rest();
  });
});
