/**
 * Ends a reading that was told to stop.
 */
import { isStorageError, StorageError } from '../base/errors.ts';

/** @throws the signal's reason if it is a StorageError, else CANCELLED */
export function throwIfStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const reason: unknown = signal.reason;
  throw isStorageError(reason) ? reason : new StorageError('CANCELLED', 'reading was cancelled');
}
