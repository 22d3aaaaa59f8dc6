/**
 * Disks as the interface sees them: the engine's objects as they are, with dry runs.
 */
import type { Effects, ForceOption, WouldFree } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import type { Disk } from '../disk/disk.ts';
import type { Disks } from '../disk/disks.ts';

export class DiskService implements api.Disks {
  readonly #disks: Disks;

  constructor(disks: Disks) {
    this.#disks = disks;
  }

  async create(request: api.CreateDisk, effects?: Effects<api.DiskMade>): Promise<api.DiskMade> {
    return this.#disks.create(request, (disk) => effects?.({ disk, created: true }) ?? []);
  }

  get(ref: string): Disk {
    return this.#disks.get(ref);
  }

  list(): readonly Disk[] {
    return this.#disks.list();
  }

  async update(ref: string, change: api.UpdateDisk): Promise<Disk> {
    return this.#disks.update(ref, change);
  }

  async delete(ref: string, options: ForceOption): Promise<void> {
    await this.#disks.delete(ref, options);
  }

  /** Cost: a walk over what only this disk holds. */
  async wouldFree(ref: string, range?: { offset: number; length: number }): Promise<WouldFree> {
    const disk = this.get(ref);
    if (range !== undefined) {
      const wouldFreeBytes = await disk.exclusiveBytesIn(range.offset, range.length);
      return { wouldFreeBytes, affects: [] };
    }
    const users = disk.users().map(({ kind, id }) => ({ kind, id }));
    const wouldFreeBytes = await disk.exclusiveBytes();
    return { wouldFreeBytes, affects: [{ kind: 'disk', id: disk.id, name: disk.name }, ...users] };
  }
}
