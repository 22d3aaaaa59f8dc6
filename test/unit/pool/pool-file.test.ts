import { beforeEach, describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import type { Deferred } from '../../../src/base/mutex.ts';
import { deferred } from '../../../src/base/mutex.ts';
import { MIB } from '../../../src/base/units.ts';
import type { BlockFile } from '../../../src/pool/block-file.ts';
import {
  Poison,
  PoolFile,
  SYNC_STARTS_AT_BYTES,
  WRITERS_WAIT_AT_BYTES,
} from '../../../src/pool/pool-file.ts';
import { systemError } from '../../support/faulty-block-file.ts';

/** A file without bytes, whose calls end when the test says so. */
class StubFile implements BlockFile {
  readonly path = 'stub';
  readonly kind = 'file';
  readonly sizeBytes = 0;
  readonly syncs: Deferred<undefined>[] = [];
  /** Writes wait for these if `slow`. */
  readonly writes: Deferred<undefined>[] = [];
  slow = false;
  writeCount = 0;

  read(): Promise<void> {
    return Promise.resolve();
  }

  write(): Promise<void> {
    this.writeCount += 1;
    if (!this.slow) return Promise.resolve();
    const write = deferred<undefined>();
    this.writes.push(write);
    return write.promise;
  }

  sync(): Promise<void> {
    const sync = deferred<undefined>();
    this.syncs.push(sync);
    return sync.promise;
  }

  grow(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Lets everything run that is not waiting for the test. */
async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** Whether the promise has ended, without waiting for it. */
function watch(work: Promise<unknown>): { ended: boolean; error: unknown } {
  const seen: { ended: boolean; error: unknown } = { ended: false, error: undefined };
  work.then(
    () => (seen.ended = true),
    (error: unknown) => Object.assign(seen, { ended: true, error }),
  );
  return seen;
}

describe('a file of a pool', () => {
  let stub: StubFile;
  let poison: Poison;
  let file: PoolFile;

  beforeEach(() => {
    stub = new StubFile();
    poison = new Poison();
    file = new PoolFile(stub, 2 ** 40, poison);
  });

  function write(bytes: number): Promise<void> {
    return file.write([], 0, bytes);
  }

  async function endSync(index: number): Promise<void> {
    stub.syncs[index]!.resolve(undefined);
    await settle();
  }

  it('with nothing unsynced syncs without I/O', async () => {
    await file.sync();
    expect(stub.syncs).toHaveLength(0);
  });

  it('counts bytes as unsynced until a sync that began after them has ended', async () => {
    await write(1000);
    const first = watch(file.sync());
    await write(500);
    expect(file.unsyncedBytes).toBe(1500);
    await endSync(0);
    expect(first.ended).toBe(true);
    expect(file.unsyncedBytes).toBe(500);
  });

  it('a sync for bytes written while another runs waits for one more', async () => {
    await write(1000);
    const first = watch(file.sync());
    await write(500);
    const second = watch(file.sync());
    await endSync(0);
    expect([first.ended, second.ended]).toEqual([true, false]);
    await endSync(1);
    expect(second.ended).toBe(true);
    expect(file.unsyncedBytes).toBe(0);
  });

  it('a write in flight when a sync begins is not taken as covered', async () => {
    stub.slow = true;
    await Promise.resolve();
    const written = write(1000);
    stub.slow = false;
    await write(1);
    const sync = watch(file.sync());
    stub.writes[0]!.resolve(undefined);
    await written;
    await endSync(0);
    expect(sync.ended).toBe(true);
    expect(file.unsyncedBytes).toBe(1000);
  });

  it('any number of waiting callers share two syncs', async () => {
    await write(1);
    const callers = [watch(file.sync()), watch(file.sync())];
    await write(1);
    for (let count = 0; count < 10; count += 1) callers.push(watch(file.sync()));
    await endSync(0);
    await endSync(1);
    expect(stub.syncs).toHaveLength(2);
    expect(callers.every(({ ended }) => ended)).toBe(true);
  });

  it('a waiting caller is not starved by syncs that start by themselves', async () => {
    await write(SYNC_STARTS_AT_BYTES);
    await write(SYNC_STARTS_AT_BYTES);
    const caller = watch(file.sync());
    await endSync(0);
    await write(SYNC_STARTS_AT_BYTES);
    await endSync(1);
    expect(caller.ended).toBe(true);
  });

  it('starts a sync by itself at 16 MiB, one at a time', async () => {
    await write(SYNC_STARTS_AT_BYTES - 1);
    expect(stub.syncs).toHaveLength(0);
    await write(1);
    expect(stub.syncs).toHaveLength(1);
    await write(SYNC_STARTS_AT_BYTES);
    expect(stub.syncs).toHaveLength(1);
    await endSync(0);
    expect(stub.syncs).toHaveLength(2);
    await endSync(1);
    expect(stub.syncs).toHaveLength(2);
  });

  it('lets writers wait from 256 MiB until a sync has ended', async () => {
    for (let bytes = 0; bytes < WRITERS_WAIT_AT_BYTES; bytes += 64 * MIB) await write(64 * MIB);
    const waiting = [watch(write(MIB)), watch(write(MIB))];
    await settle();
    expect(waiting.some(({ ended }) => ended)).toBe(false);
    await endSync(0);
    expect(waiting.every(({ ended }) => ended)).toBe(true);
    expect(file.unsyncedBytes).toBe(194 * MIB);
  });

  it('counts writes in flight into the 256 MiB', async () => {
    stub.slow = true;
    for (let count = 0; count < 256; count += 1) watch(write(MIB));
    const waiting = watch(write(MIB));
    await settle();
    expect(stub.writeCount).toBe(256);
    for (const { resolve } of stub.writes.splice(0)) resolve(undefined);
    await settle();
    await endSync(0);
    await endSync(1);
    expect(stub.writeCount).toBe(257);
    stub.writes[0]!.resolve(undefined);
    await settle();
    expect(waiting.ended).toBe(true);
  });

  it('lets a single write larger than the bound through', async () => {
    const large = watch(write(2 * WRITERS_WAIT_AT_BYTES));
    await settle();
    expect(large.ended).toBe(true);
  });

  it('wakes waiting writers with the poison when a sync fails', async () => {
    await write(WRITERS_WAIT_AT_BYTES);
    const waiting = watch(write(1));
    stub.syncs[0]!.reject(systemError('EIO'));
    await settle();
    expect(waiting.error).toBe(poison.error);
    expect(poison.error).toMatchObject({ code: 'POOL_POISONED' });
    expect(file.unsyncedBytes).toBe(WRITERS_WAIT_AT_BYTES);
  });

  it('wakes waiting writers when another file has poisoned the pool', async () => {
    stub.slow = true;
    for (let count = 0; count < 4; count += 1) watch(write(64 * MIB));
    const waiting = watch(write(1));
    await settle();
    poison.set('other', 'sync', systemError('EIO'));
    for (const { resolve } of stub.writes) resolve(undefined);
    await settle();
    expect(waiting.error).toBe(poison.error);
    expect(stub.syncs).toHaveLength(0);
  });

  it('does not try a failed sync again', async () => {
    await write(1);
    const callers = [watch(file.sync()), watch(file.sync())];
    await write(1);
    callers.push(watch(file.sync()));
    stub.syncs[0]!.reject(systemError('ENOSPC'));
    await settle();
    expect(callers.map(({ error }) => error)).toEqual(callers.map(() => poison.error));
    await expect(file.sync()).rejects.toBe(poison.error);
    expect(stub.syncs).toHaveLength(1);
  });

  it('keeps the first cause', async () => {
    const cause = systemError('EIO');
    const first = poison.set('a', 'write', cause);
    expect(poison.set('b', 'sync', systemError('ENOSPC'))).toBe(first);
    expect(first.cause).toBe(cause);
    expect(first.details).toEqual({ path: 'a', operation: 'write', reason: 'EIO' });
  });

  it('takes HOST_FULL of a write as no poison', async () => {
    stub.slow = true;
    const full = write(100);
    stub.writes[0]!.reject(new StorageError('HOST_FULL', 'full'));
    await expect(full).rejects.toMatchObject({ code: 'HOST_FULL' });
    expect(poison.error).toBeUndefined();
  });
});
