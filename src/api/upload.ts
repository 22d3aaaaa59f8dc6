/**
 * An image in the body of a request, restored as it comes.
 *
 *  1. Begin: everything that can be refused without the bytes is, before `100 Continue`.
 *  2. Chunks are pushed one after the other; the session's back-pressure is the socket's.
 *  3. End: answered when the last byte is durable. Cut short, stopped or paused: the session keeps
 *     its job, and the problem names it with what was received; `?job=` and Content-Range go on
 *     from there. Any other reason ends the job, and the problem has neither.
 *  4. Begun again with the same Idempotency-Key: the job of before is ended, and the image taken
 *     from its first byte.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, StorageError } from '../base/errors.ts';
import type { Job } from '../job/job.ts';
import { isJsonObject } from '../job/job.ts';
import { bodyLength, BodyReader } from './body.ts';
import type { ApiContext } from './context.ts';
import { DigestCheck } from './digest.ts';
import { digestOfRequest, type Outcome } from './idempotency.ts';
import { asStorageError } from './problem.ts';
import { parseContentRange } from './ranges.ts';
import { answerPost, keyedRequest } from './reply.ts';
import type { Effects, UploadBody } from './service-types.ts';
import { jobView } from './views.ts';
import type { RestoreRequest, UploadResult, UploadSession } from './work-services.ts';

export type UploadStart =
  | { readonly kind: 'begin'; readonly wanted: RestoreRequest }
  /** What else is asked for has to be what the job does. */
  | { readonly kind: 'continue'; readonly job: string; readonly asked: Partial<RestoreRequest> };

/** After these the job waits for the rest of the image (JOB_STATE: it was paused). */
const leavesJob: ReadonlySet<ErrorCode> = new Set(['BODY_TRUNCATED', 'SHUTTING_DOWN', 'JOB_STATE']);

export async function uploadImage(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  start: UploadStart,
): Promise<FastifyReply> {
  return answerPost<UploadResult>(context, request, reply, {
    run: (effects) => receive(context, request, start, effects),
    describe: outcomeOf,
    later: async (result) => outcomeOf(result),
  });
}

async function receive(
  context: ApiContext,
  request: FastifyRequest,
  start: UploadStart,
  effects: Effects<UploadResult> | undefined,
): Promise<UploadResult> {
  const digest = digestCheck(request, start);
  const lease = await context.bodyMemory.take(2 * context.pieces.pieceBytes);
  const reader = new BodyReader(request.raw, context.limits);
  lease.watch(reader);
  let session: UploadSession | undefined;
  let pushing: Promise<void> = Promise.resolve();
  const stop = (): void => {
    reader.fail(new StorageError('SHUTTING_DOWN', 'the service is shutting down'));
  };
  try {
    session = await begin(context, request, start);
    context.cutting.addEventListener('abort', stop);
    const open = session;
    await reader.forEach((chunk) => {
      digest.update(chunk);
      pushing = open.push(chunk);
      return pushing;
    });
    digest.verify();
    return await session.finish(effects);
  } catch (error) {
    const reason = asStorageError(error);
    if (session === undefined) throw reason;
    await pushing.catch(() => undefined);
    await session.abort(reason);
    if (!leavesJob.has(reason.code)) throw reason;
    throw reason.with({ job: session.job.id, receivedBytes: session.receivedBytes });
  } finally {
    context.cutting.removeEventListener('abort', stop);
    reader.release();
    lease.release();
  }
}

/** Of the body of this request. @throws VALIDATION_FAILED, also for one of the whole of parts */
function digestCheck({ headers }: FastifyRequest, { kind }: UploadStart): DigestCheck {
  if (kind === 'continue' && headers['repr-digest'] !== undefined) {
    const detail = 'who goes on with an upload can give Content-Digest, of the bytes of this body';
    throw new StorageError('VALIDATION_FAILED', detail, { field: 'repr-digest' });
  }
  return new DigestCheck(headers);
}

async function begin(
  context: ApiContext,
  request: FastifyRequest,
  start: UploadStart,
): Promise<UploadSession> {
  const { services } = context;
  const { raw, headers } = request;
  const length = bodyLength(raw);
  const contentRange = headers['content-range'];
  const range = contentRange === undefined ? undefined : parseContentRange(contentRange);
  if (range !== undefined && length !== undefined && range.last - range.first + 1 !== length) {
    throw new StorageError('RANGE_INVALID', 'Content-Range and Content-Length do not agree');
  }
  if (start.kind === 'continue') {
    if (range === undefined) {
      throw new StorageError('RANGE_REQUIRED', 'going on needs Content-Range', {
        field: 'Content-Range',
      });
    }
    refuseOther(await services.jobs.get(start.job), start.asked);
    return services.restores.continueUpload(start.job, range.first);
  }
  if (range !== undefined && range.first > 0) {
    throw new StorageError('RANGE_INVALID', 'an upload begins with the first byte');
  }
  const imageBytes = range?.total ?? length;
  return services.restores.beginUpload(start.wanted, {
    imageBytes,
    key: uploadKey(context, request),
  });
}

/** By which a later request is known as this one, repeated, while its job goes on. */
function uploadKey(context: ApiContext, request: FastifyRequest): UploadBody['key'] {
  const keyed = keyedRequest(context, request);
  if (keyed === undefined) return undefined;
  return { place: digestOfRequest([keyed.scope, keyed.key]), digest: keyed.digest };
}

const FIXED = [
  'method',
  'disk',
  'copy',
  'safetyCopy',
  'onlyDiffering',
  'onDamage',
  'keepPartial',
] as const;

/** @throws VALIDATION_FAILED if the job was begun with another parameter */
function refuseOther({ id, subject, parameters }: Job, asked: Partial<RestoreRequest>): void {
  const begun = { ...(isJsonObject(parameters) ? parameters : {}), ...subject };
  for (const field of FIXED) {
    if (asked[field] === undefined || asked[field] === begun[field]) continue;
    if (field === 'disk' && asked.disk === subject['diskId']) continue;
    const detail = `${field}: the upload of job ${id} was begun with another one`;
    throw new StorageError('VALIDATION_FAILED', detail, { field });
  }
}

/** 201 with the new object's place, or 200 if an old disk was written. */
function outcomeOf({ job, disk, copy }: UploadResult): Outcome {
  const body = jobView(job);
  if (copy !== undefined) {
    return { status: 201, headers: { location: `/v1/copies/${copy.name}` }, body };
  }
  if (disk !== undefined) {
    return { status: 201, headers: { location: `/v1/disks/${disk.name}` }, body };
  }
  return { status: 200, headers: { location: `/v1/jobs/${job.id}` }, body };
}
