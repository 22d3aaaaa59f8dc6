/**
 * Makes the writes of one disk wait or fail, whatever disk it is: its method is put in a wrapper.
 */
import type { Disk } from '../../src/api/storage-services.ts';
import { deferred } from '../../src/base/mutex.ts';

export interface Hold {
  /** Resolves when a write has come. */
  readonly reached: Promise<void>;
  release(): void;
}

/** Writes from the one at or behind `fromByte` on wait until released. */
export function holdWrites(disk: Disk, fromByte = 0): Hold {
  const reached = deferred<undefined>();
  const released = deferred<undefined>();
  wrapWrites(disk, async (offset, write) => {
    if (offset >= fromByte) {
      reached.resolve(undefined);
      await released.promise;
    }
    await write();
  });
  return {
    reached: reached.promise,
    release() {
      released.resolve(undefined);
    },
  };
}

/** Writes at or behind `fromByte` fail. */
export function failWrites(disk: Disk, error: Error, fromByte = 0): void {
  wrapWrites(disk, async (offset, write) => {
    if (offset >= fromByte) throw error;
    await write();
  });
}

export function failFlushes(disk: Disk, error: Error): void {
  Object.assign(disk, {
    flush: async () => {
      await Promise.reject(error);
    },
  });
}

function wrapWrites(
  disk: Disk,
  wrapper: (offset: number, write: () => Promise<void>) => Promise<void>,
): void {
  const write = disk.write.bind(disk);
  Object.assign(disk, {
    write: (offset: number, bytes: Uint8Array) => wrapper(offset, () => write(offset, bytes)),
  });
}
