/**
 * The schema of one operation, as Fastify checks it and the document shows it.
 *
 * Each has an id, a tag, a summary and the Problem error. An operation without parameters in its
 * query refuses all of them; one that lists headers only documents them.
 */
import { Type } from 'typebox';
import type { TProperties, TSchema } from 'typebox';
import { problemMediaType } from './problem.ts';
import { ProblemSchema, WouldFreeSchema } from './schemas/problem.ts';
import { query, refTo, text } from './schemas/fields.ts';

export type Tag =
  | 'pools'
  | 'disks'
  | 'copies'
  | 'groups'
  | 'targets'
  | 'backups'
  | 'restores'
  | 'schedules'
  | 'jobs'
  | 'service';

interface Facts {
  readonly operationId: string;
  readonly tag: Tag;
  readonly summary: string;
  readonly description?: string;
  /** By status: what is answered. */
  readonly ok: Readonly<Record<number, Answer>>;
}

interface Answer {
  readonly description: string;
  readonly content?: Readonly<Record<string, { schema: unknown }>>;
  readonly type?: 'null';
}

interface Parts {
  readonly params?: TSchema;
  readonly querystring?: TSchema;
  readonly body?: TSchema;
}

/** An answer in JSON. */
export function json(schema: TSchema, description: string): Answer {
  return { description, content: { 'application/json': { schema: refTo(schema) } } };
}

/** An answer in JSON that depends on what was asked: the object, or what a dry run found. */
export function jsonOrWouldFree(schema: TSchema, description: string): Answer {
  const anyOf = [refTo(schema), refTo(WouldFreeSchema)];
  return { description, content: { 'application/json': { schema: { anyOf } } } };
}

export function noContent(description: string): Answer {
  return { description, type: 'null' };
}

const binary = { type: 'string', format: 'binary' };

export function octets(description: string): Answer {
  return { description, content: { 'application/octet-stream': { schema: binary } } };
}

/** An answer in JSON, or in lines of JSON if asked for. */
export function jsonOrLines(schema: TSchema, description: string): Answer {
  const lines = { schema: { type: 'string' } };
  return {
    description,
    content: { ...json(schema, description).content, 'application/x-ndjson': lines },
  };
}

const error = (description: string): Answer => ({
  description,
  content: { [problemMediaType]: { schema: refTo(ProblemSchema) } },
});

export function operation<P extends Parts>(
  facts: Facts,
  parts: P,
  headers: TProperties = {},
): P & { readonly response: Readonly<Record<string, unknown>> } {
  return {
    querystring: query({}),
    ...parts,
    ...(Object.keys(headers).length === 0 ? {} : { headers: Type.Object(headers) }),
    operationId: facts.operationId,
    tags: [facts.tag],
    summary: facts.summary,
    ...(facts.description === undefined ? {} : { description: facts.description }),
    response: {
      ...facts.ok,
      '4xx': error('The request was refused.'),
      '5xx': error('The service could not do it.'),
    },
  };
}

/** Parameters of the path, by name and meaning. */
export function path<const Name extends string>(name: Name, description: string) {
  const shape: Record<string, TSchema> = { [name]: text(description, { maxLength: 255 }) };
  return Type.Unsafe<Record<Name, string>>(Type.Object(shape));
}

const header = (description: string) => Type.Optional(text(description, { maxLength: 1024 }));

export const keyHeader = {
  'idempotency-key': header('Makes a repeat of this request have no second effect (24 h).'),
};
export const matchHeader = {
  'if-match': header('Only if the object still has this ETag; else 412.'),
};
export const waitHeader = {
  prefer: header(
    '`wait=N`: answer when the job has ended or begins to wait for somebody, or after N seconds.',
  ),
};
export const rangeHeader = {
  range: header('One range, `bytes=first-last`; the answer is 206.'),
};
/** Of what has an ETag. */
export const partHeaders = {
  ...rangeHeader,
  'if-range': header('An ETag: if it is another one by now, all of it comes with 200.'),
};
export const uploadHeader = {
  'content-range': header('`bytes first-last/length`: which part of the image the body is.'),
};
export const digestHeaders = {
  'content-digest': header('RFC 9530, `sha-256=:…:`: the body is checked against it.'),
  'repr-digest': header('The same as Content-Digest here.'),
};
