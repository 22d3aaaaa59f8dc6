/**
 * Versions of what clients can set: the ETag of an object goes by its version, so the version
 * changes when a value does, and never else.
 */
import { isDeepStrictEqual } from 'node:util';

/** A new version unless all values are as they were. */
export function bumpIfChanged(record: { version: number }, before: unknown, now: unknown): void {
  if (!isDeepStrictEqual(before, now)) record.version += 1;
}
