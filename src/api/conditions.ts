/**
 * Conditions and preferences in headers: ETag and If-Match, Prefer, and the rule of names.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isUuid } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';

/** Also in the schemas, so that clients see it. */
export const NAME_PATTERN = '^[a-z0-9][a-z0-9._-]{0,62}$';
const NAME = new RegExp(NAME_PATTERN);

/** @throws NAME_INVALID; a UUID is none, since everything can be addressed by its id, too */
export function checkName(name: string | undefined, field: string): void {
  if (name === undefined || (NAME.test(name) && !isUuid(name))) return;
  throw new StorageError(
    'NAME_INVALID',
    `${field}: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit, and no UUID`,
    { field, name },
  );
}

interface Versioned {
  readonly id: string;
  readonly version: number;
}

/** Changes with what a client can set, never with counters; another object has another one. */
export function entityTag({ id, version }: Versioned): string {
  return `"${id}-${version}"`;
}

/** @throws PRECONDITION_FAILED unless If-Match is absent, `*`, or names this version */
export function checkIfMatch(headers: IncomingHttpHeaders, object: Versioned): void {
  const asked = headers['if-match'];
  if (asked === undefined || matchesTag(asked, entityTag(object))) return;
  throw new StorageError('PRECONDITION_FAILED', 'it is not the version that If-Match names', {
    etag: entityTag(object),
  });
}

/** Strong comparison with a list of tags (RFC 9110, 8.8.3.2). */
export function matchesTag(header: string, tag: string): boolean {
  if (header.trim() === '*') return true;
  return header.split(',').some((one) => one.trim() === tag);
}

/** The weight that `Accept` gives one of these types, or undefined (RFC 9110, 12.5.1). */
export function weightOf(accept: string, types: readonly string[]): number | undefined {
  const weights = accept.split(',').flatMap((range) => {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    if (!types.includes(type)) return [];
    const weight = parameters.find((parameter) => parameter.startsWith('q='));
    const value = weight === undefined ? 1 : Number(weight.slice(2));
    return [Number.isNaN(value) ? 1 : value];
  });
  return weights.length === 0 ? undefined : Math.max(...weights);
}

/** Seconds of `Prefer: wait=N` (RFC 7240), or undefined. A preference never fails a request. */
export function preferredWait(headers: IncomingHttpHeaders): number | undefined {
  const { prefer } = headers;
  const text = Array.isArray(prefer) ? prefer.join(',') : (prefer ?? '');
  const found = /(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(text);
  return found === null ? undefined : Number(found[1]);
}
