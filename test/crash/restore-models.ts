/** What restores are to the models: begun with their request, settled by the end of their job. */
import type { JobView } from '../../src/api/views.ts';
import { END, type Write } from './history.ts';
import { diskFrom } from './load-objects.ts';
import { CopyModel, type DiskModel, type JobModel, type Snapshot } from './model.ts';
import type { Random } from './random.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

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

/** @throws Violation if a job ended as none may */
export function succeeded(job: JobView | undefined, what: string): boolean {
  if (job === undefined || job.state === 'cancelled') return false;
  if (job.state === 'succeeded') return true;
  const code = String(job.problem?.code);
  if (!fairProblems.has(code)) throw new Violation(`job failed: ${what}`, { job });
  return false;
}

export function subjectIs(job: JobView, kind: string, field: string, value: string): boolean {
  return job.kind === kind && job.subject[field] === value;
}

export type Ending = Pick<JobModel, 'matches' | 'settle'>;

export function copyRestore(world: World, name: string, snapshot: Snapshot): Ending {
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

export function remapRestore(
  world: World,
  random: Random,
  name: string,
  snapshot: Snapshot,
): Ending {
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

/** The write that a write-back is, and what its end means to the disk. */
export function beginWriteBack(
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
  safety.byJob = true;
  if (copy !== undefined) world.copies.push(copy);
  const before = new Set(disk.capacities);
  const grown = Math.max(disk.capacity, sourceCapacity ?? 0);
  disk.capacities.add(grown);
  disk.restores += 1;
  disk.resizes += 1;
  disk.isQuiet = random.chance(0.6);
  const { ref } = disk;
  return {
    matches: (job) =>
      job.kind === 'restore' &&
      job.subject.method === 'write-back' &&
      // one that was asked for during a rename has either name
      (disk.id === undefined
        ? disk.names.has(String(job.subject.disk))
        : job.subject.diskId === disk.id),
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
      safety.byJob = false;
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

export function writeBackOptions(
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
