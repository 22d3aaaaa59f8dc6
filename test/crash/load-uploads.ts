/** Images of copies sent back over HTTP, at times in two parts. */
import type { JobView } from '../../src/api/views.ts';
import { Lost } from './client.ts';
import type { CopyModel, JobModel, Snapshot } from './model.ts';
import type { Random } from './random.ts';
import {
  beginWriteBack,
  copyRestore,
  type Ending,
  remapRestore,
  writeBackOptions,
} from './restore-models.ts';
import type { World } from './world.ts';

const PIECE = 256 * 1024;
const LARGEST_UPLOAD = 48 * 1024 * 1024;

/** Sends a copy's image back as a disk, a copy, or into a disk. */
export async function upload(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy?.snapshot.content === undefined || world.jobs.length >= world.limits.jobs) return;
  const image = await download(world, copy);
  if (image === undefined) return;
  const started = startUpload(world, random, copy.snapshot);
  if (started === undefined) return;
  const { query, ending } = started;
  const what = `upload ${query}`;
  const model: JobModel = { ...ending, id: undefined, kind: 'restore', what, image };
  world.jobs.push(model);
  world.count('upload');
  const cutAfter = random.chance(0.3) ? random.int(1, image.length) : undefined;
  try {
    const answer = await world.client.ask('POST', `/restores?${query}`, {
      pieces: sliced(image),
      length: image.length,
      ...(cutAfter === undefined ? {} : { cutAfter }),
    });
    if (answer.status < 300) {
      world.endJob(model, JSON.parse(answer.body.toString()) as JobView);
    } else {
      world.refused(model.what, answer, ['NOT_FOUND']);
      // refused before there was a job, or the job has failed or was stopped
      await findUpload(world, model);
    }
  } catch (error) {
    if (!(error instanceof Lost) || world.isDying || cutAfter === undefined) throw error;
    await findUpload(world, model);
  }
}

/** The image of a copy, unless it is large or deleted meanwhile. */
async function download(world: World, copy: CopyModel): Promise<Buffer | undefined> {
  const path = `/copies/${copy.ref}/image`;
  try {
    const size = await world.client.ask('HEAD', path);
    const length = Number(size.headers['content-length']);
    if (size.status !== 200 || length > LARGEST_UPLOAD) return undefined;
    const image = await world.client.ask('GET', path);
    return image.status === 200 ? image.body : undefined;
  } catch (error) {
    if (copy.isDeleting) return undefined;
    throw error;
  }
}

function startUpload(
  world: World,
  random: Random,
  snapshot: Snapshot,
): { query: string; ending: Ending } | undefined {
  const method = random.pick(['copy', 'remap', 'write-back']);
  if (method === 'copy') {
    if (world.copies.length >= world.limits.copies) return undefined;
    const name = world.name('copy');
    return { query: `method=copy&copy=${name}`, ending: copyRestore(world, name, snapshot) };
  }
  if (method === 'remap') {
    if (world.disks.length >= world.limits.disks) return undefined;
    const name = world.name('disk');
    const ending = remapRestore(world, random, name, snapshot);
    return { query: `method=remap&disk=${name}`, ending };
  }
  const disk = world.usableDisk(random);
  if (disk === undefined || disk.restores > 0 || disk.isResizing) return undefined;
  if (disk.capacities.size !== 1) return undefined;
  const options = writeBackOptions(world, random);
  const query = Object.entries(options).map(([key, value]) => `&${key}=${value}`);
  return {
    query: `method=write-back&disk=${disk.ref}${query.join('')}`,
    ending: beginWriteBack(world, random, disk, snapshot, options),
  };
}

function* sliced(bytes: Buffer, from = 0): Generator<Buffer, void, undefined> {
  for (let at = from; at < bytes.length; at += PIECE) {
    yield bytes.subarray(at, at + PIECE);
  }
}

/** Finds the job of a cut upload, and sends the rest. */
async function findUpload(world: World, model: JobModel): Promise<void> {
  const jobs = (await world.client.json('GET', '/jobs?kind=restore')).items as JobView[];
  const job = jobs.find((each) => model.matches(each) && !world.endedJobs.has(each.id));
  if (job === undefined) {
    world.endJob(model, undefined);
    return;
  }
  model.id = job.id;
  if (job.state === 'waiting' && world.random.chance(0.7)) {
    await continueUpload(world, model, job);
  }
}

/** Sends the rest of an upload whose job waits for it. */
export async function continueUpload(world: World, model: JobModel, job: JobView): Promise<void> {
  const { image = Buffer.alloc(0) } = model;
  const from = Number(job.waitingFor?.receivedBytes);
  const range = `bytes ${from}-${image.length - 1}/${image.length}`;
  const answer = await world.client.ask('POST', `/restores?job=${job.id}`, {
    pieces: sliced(image, from),
    length: image.length - from,
    headers: { 'content-range': range },
  });
  world.count('upload continued');
  if (answer.status < 300) world.endJob(model, JSON.parse(answer.body.toString()) as JobView);
  else world.refused(`${model.what} from ${from}`, answer, []);
}
