/**
 * The one error type that callers may see, and the table of its codes.
 *
 * Three kinds, never mixed: a caller's mistake and a failure of the environment are a StorageError
 * with a code; a bug of ours is an AssertionError (base/assert) and has no code. Expected answers
 * (not found in a table, pool full inside the allocator) are values, not exceptions.
 * Each code is mapped to an HTTP status in api/problem.ts; one without a mapping does not compile.
 */
export const errorCodes = [
  // the request itself
  'VALIDATION_FAILED',
  'MALFORMED_BODY',
  'NAME_INVALID',
  'RANGE_REQUIRED',
  'RANGE_INVALID',
  'RANGE_NOT_SATISFIABLE',
  'BODY_TRUNCATED',
  'DIGEST_MISMATCH',
  'PATH_NOT_ALLOWED',
  'ROUTE_NOT_FOUND',
  'METHOD_NOT_ALLOWED',
  'BODY_TOO_LARGE',
  'MEDIA_TYPE_UNSUPPORTED',
  'UNAUTHORIZED',
  'TOO_MANY_REQUESTS',
  'REQUEST_MALFORMED',
  'REQUEST_TIMEOUT',
  'HEADERS_TOO_LARGE',
  // the state of things
  'NOT_FOUND',
  'NAME_TAKEN',
  'PRECONDITION_FAILED',
  'IDEMPOTENCY_IN_PROGRESS',
  'IDEMPOTENCY_KEY_REUSED',
  'DISK_IN_USE',
  'DISK_FENCED',
  'DISK_HAS_DATA_BEYOND',
  'COPY_IN_USE',
  'COPY_INVALID',
  'COPIES_UNRELATED',
  'POOL_IN_USE',
  'TARGET_IN_USE',
  'BACKUP_IN_USE',
  'BACKUP_INCOMPLETE',
  'BACKUP_NEEDED',
  'BASE_MISSING',
  'POOL_MISMATCH',
  'JOB_STATE',
  'JOB_STALLED',
  'CANCELLED',
  // limits
  'CAPACITY_INVALID',
  'POOL_TOO_LARGE',
  // room
  'POOL_FULL',
  'HOST_FULL',
  'TARGET_FULL',
  'QUOTA_EXCEEDED',
  // media and images
  'IMAGE_TRUNCATED',
  'IMAGE_INVALID',
  'IMAGE_DAMAGED',
  'IMAGE_UNSUPPORTED',
  'TARGET_UNAVAILABLE',
  'TARGET_INVALID',
  // cartridges
  'MEDIUM_ABSENT',
  'MEDIUM_BLANK',
  'MEDIUM_FOREIGN',
  'MEDIUM_UNSUPPORTED',
  'MEDIUM_WRONG',
  'MEDIUM_UNEXPIRED',
  'MEDIUM_READ_ONLY',
  'MEDIUM_MISMATCH',
  // pools and metadata
  'POOL_POISONED',
  'POOL_UNAVAILABLE',
  'POOL_FILE_INVALID',
  'POOL_FILE_FOREIGN',
  'POOL_FILE_LOCKED',
  'POOL_FILE_EXISTS',
  'DATA_UNREADABLE',
  'STORE_LOCKED',
  'OWNER_LOST',
  'METADATA_OLDER_THAN_POOL',
  'METADATA_NEWER_SCHEMA',
  'METADATA_INVALID',
  'METADATA_FULL',
  'STORE_READ_ONLY',
  'SHUTTING_DOWN',
  'RECOVERING',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

export function isErrorCode(value: unknown): value is ErrorCode {
  return errorCodes.some((code) => code === value);
}

/** Facts beside the sentence: the offending field, range, names. Plain JSON values only. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/**
 * @param code stable, public, documented in docs/errors.md
 * @param message one sentence for a person; never parsed by anyone
 * @param details JSON values that a program may use (`pool`, `field`, `users`, `writtenBytes` …)
 */
export class StorageError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'StorageError';
    this.code = code;
    this.details = details;
  }

  /** The same error with more facts, for callers that know the range or the object. */
  with(details: ErrorDetails): StorageError {
    return new StorageError(this.code, this.message, { ...this.details, ...details }, this.cause);
  }
}

export function isStorageError(error: unknown, code?: ErrorCode): error is StorageError {
  return error instanceof StorageError && (code === undefined || error.code === code);
}

/** The errno name (`ENOSPC`, `EIO` …) of a system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
