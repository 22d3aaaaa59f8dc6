/**
 * Which disks a group copy freezes and how its copies are called: the request, checked. Pure.
 *
 * A copy is called `GROUP-DISK` unless the request names it.
 */
import { StorageError } from '../base/errors.ts';
import { checkName } from '../disk/names.ts';

/** Disks in one group: their gates are closed together, and all of it is one transaction. */
export const GROUP_DISKS_MAX = 64;

/** A disk of a request, by name or id, with a name for its copy. */
export interface GroupDisk {
  readonly disk: string;
  readonly copy?: string;
}

/** A disk and the name of its copy. */
export interface PlannedMember<D> {
  readonly disk: D;
  readonly copyName: string;
}

/**
 * @param find a disk by name or id; throws if there is none
 * @throws VALIDATION_FAILED (no disk, more than 64, one twice, two copies of one name, all with
 * `field` as `disks/N`), NAME_INVALID (`disks/N` where GROUP-DISK is too long), and as `find`
 */
export function planMembers<D extends { readonly id: string; readonly name: string }>(
  group: string,
  disks: readonly (string | GroupDisk)[],
  find: (ref: string) => D,
): PlannedMember<D>[] {
  checkName(group);
  if (disks.length === 0 || disks.length > GROUP_DISKS_MAX) {
    const message = `a group has 1 to ${GROUP_DISKS_MAX} disks, not ${disks.length}`;
    throw new StorageError('VALIDATION_FAILED', message, { field: 'disks' });
  }
  const seen = new Set<string>();
  const names = new Set([group]);
  return disks.map((asked, index) => {
    const { disk: ref, copy }: GroupDisk = typeof asked === 'string' ? { disk: asked } : asked;
    const disk = find(ref);
    const field = `disks/${index}`;
    if (seen.has(disk.id)) {
      const message = `disk ${disk.name} is in the list twice`;
      throw new StorageError('VALIDATION_FAILED', message, { field, disk: disk.name });
    }
    seen.add(disk.id);
    const copyName = copy ?? `${group}-${disk.name}`;
    checkName(copyName, copy === undefined ? field : `${field}/copy`);
    if (names.has(copyName)) {
      const message = `the name ${copyName} is in this group twice`;
      throw new StorageError('VALIDATION_FAILED', message, { field, name: copyName });
    }
    names.add(copyName);
    return { disk, copyName };
  });
}
