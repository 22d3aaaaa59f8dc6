/**
 * Which bytes a request means: `Range` (RFC 9110, 14.2) or `?offset=&length=`.
 *
 * One range only: several are refused with 416 (15.5.17 allows it), a malformed `bytes` range with
 * 400, other units are ignored, as 14.2 asks.
 */
import { StorageError } from '../base/errors.ts';

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface RangeQuery {
  readonly offset?: number;
  readonly length?: number;
}

/** The range of a read, and whether it came as `Range` (then the answer is 206). */
export interface SelectedRange extends ByteRange {
  readonly isPartial: boolean;
}

/** Without a length only the offset was given, or it alone is wrong already. */
function beyond(offset: number, length: number | undefined, capacityBytes: number): StorageError {
  const what =
    length === undefined || length === 0
      ? `offset ${offset} is`
      : `bytes ${offset} to ${offset + length - 1} are`;
  return new StorageError(
    'RANGE_NOT_SATISFIABLE',
    `${what} beyond the end: the capacity is ${capacityBytes} bytes`,
    { offset, ...(length === undefined ? {} : { length }), capacityBytes },
  );
}

/** @throws RANGE_NOT_SATISFIABLE unless offset + length ≤ capacity (checked without overflow) */
export function checkRange(offset: number, length: number, capacityBytes: number): void {
  if (offset > capacityBytes || length > capacityBytes - offset) {
    throw beyond(offset, length, capacityBytes);
  }
}

/** @throws RANGE_INVALID, RANGE_NOT_SATISFIABLE */
export function selectRange(
  query: RangeQuery,
  header: string | undefined,
  sizeBytes: number,
): SelectedRange {
  const inQuery = query.offset !== undefined || query.length !== undefined;
  if (header !== undefined && inQuery) {
    throw new StorageError('RANGE_INVALID', 'Range and offset or length exclude each other');
  }
  const asked = header === undefined ? undefined : parseRange(header, sizeBytes);
  if (asked !== undefined) return { ...asked, isPartial: true };
  const offset = query.offset ?? 0;
  if (query.length === undefined && offset > 0 && offset >= sizeBytes) {
    throw beyond(offset, undefined, sizeBytes);
  }
  const length = query.length ?? sizeBytes - offset;
  checkRange(offset, length, sizeBytes);
  return { offset, length, isPartial: false };
}

/** Of a `Range` header; undefined if its unit is not bytes. */
function parseRange(header: string, sizeBytes: number): ByteRange | undefined {
  const [, unit = '', set = ''] = /^\s*([!#$%&'*+.^_`|~\w-]+)\s*=\s*(.*?)\s*$/.exec(header) ?? [];
  if (unit === '') throw new StorageError('RANGE_INVALID', `not a range: ${header}`);
  if (unit.toLowerCase() !== 'bytes') return undefined;
  if (set.includes(',')) {
    const facts = { capacityBytes: sizeBytes };
    throw new StorageError('RANGE_NOT_SATISFIABLE', 'only one range at a time is served', facts);
  }
  const [, first, last] = /^(\d*)\s*-\s*(\d*)$/.exec(set) ?? [];
  if (first === undefined || last === undefined || first + last === '') {
    throw new StorageError('RANGE_INVALID', `not a range: ${header}`);
  }
  return first === '' ? suffix(Number(last), sizeBytes) : between(first, last, header, sizeBytes);
}

function suffix(length: number, sizeBytes: number): ByteRange {
  if (length === 0 || sizeBytes === 0) {
    const facts = { length, capacityBytes: sizeBytes };
    const detail = `the last ${length} of ${sizeBytes} bytes are no range`;
    throw new StorageError('RANGE_NOT_SATISFIABLE', detail, facts);
  }
  const offset = Math.max(0, sizeBytes - length);
  return { offset, length: sizeBytes - offset };
}

function between(first: string, last: string, header: string, sizeBytes: number): ByteRange {
  const offset = Number(first);
  const asked = last === '' ? undefined : Number(last) - offset + 1;
  const end = last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  if (last !== '' && Number(last) < offset) {
    throw new StorageError('RANGE_INVALID', `not a range: ${header}`);
  }
  if (offset >= sizeBytes) throw beyond(offset, asked, sizeBytes);
  return { offset, length: end - offset };
}

/** Of a continued upload: `Content-Range: bytes first-last/total`. @throws RANGE_INVALID */
export function parseContentRange(header: string): { first: number; last: number; total?: number } {
  const found = /^\s*bytes\s+(\d+)-(\d+)\/(\d+|\*)\s*$/i.exec(header);
  const [first, last] = [Number(found?.[1]), Number(found?.[2])];
  const total = found?.[3] === '*' ? undefined : Number(found?.[3]);
  const isWhole = [first, last, total ?? 0].every((value) => Number.isSafeInteger(value));
  if (found === null || !isWhole || last < first || (total !== undefined && last >= total)) {
    throw new StorageError('RANGE_INVALID', `not a Content-Range: ${header}`);
  }
  return total === undefined ? { first, last } : { first, last, total };
}
