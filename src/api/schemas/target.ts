/** Targets in requests and answers. */
import { Type } from 'typebox';
import {
  asked,
  count,
  labelQuery,
  labels,
  newName,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  shown,
  text,
  time,
} from './fields.ts';

const kind = oneOfThese(['directory'], 'What it is: a directory, one folder a backup.');

export const TargetSchema = shown('Target', 'Where backups live.', {
  id: text('UUID.'),
  name: text('Name.'),
  kind,
  path: text('Absolute path of the directory.'),
  labels,
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was made'),
});
export const TargetListSchema = pageSchema(TargetSchema);

export const CreateTargetSchema = asked('CreateTarget', 'A new target.', {
  name: newName('Name'),
  kind,
  path: text('Directory below the roots, made if missing; a relative path starts at the first.', {
    minLength: 1,
  }),
  labels: Type.Optional(labels),
});

export const UpdateTargetSchema = asked('UpdateTarget', 'Changes of a target.', {
  name: Type.Optional(newName('Name')),
  labels: Type.Optional(labels),
});

export const TargetQuery = query({ ...pageQuery, ...labelQuery });

export const targetSchemas = [
  TargetSchema,
  TargetListSchema,
  CreateTargetSchema,
  UpdateTargetSchema,
];
