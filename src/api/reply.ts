/**
 * The steps that most handlers share: keyed POSTs, conditional changes, jobs, dry runs.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { StorageError } from '../base/errors.ts';
import type { Job } from '../job/job.ts';
import { isEnd } from '../job/job.ts';
import { checkIfMatch, entityTag, preferredWait } from './conditions.ts';
import type { ApiContext } from './context.ts';
import type { Act, KeyedRequest, Outcome, Recorded } from './idempotency.ts';
import { checkKey, digestOfRequest } from './idempotency.ts';
import { rawBodyOf } from './json-body.ts';
import type { Affected, Effects, User, WouldFree } from './service-types.ts';
import type { Disk } from './storage-services.ts';
import { jobView, userViews } from './views.ts';

/** Runs a POST once for its Idempotency-Key, and answers. */
export async function answerPost<T>(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  act: Act<T>,
): Promise<FastifyReply> {
  const keyed = keyedRequest(context, request);
  return sendRecorded(reply, await context.idempotency.answer(keyed, act));
}

export function keyedRequest(
  context: ApiContext,
  request: FastifyRequest,
): KeyedRequest | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  const { method, url } = request;
  const [path = '', query = ''] = url.split(/\?(.*)/s);
  const body = rawBodyOf(request.raw) ?? '';
  return {
    key: checkKey(String(key)),
    scope: `${context.tokenScope} ${method} ${path}`,
    digest: digestOfRequest([method, path, query, body]),
  };
}

export function sendRecorded(reply: FastifyReply, recorded: Recorded): FastifyReply {
  reply.code(recorded.status).headers(recorded.headers);
  if (recorded.isReplay) reply.header('idempotency-replayed', 'true');
  if (recorded.body === null) return reply.send();
  return reply.type('application/json; charset=utf-8').send(Buffer.from(recorded.body));
}

/** 201 with where it is and its version. */
export function created(
  object: { id: string; version: number },
  at: string,
  body: unknown,
): Outcome {
  return { status: 201, headers: { location: at, etag: entityTag(object) }, body };
}

/** 202 with the job; 202 as well if it ended while the client was ready to wait. */
export function jobAct(
  context: ApiContext,
  request: FastifyRequest,
  run: (effects: Effects<Job> | undefined) => Promise<Job>,
): Act<Job> {
  const later = waitingOutcome(context, request);
  return later === undefined ? { run, describe: jobOutcome } : { run, describe: jobOutcome, later };
}

/** With `Prefer: wait`: how a job is answered once it has ended or the time is over. */
export function waitingOutcome(
  context: ApiContext,
  request: FastifyRequest,
): ((job: Job) => Promise<Outcome>) | undefined {
  const seconds = preferredWait(request.headers);
  if (seconds === undefined) return undefined;
  return async ({ id }) => {
    const job = await waitForJob(context, request, id, seconds, false);
    const { headers, ...rest } = jobOutcome(job);
    return { ...rest, headers: { ...headers, 'preference-applied': `wait=${seconds}` } };
  };
}

export function jobOutcome(job: Job): Outcome {
  return { status: 202, headers: { location: `/v1/jobs/${job.id}` }, body: jobView(job) };
}

/**
 * The job when it has ended or waits for somebody, the time is over, the client is gone or the
 * service stops. To a client that asks again, what it waits for already is no news.
 */
export async function waitForJob(
  context: ApiContext,
  request: FastifyRequest,
  id: string,
  seconds: number,
  isAskedAgain: boolean,
): Promise<Job> {
  const { services, limits, stopping } = context;
  const job = await services.jobs.get(id);
  if (isEnd(job.state)) return job;
  const gone = new AbortController();
  const onClose = (): void => {
    gone.abort();
  };
  request.raw.socket.once('close', onClose);
  try {
    const signal = AbortSignal.any([gone.signal, stopping]);
    const timeoutMs = Math.min(seconds * 1000, limits.longPollMs);
    return await services.jobs.wait(id, timeoutMs, signal, isAskedAgain ? job : undefined);
  } finally {
    request.raw.socket.off('close', onClose);
  }
}

interface Versioned {
  readonly id: string;
  readonly version: number;
}

/** Checks If-Match and changes the object, no other change of it in between. */
export async function changeObject<T extends Versioned>(
  context: ApiContext,
  request: FastifyRequest,
  get: () => T,
  change: (found: T) => Promise<T>,
): Promise<T> {
  return context.changes.run(get().id, async () => {
    const found = get();
    checkIfMatch(request.headers, found);
    return change(found);
  });
}

interface Deletion<T> {
  readonly dryRun: boolean | undefined;
  get(): T;
  /** Of a dry run. @throws as `delete` would, as far as it can be known */
  wouldFree(): Promise<WouldFree>;
  delete(): Promise<void>;
}

/** 204, or 200 with what it would do. */
export async function deleteObject(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  deletion: Deletion<Versioned>,
): Promise<FastifyReply> {
  const isGone = await context.changes.run(deletion.get().id, async () => {
    checkIfMatch(request.headers, deletion.get());
    if (deletion.dryRun === true) return false;
    await deletion.delete();
    return true;
  });
  if (isGone) return reply.code(204).send();
  return reply.send(await deletion.wouldFree());
}

/** For requests that do not touch the disk themselves. @throws DISK_FENCED */
export function refuseFenced(disk: Disk): void {
  if (disk.state === 'ready') return;
  throw new StorageError('DISK_FENCED', `disk ${disk.name} is fenced by a restore`, {
    disk: disk.name,
    job: disk.fencedBy ?? null,
  });
}

/** A dry run is refused where the deletion would be. @throws DISK_IN_USE, COPY_IN_USE */
export function refuseUsed(
  kind: 'disk' | 'copy',
  object: { readonly name: string; users(): readonly User[] },
  force = false,
): void {
  const users = userViews(object.users());
  if (force || users.length === 0) return;
  const code = kind === 'disk' ? 'DISK_IN_USE' : 'COPY_IN_USE';
  throw new StorageError(code, `${kind} ${object.name} is in use`, { [kind]: object.name, users });
}

/** For lists of what is affected. */
export function affected(kind: string): (object: { id: string; name: string }) => Affected {
  return ({ id, name }) => ({ kind, id, name });
}

/** A thing with its users, all of which a deletion would end. */
export function withUsers(
  kind: string,
  object: { readonly id: string; readonly name: string; users(): readonly User[] },
): Affected[] {
  const users = object.users().map((user) => ({ kind: user.kind, id: user.id }));
  return [affected(kind)(object), ...users];
}
