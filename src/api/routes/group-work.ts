/** /v1/groups/{group}/backups, /v1/groups/{group}/restores, and restores of group backups */
import { StorageError } from '../../base/errors.ts';
import type { Job } from '../../job/job.ts';
import { checkName } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import type { Act, Outcome } from '../idempotency.ts';
import { json, keyHeader, operation, path, waitHeader } from '../operation.ts';
import { affected, answerPost, jobAct, jobOutcome, waitingOutcome } from '../reply.ts';
import { checkLabels, refuseFields } from '../requested.ts';
import { CreateGroupBackupSchema } from '../schemas/backup.ts';
import { refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { WouldFreeSchema } from '../schemas/problem.ts';
import { GroupRestoreSchema, RestoredDisksSchema, RestoreQuery } from '../schemas/restore.ts';
import type { WouldFree } from '../service-types.ts';
import { diskView } from '../views.ts';
import type { GroupRestored, GroupRestoreRequest, RestoreRequest } from '../work-services.ts';

const params = path('group', 'Name or id of the group.');

export function groupWorkRoutes(app: ApiInstance, context: ApiContext): void {
  addBackup(app, context);
  addRestore(app, context);
}

function addBackup(app: ApiInstance, context: ApiContext): void {
  app.post('/groups/:group/backups', {
    schema: operation(
      {
        operationId: 'createGroupBackup',
        tag: 'groups',
        summary: 'Back up all copies of a group by one job',
        description:
          'Each becomes an ordinary backup called NAME-DISK; all become complete together, or ' +
          'nothing of them stays. The same as POST of /v1/backups with `group`.',
        ok: { 202: json(JobSchema, 'The job that does it; its result names the backups.') },
      },
      { params, body: refTo(CreateGroupBackupSchema) },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      checkName(request.body.name, 'name');
      checkLabels(request.body.labels);
      const { group } = request.params;
      const act = jobAct(context, request, (effects) =>
        context.services.backups.create({ ...request.body, group }, effects),
      );
      return answerPost<Job>(context, request, reply, act);
    },
  });
}

function addRestore(app: ApiInstance, context: ApiContext): void {
  app.post('/groups/:group/restores', {
    schema: operation(
      {
        operationId: 'restoreGroup',
        tag: 'restores',
        summary: 'Restore a group from its live copies, as a unit',
        description:
          'remap: new disks of the original capacities, all at once or none; no data moves. ' +
          'write-back: a job that fences all working disks and puts all of them back in one ' +
          'transaction, or none. A group whose copies are gone is restored from its backups: ' +
          '/v1/backups/{backup}/restores with the name of the group backup. With `dryRun` ' +
          'nothing is changed: 200 with what would be lost.',
        ok: {
          200: json(WouldFreeSchema, 'What a dry run found.'),
          201: json(RestoredDisksSchema, 'The new disks (remap).'),
          202: json(JobSchema, 'The job that does it (write-back).'),
        },
      },
      { params, body: refTo(GroupRestoreSchema), querystring: RestoreQuery },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      const wanted = request.body;
      checkGroupRestore(wanted);
      const { groups, restores } = context.services;
      const { group } = request.params;
      if (request.query.dryRun === true) {
        const { members } = groups.get(group);
        return reply.send(await wouldLoseAll(context, wanted, members));
      }
      const later = waitingOutcome(context, request);
      return answerPost<GroupRestored>(context, request, reply, {
        run: (effects) => restores.fromGroup(group, wanted, effects),
        describe: restoredOutcome,
        later: async (made) =>
          'job' in made && later !== undefined ? later(made.job) : restoredOutcome(made),
      });
    },
  });
}

function restoredOutcome(made: GroupRestored): Outcome {
  if ('job' in made) return jobOutcome(made.job);
  const disks = made.disks.map((disk) => diskView(disk));
  return { status: 201, headers: { location: '/v1/disks' }, body: { disks } };
}

/** A restore of a backup that turned out to be a group backup. @throws VALIDATION_FAILED */
export function groupBackupAct(
  context: ApiContext,
  request: Parameters<typeof jobAct>[1],
  ref: string,
  asked: RestoreRequest & GroupFields,
): Act<Job> {
  const wanted = groupRequest(asked);
  return jobAct(context, request, (effects) =>
    context.services.restores.fromGroupBackup(ref, wanted, effects),
  );
}

export type GroupFields = Pick<GroupRestoreRequest, 'name' | 'disks'>;

/** @throws VALIDATION_FAILED for what only one disk or copy can have */
export function groupRequest(asked: RestoreRequest & GroupFields): GroupRestoreRequest {
  const { method, disk, copy, keepPartial, ...rest } = asked;
  if (method === 'copy') {
    const message = 'method: a group comes back by remap or write-back';
    throw new StorageError('VALIDATION_FAILED', message, { field: 'method' });
  }
  refuseFields({ disk, copy, keepPartial }, 'not for a group');
  const wanted = { ...rest, method };
  checkGroupRestore(wanted);
  return wanted;
}

/** What each method takes. @throws VALIDATION_FAILED, NAME_INVALID */
function checkGroupRestore(wanted: GroupRestoreRequest): void {
  const { method, name, pool, safetyCopy, onlyDiffering, force } = wanted;
  if (method === 'remap') {
    checkName(name, 'name');
    refuseFields({ safetyCopy, onlyDiffering, force }, 'only for the method write-back');
    return;
  }
  checkName(safetyCopy, 'safetyCopy');
  refuseFields({ name }, 'a write-back makes no disk');
  refuseFields({ pool }, 'a write-back stays in the pool of its disk');
}

/** Only a write-back replaces anything. @throws NOT_FOUND */
export async function wouldLoseAll(
  context: ApiContext,
  { method, disks: mapped = [] }: GroupRestoreRequest,
  members: readonly { readonly diskId: string; readonly diskName: string }[],
): Promise<WouldFree> {
  if (method === 'remap') return { wouldFreeBytes: 0, affects: [] };
  const affects: WouldFree['affects'][number][] = [];
  let wouldFreeBytes = 0;
  for (const { diskId, diskName } of members) {
    const moved = mapped.find((each) => each.disk === diskId || each.disk === diskName);
    const disk = context.services.disks.get(moved?.to ?? diskId);
    const users = disk.users().map(({ kind, id }) => ({ kind, id }));
    wouldFreeBytes += await disk.exclusiveBytes();
    affects.push(affected('disk')(disk), ...users);
  }
  return { wouldFreeBytes, affects };
}
