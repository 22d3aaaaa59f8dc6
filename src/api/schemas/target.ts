/** Targets in requests and answers. */
import { Type } from 'typebox';
import { GIB, MIB } from '../../base/units.ts';
import {
  asked,
  count,
  labelQuery,
  labels,
  newName,
  nullableBytes,
  nullableText,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  shown,
  text,
  time,
} from './fields.ts';

const kind = oneOfThese(
  ['directory', 'tape', 'virtual-tape'],
  'directory: one folder a backup; tape: a drive; virtual-tape: a directory of cartridges.',
);

const bufferBytes = Type.Integer({
  description:
    'Memory between the source and its drive, in bytes, a multiple of 4 MiB; not of a directory. ' +
    'The drive begins when three quarters of it are filled. Each job that writes has it for as ' +
    'long as it has the drive. Default 16 MiB.',
  format: 'int64',
  minimum: 4 * MIB,
  maximum: GIB,
  multipleOf: 4 * MIB,
});

export const TargetSchema = shown('Target', 'Where backups live.', {
  id: text('UUID.'),
  name: text('Name.'),
  kind,
  path: text('Absolute path of the directory or device.'),
  set: nullableText('Set of its cartridges; null of a directory.'),
  bufferBytes: nullableBytes('Memory between the source and its drive; null of a directory'),
  changer: nullableText('Device of what loads its drive; null: hands do.'),
  changerDrive: Type.Unsafe<number | null>({
    description: 'Number of its drive in the changer.',
    type: ['integer', 'null'],
    format: 'int64',
  }),
  labels,
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was made'),
});
export const TargetListSchema = pageSchema(TargetSchema);

export const CreateTargetSchema = asked('CreateTarget', 'A new target.', {
  name: newName('Name'),
  kind,
  path: text(
    'Directory below the roots, made if missing; a relative path starts at the first. Of kind ' +
      'tape: a device that SPINDLE_DEVICES names.',
    { minLength: 1 },
  ),
  set: Type.Optional(newName('Set of its cartridges; not of a directory. Default: the name')),
  bufferBytes: Type.Optional(bufferBytes),
  changer: Type.Optional(
    text(
      'What loads its drive. Of kind tape: device of a changer that SPINDLE_DEVICES names; of ' +
        'kind virtual-tape: `virtual`, that of the library. Default: hands do.',
      { minLength: 1 },
    ),
  ),
  changerDrive: Type.Optional(count('Number of its drive in the changer. Default 0.', 1023)),
  labels: Type.Optional(labels),
});

export const UpdateTargetSchema = asked('UpdateTarget', 'Changes of a target.', {
  name: Type.Optional(newName('Name')),
  bufferBytes: Type.Optional(bufferBytes),
  labels: Type.Optional(labels),
});

export const TargetQuery = query({ ...pageQuery, ...labelQuery });

export const targetSchemas = [
  TargetSchema,
  TargetListSchema,
  CreateTargetSchema,
  UpdateTargetSchema,
];
