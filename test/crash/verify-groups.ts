/** What was made together is there whole, or not at all. */
import type { Json } from './client.ts';
import type { BackupModel, CopyModel, GroupModel } from './model.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

interface GroupView {
  readonly id: string;
  readonly name: string;
  readonly copies: readonly {
    readonly id: string;
    readonly name: string;
    readonly state: string;
  }[];
}

/** After a restart, when all jobs have ended. @throws Violation */
export async function verifyTogether(world: World): Promise<void> {
  await verifyGroups(world);
  await verifyBackups(world);
  await verifyDisks(world);
}

async function verifyGroups(world: World): Promise<void> {
  const views = (await world.client.list('/groups')) as unknown as GroupView[];
  const copies = await world.client.list('/copies');
  const found = new Map<GroupModel, GroupView>();
  for (const view of views) {
    const group = world.groups.find(({ name }) => name === view.name);
    if (group === undefined) throw new Violation('a group that should not be there', { view });
    if (found.has(group)) throw new Violation(`group ${view.name} is there twice`, { view });
    found.set(group, view);
    group.id = view.id;
  }
  for (const group of world.groups) {
    const view = found.get(group);
    if (view !== undefined) verifyGroup(world, group, view);
    else if (group.existence === 'sure' && !group.isDeleting) {
      throw new Violation(`group ${group.name} is gone`, { id: group.id });
    }
  }
  const ids = new Set(views.map(({ id }) => id));
  const strays = copies.filter(({ groupId }) => groupId !== null && !ids.has(groupId as string));
  if (strays.length > 0) throw new Violation('copies without their group', { strays });
  world.groups = world.groups.filter((group) => found.has(group));
  for (const group of world.groups) {
    group.existence = 'sure';
    group.isDeleting = false;
  }
}

/** It has all its copies, but for those that were deleted alone. */
function verifyGroup(world: World, group: GroupModel, view: GroupView): void {
  if (view.copies.length !== group.copies.length) {
    throw new Violation(`group ${group.name} has other copies`, { view });
  }
  for (const [index, shown] of view.copies.entries()) {
    const copy = group.copies[index];
    const mayBeGone = !group.isDeleting && mayBeDeleted(world, copy);
    if (shown.state !== 'ready' && copy !== undefined && !mayBeGone && isThere(world, copy)) {
      throw new Violation(`group ${group.name} lacks a copy`, { view });
    }
  }
}

function isThere(world: World, copy: CopyModel): boolean {
  return world.copies.includes(copy);
}

function mayBeDeleted(world: World, copy: CopyModel | undefined): boolean {
  return copy === undefined || copy.isDeleting || !isThere(world, copy);
}

async function verifyBackups(world: World): Promise<void> {
  const views = await world.client.list('/backups');
  for (const set of world.groupBackups) {
    const isTouched = (backup: BackupModel): boolean =>
      backup.isDeleting || backup.isDeletedInPart || !world.backups.includes(backup);
    if (set.backups.some(isTouched)) continue;
    allOrNone(
      `group backup ${set.name}`,
      set.backups.map(({ name }) => name),
      views.filter(({ state }) => state === 'complete'),
    );
  }
  const names = new Set(views.map(({ name }) => name));
  world.groupBackups = world.groupBackups.filter(({ backups }) =>
    backups.some(({ name }) => names.has(name)),
  );
}

async function verifyDisks(world: World): Promise<void> {
  const views = await world.client.list('/disks');
  for (const disks of world.newTogether) {
    if (disks.some((disk) => disk.isDeleting || disk.names.size > 1)) continue;
    if (disks.some((disk) => !world.disks.includes(disk))) continue;
    allOrNone(
      'disks of a group',
      disks.map(({ name }) => name),
      views,
    );
  }
  world.newTogether = [];
}

function allOrNone(what: string, names: readonly string[], views: readonly Json[]): void {
  const there = names.filter((name) => views.some((view) => view.name === name));
  if (there.length === 0 || there.length === names.length) return;
  throw new Violation(`${what}: only a part is there`, { names, there });
}
