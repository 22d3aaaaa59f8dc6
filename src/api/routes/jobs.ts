/** /v1/jobs */
import { isUuid } from '../../base/clock.ts';
import type { Job } from '../../job/job.ts';
import type { JobFilter } from '../../job/runner.ts';
import { preferredWait } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, operation, path, waitHeader } from '../operation.ts';
import { answerPost, waitForJob } from '../reply.ts';
import { refTo } from '../schemas/fields.ts';
import { JobListSchema, JobQuery, JobSchema, UpdateJobSchema } from '../schemas/job.ts';
import type { Effects } from '../service-types.ts';
import { jobView } from '../views.ts';

const tag = 'jobs';
const params = path('job', 'Id of the job.');

export function jobRoutes(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  addReading(app, context);
  app.patch('/jobs/:job', {
    schema: operation(
      {
        operationId: 'updateJob',
        tag,
        summary: 'Change the rate limit of a job while it runs',
        ok: { 200: json(JobSchema, 'The job as it is now.') },
      },
      { params, body: refTo(UpdateJobSchema) },
    ),
    handler: async (request) =>
      jobView(await services.jobs.update(request.params.job, request.body)),
  });
  addVerb(app, context, 'cancel', 'End a job; one that has ended stays as it is', (id, effects) =>
    services.jobs.cancel(id, effects),
  );
  addVerb(app, context, 'pause', 'Stop a job until it is resumed', (id, effects) =>
    services.jobs.pause(id, effects),
  );
  addVerb(app, context, 'resume', 'Let a paused job go on', (id, effects) =>
    services.jobs.resume(id, effects),
  );
}

function addReading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/jobs', {
    schema: operation(
      {
        operationId: 'listJobs',
        tag,
        summary: 'List jobs',
        ok: { 200: json(JobListSchema, 'Jobs, newest first.') },
      },
      { querystring: JobQuery },
    ),
    handler: async (request) => {
      const { label, disk, target, ...rest } = request.query;
      const { items, nextPageToken } = await services.jobs.list({
        ...rest,
        ...(disk === undefined ? {} : { disk: diskName(context, disk) }),
        ...(target === undefined ? {} : { target: targetName(context, target) }),
        ...labelFilter(label),
      });
      return { items: items.map(jobView), nextPageToken: nextPageToken ?? null };
    },
  });
  app.get('/jobs/:job', {
    schema: operation(
      {
        operationId: 'getJob',
        tag,
        summary: 'Show a job, at once or when it has ended',
        ok: { 200: json(JobSchema, 'The job.') },
      },
      { params },
      waitHeader,
    ),
    handler: async (request, reply) => {
      const { job: id } = request.params;
      const seconds = preferredWait(request.headers);
      if (seconds === undefined) return jobView(await services.jobs.get(id));
      const job = await waitForJob(context, request, id, seconds, true);
      reply.header('preference-applied', `wait=${seconds}`);
      return jobView(job);
    },
  });
}

function addVerb(
  app: ApiInstance,
  context: ApiContext,
  verb: 'cancel' | 'pause' | 'resume',
  summary: string,
  run: (id: string, effects: Effects<Job> | undefined) => Promise<Job>,
): void {
  app.post(`/jobs/:job/${verb}`, {
    schema: operation(
      {
        operationId: `${verb}Job`,
        tag,
        summary,
        description: 'Doing it again changes nothing.',
        ok: { 200: json(JobSchema, 'The job as it is now.') },
      },
      { params },
      keyHeader,
    ),
    handler: (request, reply) =>
      answerPost<Job>(context, request, reply, {
        run: (effects) => run(request.params.job, effects),
        describe: (job) => ({ status: 200, headers: {}, body: jobView(job) }),
      }),
  });
}

/** Jobs know disks by name; of a disk that is gone, its copies and backups know the name. */
function diskName({ services }: ApiContext, ref: string): string {
  if (!isUuid(ref)) return ref;
  const disk = services.disks.list().find(({ id }) => id === ref);
  if (disk !== undefined) return disk.name;
  const left = [...services.copies.list({ disk: ref }), ...services.backups.list()];
  return left.find(({ diskId }) => diskId === ref)?.diskName ?? ref;
}

function targetName({ services }: ApiContext, ref: string): string {
  return services.targets.list().find(({ id }) => id === ref)?.name ?? ref;
}

/** `key` or `key=value`. */
function labelFilter(label: string | undefined): Pick<JobFilter, 'label'> {
  if (label === undefined) return {};
  const at = label.indexOf('=');
  if (at < 0) return { label: { key: label } };
  return { label: { key: label.slice(0, at), value: label.slice(at + 1) } };
}
