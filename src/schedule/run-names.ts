/**
 * What the backups of a run are called: `SCHEDULE-20261129-031500`, and with several disks the
 * disk's name after that. The time is the instant that the run is for, in UTC, so an instant has
 * the same names however often it is tried; a run by hand has an `m` behind the time.
 */
import { rfc3339 } from '../base/clock.ts';
import type { Reference } from './records.ts';

const NAME_MAX = 63;

/** The name of the run, and of its only backup. */
export function runName(schedule: string, instantMs: number, isByHand: boolean): string {
  const [date = '', time = ''] = rfc3339(instantMs).split('T');
  const stamp = `${date.replaceAll('-', '')}-${time.slice(0, 8).replaceAll(':', '')}`;
  return `${schedule}-${stamp}${isByHand ? 'm' : ''}`;
}

/** @param name of the disk now: if it has become too long, its id stands in */
export function memberName(run: string, disk: Reference, isOnly: boolean): string {
  if (isOnly) return run;
  const name = `${run}-${disk.name}`;
  return name.length <= NAME_MAX ? name : `${run}-${disk.id.slice(-12)}`;
}

/** The longest name that a run of these disks can make, not cut. */
export function longestName(
  schedule: string,
  disks: readonly Reference[],
  isGroup: boolean,
): string {
  const run = runName(schedule, 0, true);
  if (disks.length === 1 && !isGroup) return run;
  const names = disks.map(({ name }) => `${run}-${name}`);
  return names.reduce((longest, name) => (name.length > longest.length ? name : longest), run);
}
