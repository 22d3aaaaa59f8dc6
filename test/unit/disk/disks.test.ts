import { describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { remap } from '../../../src/copy/remap.ts';
import { fence } from '../../../src/copy/write-back.ts';
import type { User } from '../../../src/disk/users.ts';
import { turns } from '../../support/jumpy.ts';
import { effect, metadataFull } from '../../support/rows.ts';
import { SIZE, smallEngine } from '../../support/small-engine.ts';

function user(o: Partial<User> = {}): User {
  return { kind: 'session', id: 'u', sinceMs: 0, abort: () => undefined, ...o };
}

describe('creating a disk', () => {
  it('twice with the same request gives the same disk', async () => {
    const small = await smallEngine();
    const request = { name: 'd', capacityBytes: SIZE };
    const [first, second] = await Promise.all([
      small.engine.disks.create(request),
      small.engine.disks.create(request),
    ]);
    expect(second.disk).toBe(first.disk);
    expect([first.created, second.created]).toEqual([true, false]);
    const other = small.engine.disks.create({ ...request, capacityBytes: 512 });
    await expect(other).rejects.toMatchObject({ code: 'NAME_TAKEN' });
  });

  it('shows it to others only when it is durable', async () => {
    const small = await smallEngine();
    small.store.hold();
    const made = small.disk();
    await turns(3);
    expect(small.engine.disks.list()).toEqual([]);
    expect(() => small.engine.disks.get('d')).toThrow(StorageError);
    small.store.release();
    const disk = await made;
    expect(small.engine.disks.get('d')).toBe(disk);
  });

  it('that fails leaves no disk, name, row or effect', async () => {
    const small = await smallEngine();
    small.store.failNextCommit(metadataFull());
    const { disks } = small.engine;
    const made = disks.create({ name: 'd', capacityBytes: SIZE }, () => [effect]);
    await expect(made).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await small.pool.flush();
    expect(await small.store.rows('disks')).toEqual([]);
    expect(await small.store.rows('idempotency')).toEqual([]);
    await small.disk({ capacityBytes: 512 });
    await small.rest();
    const engine = await small.reopen();
    expect(engine.disks.list()).toHaveLength(1);
  });

  it('from a copy that fails gives back what it held of the copy', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(2 * SIZE, 1));
    const copy = await freeze(small.engine.copies, 'd', { name: 'c' });
    small.store.failNextCommit(metadataFull());
    const made = remap(small.engine.copies, copy, { disk: 'e' });
    await expect(made).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await small.rest();
    await small.engine.disks.delete('d');
    await small.engine.copies.delete('c');
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(0);
  });
});

describe('deleting a disk', () => {
  it('twice at once gives its blocks back once', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(3 * SIZE, 1));
    await freeze(small.engine.copies, 'd', { name: 'c' });
    const both = await Promise.allSettled([
      small.engine.disks.delete('d'),
      small.engine.disks.delete('d'),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await small.rest();
    expect(small.pool.allocator.usedBlocks).toBe(3);
  });

  it('is refused while it is used, or ends its users by force', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    let leave = (): void => undefined;
    const aborts: string[] = [];
    leave = disk.addUser(
      user({
        abort: (reason) => {
          aborts.push(reason.code);
          setImmediate(leave);
        },
      }),
    );
    const refused = small.engine.disks.delete('d');
    await expect(refused).rejects.toMatchObject({
      code: 'DISK_IN_USE',
      details: { users: [{ kind: 'session', id: 'u' }] },
    });
    const deleted = small.engine.disks.delete('d', { force: true });
    expect(() => disk.addUser(user())).toThrow(StorageError);
    await deleted;
    expect(aborts).toEqual(['DISK_IN_USE']);
    await small.rest();
  });

  it('while it is being fenced does one of the two', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(0, Buffer.alloc(SIZE, 1));
    const both = await Promise.allSettled([
      small.engine.disks.delete('d'),
      fence(disk, 'job', false),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await small.rest();
  });
});

describe('changing a disk', () => {
  it('keeps the old name if the shrink that comes with the new one is refused', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(50 * SIZE, Buffer.alloc(SIZE, 1));
    const { disks } = small.engine;
    const update = disks.update('d', { name: 'e', capacityBytes: SIZE });
    const other = disks.create({ name: 'd', capacityBytes: SIZE });
    await expect(other).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    await expect(update).rejects.toMatchObject({ code: 'DISK_HAS_DATA_BEYOND' });
    expect(disks.get('d')).toBe(disk);
    expect((await disks.create({ name: 'e', capacityBytes: SIZE })).created).toBe(true);
  });

  it('for which there is no room leaves what it was, under its name alone', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ labels: { a: '1' } });
    const { disks } = small.engine;
    small.store.failNextCommit(metadataFull());
    const patch = { name: 'e', labels: {}, maxBytesPerSecond: 1, quotaBytes: SIZE };
    const update = disks.update('d', patch, () => [effect]);
    const other = disks.create({ name: 'd', capacityBytes: SIZE });
    await expect(other).rejects.toMatchObject({ code: 'NAME_TAKEN' });
    await expect(update).rejects.toMatchObject({ code: 'METADATA_FULL' });
    const { name, labels, maxBytesPerSecond, quotaBytes } = disk;
    const limits = { maxBytesPerSecond, quotaBytes };
    expect({ name, labels, limits }).toEqual({
      name: 'd',
      labels: { a: '1' },
      limits: { maxBytesPerSecond: null, quotaBytes: null },
    });
    expect(disks.get('d')).toBe(disk);
    await small.rest();
    expect(await small.store.rows('idempotency')).toEqual([]);
    expect((await disks.create({ name: 'e', capacityBytes: SIZE })).created).toBe(true);
    const engine = await small.reopen();
    expect(engine.disks.get('d').labels).toEqual({ a: '1' });
  });

  it('frees both names if the disk is deleted meanwhile', async () => {
    const small = await smallEngine();
    const disk = await small.disk();
    await disk.write(50 * SIZE, Buffer.alloc(SIZE, 1));
    const { disks } = small.engine;
    const hold = await disk.lock.acquire(0, 1, true);
    const update = disks.update('d', { name: 'e', capacityBytes: 512, discard: true });
    const refused = expect(update).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await turns(2);
    await disks.delete('d');
    disk.lock.release(hold);
    await refused;
    await disks.create({ name: 'd', capacityBytes: SIZE });
    await disks.create({ name: 'e', capacityBytes: SIZE });
    await small.rest();
  });

  it('twice at once does both, one after the other', async () => {
    const small = await smallEngine();
    const disk = await small.disk({ capacityBytes: 8 * SIZE });
    await disk.write(0, Buffer.alloc(8 * SIZE, 1));
    const { disks } = small.engine;
    await Promise.all([
      disks.update('d', { name: 'e', capacityBytes: 2 * SIZE, discard: true }),
      disks.update('d', { name: 'f', capacityBytes: 9 * SIZE }),
    ]);
    expect([disk.name, disk.capacityBytes, disk.usedBytes]).toEqual(['f', 9 * SIZE, 2 * SIZE]);
    for (const name of ['d', 'e']) await disks.create({ name, capacityBytes: SIZE });
    await small.rest();
  });
});

describe('room that is reserved', () => {
  it('is kept for the disk that reserved it', async () => {
    const small = await smallEngine({ blocks: 6 });
    const first = await small.disk({ name: 'a', reserveBytes: 2 * SIZE });
    const second = await small.disk({ name: 'b' });
    const tooMuch = second.write(0, Buffer.alloc(5 * SIZE, 1));
    await expect(tooMuch).rejects.toMatchObject({ code: 'POOL_FULL' });
    await second.write(0, Buffer.alloc(4 * SIZE, 1));
    await first.write(0, Buffer.alloc(2 * SIZE, 1));
    await small.engine.disks.delete('a');
    await second.write(10 * SIZE, Buffer.alloc(2 * SIZE, 1));
  });
});
