/**
 * The memory between a source and the drive of a target on tape, as clients ask for it.
 */
import { StorageError } from '../base/errors.ts';
import {
  BUFFER_STEP_BYTES,
  DEFAULT_BUFFER_BYTES,
  MAX_BUFFER_BYTES,
} from '../target/tape-target.ts';
import type { TargetKind } from './records.ts';

/**
 * @returns null of a target without a drive
 * @throws VALIDATION_FAILED: it has none, or no multiple of 4 MiB from 4 MiB to 1 GiB
 */
export function checkedBuffer(kind: TargetKind, bufferBytes: number | undefined): number | null {
  if (kind === 'directory') {
    if (bufferBytes === undefined) return null;
    throw refused('a directory has no buffer');
  }
  if (bufferBytes === undefined) return DEFAULT_BUFFER_BYTES;
  const isWhole = Number.isSafeInteger(bufferBytes) && bufferBytes % BUFFER_STEP_BYTES === 0;
  if (isWhole && bufferBytes > 0 && bufferBytes <= MAX_BUFFER_BYTES) return bufferBytes;
  throw refused('a buffer has a multiple of 4 MiB, from 4 MiB to 1 GiB');
}

function refused(message: string): StorageError {
  return new StorageError('VALIDATION_FAILED', message, { field: 'bufferBytes' });
}
