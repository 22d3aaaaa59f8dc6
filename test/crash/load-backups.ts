/** Targets, backups, restores of each method, uploads, and what is done to jobs. */
import type { JobView } from '../../src/api/views.ts';
import { upload } from './load-uploads.ts';
import { BackupModel, type Snapshot } from './model.ts';
import type { Random } from './random.ts';
import {
  beginWriteBack,
  copyRestore,
  type Ending,
  remapRestore,
  subjectIs,
  succeeded,
  writeBackOptions,
} from './restore-models.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const MIB = 1024 * 1024;

/** One act of somebody who backs up and restores. */
export async function actOnBackups(world: World, random: Random): Promise<void> {
  if (world.targets.length === 0) return;
  const act = random.weighted([
    [18, backUp],
    [4, consolidate],
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

async function backUp(world: World, random: Random): Promise<void> {
  if (!hasRoomForJob(world) || world.backups.length >= world.limits.backups) return;
  // of a disk that has one already, so that there is something to build on
  const before = random.pick(world.backups.map((backup) => backup.disk));
  const again = random.chance(0.6) && before?.isUsable === true ? before : undefined;
  const copy = again === undefined && random.chance(0.6) ? world.usableCopy(random) : undefined;
  const disk = copy === undefined ? (again ?? world.usableDisk(random)) : undefined;
  if (copy === undefined && disk === undefined) return;
  const snapshot = copy?.snapshot ?? disk?.snapshot(world.tick());
  if (snapshot === undefined) return;
  const name = world.name('backup');
  const backup = new BackupModel(name, snapshot, disk);
  world.backups.push(backup);
  const source = copy === undefined ? { disk: disk?.ref } : { copy: copy.ref };
  world.count('backup');
  const level = levelOf(world, random);
  const json = { name, ...source, target: random.pick(world.targets), ...level, ...rate(random) };
  const frozen = copy === undefined ? { snapshot } : {};
  const makes = { list: '/backups', name, byJob: true, ...frozen };
  const codes = ['NOT_FOUND', 'BASE_MISSING'];
  try {
    await world.postJob('/backups', json, backupJob(world, backup, 'backup'), codes, makes);
  } finally {
    // it may have been frozen before a resize meanwhile, or behind it
    const isSame = disk?.capacities.size === 1 && disk.capacity === snapshot.sourceCapacity;
    if (disk !== undefined && !isSame) snapshot.sourceCapacity = undefined;
  }
  if (copy === undefined) snapshot.end = Math.min(snapshot.end, world.tick());
}

function levelOf(world: World, random: Random): Readonly<Record<string, string>> {
  if (random.chance(0.35)) return {};
  world.count('incremental');
  return { level: 'incremental', onMissingBase: random.chance(0.8) ? 'full' : 'fail' };
}

/** A job that makes a backup. */
function backupJob(world: World, backup: BackupModel, kind: string): Ending & { kind: string } {
  const { name } = backup;
  return {
    kind,
    matches: (job) => subjectIs(job, kind, 'backup', name),
    settle: (job) => {
      if (job === undefined) world.backups = world.backups.filter((one) => one !== backup);
      else if (succeeded(job, `${kind} ${name}`)) {
        backup.made(String(job.result?.backupId));
        world.count(`${kind} made, ${String(job.result?.level)}`);
      }
    },
  };
}

async function consolidate(world: World, random: Random): Promise<void> {
  const from = random.pick(world.backups.filter((each) => each.isUsable));
  if (from === undefined || !hasRoomForJob(world)) return;
  if (world.backups.length >= world.limits.backups) return;
  const name = world.name('backup');
  const backup = new BackupModel(name, from.snapshot, from.disk);
  world.backups.push(backup);
  world.count('consolidate');
  const path = `/backups/${from.name}/consolidate`;
  const codes = ['NOT_FOUND']; // another may be deleting it
  const makes = { list: '/backups', name, byJob: true };
  const job = backupJob(world, backup, 'consolidate');
  await world.postJob(path, { name, ...rate(random) }, job, codes, makes);
}

async function restore(world: World, random: Random): Promise<void> {
  const backup = random.pick(world.backups.filter((each) => each.isUsable));
  if (backup === undefined || !hasRoomForJob(world)) return;
  const path = `/backups/${backup.name}/restores`;
  const codes = ['NOT_FOUND']; // another may be deleting it
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

async function writeBackCopy(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy === undefined || !hasRoomForJob(world)) return;
  await writeBack(world, random, `/copies/${copy.ref}/restores`, copy.snapshot, [
    'NOT_FOUND',
    'POOL_MISMATCH',
  ]);
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
  // somebody may begin to delete the disk before this one is there
  await world.postJob(path, json, { kind: 'restore', ...ending }, [...codes, 'NOT_FOUND']);
}

async function verify(world: World, random: Random): Promise<void> {
  const backup = random.pick(world.backups.filter((each) => each.isUsable));
  if (backup === undefined || !hasRoomForJob(world)) return;
  world.count('verify');
  const codes = ['NOT_FOUND']; // another may be deleting it
  await world.postJob(`/backups/${backup.name}/verify`, undefined, plainJob('verify'), codes);
}

async function scan(world: World, random: Random): Promise<void> {
  if (!hasRoomForJob(world)) return;
  world.count('scan');
  const target = random.pick(world.targets) ?? '';
  await world.postJob(`/targets/${target}/scan`, undefined, plainJob('scan'), []);
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
  const idle = world.backups.filter(({ id, isDeleting }) => id !== undefined && !isDeleting);
  const backup = random.pick(idle);
  // a cascade may take along any, also those that are made while it goes on
  if (backup === undefined || world.isCascading) return;
  const cascade = random.chance(0.4);
  if (cascade) await deleteCascading(world, random, backup);
  else await deleteAlone(world, random, backup);
}

async function deleteAlone(world: World, random: Random, backup: BackupModel): Promise<void> {
  backup.isDeleting = true;
  await askToDelete(world, random, backup, false);
  backup.isDeleting = false;
}

async function deleteCascading(world: World, random: Random, backup: BackupModel): Promise<void> {
  world.isCascading = true;
  const idle = world.backups.filter(({ isDeleting }) => !isDeleting);
  for (const each of idle) each.isDeleting = true;
  await askToDelete(world, random, backup, true);
  for (const each of world.backups) each.metCascade ||= each.id === undefined;
  const views = await world.client.list('/backups');
  const there = new Set(views.map(({ id }) => id));
  world.backups = world.backups.filter(({ id }) => id === undefined || there.has(id));
  for (const each of idle) each.isDeleting = false;
  world.isCascading = false;
}

async function askToDelete(
  world: World,
  random: Random,
  backup: BackupModel,
  cascade: boolean,
): Promise<void> {
  const query = `force=${random.chance(0.5)}&cascade=${cascade}`;
  const answer = await world.client.ask('DELETE', `/backups/${backup.name}?${query}`);
  world.count(cascade ? 'backup cascade' : 'backup deletion');
  if (answer.status === 204) {
    world.backups = world.backups.filter((each) => each !== backup);
    return;
  }
  const gone = backup.existence === 'sure' ? [] : ['NOT_FOUND'];
  world.refused('DELETE backup', answer, [...gone, ...(cascade ? [] : ['BACKUP_NEEDED'])]);
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
