/** /v1/check and /v1/checks */
import type { Job } from '../../job/job.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, operation, waitHeader } from '../operation.ts';
import { answerPost, jobAct } from '../reply.ts';
import { CheckSchema, JobSchema } from '../schemas/job.ts';

const tag = 'service';

export function checkRoutes(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/check', {
    schema: operation(
      {
        operationId: 'quickCheck',
        tag,
        summary: 'Check some invariants, in bounded time',
        ok: { 200: json(CheckSchema, 'What was found.') },
      },
      {},
    ),
    handler: async () => {
      const { ok, findings } = await services.check.quick();
      return { ok, findings: findings.map(({ rule, detail }) => ({ rule, detail })) };
    },
  });
  app.post('/checks', {
    schema: operation(
      {
        operationId: 'startCheck',
        tag,
        summary: 'Check all invariants',
        ok: { 202: json(JobSchema, 'The job that does it; findings are in its result.') },
      },
      {},
      { ...keyHeader, ...waitHeader },
    ),
    handler: (request, reply) => {
      const act = jobAct(context, request, (effects) => services.check.start(effects));
      return answerPost<Job>(context, request, reply, act);
    },
  });
}
