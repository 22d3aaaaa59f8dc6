/** /v1/retention */
import { type Static, Type } from 'typebox';
import { StorageError } from '../../base/errors.ts';
import type { Job } from '../../job/job.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, operation, waitHeader } from '../operation.ts';
import { answerPost, jobAct } from '../reply.ts';
import { flag, query, refTo } from '../schemas/fields.ts';
import { JobSchema } from '../schemas/job.ts';
import { ApplyRetentionSchema, RetentionDecisionsSchema } from '../schemas/retention.ts';
import type { RetentionRequest } from '../work-services.ts';

export function retentionRoutes(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.post('/retention', {
    schema: operation(
      {
        operationId: 'applyRetention',
        tag: 'schedules',
        summary: 'Delete the backups that no rule keeps',
        description:
          'Never deletes what a backup that stays needs. A dry run answers each decision with ' +
          'its reason and changes nothing.',
        ok: {
          200: json(RetentionDecisionsSchema, 'What a dry run decided.'),
          202: json(JobSchema, 'The job that does it; its result tells what was deleted.'),
        },
      },
      {
        body: refTo(ApplyRetentionSchema),
        querystring: query({
          dryRun: Type.Optional(flag('Only tell the decisions: 200 with RetentionDecisions.')),
        }),
      },
      { ...keyHeader, ...waitHeader },
    ),
    handler: async (request, reply) => {
      const wanted = requestOf(request.body);
      if (request.query.dryRun === true) {
        return reply.send({ decisions: services.retention.decide(wanted) });
      }
      const act = jobAct(context, request, (effects) => services.retention.start(wanted, effects));
      return answerPost<Job>(context, request, reply, act);
    },
  });
}

/** @throws VALIDATION_FAILED */
function requestOf({ label, ...rest }: Static<typeof ApplyRetentionSchema>): RetentionRequest {
  if (label === undefined) return rest;
  const at = label.indexOf('=');
  if (at === 0) {
    throw new StorageError('VALIDATION_FAILED', 'label: it has no key', { field: 'label' });
  }
  if (at < 0) return { ...rest, label: { key: label } };
  return { ...rest, label: { key: label.slice(0, at), value: label.slice(at + 1) } };
}
