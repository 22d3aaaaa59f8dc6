/**
 * What must be true after a restart: everything is found as it was acknowledged, jobs come to an
 * end, requests that were cut off can be repeated, and all checks are silent.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CopyView, DiskView, JobView } from '../../src/api/views.ts';
import type { Json } from './client.ts';
import { END, examine, type Write } from './history.ts';
import { continueUpload } from './load-uploads.ts';
import { checkCopy, settleCopy } from './load-objects.ts';
import { type CutPost, type DiskModel, wrongBytes } from './model.ts';
import { readFull } from './read-whole.ts';
import { verifyTogether } from './verify-groups.ts';
import { verifyChanges } from './verify-changes.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const JOBS_MS = 120_000;
const LARGEST_IMAGE = 64 * 1024 * 1024;

/** Proves one restart. @throws Violation */
export async function verifyAll(world: World): Promise<void> {
  await quickCheck(world);
  await repeatCutPosts(world);
  await adoptJobs(world);
  await endJobs(world);
  await verifyTogether(world);
  await findDisks(world);
  await findCopies(world);
  await findBackups(world);
  for (const disk of world.disks) await verifyDisk(world, disk);
  for (const copy of world.copies) await checkCopy(world, world.random, copy);
  await verifyChanges(world);
  await verifyImage(world);
  for (const { name } of world.backups.filter((backup) => backup.isComplete)) {
    await runJob(world, `/backups/${name}/verify`);
  }
  const { result } = await runJob(world, '/checks');
  if ((result?.findings as unknown[]).length > 0) {
    throw new Violation('the full check found something', { result });
  }
  await quickCheck(world);
}

async function quickCheck(world: World): Promise<void> {
  const { ok, findings } = await world.client.json('GET', '/check');
  if (ok !== true) throw new Violation('the quick check found something', { findings });
}

/** Starts a job that must succeed. */
async function runJob(world: World, path: string): Promise<JobView> {
  const headers = { prefer: 'wait=60' };
  const { id } = await world.client.json('POST', path, { headers });
  const job = await waitForEnd(world, String(id));
  world.endedJobs.add(job.id);
  if (job.state === 'succeeded') return job;
  throw new Violation(`${path} ${job.state}`, { problem: job.problem });
}

/** Sends again most of what the kill cut off: each has one effect in all. */
async function repeatCutPosts(world: World): Promise<void> {
  const posts = world.cutPosts;
  world.cutPosts = [];
  for (const post of posts) {
    if (!world.random.chance(0.7)) continue;
    const before = await idOf(world, post);
    const { json, key, makes } = post;
    const taken = [makes?.snapshot, ...(makes?.snapshots ?? [])];
    for (const snapshot of taken) {
      if (before === undefined && snapshot !== undefined) snapshot.takenAgain = world.tick();
    }
    const ask = json === undefined ? { key } : { json, key };
    const answer = await world.client.ask('POST', post.path, ask);
    world.count('repeated POST');
    const what = `POST ${post.path} repeated with its key`;
    if (before !== undefined && answer.status >= 300) {
      throw new Violation(`${what}: it was made, but is refused`, { body: answer.body.toString() });
    }
    post.settle(answer);
    if (before === undefined) continue;
    const after = await idOf(world, post);
    const { id } = JSON.parse(answer.body.toString()) as { id: string };
    if (after === before && (id === before || makes?.byJob === true)) continue;
    throw new Violation(`${what} made another one`, { before, after, id });
  }
}

async function idOf(world: World, { makes }: CutPost): Promise<string | undefined> {
  if (makes === undefined) return undefined;
  const found = (await world.client.list(makes.list)).filter(({ name }) => name === makes.name);
  if (found.length > 1) throw new Violation(`there are two ${makes.name}`, { found });
  return found[0]?.id as string | undefined;
}

/** Gives jobs whose POST was cut off their ids; those without never began. */
async function adoptJobs(world: World): Promise<void> {
  const known = new Set([...world.endedJobs, ...world.jobs.map(({ id }) => id)]);
  let token: string | null = null;
  do {
    const next: string = token === null ? '' : `&pageToken=${encodeURIComponent(token)}`;
    const page: Json = await world.client.json('GET', `/jobs?pageSize=100${next}`);
    const jobs = page.items as JobView[];
    const strange = jobs.filter(({ id }) => !known.has(id));
    for (const job of strange) adoptJob(world, job);
    token = strange.length === 0 ? null : (page.nextPageToken as string | null);
  } while (token !== null);
  for (const model of [...world.jobs]) {
    if (model.id === undefined) world.endJob(model, undefined);
  }
}

function adoptJob(world: World, job: JobView): void {
  const model = world.jobs.find(({ id, ...each }) => id === undefined && each.matches(job));
  if (model !== undefined) {
    model.id = job.id;
    return;
  }
  if (isRefusedUpload(job)) return;
  throw new Violation('a job that nobody asked for', { job });
}

/** The answer that refuses an upload does not name its job, which has ended with the reason. */
function isRefusedUpload({ kind, state, subject }: JobView): boolean {
  const fromBody = subject.backup === undefined && subject.copyId === undefined;
  return kind === 'restore' && state === 'failed' && fromBody;
}

async function endJobs(world: World): Promise<void> {
  for (const model of [...world.jobs]) {
    if (model.id === undefined) continue;
    world.endJob(model, await waitForEnd(world, model.id));
  }
  for (const state of ['queued', 'running', 'waiting', 'paused', 'cancelling']) {
    const { items } = await world.client.json('GET', `/jobs?state=${state}`);
    const jobs = items as JobView[];
    if (jobs.length > 0) throw new Violation(`a job is ${state} in the end`, { jobs });
  }
}

/** Lets a job come to its end, or ends what waits for somebody. */
async function waitForEnd(world: World, id: string): Promise<JobView> {
  const deadline = Date.now() + JOBS_MS;
  // what it waits for already is told at once only without a preference
  for (let headers = {}; ; headers = { prefer: 'wait=5' }) {
    const job = (await world.client.json('GET', `/jobs/${id}`, { headers })) as JobView;
    if (job.endedAt !== null) return job;
    if (Date.now() > deadline) throw new Violation('a job does not end', { job });
    if (job.state === 'paused') {
      const verb = world.random.chance(0.7) ? 'resume' : 'cancel';
      await world.client.json('POST', `/jobs/${id}/${verb}`);
    } else if (job.state === 'waiting') {
      if (job.waitingFor?.kind !== 'upload') throw new Violation('a job waits', { job });
      const model = world.jobs.find((each) => each.id === id);
      if (model?.image !== undefined && world.random.chance(0.6)) {
        await continueUpload(world, model, job);
      } else {
        await world.client.json('POST', `/jobs/${id}/cancel`);
      }
    } else if (job.state === 'running' && job.maxBytesPerSecond !== null) {
      const json = { maxBytesPerSecond: null };
      const answer = await world.client.ask('PATCH', `/jobs/${id}`, { json });
      if (answer.status >= 300) world.refused('PATCH of a job', answer, []);
    } else {
      await sleep(20);
    }
  }
}

interface Named {
  id: string | undefined;
  existence: 'sure' | 'maybe';
  readonly names?: Set<string>;
  readonly name: string;
  readonly isDeleting: boolean;
}

/** Matches what is listed with what is known. @returns the models that are there */
function match<M extends Named, V extends { readonly id: string; readonly name: string }>(
  kind: string,
  models: readonly M[],
  views: readonly V[],
  settle: (model: M, view: V) => void,
): M[] {
  const found = new Set<M>();
  for (const view of views) {
    const has = (model: M): boolean => (model.names ?? new Set([model.name])).has(view.name);
    const model =
      models.find(({ id }) => id === view.id) ??
      models.find((each) => each.id === undefined && has(each));
    if (model === undefined) throw new Violation(`a ${kind} that should not be there`, { view });
    if (!has(model)) throw new Violation(`${kind} ${model.name} has another name`, { view });
    if (found.has(model)) throw new Violation(`${kind} ${model.name} is there twice`, { view });
    found.add(model);
    model.id = view.id;
    model.existence = 'sure';
    model.names?.clear();
    model.names?.add(view.name);
    settle(model, view);
  }
  for (const model of models) {
    if (found.has(model) || model.existence === 'maybe' || model.isDeleting) continue;
    throw new Violation(`${kind} ${model.name} is gone`, { id: model.id });
  }
  return models.filter((model) => found.has(model));
}

async function findDisks(world: World): Promise<void> {
  const views = (await world.client.list('/disks')) as unknown as DiskView[];
  world.disks = match('disk', world.disks, views, (disk, view) => {
    const { capacityBytes, state } = view;
    if (disk.capacities.size > 0 && !disk.capacities.has(capacityBytes)) {
      const expected = [...disk.capacities];
      throw new Violation(`disk ${disk.name} has another capacity`, { capacityBytes, expected });
    }
    if (state !== 'ready') throw new Violation(`disk ${disk.name} is ${state}`, { view });
    disk.capacities = new Set([capacityBytes]);
    disk.isDeleting = false;
    disk.isResizing = false;
  });
}

async function findCopies(world: World): Promise<void> {
  const views = (await world.client.list('/copies')) as unknown as CopyView[];
  world.copies = match('copy', world.copies, views, (copy, view) => {
    copy.isDeleting = false;
    const { sourceCapacity } = copy.snapshot;
    if (sourceCapacity !== undefined && sourceCapacity !== view.sourceCapacityBytes) {
      throw new Violation(`copy ${copy.name} has another capacity`, { view, sourceCapacity });
    }
    settleCopy(world, copy, view);
  });
}

async function findBackups(world: World): Promise<void> {
  const views = (await world.client.list('/backups')) as { id: string; name: string }[];
  world.backups = match('backup', world.backups, views, (backup, view) => {
    const { state } = view as unknown as { state: string };
    if (backup.isComplete && !backup.isDeleting && state !== 'complete') {
      throw new Violation(`backup ${backup.name} is ${state}`, { view });
    }
    backup.isDeletedInPart ||= backup.isDeleting && backup.isComplete && state !== 'complete';
    backup.isDeleting = false;
    backup.isComplete = state === 'complete';
    // a scan takes out what is left of a deletion
    if (!backup.isComplete) backup.existence = 'maybe';
  });
}

async function verifyDisk(world: World, disk: DiskModel): Promise<void> {
  const { client, random } = world;
  const like = disk.unread?.like ?? disk.base;
  const path = `/disks/${disk.ref}`;
  const actual = await readFull(client, path, disk.capacity, like, random);
  if (disk.unread === undefined) {
    const isPast = ({ durable }: Write): boolean => durable < END;
    const view = { base: disk.base, writes: disk.writes, isPast, end: END, isLive: false };
    const { mismatch } = examine(view, actual, 0, disk.capacity);
    if (mismatch !== undefined) throw wrongBytes(`disk ${disk.name}`, mismatch);
  } else {
    disk.unread.check(actual, `disk ${disk.name}`);
  }
  disk.settle(actual);
}

/** The image of one copy: the same bytes as ever. */
async function verifyImage(world: World): Promise<void> {
  const copy = world.usableCopy(world.random);
  if (copy === undefined) return;
  const path = `/copies/${copy.ref}`;
  const facts = await world.client.json('GET', path);
  if ((facts.imageBytes as number) > LARGEST_IMAGE) return;
  const image = await world.client.ask('GET', `${path}/image`);
  const digest = createHash('sha256').update(image.body).digest('hex');
  if (image.status !== 200 || image.body.length !== facts.imageBytes) {
    throw new Violation(`${path}/image: ${image.status}`, { length: image.body.length });
  }
  if ((copy.imageDigest ?? digest) !== digest) {
    throw new Violation(`the image of copy ${copy.name} has changed`);
  }
  copy.imageDigest = digest;
}
