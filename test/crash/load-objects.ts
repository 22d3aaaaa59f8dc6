/** Disks and copies made, renamed, resized, restored and deleted. */
import type { CopyView, DiskView } from '../../src/api/views.ts';
import { Content } from './content.ts';
import { CopyModel, DiskModel, type JobModel, type Snapshot } from './model.ts';
import type { Random } from './random.ts';
import { readCompact, readFull } from './read-whole.ts';
import { subjectIs, succeeded } from './restore-models.ts';
import type { World } from './world.ts';

const MIB = 1024 * 1024;
const LARGEST = 2 ** 53 - 512;

/** One act of somebody who manages disks and copies. */
export async function actOnObjects(world: World, random: Random): Promise<void> {
  const act = random.weighted([
    [world.disks.length < 3 ? 60 : 6, createDisk],
    [20, freeze],
    [12, readCopy],
    [8, deleteCopy],
    [8, remapCopy],
    [6, resize],
    [6, rename],
    [3, deleteDisk],
    [1, growPool],
  ]);
  await act(world, random);
}

function zonesOf(random: Random, capacity: number): DiskModel['zones'] {
  if (capacity <= 64 * MIB) return [{ from: 0, length: capacity }];
  const length = 4 * MIB;
  const places = [0, capacity - length];
  for (let count = 0; count < 3; count += 1) {
    places.push(Math.floor((random.next() * (capacity - length)) / 512) * 512);
  }
  return places.map((from) => ({ from, length }));
}

export async function createDisk(world: World, random: Random): Promise<void> {
  if (world.disks.length >= world.limits.disks) return;
  const name = world.name('disk');
  const capacity = random.weighted([
    [8, Math.ceil(random.size(64 * 1024, 48 * MIB) / 512) * 512],
    [2, 1024 ** 4],
    [1, LARGEST],
  ]);
  const disk = new DiskModel(name, capacity, new Content(), zonesOf(random, capacity));
  world.disks.push(disk);
  const json = {
    name,
    capacityBytes: capacity,
    pool: random.pick(world.pools) ?? 'default',
    detectZeroes: random.chance(0.8),
  };
  await postDisk(world, '/disks', json, disk, []);
}

/** A POST whose effect is a disk at once. */
async function postDisk(
  world: World,
  path: string,
  json: Readonly<Record<string, unknown>>,
  disk: DiskModel,
  codes: readonly string[],
): Promise<void> {
  const settle = (answer: { status: number; body: Buffer }): void => {
    if (answer.status === 201 || answer.status === 200) {
      const view = JSON.parse(answer.body.toString()) as DiskView;
      disk.id = view.id;
      disk.existence = 'sure';
    } else {
      world.refused(`POST ${path}`, answer, codes);
      world.disks = world.disks.filter((each) => each !== disk);
    }
  };
  world.count('disk');
  await world.post(path, json, settle, { list: '/disks', name: disk.name });
}

async function freeze(world: World, random: Random): Promise<void> {
  const disk = world.usableDisk(random);
  if (disk === undefined || world.copies.length >= world.limits.copies) return;
  const name = world.name('copy');
  const snapshot = disk.snapshot(world.tick());
  const copy = new CopyModel(name, snapshot);
  world.copies.push(copy);
  const path = `/disks/${disk.ref}/copies`;
  const dedicated = dedicatedOptions(random);
  const job = dedicated === undefined ? undefined : copyJob(world, name);
  copy.isDedicated = dedicated !== undefined;
  world.count(dedicated === undefined ? 'freeze' : `freeze ${dedicated.preserve}`);
  await world.post(
    path,
    { name, layout: random.chance(0.5) ? 'compact' : 'full', ...dedicated },
    (answer) => {
      if (answer.status === 201) {
        const view = JSON.parse(answer.body.toString()) as CopyView;
        settleCopy(world, copy, view);
        if (job !== undefined && view.job === null) world.endJob(job, undefined);
        else if (job !== undefined) job.id = view.job ?? undefined;
        return;
      }
      // somebody may have begun to delete it since
      const mayBeGone = disk.isDeleting || !world.disks.includes(disk);
      const codes = mayBeGone ? ['NOT_FOUND', 'POOL_MISMATCH'] : ['POOL_MISMATCH'];
      world.refused(`POST ${path}`, answer, codes);
      world.copies = world.copies.filter((each) => each !== copy);
      if (job !== undefined) world.endJob(job, undefined);
    },
    { list: '/copies', name, snapshot },
  );
}

interface DedicatedOptions {
  readonly placement: 'dedicated';
  readonly pool: string;
  readonly preserve: 'redirect' | 'copy-first';
  readonly onPreserveError: 'fail-write';
  readonly maxBytesPerSecond?: number;
}

/** Half of the copies have blocks of their own, filled at various rates. */
function dedicatedOptions(random: Random): DedicatedOptions | undefined {
  if (random.chance(0.5)) return undefined;
  const pool = random.pick(['apart', 'default', 'fine', 'coarse']) ?? 'apart';
  const preserve = random.chance(0.5) ? 'redirect' : 'copy-first';
  const rate = random.chance(0.5) ? { maxBytesPerSecond: random.size(MIB, 64 * MIB) } : {};
  return { placement: 'dedicated', pool, preserve, onPreserveError: 'fail-write', ...rate };
}

/** The job that fills a dedicated copy, which comes with it. */
function copyJob(world: World, name: string): JobModel {
  const job: JobModel = {
    id: undefined,
    kind: 'copy-data',
    what: `filling of ${name}`,
    matches: (view) => subjectIs(view, 'copy-data', 'copy', name),
    settle: (view) => {
      if (succeeded(view, `filling of ${name}`)) world.count('copy filled');
    },
  };
  world.jobs.push(job);
  return job;
}

/** The copy is there. */
export function settleCopy(
  world: World,
  copy: CopyModel,
  view: Pick<CopyView, 'id' | 'sourceCapacityBytes'>,
): void {
  copy.id = view.id;
  copy.existence = 'sure';
  copy.snapshot.end = Math.min(copy.snapshot.end, world.tick());
  copy.snapshot.sourceCapacity = view.sourceCapacityBytes;
}

async function readCopy(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy !== undefined) await checkCopy(world, random, copy);
}

/** Reads a copy whole, in either view, and compares it. */
export async function checkCopy(world: World, random: Random, copy: CopyModel): Promise<void> {
  const path = `/copies/${copy.ref}`;
  try {
    const facts = await world.client.json('GET', path);
    const { like } = copy.snapshot;
    const content = random.chance(0.5)
      ? await readCompact(world.client, path, facts, like)
      : await readFull(world.client, path, facts.sourceCapacityBytes as number, like, random);
    world.count('copy read');
    copy.snapshot.check(content, `copy ${copy.name}`);
  } catch (error) {
    if (!copy.isDeleting) throw error;
  }
}

async function deleteCopy(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy === undefined || world.copies.length < 3) return;
  copy.isDeleting = true;
  const force = random.chance(0.4);
  const answer = await world.client.ask('DELETE', `/copies/${copy.ref}?force=${force}`);
  world.count('copy deletion');
  if (answer.status === 204) {
    world.copies = world.copies.filter((each) => each !== copy);
    return;
  }
  world.refused('DELETE copy', answer, []);
  copy.isDeleting = false;
}

async function remapCopy(world: World, random: Random): Promise<void> {
  const copy = world.usableCopy(random);
  if (copy === undefined || world.disks.length >= world.limits.disks) return;
  const name = world.name('disk');
  const disk = diskFrom(random, name, copy.snapshot);
  world.disks.push(disk);
  const codes = copy.isDeleting ? ['NOT_FOUND'] : [];
  // of one that is being filled a restore is a job
  if (copy.isDedicated || random.chance(0.5)) {
    await postDisk(world, '/disks', { name, fromCopy: copy.ref }, disk, [...codes, 'NOT_FOUND']);
  } else {
    const json = { method: 'remap', disk: name };
    await postDisk(world, `/copies/${copy.ref}/restores`, json, disk, [...codes, 'NOT_FOUND']);
  }
}

/** A disk that holds what a snapshot shows. */
export function diskFrom(random: Random, name: string, snapshot: Snapshot): DiskModel {
  const capacity = snapshot.sourceCapacity ?? 0;
  const zones = zonesOf(random, capacity);
  const disk = new DiskModel(name, capacity, snapshot.content ?? new Content(), zones);
  if (snapshot.sourceCapacity === undefined) disk.capacities.clear();
  if (snapshot.content === undefined) disk.unread = snapshot;
  return disk;
}

async function resize(world: World, random: Random): Promise<void> {
  const disk = world.usableDisk(random);
  if (disk === undefined || disk.isResizing || disk.isQuiet || disk.restores > 0) return;
  if (disk.capacities.size !== 1) return;
  const old = disk.capacity;
  const factor = random.chance(0.6) ? 1 + random.next() : 0.3 + 0.7 * random.next();
  const wanted = Math.min(LARGEST, Math.max(512, Math.round((old * factor) / 512) * 512));
  if (wanted > 64 * MIB && old <= 64 * MIB) return;
  disk.isResizing = true;
  disk.resizes += 1;
  disk.capacities.add(wanted);
  const write =
    wanted < old
      ? world.beginWrite(disk, { from: wanted, to: LARGEST, number: 0, what: 'shrink' })
      : undefined;
  const json = { capacityBytes: wanted, discard: true };
  const answer = await world.client.ask('PATCH', `/disks/${disk.ref}`, { json });
  world.count(wanted < old ? 'shrink' : 'grow');
  disk.isResizing = false;
  disk.resizes += 1;
  if (answer.status === 200) {
    disk.capacities = new Set([wanted]);
    if (write !== undefined) world.endWrite(write, 'durable');
    return;
  }
  world.refused('PATCH disk', answer, disk.isDeleting ? ['NOT_FOUND'] : []);
  disk.capacities = new Set([old]);
  // what lies beyond may be gone already
  if (write !== undefined) world.endWrite(write, 'unsure');
}

async function rename(world: World, random: Random): Promise<void> {
  const thing = random.chance(0.5) ? world.usableDisk(random) : world.usableCopy(random);
  // one that is known by its name alone would be lost to whoever uses it just then
  if (thing?.id === undefined || thing.names.size !== 1) return;
  const isDisk = thing instanceof DiskModel;
  const old = thing.name;
  const name = world.name(isDisk ? 'disk' : 'copy');
  thing.names.add(name);
  const path = `/${isDisk ? 'disks' : 'copies'}/${thing.ref}`;
  const answer = await world.client.ask('PATCH', path, { json: { name } });
  world.count('rename');
  if (answer.status === 200) {
    thing.names.delete(old);
    return;
  }
  world.refused('PATCH name', answer, thing.isDeleting ? ['NOT_FOUND'] : []);
  thing.names.delete(name);
}

async function deleteDisk(world: World, random: Random): Promise<void> {
  const disk = world.usableDisk(random);
  if (disk === undefined || world.disks.length < 4) return;
  disk.isDeleting = true;
  const force = random.chance(0.6);
  const answer = await world.client.ask('DELETE', `/disks/${disk.ref}?force=${force}`);
  world.count('disk deletion');
  if (answer.status === 204) {
    world.disks = world.disks.filter((each) => each !== disk);
    return;
  }
  world.refused('DELETE disk', answer, []);
  disk.isDeleting = false;
}

async function growPool(world: World, random: Random): Promise<void> {
  const pool = await world.client.json('GET', '/pools/default');
  const files = pool.files as { path: string; sizeBytes: number }[];
  if ((pool.capacityBytes as number) > 700 * MIB) return;
  const grown = files.map(({ path, sizeBytes }) => ({ path, sizeBytes: sizeBytes + 16 * MIB }));
  if (random.chance(0.3)) {
    grown.push({ path: `${world.name('more')}.pool`, sizeBytes: 16 * MIB });
  }
  await world.client.json('PATCH', '/pools/default', { json: { files: grown } });
  world.count('pool growth');
}
