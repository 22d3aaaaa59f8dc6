/**
 * What SQLite and the file system say, as one of our codes.
 *
 * SQLITE_FULL and ENOSPC are METADATA_FULL: nothing was changed and a later try may succeed. A lock
 * that somebody else holds is STORE_LOCKED. All else that SQLite reports about its file (no
 * database, malformed, I/O error) is METADATA_INVALID with SQLite's own code in `details.sqlite`.
 */
import Database from 'better-sqlite3';
import { AssertionError } from '../base/assert.ts';
import { StorageError, errnoOf, isStorageError } from '../base/errors.ts';

const FULL = new Set(['SQLITE_FULL', 'SQLITE_IOERR_SHMSIZE', 'ENOSPC', 'EDQUOT']);
const OURS = new Set(['SQLITE_ERROR', 'SQLITE_MISUSE', 'SQLITE_RANGE', 'SQLITE_CONSTRAINT']);

/** The error to throw instead of `error`: a StorageError, or an AssertionError for a bug. */
export function metadataError(error: unknown, path: string): StorageError | AssertionError {
  if (isStorageError(error) || error instanceof AssertionError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const code = errnoOf(error) ?? '';
  if (FULL.has(code)) {
    return new StorageError('METADATA_FULL', 'no room for metadata', { path }, error);
  }
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
    const message = 'another process has the metadata database open';
    return new StorageError('STORE_LOCKED', message, { path }, error);
  }
  const ours = OURS.has(code) || code.startsWith('SQLITE_CONSTRAINT');
  if (error instanceof Database.SqliteError && !ours) {
    const details = { path, sqlite: code, reason: text };
    return new StorageError('METADATA_INVALID', `metadata database: ${text}`, details, error);
  }
  if (code !== '' && !code.startsWith('ERR_') && !ours) {
    const details = { path, errno: code, reason: text };
    return new StorageError('METADATA_INVALID', `metadata database: ${text}`, details, error);
  }
  return new AssertionError(`metadata: ${text}`);
}

/** True for errors after which what the file holds is no longer certain. */
export function isFileFailure(error: StorageError | AssertionError): boolean {
  return isStorageError(error, 'METADATA_INVALID') && 'sqlite' in error.details;
}
