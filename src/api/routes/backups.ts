/** /v1/backups */
import { Type } from 'typebox';
import { StorageError } from '../../base/errors.ts';
import type { Job } from '../../job/job.ts';
import { checkName, entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, matchHeader, noContent, operation, path } from '../operation.ts';
import { waitHeader } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { affected, answerPost, deleteObject, jobAct } from '../reply.ts';
import { checkLabels, hasLabel, matchesRef } from '../requested.ts';
import {
  BackupListSchema,
  BackupQuery,
  BackupSchema,
  ConsolidateSchema,
  CreateBackupSchema,
} from '../schemas/backup.ts';
import { dryRunQuery, flag, forceQuery, query, refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import { backupView } from '../views.ts';
import type { CreateBackup } from '../work-services.ts';

const tag = 'backups';
const cascadeQuery = {
  cascade: Type.Optional(flag('Also deletes what is built on it, instead of refusing.')),
};
const params = path('backup', 'Name or id of the backup.');

export function backupRoutes(app: ApiInstance, context: ApiContext): void {
  addPosts(app, context);
  addConsolidate(app, context);
  addReading(app, context);
  addDeletion(app, context);
}

function addPosts(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.post('/backups', {
    schema: operation(
      {
        operationId: 'createBackup',
        tag,
        summary: 'Back up a copy, a disk as it is now, or a group',
        ok: { 202: json(JobSchema, 'The job that does it; its result names the backups.') },
      },
      { body: refTo(CreateBackupSchema) },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      const { name, labels, copy, disk, group } = request.body;
      checkName(name, 'name');
      checkBase(request.body);
      checkLabels(labels);
      if ([copy, disk, group].filter((source) => source !== undefined).length !== 1) {
        const message = 'exactly one of copy, disk and group is required';
        throw new StorageError('VALIDATION_FAILED', message, { field: 'copy' });
      }
      if (group !== undefined && request.body.base !== undefined) {
        const message = 'base: each copy of a group has its own';
        throw new StorageError('VALIDATION_FAILED', message, { field: 'base' });
      }
      const act = jobAct(context, request, (effects) =>
        services.backups.create(request.body, effects),
      );
      return answerPost<Job>(context, request, reply, act);
    },
  });
  app.post('/backups/:backup/verify', {
    schema: operation(
      {
        operationId: 'verifyBackup',
        tag,
        summary: 'Prove every checksum of a backup',
        ok: { 202: json(JobSchema, 'The job that does it; damage is in its result.') },
      },
      { params },
      { ...keyHeader, ...waitHeader },
    ),
    handler: (request, reply) => {
      const act = jobAct(context, request, (effects) =>
        services.backups.verify(request.params.backup, effects),
      );
      return answerPost<Job>(context, request, reply, act);
    },
  });
}

function addConsolidate(app: ApiInstance, context: ApiContext): void {
  app.post('/backups/:backup/consolidate', {
    schema: operation(
      {
        operationId: 'consolidateBackup',
        tag,
        summary: 'Make a full backup of what an incremental one and those it is built on hold',
        ok: { 202: json(JobSchema, 'The job that does it; its result names the new backup.') },
      },
      { params, body: refTo(ConsolidateSchema) },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      const act = jobAct(context, request, (effects) =>
        context.services.backups.consolidate(request.params.backup, request.body, effects),
      );
      return answerPost<Job>(context, request, reply, act);
    },
  });
}

/** What is said of a base belongs to an incremental. @throws VALIDATION_FAILED */
function checkBase(body: Pick<CreateBackup, 'level' | 'base' | 'onMissingBase'>): void {
  if (body.level === 'incremental') return;
  for (const field of ['base', 'onMissingBase'] as const) {
    if (body[field] === undefined) continue;
    const message = `${field} is for level incremental only`;
    throw new StorageError('VALIDATION_FAILED', message, { field });
  }
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/backups', {
    schema: operation(
      {
        operationId: 'listBackups',
        tag,
        summary: 'List backups',
        ok: { 200: json(BackupListSchema, 'Backups, oldest first.') },
      },
      { querystring: BackupQuery },
    ),
    handler: async (request) => {
      const { label, state, disk, target, group } = request.query;
      const found = services.backups
        .list()
        .filter((backup) => hasLabel(backup.labels, label))
        .filter((backup) => state === undefined || backup.state === state)
        .filter((backup) => matchesRef(disk, [backup.disk, backup.diskId, backup.diskName]))
        .filter((backup) => matchesRef(target, [backup.target, backup.targetId]))
        .filter((backup) => matchesRef(group, [backup.group?.name, backup.group?.id]));
      return pageOf('backups', found, request.query, { view: backupView });
    },
  });
  app.get('/backups/:backup', {
    schema: operation(
      {
        operationId: 'getBackup',
        tag,
        summary: 'Show a backup',
        ok: { 200: json(BackupSchema, 'The backup.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const backup = services.backups.get(request.params.backup);
      reply.header('etag', entityTag(backup));
      return backupView(backup);
    },
  });
}

function addDeletion(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.delete('/backups/:backup', {
    schema: operation(
      {
        operationId: 'deleteBackup',
        tag,
        summary: 'Delete a backup from its target',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          204: noContent('It is gone.'),
        },
      },
      { params, querystring: query({ ...dryRunQuery, ...forceQuery, ...cascadeQuery }) },
      matchHeader,
    ),
    handler: (request, reply) => {
      const { backup } = request.params;
      const { dryRun, force = false, cascade = false } = request.query;
      return deleteObject(context, request, reply, {
        dryRun,
        get: () => services.backups.get(backup),
        wouldFree: async () => {
          const gone = services.backups.deletion(backup, { force, cascade });
          return {
            wouldFreeBytes: gone.reduce((sum, { mediumBytes }) => sum + mediumBytes, 0),
            affects: gone.map(affected('backup')),
          };
        },
        delete: () => services.backups.delete(backup, { force, cascade }),
      });
    },
  });
}
