/**
 * Checks requests against their schemas: unknown fields are refused, nothing is dropped or turned
 * into another type. Only parameters, which are text by nature, are read as what they mean. A field
 * inside others is told as a path, `disks/1/name`.
 */
import type { FastifySchemaCompiler } from 'fastify';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import { StorageError } from '../base/errors.ts';
import { NAME_PATTERN } from './conditions.ts';
import { resolvedSchema } from './schemas/registry.ts';

/** For Fastify's `setValidatorCompiler`. A body that is not there is an empty object. */
export const validatorCompiler: FastifySchemaCompiler<unknown> = ({ schema, httpPart }) => {
  const whole = resolvedSchema(schema);
  const validator = Compile(whole);
  const isText = httpPart !== 'body';
  const types = isText ? typesOf(whole) : new Map<string, string>();
  return (given: unknown) => {
    const twice = isText ? givenTwice(given, types) : undefined;
    if (twice !== undefined) return { error: twice };
    const value = isText ? readTexts(given, types) : (given ?? {});
    if (validator.Check(value)) return { value };
    return { error: errorOf(validator.Errors(value), httpPart ?? 'request') };
  };
};

function typesOf(schema: object): Map<string, string> {
  const types = new Map<string, string>();
  if (!('properties' in schema) || typeof schema.properties !== 'object') return types;
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    if (isObject(part) && typeof part.type === 'string') types.set(name, part.type);
  }
  return types;
}

/** A list where one value belongs comes of a parameter that is there several times. */
function givenTwice(given: unknown, types: ReadonlyMap<string, string>): StorageError | undefined {
  if (!isObject(given)) return undefined;
  const field = Object.keys(given).find((name) => types.has(name) && Array.isArray(given[name]));
  if (field === undefined) return undefined;
  return new StorageError('VALIDATION_FAILED', `${field} is given more than once`, { field });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Whole numbers and truth values that are written plainly; all else stays text and is refused. */
function readTexts(given: unknown, types: ReadonlyMap<string, string>): Record<string, unknown> {
  if (!isObject(given)) return {};
  const entries = Object.entries(given).map(([name, value]): [string, unknown] => {
    const type = types.get(name);
    if (type === 'integer' && /^-?(0|[1-9]\d{0,19})$/.test(String(value))) {
      return [name, Number(value)];
    }
    if (type === 'boolean' && (value === 'true' || value === 'false')) {
      return [name, value === 'true'];
    }
    return [name, value];
  });
  return Object.fromEntries(entries);
}

function errorOf(errors: readonly TLocalizedValidationError[], part: string): StorageError {
  const unknown = unknownField(errors);
  if (unknown !== undefined) {
    return new StorageError('VALIDATION_FAILED', `${unknown}: there is no such field`, {
      field: unknown,
    });
  }
  const [error] = errors;
  const place = error?.instancePath.slice(1) ?? '';
  const missing = error?.keyword === 'required' ? error.params.requiredProperties[0] : undefined;
  const field = [place, missing].filter((name) => name !== undefined && name !== '').join('/');
  if (error?.keyword === 'pattern' && error.params.pattern === NAME_PATTERN) {
    return new StorageError(
      'NAME_INVALID',
      `${field}: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit`,
      { field },
    );
  }
  const what = missing === undefined ? messageOf(error) : 'is required';
  const facts = field === '' ? {} : { field };
  return new StorageError('VALIDATION_FAILED', `${field === '' ? part : field} ${what}`, facts);
}

function messageOf(error: TLocalizedValidationError | undefined): string {
  if (error === undefined) return 'is not valid';
  if (error.keyword !== 'enum') return error.message;
  return `must be one of ${error.params.allowedValues.join(', ')}`;
}

/** The first field that no schema allows: TypeBox says that its schema is `false`. */
function unknownField(errors: readonly TLocalizedValidationError[]): string | undefined {
  const found = errors.find(
    ({ keyword, schemaPath }) =>
      keyword === 'boolean' && schemaPath.endsWith('/additionalProperties'),
  );
  return found?.instancePath.slice(1);
}
