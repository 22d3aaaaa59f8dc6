/**
 * Reads a pool file or device beside its owner: no lock, read-only, for job worker threads.
 */
import { open } from 'node:fs/promises';
import { StorageError } from '../base/errors.ts';
import { unreadable } from './block-file.ts';

export interface BlockReader {
  /** Fills `into` from `position`. @throws DATA_UNREADABLE */
  read(into: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/** @throws POOL_UNAVAILABLE */
export async function openBlockReader(path: string): Promise<BlockReader> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw new StorageError('POOL_UNAVAILABLE', `cannot read ${path}`, { path }, error);
  });
  return {
    async read(into, position) {
      let done = 0;
      while (done < into.length) {
        const at = position + done;
        const { bytesRead } = await handle
          .read(into, done, into.length - done, at)
          .catch((error: unknown) => {
            throw unreadable(path, at, into.length - done, error);
          });
        if (bytesRead === 0) throw unreadable(path, at, into.length - done, undefined);
        done += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}
