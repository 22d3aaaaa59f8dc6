import { describe, expect, it } from 'vitest';
import type { Copy } from '../../../src/copy/copy.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import {
  beginFill,
  fence,
  finishFill,
  frozenRootOf,
  revertFill,
  swapTable,
  unfence,
} from '../../../src/copy/write-back.ts';
import type { Disk } from '../../../src/disk/disk.ts';
import { writeRange } from '../../../src/disk/write.ts';
import { turns } from '../../support/jumpy.ts';
import { effect, metadataFull, RecordingMetadata } from '../../support/rows.ts';
import { readAll, SIZE, smallEngine, type SmallEngine } from '../../support/small-engine.ts';

const user = { kind: 'session', id: 'u', sinceMs: 0, abort: (): void => undefined };

/** A disk of twos with a copy of ones. */
async function diskWithCopy(
  store?: RecordingMetadata,
): Promise<{ small: SmallEngine; disk: Disk; copy: Copy }> {
  const small = await smallEngine(store === undefined ? {} : { store });
  const disk = await small.disk();
  await disk.write(0, Buffer.alloc(3 * SIZE, 1));
  const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
  await disk.write(SIZE, Buffer.alloc(3 * SIZE, 2));
  return { small, disk, copy };
}

async function bytesOf(disk: Disk): Promise<Set<number>[]> {
  const bytes = await readAll(disk, 0, 4 * SIZE);
  return [0, 1, 2, 3].map((block) => new Set(bytes.subarray(block * SIZE, (block + 1) * SIZE)));
}

const old = [new Set([1]), new Set([2]), new Set([2]), new Set([2])];
const copied = [new Set([1]), new Set([1]), new Set([1]), new Set([0])];

describe('a fence', () => {
  it('refuses a disk in use, or ends its users, and keeps data requests away', async () => {
    const { small, disk } = await diskWithCopy();
    const leave = disk.addUser({ ...user, abort: () => leave() });
    await expect(fence(disk, 'job', false)).rejects.toMatchObject({ code: 'DISK_IN_USE' });
    await fence(disk, 'job', true);
    const fenced = { code: 'DISK_FENCED', details: { job: 'job' } };
    await expect(disk.read(0, Buffer.alloc(1))).rejects.toMatchObject(fenced);
    await expect(disk.write(0, Buffer.alloc(1))).rejects.toMatchObject(fenced);
    await expect(disk.discard(0, 1)).rejects.toMatchObject(fenced);
    await expect(small.engine.disks.delete('d')).rejects.toMatchObject({ code: 'DISK_IN_USE' });
    await expect(fence(disk, 'other', true)).rejects.toMatchObject(fenced);
    await fence(disk, 'job', false);
    const engine = await small.reopen();
    const again = engine.disks.get('d');
    expect([again.state, again.fencedBy]).toEqual(['fenced', 'job']);
    await unfence(again);
    expect(await bytesOf(again)).toEqual(old);
  });

  it('waits for a write that has begun; what it wrote goes with the old contents', async () => {
    const { small, disk, copy } = await diskWithCopy();
    small.files.hold('write');
    const write = disk.write(0, Buffer.alloc(SIZE, 3));
    await small.files.waiting();
    let isFenced = false;
    const fenced = fence(disk, 'job', false).then(() => {
      isFenced = true;
    });
    await turns(10);
    expect(isFenced).toBe(false);
    small.files.release();
    await Promise.all([write, fenced]);
    const safety = await swapTable(small.engine.copies, disk, copy, 's');
    expect(await bytesOf(disk)).toEqual(copied);
    const bytes = Buffer.alloc(SIZE);
    await safety!.read('full', 0, bytes);
    expect(new Set(bytes)).toEqual(new Set([3]));
    await small.rest();
  });

  it('that cannot be committed leaves the disk as it was', async () => {
    const { small, disk } = await diskWithCopy();
    await disk.flush();
    small.store.failNextCommit(metadataFull());
    const fenced = fence(disk, 'job', false, [effect]);
    await expect(fenced).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect(disk.state).toBe('ready');
    expect(await bytesOf(disk)).toEqual(old);
    await small.rest();
    expect(await small.store.rows('idempotency')).toEqual([]);
  });
});

describe('a write-back from a live copy', () => {
  it('gives the disk the bytes of the copy, and the old ones to a safety copy', async () => {
    const { small, disk, copy } = await diskWithCopy();
    await fence(disk, 'job', false);
    const safety = await swapTable(small.engine.copies, disk, copy, 's');
    expect(await bytesOf(disk)).toEqual(copied);
    await disk.write(0, Buffer.alloc(4 * SIZE, 3));
    const bytes = Buffer.alloc(SIZE);
    await safety!.read('full', SIZE, bytes);
    expect(new Set(bytes)).toEqual(new Set([2]));
    await copy.read('full', SIZE, bytes);
    expect(new Set(bytes)).toEqual(new Set([1]));
    await small.rest();
    const engine = await small.reopen();
    expect(engine.copies.get('s').usedBlocks).toBe(4);
  });

  it('commits swap, safety copy, end of the fence and rows in one batch', async () => {
    for (let hops = 0; hops < 12; hops += 1) {
      const store = new RecordingMetadata();
      const { small, disk, copy } = await diskWithCopy(store);
      await fence(disk, 'job', false);
      const before = store.batches.length;
      const swapped = swapTable(small.engine.copies, disk, copy, 's', [effect]);
      for (let hop = 0; hop < hops; hop += 1) await Promise.resolve();
      await Promise.all([swapped, small.pool.flush()]);
      const [batch] = store.batchesOf('idempotency');
      const ofDisk = store.batchesOf('disks').filter((index) => index >= before);
      expect([ofDisk, store.batchesOf('copies').at(-1)]).toEqual([[batch], batch]);
    }
  });

  it('from a copy that is deleted meanwhile changes nothing', async () => {
    const { small, disk, copy } = await diskWithCopy();
    await fence(disk, 'job', false);
    const deleted = small.engine.copies.delete('c');
    const swapped = swapTable(small.engine.copies, disk, copy, 's');
    await expect(swapped).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await deleted;
    await unfence(disk);
    expect(await bytesOf(disk)).toEqual(old);
    await freeze(small.engine.copies, 'd', { name: 's' });
    await small.rest();
  });

  it('of a larger disk keeps its capacity, of a smaller one takes that of the copy', async () => {
    const { small, disk, copy } = await diskWithCopy();
    await small.engine.disks.update('d', { capacityBytes: 512, discard: true });
    await fence(disk, 'job', false);
    await swapTable(small.engine.copies, disk, copy, undefined);
    expect(disk.capacityBytes).toBe(100 * SIZE);
    expect(await bytesOf(disk)).toEqual(copied);
    await small.rest();
  });
});

describe('a write-back from an image', () => {
  it('that is finished leaves the new bytes and frees the old', async () => {
    const { small, disk } = await diskWithCopy();
    await fence(disk, 'job', false);
    await beginFill(small.engine.copies, disk, false);
    await writeRange(disk, 0, Buffer.alloc(SIZE, 7));
    await finishFill(small.engine.copies, disk, disk.capacityBytes, undefined);
    const wanted = [new Set([7]), new Set([0]), new Set([0]), new Set([0])];
    expect(await bytesOf(disk)).toEqual(wanted);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(4);
  });

  it('that fails returns to the old bytes and capacity, even after a restart', async () => {
    const { small, disk } = await diskWithCopy();
    await fence(disk, 'job', false);
    await beginFill(small.engine.copies, disk, false);
    disk.record.capacityBytes *= 2;
    disk.changed();
    await writeRange(disk, SIZE, Buffer.alloc(SIZE, 7));
    await disk.flush();
    const engine = await small.reopen();
    const again = engine.disks.get('d');
    expect(frozenRootOf(engine.copies, again)).toBeDefined();
    const [internal] = engine.copies.internal();
    expect(await beginFill(engine.copies, again, false)).toBe(internal);
    await revertFill(engine.copies, again);
    expect(await bytesOf(again)).toEqual(old);
    expect(again.capacityBytes).toBe(100 * SIZE);
    await small.rest();
    expect(engine.pools.get('p').allocator.usedBlocks).toBe(6);
  });

  it('may keep the table and the old contents as a safety copy', async () => {
    const { small, disk } = await diskWithCopy();
    await fence(disk, 'job', false);
    await beginFill(small.engine.copies, disk, true);
    await writeRange(disk, 0, Buffer.alloc(SIZE, 7));
    const safety = await finishFill(small.engine.copies, disk, 200 * SIZE, 's');
    expect(disk.capacityBytes).toBe(200 * SIZE);
    expect(await bytesOf(disk)).toEqual([new Set([7]), ...old.slice(1)]);
    const bytes = Buffer.alloc(SIZE);
    await safety!.read('compact', 0, bytes);
    expect(new Set(bytes)).toEqual(new Set([1]));
    expect(small.engine.copies.get('s')).toBe(safety);
    await small.rest();
  });
});

describe('a write-back that changes the capacity', () => {
  it('changes the version of the disk, any other leaves it', async () => {
    const { small, disk, copy } = await diskWithCopy();
    const { copies, disks } = small.engine;
    const { capacityBytes, version } = disk;
    await fence(disk, 'job', false);
    await swapTable(copies, disk, copy, undefined);
    expect(disk.version).toBe(version);
    await disks.update('d', { capacityBytes: SIZE, discard: true });
    await fence(disk, 'job', false);
    await swapTable(copies, disk, copy, undefined);
    expect([disk.capacityBytes, disk.version]).toEqual([capacityBytes, version + 2]);
    await fence(disk, 'job', false);
    await beginFill(copies, disk, false);
    await finishFill(copies, disk, 2 * capacityBytes, undefined);
    expect([disk.capacityBytes, disk.version]).toEqual([2 * capacityBytes, version + 3]);
    await small.rest();
  });
});
