/**
 * The building blocks of all schemas: sizes, names, labels, times, references, lists.
 *
 * Rules that generated clients depend on: enums are strings with a list (not unions of literals),
 * bytes are int64, a named schema is used by reference, null appears only beside one type.
 */
import { Type } from 'typebox';
import type { Static, TObject, TProperties, TSchema, TUnsafe } from 'typebox';
import { MAX_CAPACITY_BYTES, MIN_CAPACITY_BYTES, SECTOR_BYTES } from '../../base/units.ts';
import { NAME_PATTERN } from '../conditions.ts';
import { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE } from '../pages.ts';

/** What is asked for, with a name of its own in the document. Unknown fields are refused. */
export function asked<P extends TProperties>(
  $id: string,
  description: string,
  properties: P,
): TObject<P> {
  return Type.Object(properties, { $id, description, additionalProperties: false });
}

/** What is answered, with a name of its own. Later versions may add fields. */
export function shown<P extends TProperties>(
  $id: string,
  description: string,
  properties: P,
): TObject<P> {
  return Type.Object(properties, { $id, description });
}

export function refTo<T extends TSchema>(schema: T): TUnsafe<Static<T>> {
  return Type.Unsafe<Static<T>>({ $ref: `${idOf(schema)}#` });
}

export function nullableRefTo<T extends TSchema>(
  schema: T,
  description: string,
): TUnsafe<Static<T> | null> {
  const anyOf = [{ $ref: `${idOf(schema)}#` }, { type: 'null' }];
  return Type.Unsafe<Static<T> | null>({ description, anyOf });
}

export function idOf(schema: TSchema): string {
  if ('$id' in schema && typeof schema.$id === 'string') return schema.$id;
  throw new TypeError('a schema without $id cannot be referred to');
}

interface StringOptions {
  readonly description: string;
  readonly pattern?: string;
  readonly format?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
}

export function text(description: string, options: Omit<StringOptions, 'description'> = {}) {
  return Type.String({ ...options, description });
}

export function nullableText(description: string): TUnsafe<string | null> {
  return Type.Unsafe<string | null>({ type: ['string', 'null'], description });
}

/** A name that a client chooses. */
export function newName(description: string) {
  const rule = '1 to 63 of `a-z 0-9 . _ -`, beginning with a letter or digit, no UUID';
  return text(`${description} (${rule}).`, { pattern: NAME_PATTERN });
}

/** A name or an id. */
export function reference(description: string) {
  return text(`${description}: its name or id.`, { minLength: 1, maxLength: 255 });
}

export function bytes(description: string, minimum = 0) {
  return Type.Integer({
    description: `${description} (bytes).`,
    format: 'int64',
    minimum,
    maximum: Number.MAX_SAFE_INTEGER,
  });
}

export function nullableBytes(description: string, minimum = 0): TUnsafe<number | null> {
  return Type.Unsafe<number | null>({
    description: `${description} (bytes).`,
    type: ['integer', 'null'],
    format: 'int64',
    minimum,
    maximum: Number.MAX_SAFE_INTEGER,
  });
}

export function capacity(description: string) {
  return Type.Integer({
    description: `${description} (bytes, a multiple of 512).`,
    format: 'int64',
    minimum: MIN_CAPACITY_BYTES,
    maximum: MAX_CAPACITY_BYTES,
    multipleOf: SECTOR_BYTES,
  });
}

/** The form for people, instead of the field in bytes. */
export function humanSize(instead: string) {
  const form = 'such as `10GiB`; units KiB, MiB, GiB, TiB, PiB or kB, MB …';
  return text(`The same for people, ${form} Instead of \`${instead}\`.`, {
    minLength: 1,
    maxLength: 32,
  });
}

export function count(description: string, maximum = Number.MAX_SAFE_INTEGER) {
  return Type.Integer({ description, format: 'int64', minimum: 0, maximum });
}

export function percent(description: string) {
  return Type.Integer({ description: `${description} (percent).`, minimum: 0, maximum: 100 });
}

/** A measured part, not whole. */
export function share(description: string) {
  return Type.Number({ description: `${description} (percent).`, minimum: 0, maximum: 100 });
}

export function flag(description: string) {
  return Type.Boolean({ description });
}

export function time(description: string) {
  return Type.String({ description: `${description} (RFC 3339, UTC).`, format: 'date-time' });
}

export function nullableTime(description: string): TUnsafe<string | null> {
  return Type.Unsafe<string | null>({
    description: `${description} (RFC 3339, UTC).`,
    type: ['string', 'null'],
    format: 'date-time',
  });
}

export function oneOfThese<const V extends readonly string[]>(
  values: V,
  description: string,
): TUnsafe<V[number]> {
  return Type.Unsafe<V[number]>({ type: 'string', enum: [...values], description });
}

export function listOf<T extends TSchema>(items: T, description: string, maxItems?: number) {
  return Type.Array(items, { description, ...(maxItems === undefined ? {} : { maxItems }) });
}

/** Free text by free key; what it means is the client's. */
export const labels = Type.Unsafe<Record<string, string>>({
  type: 'object',
  description: 'Free labels: up to 64 of up to 63 characters (value: 255).',
  maxProperties: 64,
  additionalProperties: { type: 'string', maxLength: 255 },
});

/** An object whose fields depend on the case. */
export function facts(description: string): TUnsafe<Record<string, unknown>> {
  return Type.Unsafe<Record<string, unknown>>({
    type: 'object',
    description,
    additionalProperties: true,
  });
}

export function nullableFacts(description: string): TUnsafe<Record<string, unknown> | null> {
  return Type.Unsafe<Record<string, unknown> | null>({
    type: ['object', 'null'],
    description,
    additionalProperties: true,
  });
}

/** One page of a list of named things. */
export function pageSchema<T extends TSchema>(item: T) {
  const id = idOf(item);
  return shown(`${id}List`, `One page of: ${id}.`, {
    items: listOf(refTo(item), 'What this page holds.'),
    nextPageToken: nullableText('`pageToken` of the next page; null after the last.'),
  });
}

export const pageQuery = {
  pageSize: Type.Optional(
    Type.Integer({
      description: 'Most items in one page.',
      minimum: 1,
      maximum: MAX_PAGE_SIZE,
      default: DEFAULT_PAGE_SIZE,
    }),
  ),
  pageToken: Type.Optional(text('`nextPageToken` of the page before.', { maxLength: 512 })),
} as const;

export const labelQuery = {
  label: Type.Optional(text('Only those with this label, `key=value` or `key`.')),
} as const;

/** A query of just these parameters; others are refused. */
export function query<P extends TProperties>(properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: false });
}

export const dryRunQuery = {
  dryRun: Type.Optional(flag('Only tell what it would do: 200 with WouldFree.')),
} as const;

export const forceQuery = {
  force: Type.Optional(flag('End the users first instead of refusing with 409.')),
} as const;
