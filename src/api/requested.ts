/**
 * What a request asks for, where a schema alone cannot say it: sizes in two forms, filters.
 */
import { StorageError } from '../base/errors.ts';
import { parseSize, whyNoSize } from '../base/size.ts';

/** Bytes from exactly one of the two forms; undefined if neither is there. */
export function sizeFrom(
  field: string,
  sizeBytes: number | undefined,
  size: string | undefined,
): number | undefined {
  if (size === undefined) return sizeBytes;
  const human = field.replace(/Bytes$/, '');
  if (sizeBytes !== undefined) {
    throw new StorageError('VALIDATION_FAILED', `${field} and ${human} exclude each other`, {
      field,
    });
  }
  const parsed = parseSize(size);
  if (parsed !== undefined) return parsed;
  throw new StorageError('VALIDATION_FAILED', `${human}: ${whyNoSize(size)}`, { field: human });
}

/** @throws VALIDATION_FAILED if it is missing */
export function required<T>(value: T | undefined, field: string): T {
  if (value !== undefined) return value;
  throw new StorageError('VALIDATION_FAILED', `${field} is required`, { field });
}

/** @throws VALIDATION_FAILED for the first of these fields that is there */
export function refuseFields(fields: Readonly<Record<string, unknown>>, why: string): void {
  for (const [field, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    throw new StorageError('VALIDATION_FAILED', `${field}: ${why}`, { field });
  }
}

/** True if it has the label of the filter, `key` or `key=value`, or there is no filter. */
export function hasLabel(
  labels: Readonly<Record<string, string>>,
  filter: string | undefined,
): boolean {
  if (filter === undefined) return true;
  const at = filter.indexOf('=');
  if (at < 0) return Object.hasOwn(labels, filter);
  const key = filter.slice(0, at);
  return Object.hasOwn(labels, key) && labels[key] === filter.slice(at + 1);
}

/** True if the reference is one of these names and ids, or there is no reference. */
export function matchesRef(
  ref: string | undefined,
  names: readonly (string | null | undefined)[],
): boolean {
  return ref === undefined || names.includes(ref);
}

/** At most 64 labels of 1 to 63 characters. @throws VALIDATION_FAILED */
export function checkLabels(labels: Readonly<Record<string, string>> | undefined): void {
  for (const key of Object.keys(labels ?? {})) {
    if (key.length >= 1 && key.length <= 63) continue;
    throw new StorageError('VALIDATION_FAILED', 'labels: a key has 1 to 63 characters', {
      field: 'labels',
    });
  }
}
