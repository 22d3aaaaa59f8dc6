/**
 * An error on its way between threads, where classes are lost. Without a code it is a bug of ours.
 */
import { AssertionError } from './assert.ts';
import { type ErrorCode, type ErrorDetails, StorageError } from './errors.ts';

export interface PackedError {
  readonly code: ErrorCode | undefined;
  readonly message: string;
  readonly details: ErrorDetails;
}

export function packError(error: unknown): PackedError {
  if (error instanceof StorageError) {
    return { code: error.code, message: error.message, details: error.details };
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: undefined, message, details: {} };
}

export function unpackError({ code, message, details }: PackedError): Error {
  if (code === undefined) return new AssertionError(`in a worker thread: ${message}`);
  return new StorageError(code, message, details);
}
