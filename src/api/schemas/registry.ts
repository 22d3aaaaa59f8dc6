/**
 * All named schemas, and references put back in place for the validator.
 */
import type { TSchema } from 'typebox';
import { backupSchemas } from './backup.ts';
import { copySchemas } from './copy.ts';
import { diskSchemas } from './disk.ts';
import { idOf } from './fields.ts';
import { groupSchemas } from './group.ts';
import { jobSchemas } from './job.ts';
import { poolSchemas } from './pool.ts';
import { AffectedSchema, ProblemSchema, WouldFreeSchema } from './problem.ts';
import { restoreSchemas } from './restore.ts';
import { retentionSchemas } from './retention.ts';
import { scheduleSchemas } from './schedule.ts';
import { mediumSchemas } from './medium.ts';
import { targetSchemas } from './target.ts';

export const namedSchemas: readonly TSchema[] = [
  ProblemSchema,
  AffectedSchema,
  WouldFreeSchema,
  ...poolSchemas,
  ...diskSchemas,
  ...copySchemas,
  ...groupSchemas,
  ...targetSchemas,
  ...mediumSchemas,
  ...backupSchemas,
  ...restoreSchemas,
  ...retentionSchemas,
  ...scheduleSchemas,
  ...jobSchemas,
];

const byReference = new Map(namedSchemas.map((schema) => [`${idOf(schema)}#`, schema]));

/** @throws TypeError if a reference leads nowhere */
export function resolvedSchema(schema: unknown): TSchema {
  const found = resolved(schema);
  if (typeof found === 'object' && found !== null) return found;
  throw new TypeError('not a schema');
}

/** The schema with all references replaced by what they mean. None refers to itself. */
function resolved(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(resolved);
  if (typeof schema !== 'object' || schema === null) return schema;
  if ('$ref' in schema && typeof schema.$ref === 'string') {
    const found = byReference.get(schema.$ref);
    if (found === undefined) throw new TypeError(`no schema ${schema.$ref}`);
    return resolved(found);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, part]) => [key, resolved(part)]));
}
