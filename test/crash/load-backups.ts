/** Targets, backups, restores of each method, uploads, and what is done to jobs. */
import type { JobView } from '../../src/api/views.ts';
import { Lost } from './client.ts';
import { type Write, END } from './history.ts';
import { diskFrom } from './load-objects.ts';
import { BackupModel, CopyModel, type DiskModel, type Snapshot } from './model.ts';
import type { Random } from './random.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const MIB = 1024 * 1024;
const LARGEST_UPLOAD = 48 * MIB;

/** Ends of jobs that are nobody's fault: room, or something deleted meanwhile. */
const fairProblems = new Set([
  'POOL_FULL',
  'NOT_FOUND',
  'NAME_TAKEN',
  'DISK_IN_USE',
  'DISK_FENCED',
  'CANCELLED',
  'BODY_TRUNCATED',
  'BACKUP_INCOMPLETE',
]);

/** One act of somebody who backs up and restores. */
export async function actOnBackups(world: World, random: Random): Promise<void> {
  if (world.targets.length === 0) return;
  const act = random.weighted([
    [16, backUp],
    [12, restore],
    [10, writeBackCopy],
    [8, upload],
    [3, verify],
    [2, scan],
    [2, check],
    [4, deleteBackup],
    [12, changeJob],
    [16, lookAtJobs],
  ]);
  await act(world, random);
}

export async function createTarget(world: World): Promise<void> {
  const name = world.name('target');
  await world.client.json('POST', '/targets', { json: { name, kind: 'directory', path: name } });
  world.targets.push(name);
}

function hasRoomForJob(world: World): boolean {
  return world.jobs.length < world.limits.jobs;
}

function rate(random: Random): { maxBytesPerSecond?: number } {
  return random.chance(0.4) ? { maxBytesPerSecond: random.size(2 * MIB, 32 * MIB) } : {};
}

/** @throws Violation if a job ended as none may */
export function succeeded(job: JobView | undefined, what: string): boolean {
  if (job === undefined || job.state === 'cancelled') return false;
  if (job.state === 'succeeded') return true;
  const code = String(job.problem?.code);
  if (!fairProblems.has(code)) throw new Violation(`job failed: ${what}`, { job });
  return false;
}

function subjectIs(job: JobView, kind: string, field: string, value: string): boolean {
  return job.kind === kind && job.subject[field] === value;
}

async function backUp(world: World, random: Random): Promise<void> {
  if (!hasRoomForJob(world) || world.backups.length >= world.limits.backups) return;
  const copy = random.chance(0.7) ? world.usableCopy(random) : undefined;
  const disk = copy === undefined ? world.usableDisk(random) : undefined;
  if (copy === undefined && disk === undefined) return;
  const snapshot = copy?.snapshot ?? disk?.snapshot(world.tick());
  if (snapshot === undefined) return;
  const name = world.name('backup');
  const backup = new BackupModel(name, snapshot);
  world.backups.push(backup);
  const source = copy === undefined ? { disk: disk?.ref } : { copy: copy.ref };
  world.count('backup');
  const json = { name, ...source, target: random.pick(world.targets), ...rate(random) };
  const job = {
    kind: 'backup',
    matches: (each: JobView) => subjectIs(each, 'backup', 'backup', name),
    settle: (each: JobView | undefined) => {
      if (each === undefined) world.backups = world.backups.filter((one) => one !== backup);
      else if (succeeded(each, `backup ${name}`)) {
        backup.existence = 'sure';
        backup.isComplete = true;
        backup.id = String(each.result?.backupId);
      }
    },
  };
  const frozen = copy === undefined ? { snapshot } : {};
  const makes = { list: '/backups', name, byJob: true, ...frozen };
  await world.postJob('/backups', json, job, ['NOT_FOUND'], makes);
  if (copy === undefined) snapshot.end = Math.min(snapshot.end, world.tick());
}

async function restore(world: World, random: Random): Promise<void> {
  const backup = random.pick(world.backups.filter((each) => each.isUsable));
  if (backup === undefined || !hasRoomForJob(world)) return;
  const path = `/backups/${backup.name}/restores`;
  const codes = backup.isDeleting ? ['NOT_FOUND'] : [];
  if (random.chance(0.3)) {
    await writeBack(world, random, path, backup.snapshot, codes);
  } else if (random.chance(0.5) && world.copies.length < world.limits.copies) {
    const name = world.name('copy');
    const { matches, settle } = copyRestore(world, name, backup.snapshot);
    const json = { method: 'copy', copy: name, ...rate(random) };
    world.count('restore copy');
    await world.postJob(path, json, { kind: 'restore', matches, settle }, codes);
  } else if (world.disks.length < world.limits.disks) {
    const name = world.name('disk');
    const { matches, settle } = remapRestore(world, random, name, backup.snapshot);
    const pool = random.pick(world.pools);
    const json = { method: 'remap', disk: name, pool, ...rate(random) };
    world.count('restore remap');
    await world.postJob(path, json, { kind: 'restore', matches, settle }, codes);
  }
}

interface Ending {
  matches(job: JobView): boolean;
  settle(job: JobView | undefined): void;
}

function copyRestore(world: World, name: string, snapshot: Snapshot): Ending {
  const copy = new CopyModel(name, snapshot);
  world.copies.push(copy);
  return {
    matches: (job) => subjectIs(job, 'restore', 'copy', name),
    settle: (job) => {
      if (succeeded(job, `restore copy ${name}`)) {
        copy.existence = 'sure';
        copy.id = String(job?.result?.copyId);
      } else world.copies = world.copies.filter((each) => each !== copy);
    },
  };
}

function remapRestore(world: World, random: Random, name: string, snapshot: Snapshot): Ending {
  const disk = diskFrom(random, name, snapshot);
  world.disks.push(disk);
  return {
    matches: (job) => subjectIs(job, 'restore', 'disk', name),
    settle: (job) => {
      if (succeeded(job, `restore remap ${name}`)) {
        disk.existence = 'sure';
        disk.id = String(job?.result?.diskId);
      } else world.disks = world.disks.filter((each) => each !== disk);
    },
  };
}

async function writeBackCopy(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy === undefined || !hasRoomForJob(world)) return;
  await writeBack(world, random, `/copies/${copy.ref}/restores`, copy.snapshot, [
    'NOT_FOUND',
    'POOL_MISMATCH',
  ]);
}

/** The write that a write-back is, and what its end means to the disk. */
function beginWriteBack(
  world: World,
  random: Random,
  disk: DiskModel,
  snapshot: Snapshot,
  options: { readonly safetyCopy?: string; readonly keepPartial?: boolean },
): Ending {
  const { content, sourceCapacity } = snapshot;
  if (content === undefined) throw new Error('a write-back of something not read');
  const write = world.beginWrite(disk, { from: 0, to: END, number: -1, content, what: 'restore' });
  const safety = disk.snapshot(write.begin, write);
  const copy =
    options.safetyCopy === undefined ? undefined : new CopyModel(options.safetyCopy, safety);
  if (copy !== undefined) world.copies.push(copy);
  const before = new Set(disk.capacities);
  const grown = Math.max(disk.capacity, sourceCapacity ?? 0);
  disk.capacities.add(grown);
  disk.restores += 1;
  disk.resizes += 1;
  disk.isQuiet = random.chance(0.6);
  const { ref, id } = disk;
  return {
    matches: (job) =>
      job.kind === 'restore' &&
      job.subject.method === 'write-back' &&
      (job.subject.disk === ref ||
        job.subject.disk === id ||
        disk.names.has(String(job.subject.disk))),
    settle: (job) => {
      disk.restores -= 1;
      disk.resizes += 1;
      disk.isQuiet = false;
      const isDone = succeeded(job, `write-back to ${ref}`);
      endRestoreWrite(world, disk, write, { isDone, keepPartial: options.keepPartial === true });
      if (isDone) disk.capacities = new Set([grown]);
      else if (options.keepPartial !== true) disk.capacities = before;
      if (copy === undefined) return;
      safety.end = world.tick();
      if (isDone) copy.existence = 'sure';
      else world.copies = world.copies.filter((each) => each !== copy);
    },
  };
}

function endRestoreWrite(
  world: World,
  disk: DiskModel,
  write: Write,
  { isDone, keepPartial }: { readonly isDone: boolean; readonly keepPartial: boolean },
): void {
  world.endWrite(write, isDone ? 'durable' : keepPartial ? 'unsure' : 'void');
  if (isDone || !keepPartial) return;
  // what it had not come to reads as zeros
  const zeros = world.beginWrite(disk, { from: 0, to: END, number: 0, what: 'part restore' });
  world.endWrite(zeros, 'unsure');
}

async function writeBack(
  world: World,
  random: Random,
  path: string,
  snapshot: Snapshot,
  codes: readonly string[],
): Promise<void> {
  const disk = world.usableDisk(random);
  if (disk === undefined || snapshot.content === undefined || disk.restores > 0) return;
  if (disk.isResizing || disk.capacities.size !== 1) return;
  const options = writeBackOptions(world, random);
  const ending = beginWriteBack(world, random, disk, snapshot, options);
  const json = {
    method: 'write-back',
    disk: disk.ref,
    ...options,
    ...(path.startsWith('/backups') ? rate(random) : {}),
  };
  world.count('write-back');
  const more = disk.isDeleting ? ['NOT_FOUND'] : [];
  await world.postJob(path, json, { kind: 'restore', ...ending }, [...codes, ...more]);
}

function writeBackOptions(
  world: World,
  random: Random,
): { safetyCopy?: string; keepPartial?: boolean; force?: boolean; onlyDiffering?: boolean } {
  const isCopyWanted = random.chance(0.3) && world.copies.length < world.limits.copies;
  return {
    ...(isCopyWanted ? { safetyCopy: world.name('copy') } : {}),
    ...(random.chance(0.1) ? { keepPartial: true } : {}),
    ...(random.chance(0.6) ? { force: true } : {}),
    ...(random.chance(0.4) ? { onlyDiffering: true } : {}),
  };
}

/** Sends a copy's image back as a disk, a copy, or into a disk. */
async function upload(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy?.snapshot.content === undefined || !hasRoomForJob(world)) return;
  const { client } = world;
  const size = await client.ask('HEAD', `/copies/${copy.ref}/image`);
  if (size.status !== 200 || Number(size.headers['content-length']) > LARGEST_UPLOAD) return;
  const image = await client.ask('GET', `/copies/${copy.ref}/image`);
  if (image.status !== 200) return;
  const started = startUpload(world, random, copy.snapshot);
  if (started === undefined) return;
  const { query, ending } = started;
  const model = { ...ending, id: undefined, kind: 'restore', what: `upload ${query}` };
  world.jobs.push(model);
  world.count('upload');
  const cutAfter = random.chance(0.3) ? random.int(1, image.body.length) : undefined;
  try {
    const answer = await client.ask('POST', `/restores?${query}`, {
      pieces: sliced(image.body),
      length: image.body.length,
      ...(cutAfter === undefined ? {} : { cutAfter }),
    });
    if (answer.status < 300) {
      world.endJob(model, JSON.parse(answer.body.toString()) as JobView);
    } else {
      world.refused(model.what, answer, ['NOT_FOUND']);
      // a refusal of the whole, or a job that has failed or was cancelled
      const { job } = JSON.parse(answer.body.toString()) as { job?: string };
      if (job === undefined) world.endJob(model, undefined);
      else Object.assign(model, { id: job });
    }
  } catch (error) {
    if (!(error instanceof Lost) || world.isDying || cutAfter === undefined) throw error;
    await continueUpload(world, model, image.body);
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
  for (let at = from; at < bytes.length; at += 256 * 1024)
    yield bytes.subarray(at, at + 256 * 1024);
}

/** Finds the job of a cut upload and sends the rest. */
async function continueUpload(
  world: World,
  model: World['jobs'][number],
  image: Buffer,
): Promise<void> {
  const jobs = (await world.client.json('GET', '/jobs?kind=restore')).items as JobView[];
  const job = jobs.find((each) => model.matches(each) && !world.endedJobs.has(each.id));
  if (job === undefined) return world.endJob(model, undefined);
  model.id = job.id;
  if (job.state !== 'waiting' || world.random.chance(0.3)) return;
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

async function verify(world: World, random: Random): Promise<void> {
  const backup = random.pick(world.backups.filter((each) => each.isUsable));
  if (backup === undefined || !hasRoomForJob(world)) return;
  world.count('verify');
  const codes = backup.isDeleting ? ['NOT_FOUND'] : [];
  await world.postJob(`/backups/${backup.name}/verify`, undefined, plainJob('verify'), codes);
}

async function scan(world: World, random: Random): Promise<void> {
  if (!hasRoomForJob(world)) return;
  world.count('scan');
  await world.postJob(
    `/targets/${random.pick(world.targets)}/scan`,
    undefined,
    plainJob('scan'),
    [],
  );
}

async function check(world: World): Promise<void> {
  if (!hasRoomForJob(world)) return;
  world.count('check');
  await world.postJob('/checks', undefined, plainJob('check'), []);
}

/** A job that makes nothing. */
function plainJob(kind: string): Ending & { kind: string } {
  return {
    kind,
    matches: (job) => job.kind === kind,
    settle: (job) => {
      if (!succeeded(job, kind) || kind !== 'check') return;
      if ((job?.result?.findings as unknown[]).length > 0) {
        throw new Violation('a check found something', { job });
      }
    },
  };
}

async function deleteBackup(world: World, random: Random): Promise<void> {
  const backup = random.pick(world.backups.filter((each) => each.isUsable));
  if (backup === undefined) return;
  backup.isDeleting = true;
  const force = random.chance(0.5);
  const answer = await world.client.ask('DELETE', `/backups/${backup.name}?force=${force}`);
  world.count('backup deletion');
  if (answer.status === 204) {
    world.backups = world.backups.filter((each) => each !== backup);
    return;
  }
  world.refused('DELETE backup', answer, []);
  backup.isDeleting = false;
}

async function changeJob(world: World, random: Random): Promise<void> {
  const job = random.pick(world.jobs.filter(({ id }) => id !== undefined));
  if (job?.id === undefined) return;
  const verb = random.pick(['cancel', 'pause', 'resume', 'resume', 'rate']) ?? 'resume';
  world.count(verb);
  const answer =
    verb === 'rate'
      ? await world.client.ask('PATCH', `/jobs/${job.id}`, { json: { maxBytesPerSecond: null } })
      : await world.client.ask('POST', `/jobs/${job.id}/${verb}`);
  if (answer.status >= 300) world.refused(`${verb} of a job`, answer, []);
}

/** Learns which jobs have ended. */
export async function lookAtJobs(world: World): Promise<void> {
  for (const model of [...world.jobs]) {
    if (model.id === undefined) continue;
    const job = (await world.client.json('GET', `/jobs/${model.id}`)) as JobView;
    if (job.endedAt !== null) world.endJob(model, job);
  }
}
