/**
 * Every error of the interface: code → HTTP status, and the body that RFC 9457 describes.
 *
 * The table is a Record over all codes: a code without a line does not compile. What each means and
 * what to do about it is in docs/errors.md (a test compares the two).
 */
import type { ErrorCode, ErrorDetails } from '../base/errors.ts';
import { isStorageError, StorageError } from '../base/errors.ts';

interface ProblemKind {
  readonly status: number;
  /** The same request can succeed later unchanged. */
  readonly retryable: boolean;
  readonly title: string;
  /** Where a sensible time is known. */
  readonly retryAfterSeconds?: number;
}

function kind(status: number, title: string): ProblemKind {
  return { status, retryable: false, title };
}

function passing(status: number, title: string, retryAfterSeconds?: number): ProblemKind {
  if (retryAfterSeconds === undefined) return { status, retryable: true, title };
  return { status, retryable: true, title, retryAfterSeconds };
}

export const problemKinds: Readonly<Record<ErrorCode, ProblemKind>> = {
  VALIDATION_FAILED: kind(400, 'The request does not fit its schema'),
  MALFORMED_BODY: kind(400, 'The body is not valid JSON'),
  NAME_INVALID: kind(400, 'The name is not allowed'),
  RANGE_REQUIRED: kind(400, 'A range is required'),
  RANGE_INVALID: kind(400, 'The range makes no sense'),
  RANGE_NOT_SATISFIABLE: kind(416, 'The range lies beyond the end'),
  BODY_TRUNCATED: passing(400, 'The body ended too early'),
  DIGEST_MISMATCH: passing(400, 'The body does not match its digest'),
  PATH_NOT_ALLOWED: kind(400, 'The path is not allowed'),
  ROUTE_NOT_FOUND: kind(404, 'There is no such path'),
  METHOD_NOT_ALLOWED: kind(405, 'The method is not supported for this path'),
  BODY_TOO_LARGE: kind(413, 'The body is too large'),
  MEDIA_TYPE_UNSUPPORTED: kind(415, 'The content type is not understood'),
  UNAUTHORIZED: kind(401, 'A valid token is required'),
  TOO_MANY_REQUESTS: passing(429, 'Too many requests at once', 1),
  REQUEST_MALFORMED: kind(400, 'The request is not valid HTTP'),
  REQUEST_TIMEOUT: passing(408, 'The request came too slowly'),
  HEADERS_TOO_LARGE: kind(431, 'The headers are too large'),
  NOT_FOUND: kind(404, 'There is no such object'),
  NAME_TAKEN: kind(409, 'The name is taken'),
  PRECONDITION_FAILED: kind(412, 'The object has changed'),
  IDEMPOTENCY_IN_PROGRESS: passing(409, 'The same request is still running', 1),
  IDEMPOTENCY_KEY_REUSED: kind(422, 'The key was used for another request'),
  DISK_IN_USE: passing(409, 'The disk is in use'),
  DISK_FENCED: passing(409, 'The disk is being restored'),
  DISK_HAS_DATA_BEYOND: kind(409, 'The disk holds data beyond the new capacity'),
  COPY_IN_USE: passing(409, 'The copy is in use'),
  COPY_INVALID: kind(409, 'The copy is no longer valid'),
  COPIES_UNRELATED: kind(409, 'The copies have no history in common'),
  POOL_IN_USE: kind(409, 'The pool is in use'),
  TARGET_IN_USE: kind(409, 'The target is in use'),
  BACKUP_IN_USE: passing(409, 'The backup is in use'),
  BACKUP_INCOMPLETE: kind(409, 'The backup is not complete'),
  BACKUP_NEEDED: kind(409, 'Other backups need this one'),
  BASE_MISSING: kind(409, 'The base of an incremental backup is missing'),
  POOL_MISMATCH: kind(409, 'The pools do not fit together'),
  JOB_STATE: kind(409, 'The job is not in a state for this'),
  JOB_STALLED: passing(500, 'The job made no progress'),
  CANCELLED: kind(409, 'The work was cancelled'),
  CAPACITY_INVALID: kind(400, 'The capacity is not allowed'),
  POOL_TOO_LARGE: kind(400, 'The pool would be too large'),
  POOL_FULL: passing(507, 'The pool is full'),
  HOST_FULL: passing(507, 'The file system below the pool is full'),
  STORE_READ_ONLY: kind(409, 'The store is open read-only'),
  TARGET_FULL: passing(507, 'The target is full'),
  QUOTA_EXCEEDED: passing(507, 'The quota of the disk is used up'),
  IMAGE_TRUNCATED: kind(400, 'The image is not complete'),
  IMAGE_INVALID: kind(400, 'This is not a valid image'),
  IMAGE_DAMAGED: kind(400, 'The image is damaged'),
  IMAGE_UNSUPPORTED: kind(400, 'The image needs a newer program'),
  TARGET_UNAVAILABLE: passing(503, 'The target cannot be reached'),
  TARGET_INVALID: kind(409, 'The target does not hold what was expected'),
  MEDIUM_ABSENT: passing(409, 'There is no cartridge in the drive'),
  MEDIUM_BLANK: kind(409, 'The cartridge is blank'),
  MEDIUM_FOREIGN: kind(409, 'The cartridge has no label of this program'),
  MEDIUM_UNSUPPORTED: kind(409, 'The cartridge needs a newer program'),
  MEDIUM_WRONG: kind(409, 'This is another cartridge'),
  MEDIUM_UNEXPIRED: kind(409, 'The cartridge may not be overwritten yet'),
  MEDIUM_READ_ONLY: kind(409, 'The cartridge cannot be written'),
  MEDIUM_MISMATCH: kind(409, 'The cartridge does not hold what the catalog says'),
  POOL_POISONED: kind(503, 'The pool refuses writes after a failed one'),
  POOL_UNAVAILABLE: passing(503, 'The pool is not open'),
  POOL_FILE_INVALID: kind(409, 'The pool file is not valid'),
  POOL_FILE_FOREIGN: kind(409, 'The pool file belongs to another store'),
  POOL_FILE_LOCKED: passing(409, 'The pool file is locked by another process'),
  POOL_FILE_EXISTS: kind(409, 'The pool file exists already'),
  DATA_UNREADABLE: kind(500, 'The data cannot be read'),
  STORE_LOCKED: passing(503, 'The store is owned by another process'),
  OWNER_LOST: kind(503, 'Another process has taken over the store'),
  METADATA_OLDER_THAN_POOL: kind(503, 'The database is older than its pools'),
  METADATA_NEWER_SCHEMA: kind(503, 'The database was written by a newer program'),
  METADATA_INVALID: kind(500, 'The database is damaged'),
  METADATA_FULL: passing(507, 'There is no room for metadata'),
  SHUTTING_DOWN: passing(503, 'The service is shutting down', 5),
  RECOVERING: passing(503, 'The service is starting', 1),
  INTERNAL: kind(500, 'Something went wrong inside'),
};

/** True if the same request can succeed later: of a backup that is being made, when it is done. */
export function isRetryable({ code, details }: StorageError): boolean {
  const isBeingMade = code === 'BACKUP_INCOMPLETE' && details.state === 'creating';
  return problemKinds[code].retryable || isBeingMade;
}

/** The body of an error answer. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryable: boolean;
  readonly requestId?: string;
  readonly [fact: string]: unknown;
}

export const problemMediaType = 'application/problem+json';

/** What every problem has comes first, for who reads it; the facts of this one follow. */
export function problemOf(error: StorageError, requestId?: string): Problem {
  const { status, title } = problemKinds[error.code];
  const common = {
    type: problemType(error.code),
    title,
    status,
    code: error.code,
    detail: error.message,
    retryable: isRetryable(error),
    ...(requestId === undefined ? {} : { requestId }),
  };
  return { ...common, ...error.details, ...common };
}

/** The URI that names a kind of problem. */
export function problemType(code: ErrorCode): string {
  return `urn:spindle:problem:${code.toLowerCase().replaceAll('_', '-')}`;
}

/** Header fields that belong to a problem: when to come back, how to get in, what is allowed. */
export function problemHeaders({ code, details }: StorageError): Record<string, string> {
  const { retryAfterSeconds } = problemKinds[code];
  const headers: Record<string, string> = { 'content-type': problemMediaType };
  if (retryAfterSeconds !== undefined) headers['retry-after'] = String(retryAfterSeconds);
  if (code === 'UNAUTHORIZED') headers['www-authenticate'] = 'Bearer realm="spindle"';
  if (Array.isArray(details.allow)) headers.allow = details.allow.join(', ');
  if (code === 'RANGE_NOT_SATISFIABLE' && typeof details.capacityBytes === 'number') {
    headers['content-range'] = `bytes */${details.capacityBytes}`;
  }
  return headers;
}

/** What the reason of a stop means to the rest: the same error with facts, ours or a bug's. */
export function asStorageError(error: unknown, facts: ErrorDetails = {}): StorageError {
  if (isStorageError(error)) return error.with(facts);
  return new StorageError('INTERNAL', 'an error that should not happen', facts, error);
}
