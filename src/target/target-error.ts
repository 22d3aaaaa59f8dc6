/**
 * System errors of targets in the words of base/errors: no room, or not to be had.
 */
import { StorageError, errnoOf } from '../base/errors.ts';
import type { ErrorDetails } from '../base/errors.ts';

const noRoom = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * @param details facts to add: `target` (its path), `backup`, `writtenBytes` …
 * @returns a StorageError for system errors (TARGET_FULL, TARGET_UNAVAILABLE) and StorageErrors;
 *   anything else as it is: a bug of ours
 */
export function asTargetError(error: unknown, details: ErrorDetails): unknown {
  if (error instanceof StorageError) return error.with({ ...details, ...error.details });
  const errno = errnoOf(error);
  if (errno === undefined || !/^E[A-Z0-9]+$/.test(errno)) return error;
  if (noRoom.has(errno)) {
    return new StorageError('TARGET_FULL', `the target is full (${errno})`, details, error);
  }
  const message = `the target cannot be used (${errno})`;
  return new StorageError('TARGET_UNAVAILABLE', message, { ...details, errno }, error);
}
