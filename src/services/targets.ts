/**
 * Targets as the interface sees them: the address book, and what hangs on an address.
 */
import type { Effects, ForceOption } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import type { Backups } from '../backup/backups.ts';
import { submitScan } from '../backup/scan-job.ts';
import { StorageError } from '../base/errors.ts';
import type { Job } from '../job/job.ts';

export class TargetService implements api.Targets {
  readonly #backups: Backups;

  constructor(backups: Backups) {
    this.#backups = backups;
  }

  get #targets(): Backups['options']['targets'] {
    return this.#backups.options.targets;
  }

  async create(request: api.CreateTarget, effects?: Effects<api.Target>): Promise<api.TargetMade> {
    return this.#targets.create(request, ({ target }) => effects?.(target) ?? []);
  }

  get(ref: string): api.Target {
    return this.#targets.get(ref);
  }

  list(): readonly api.Target[] {
    return this.#targets.list();
  }

  async update(ref: string, change: api.TargetChange): Promise<api.Target> {
    return this.#targets.update(ref, change);
  }

  drives(): api.DriveView[] {
    const targets = this.#targets;
    return targets.list().flatMap((target) => {
      if (target.kind === 'directory') return [];
      const waitsForMedium = targets.leases.waitsForMedium(target);
      return [{ target: target.name, ...targets.figures.of(target.id), waitsForMedium }];
    });
  }

  /** @throws TARGET_IN_USE while the catalog has backups on it, unless by force */
  async delete(ref: string, { force = false }: ForceOption): Promise<void> {
    const target = this.#targets.get(ref);
    const there = this.#backups.list().filter(({ targetId }) => targetId === target.id);
    if (there.length > 0 && !force) {
      throw new StorageError('TARGET_IN_USE', `target ${target.name} holds backups`, {
        target: target.name,
        backups: there.length,
      });
    }
    for (const backup of there) {
      await this.#backups.endUsers(backup, true);
      await this.#backups.forget(backup);
    }
    await this.#targets.forget(target, []);
  }

  /** What needs the drive is refused while a job uses it. */
  media(ref: string): api.Media {
    const targets = this.#targets;
    const target = targets.get(ref);
    const media = targets.media(target);
    const { leases } = targets;
    return {
      list: () => media.list(),
      get: (medium) => media.get(medium),
      add: (cartridge, sizeBytes) => leases.hands(target, () => media.add(cartridge, sizeBytes)),
      load: (medium) => leases.hands(target, () => media.load(medium)),
      unload: (to, slot) => leases.hands(target, () => media.unload(to, slot)),
      forget: (medium, options) => leases.hands(target, () => media.forget(medium, options)),
      label: (request) => leases.hands(target, () => media.label(request)),
      library: () => media.library(),
      // What is not in the drive is moved also while a job uses that.
      import: (medium) => leases.withoutDrive(target, () => media.import(medium)),
      export: async (medium) => {
        const { inDrive } = await media.get(medium);
        if (inDrive !== true) return leases.withoutDrive(target, () => media.export(medium));
        return leases.hands(target, () => media.export(medium, true));
      },
    };
  }

  async scan(ref: string, effects?: Effects<Job>): Promise<Job> {
    return submitScan(this.#backups, ref, effects);
  }
}
