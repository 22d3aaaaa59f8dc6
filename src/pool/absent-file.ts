/**
 * A pool file that is not there: known by its row, and every use of it is refused.
 */
import type { StorageError } from '../base/errors.ts';
import type { BlockFile } from './block-file.ts';
import type { RecordedFile } from './pool-layout.ts';

/** @param cause what each read, write and sync throws */
export function absentFile(
  { path, kind, sizeBytes }: RecordedFile,
  cause: StorageError,
): BlockFile {
  const refuse = (): Promise<never> => Promise.reject(cause);
  const close = (): Promise<void> => Promise.resolve();
  return { path, kind, sizeBytes, read: refuse, write: refuse, sync: refuse, grow: refuse, close };
}
