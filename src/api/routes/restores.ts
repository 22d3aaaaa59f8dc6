/** /v1/copies/{copy}/restores, /v1/backups/{backup}/restores and /v1/restores */
import type { Job } from '../../job/job.ts';
import { checkName } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import type { Outcome } from '../idempotency.ts';
import {
  digestHeaders,
  json,
  keyHeader,
  operation,
  path,
  uploadHeader,
  waitHeader,
} from '../operation.ts';
import { affected, answerPost, created, jobAct, jobOutcome, waitingOutcome } from '../reply.ts';
import { refuseFields, required } from '../requested.ts';
import { DiskSchema } from '../schemas/disk.ts';
import { refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import {
  BackupRestoreSchema,
  CopyRestoreSchema,
  RestoreQuery,
  UploadQuery,
} from '../schemas/restore.ts';
import type { WouldFree } from '../service-types.ts';
import { uploadImage } from '../upload.ts';
import { diskView } from '../views.ts';
import type { CopyRestored, RestoreRequest } from '../work-services.ts';
import { groupBackupAct, groupRequest, wouldLoseAll } from './group-work.ts';

const tag = 'restores';

/** In the scope of JSON. */
export function restoreRoutes(app: ApiInstance, context: ApiContext): void {
  addFromCopy(app, context);
  addFromBackup(app, context);
}

function addFromCopy(app: ApiInstance, context: ApiContext): void {
  app.post('/copies/:copy/restores', {
    schema: operation(
      {
        operationId: 'restoreCopy',
        tag,
        summary: 'Restore from a live copy',
        description:
          'remap: a new disk of the original capacity, at once; no data moves and no room is ' +
          'needed. write-back: a job that puts the working disk back to what the copy holds; the ' +
          'disk is fenced while it runs, and as it was before if that fails or is cancelled. ' +
          'With `dryRun` nothing is changed: 200 with what would be lost.',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          201: json(DiskSchema, 'The new disk (remap).'),
          202: json(JobSchema, 'The job that does it (write-back).'),
        },
      },
      {
        params: path('copy', 'Name or id of the copy.'),
        body: refTo(CopyRestoreSchema),
        querystring: RestoreQuery,
      },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      const wanted = request.body;
      checkRestore(wanted);
      const { restores } = context.services;
      if (request.query.dryRun === true) return reply.send(await wouldLose(context, wanted));
      const later = waitingOutcome(context, request);
      return answerPost<CopyRestored>(context, request, reply, {
        run: (effects) => restores.fromCopy(request.params.copy, wanted, effects),
        describe: restoredOutcome,
        later: async (made) =>
          'job' in made && later !== undefined ? later(made.job) : restoredOutcome(made),
      });
    },
  });
}

function restoredOutcome(made: CopyRestored): Outcome {
  if ('job' in made) return jobOutcome(made.job);
  return created(made.disk, `/v1/disks/${made.disk.name}`, diskView(made.disk));
}

function addFromBackup(app: ApiInstance, context: ApiContext): void {
  app.post('/backups/:backup/restores', {
    schema: operation(
      {
        operationId: 'restoreBackup',
        tag,
        summary: 'Restore from a backup',
        description:
          'A job. copy: a new compact copy. remap: a new disk of the original capacity; it can ' +
          'be used when the job has succeeded. write-back: into the working disk, fenced ' +
          'while the job runs, and as it was before if that fails or is cancelled. Needs room in ' +
          'the pool for the used blocks of the image, for a write-back beside the old contents ' +
          '(`onlyDiffering`: only for blocks that differ). Damage fails the job with the exact ' +
          'ranges, unless `onDamage` is `skip`. The name of a group backup restores all its ' +
          'disks as a unit, by remap (to `name`-DISK) or write-back (`safetyCopy`-DISK): all of ' +
          'them or none. With `dryRun` nothing is changed: 200 with what would be lost.',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          202: json(JobSchema, 'The job that does it.'),
        },
      },
      {
        params: path('backup', 'Name or id of the backup, or of a group backup.'),
        body: refTo(BackupRestoreSchema),
        querystring: RestoreQuery,
      },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      const { backup } = request.params;
      const { backups, restores } = context.services;
      const isDry = request.query.dryRun === true;
      if (backups.hasGroup(backup)) {
        const act = groupBackupAct(context, request, backup, request.body);
        if (!isDry) return answerPost<Job>(context, request, reply, act);
        const wanted = groupRequest(request.body);
        return reply.send(await wouldLoseAll(context, wanted, backups.ofGroup(backup)));
      }
      backups.get(backup);
      const { name, disks, ...wanted } = request.body;
      refuseFields({ name, disks }, 'only for a group backup');
      checkRestore(wanted);
      if (isDry) return reply.send(await wouldLose(context, wanted));
      const act = jobAct(context, request, (effects) =>
        restores.fromBackup(backup, wanted, effects),
      );
      return answerPost<Job>(context, request, reply, act);
    },
  });
}

/** In the scope of binary bodies. */
export function uploadRoutes(app: ApiInstance, context: ApiContext): void {
  app.post('/restores', {
    config: { binaryBody: 'The image.' },
    schema: operation(
      {
        operationId: 'uploadRestore',
        tag,
        summary: 'Restore from an image in the body',
        description:
          'The body is an image from anywhere, restored as from a backup. It is applied as it ' +
          'comes and answered when the last byte is durable; a job shows the progress. Cut ' +
          'short: 400 BODY_TRUNCATED with `job` and `receivedBytes`; go on with `job=` and ' +
          'Content-Range, within 24 hours of the last byte. A problem without `receivedBytes` ' +
          'has ended the job: begin anew. The ' +
          'whole request sent again with its `Idempotency-Key` begins anew as well: the job of ' +
          'before is cancelled first, also after a restart of the service. A digest is that of ' +
          'the body of its own request; a wrong one fails the restore.',
        ok: {
          200: json(JobSchema, 'The job, done (write-back).'),
          201: json(JobSchema, 'The job, done; the new object is at Location.'),
        },
      },
      { querystring: UploadQuery },
      { ...keyHeader, ...uploadHeader, ...digestHeaders },
    ),
    handler: (request, reply) => {
      const { job, method, ...rest } = request.query;
      if (job !== undefined) {
        const asked = method === undefined ? rest : { ...rest, method };
        return uploadImage(context, request, reply, { kind: 'continue', job, asked });
      }
      const wanted = { ...rest, method: required(method, 'method') };
      checkRestore(wanted);
      return uploadImage(context, request, reply, { kind: 'begin', wanted });
    },
  });
}

/** What each method needs. @throws VALIDATION_FAILED, NAME_INVALID */
function checkRestore({ method, disk, copy, safetyCopy, ...rest }: RestoreRequest): void {
  if (method === 'copy') {
    checkName(required(copy, 'copy'), 'copy');
    refuseFields({ disk }, 'the method copy makes no disk');
  } else {
    required(disk, 'disk');
    refuseFields({ copy }, `the method ${method} makes no copy`);
  }
  if (method === 'remap') checkName(disk, 'disk');
  if (method === 'write-back') {
    checkName(safetyCopy, 'safetyCopy');
    refuseFields({ pool: rest.pool }, 'a write-back stays in the pool of its disk');
    return;
  }
  const { onlyDiffering, keepPartial, force } = rest;
  refuseFields({ safetyCopy, onlyDiffering, keepPartial, force }, 'only for the method write-back');
}

/** Only a write-back replaces anything. */
async function wouldLose(context: ApiContext, wanted: RestoreRequest): Promise<WouldFree> {
  if (wanted.method !== 'write-back') return { wouldFreeBytes: 0, affects: [] };
  const disk = context.services.disks.get(required(wanted.disk, 'disk'));
  const users = disk.users().map(({ kind, id }) => ({ kind, id }));
  const wouldFreeBytes = await disk.exclusiveBytes();
  return { wouldFreeBytes, affects: [affected('disk')(disk), ...users] };
}
