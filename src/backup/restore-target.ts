/**
 * Where a restore writes: a new disk (remap, copy) or the fenced working disk (write-back); how it
 * is begun, ended well, and undone. Each step may be repeated after a restart.
 *
 * Invariants:
 *  1. Until `finish` nobody sees the restored data: a new disk is `restoring`, a working disk is
 *     fenced and keeps its old root in an internal copy.
 *  2. `undo` leaves the working disk as it was before, and nothing of a new one.
 */
import { roundUp, SECTOR_BYTES } from '../base/units.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { commitEndings, endRestoring } from '../copy/endings.ts';
import { copyFromDisk } from '../copy/restored-copy.ts';
import {
  beginFill,
  fence,
  finishFill,
  frozenRootOf,
  revertFill,
  unfence,
} from '../copy/write-back.ts';
import type { Disk } from '../disk/disk.ts';
import type { ImageFacts } from '../image/format.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { assertQuota, assertRoom, type RestorePlan } from './restore-plan.ts';

/** What a finished restore made. */
export interface Restored {
  readonly disk?: Disk;
  readonly copy?: Copy;
  readonly safetyCopy?: Copy;
}

export type RestoredRows = (restored: Restored) => readonly RowChange[];

/**
 * The disk that this job fills, if it was begun.
 * @param object which one of several: its id, or its name if the job makes it
 */
export function disksOfJob(copies: Copies, job: string, object?: string): Disk | undefined {
  return copies.options.disks
    .list()
    .filter((disk) => disk.record.job === job)
    .find(({ id, name }) => object === undefined || id === object || name === object);
}

/** @throws QUOTA_EXCEEDED, POOL_FULL, NAME_TAKEN, DISK_IN_USE, DISK_FENCED */
export async function beginRestore(
  copies: Copies,
  plan: RestorePlan,
  job: string,
  facts: ImageFacts,
): Promise<Disk> {
  const { disks, pools } = copies.options;
  const usedBytes = facts.usedBlocks * facts.blockSizeBytes;
  const begun = disksOfJob(copies, job, plan.object);
  if (plan.method !== 'write-back') {
    if (begun !== undefined) return begun;
    const pool = pools.get(plan.pool);
    assertRoom(copies, pool, usedBytes);
    return disks.make(pool, {
      name: plan.object,
      capacityBytes: roundUp(facts.capacityBytes, SECTOR_BYTES),
      // nobody else takes the room that was found; it shrinks with what is written
      reserveBytes: usedBytes,
      state: 'restoring',
      job,
    });
  }
  const disk = disks.get(plan.object);
  if (begun === undefined) {
    assertQuota(copies, plan, usedBytes);
    if (!plan.onlyDiffering) assertRoom(copies, disk.pool, usedBytes);
    await fence(disk, job, plan.force);
  }
  await beginFill(copies, disk, plan.onlyDiffering);
  disk.takeCapacity(Math.max(disk.capacityBytes, facts.capacityBytes));
  disk.changed();
  return disk;
}

/** All blocks are written: makes the result visible, durably, with the rows. */
export async function finishRestore(
  copies: Copies,
  plan: RestorePlan,
  disk: Disk,
  facts: ImageFacts,
  rows: RestoredRows = () => [],
): Promise<Restored> {
  switch (plan.method) {
    case 'remap':
      await commitEndings(copies, [endRestoring(disk)], rows({ disk }));
      return { disk };
    case 'copy': {
      const copy = await copyFromDisk(copies, disk, { source: facts }, (made) =>
        rows({ copy: made }),
      );
      return { copy };
    }
    case 'write-back': {
      const name = plan.safetyCopy ?? undefined;
      const internal = frozenRootOf(copies, disk);
      const keep = name === undefined || internal === undefined ? {} : { safetyCopy: internal };
      await finishFill(copies, disk, facts.capacityBytes, name, rows({ disk, ...keep }));
      return { disk, ...keep };
    }
  }
}

/** The job ended badly. @param keepPartial leaves a working disk with what was written so far */
export async function undoRestore(
  copies: Copies,
  job: string,
  keepPartial: boolean,
): Promise<void> {
  const disk = disksOfJob(copies, job);
  if (disk === undefined) return;
  if (disk.state === 'restoring') {
    await copies.options.disks.discardDisk(disk);
    return;
  }
  const internal = frozenRootOf(copies, disk);
  if (internal === undefined) {
    await unfence(disk);
  } else if (keepPartial) {
    copies.drop(internal);
    await unfence(disk);
  } else {
    await revertFill(copies, disk);
  }
}

/** What of the result a job's JSON says. */
export function restoredJson(restored: Restored): Record<string, string | number> {
  const { disk, copy, safetyCopy } = restored;
  const result: Record<string, string | number> = {};
  if (disk !== undefined) {
    const { name, id, capacityBytes } = disk;
    Object.assign(result, { disk: name, diskId: id, capacityBytes });
  }
  if (copy !== undefined) Object.assign(result, { copy: copy.name, copyId: copy.id });
  if (safetyCopy !== undefined) result['safetyCopy'] = safetyCopy.name;
  return result;
}
