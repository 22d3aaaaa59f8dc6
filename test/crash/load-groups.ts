/** Groups of copies: frozen, backed up and restored as a unit, and deleted. */
import type { CopyView, DiskView } from '../../src/api/views.ts';
import { diskFrom, settleCopy } from './load-objects.ts';
import { BackupModel, CopyModel, type DiskModel, GroupBackupModel, GroupModel } from './model.ts';
import type { Random } from './random.ts';
import { subjectIs, succeeded } from './restore-models.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const MIB = 1024 * 1024;

interface GroupView {
  readonly id: string;
  readonly copies: readonly Pick<CopyView, 'id' | 'name' | 'diskName' | 'sourceCapacityBytes'>[];
}

/** One act of somebody who keeps several disks together. */
export async function actOnGroups(world: World, random: Random): Promise<void> {
  if (world.targets.length === 0) return;
  const act = random.weighted([
    [14, freezeGroup],
    [8, backUpGroup],
    [5, remapGroup],
    [5, restoreGroupBackup],
    [5, deleteGroup],
  ]);
  await act(world, random);
}

async function freezeGroup(world: World, random: Random): Promise<void> {
  const disks = severalDisks(world, random);
  if (disks.length < 2 || world.groups.length >= world.limits.groups) return;
  if (world.copies.length + disks.length > world.limits.copies + 4) return;
  const name = world.name('group');
  const begin = world.tick();
  const copies = disks.map((disk) => new CopyModel(world.name('copy'), disk.snapshot(begin)));
  const group = new GroupModel(name, copies);
  world.groups.push(group);
  world.copies.push(...copies);
  world.count('group freeze');
  const asked = disks.map(({ ref }, index) => ({ disk: ref, copy: copies[index]?.name ?? '' }));
  await world.post(
    '/groups',
    { name, disks: asked },
    (answer) => {
      if (answer.status === 201) {
        settleGroup(world, group, JSON.parse(answer.body.toString()) as GroupView);
        return;
      }
      const isGoing = disks.some(({ isDeleting }) => isDeleting);
      world.refused('POST /groups', answer, isGoing ? ['NOT_FOUND'] : []);
      world.groups = world.groups.filter((each) => each !== group);
      world.copies = world.copies.filter((each) => !copies.includes(each));
    },
    { list: '/groups', name, snapshots: copies.map(({ snapshot }) => snapshot) },
  );
}

function severalDisks(world: World, random: Random): DiskModel[] {
  const usable = world.disks.filter((disk) => disk.isUsable);
  const disks = new Set<DiskModel>();
  for (let count = random.int(2, 3); count > 0; count -= 1) {
    const disk = random.pick(usable);
    if (disk !== undefined) disks.add(disk);
  }
  return [...disks];
}

/** The group is there, with all its copies. */
function settleGroup(world: World, group: GroupModel, view: GroupView): void {
  group.id = view.id;
  group.existence = 'sure';
  group.diskNames = view.copies.map(({ diskName }) => diskName);
  for (const [index, copy] of group.copies.entries()) {
    const shown = view.copies[index];
    if (shown === undefined) throw new Violation(`group ${group.name} lacks copies`, { view });
    if (copy.id === undefined) settleCopy(world, copy, shown);
  }
}

/** One that is whole, and of which nothing is going. */
function wholeGroup(world: World, random: Random): GroupModel | undefined {
  const isWhole = ({ existence, isDeleting, copies, diskNames }: GroupModel): boolean =>
    existence === 'sure' &&
    !isDeleting &&
    diskNames.length > 0 &&
    copies.every((copy) => copy.isUsable && world.copies.includes(copy));
  return random.pick(world.groups.filter(isWhole));
}

async function deleteGroup(world: World, random: Random): Promise<void> {
  const idle = world.groups.filter(({ existence, isDeleting, copies }) => {
    const isGoing = copies.some((copy) => copy.isDeleting);
    return existence === 'sure' && !isDeleting && !isGoing;
  });
  const group = random.pick(idle);
  if (group === undefined || world.groups.length < 2) return;
  group.isDeleting = true;
  const left = group.copies.filter((copy) => world.copies.includes(copy));
  for (const copy of left) copy.isDeleting = true;
  const force = random.chance(0.5);
  const answer = await world.client.ask('DELETE', `/groups/${group.ref}?force=${force}`);
  world.count('group deletion');
  if (answer.status === 204) {
    world.groups = world.groups.filter((each) => each !== group);
    world.copies = world.copies.filter((each) => !left.includes(each));
    return;
  }
  world.refused('DELETE group', answer, []);
  group.isDeleting = false;
  for (const copy of left) copy.isDeleting = false;
}

async function backUpGroup(world: World, random: Random): Promise<void> {
  const group = wholeGroup(world, random);
  if (group === undefined || world.jobs.length >= world.limits.jobs) return;
  if (world.backups.length + group.copies.length > world.limits.backups + 3) return;
  const name = world.name('set');
  const backups = group.copies.map(({ snapshot }, index) => {
    return new BackupModel(`${name}-${group.diskNames[index] ?? ''}`, snapshot);
  });
  const set = new GroupBackupModel(name, backups, group.diskNames);
  world.groupBackups.push(set);
  world.backups.push(...backups);
  world.count('group backup');
  const level = random.chance(0.4) ? { level: 'incremental', onMissingBase: 'full' } : {};
  const json = { name, target: random.pick(world.targets), ...level, ...rate(random) };
  await world.postJob(
    `/groups/${group.ref}/backups`,
    json,
    {
      kind: 'group-backup',
      matches: (job) => subjectIs(job, 'group-backup', 'groupBackup', name),
      settle: (job) => {
        if (job === undefined) world.forgetGroupBackup(set);
        else if (succeeded(job, `group backup ${name}`)) settleGroupBackup(set, job.result);
      },
    },
    ['NOT_FOUND'],
  );
}

function settleGroupBackup(set: GroupBackupModel, result: unknown): void {
  const made = (result as { backups: { backup: string; backupId: string }[] }).backups;
  for (const backup of set.backups) {
    backup.made(made.find((each) => each.backup === backup.name)?.backupId);
  }
}

function rate(random: Random): { maxBytesPerSecond?: number } {
  return random.chance(0.4) ? { maxBytesPerSecond: random.size(2 * MIB, 32 * MIB) } : {};
}

/** New disks on the copies of a group: all at once. */
async function remapGroup(world: World, random: Random): Promise<void> {
  const group = wholeGroup(world, random);
  if (group === undefined) return;
  if (world.disks.length + group.copies.length > world.limits.disks + 2) return;
  const disks = group.copies.map(({ snapshot }) => diskFrom(random, world.name('disk'), snapshot));
  world.disks.push(...disks);
  world.newTogether.push(disks);
  world.count('group remap');
  const names = disks.map(({ name }) => name);
  const to = group.diskNames.map((disk, index) => ({ disk, to: names[index] ?? '' }));
  const path = `/groups/${group.ref}/restores`;
  await world.post(
    path,
    { method: 'remap', disks: to },
    (answer) => {
      if (answer.status !== 201) {
        world.refused(`POST ${path}`, answer, ['NOT_FOUND']);
        world.disks = world.disks.filter((each) => !disks.includes(each));
        return;
      }
      const made = (JSON.parse(answer.body.toString()) as { disks: DiskView[] }).disks;
      for (const disk of disks) {
        disk.id = made.find(({ name }) => disk.names.has(name))?.id;
        disk.existence = 'sure';
      }
    },
    // repeated with its key it answers the disks, not one thing with an id
    { list: '/disks', name: names[0] ?? '', byJob: true },
  );
}

/** A job that makes new disks from all backups of a group. */
async function restoreGroupBackup(world: World, random: Random): Promise<void> {
  const whole = world.groupBackups.filter(({ backups }) =>
    backups.every((backup) => backup.isUsable && world.backups.includes(backup)),
  );
  const set = random.pick(whole);
  if (set === undefined || world.jobs.length >= world.limits.jobs) return;
  if (world.disks.length + set.backups.length > world.limits.disks + 2) return;
  const disks = set.backups.map(({ snapshot }) => diskFrom(random, world.name('disk'), snapshot));
  world.disks.push(...disks);
  world.newTogether.push(disks);
  world.count('group restore');
  const names = disks.map(({ name }) => name);
  const to = set.diskNames.map((disk, index) => ({ disk, to: names[index] ?? '' }));
  const json = { method: 'remap', disks: to, pool: random.pick(world.pools), ...rate(random) };
  await world.postJob(
    `/backups/${set.name}/restores`,
    json,
    {
      kind: 'group-restore',
      matches: (job) => {
        return subjectIs(job, 'group-restore', 'groupBackup', set.name) && isOurs(job, names);
      },
      settle: (job) => {
        if (succeeded(job, `restore of ${set.name}`)) {
          const made = job?.result?.disks as { disk: string; diskId: string }[];
          for (const disk of disks) {
            disk.id = made.find((each) => disk.names.has(each.disk))?.diskId;
            disk.existence = 'sure';
          }
        } else world.disks = world.disks.filter((each) => !disks.includes(each));
      },
    },
    ['NOT_FOUND'],
  );
}

/** Of two restores of one group backup each made other disks. */
function isOurs(job: { readonly subject: unknown }, names: readonly string[]): boolean {
  const { disks } = job.subject as { disks?: string };
  return disks === names.join(' ');
}
