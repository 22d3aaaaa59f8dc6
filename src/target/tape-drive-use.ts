/**
 * Getting cartridges into the drive of a tape target: what is loaded is looked at, what is needed
 * is waited for.
 *
 * Invariants:
 *  1. A cartridge is given only after its label was proven to be the needed one.
 *  2. While a cartridge is waited for, the drive is closed and its door unlocked.
 *  3. What a cartridge holds behind the catalog's end is noted before anything is written to it.
 */
import { StorageError } from '../base/errors.ts';
import { untilAborted } from '../base/mutex.ts';
import { appendOn } from '../tape/append.ts';
import type { AppendPoint } from '../tape/append.ts';
import type { TapeCatalog } from '../tape/catalog.ts';
import { isTooSmall } from '../tape/catalog-state.ts';
import type { CatalogPart } from '../tape/catalog-backup.ts';
import type { CatalogVolume } from '../tape/catalog-state.ts';
import type { TapeDevice } from '../tape/drive.ts';
import type { VolumeLabel } from '../tape/label.ts';
import { volumeName } from '../tape/media.ts';
import type { ScannedPart } from '../tape/scan.ts';
import { mountVolume, releaseVolume } from '../tape/volume.ts';
import type { MountedVolume } from '../tape/volume.ts';
import { VolumeWriter } from '../tape/volume-writer.ts';

/** The cartridge that somebody has to put into the drive. */
export interface NeededMedium {
  readonly set: string;
  readonly volumeNumber: number;
  /** The one to read; null: one to write to, any of the set that takes more serves. */
  readonly volumeId: string | null;
  /** Of a labelled cartridge; null: a new one is to be labelled as this number of the set. */
  readonly label: string | null;
  /** Why what is in the drive does not serve. */
  readonly reason: string;
  readonly code: string;
}

export interface DriveUseOptions {
  /** The drive as it is now; called before each opening. */
  readonly openDevice: () => Promise<TapeDevice>;
  readonly catalog: TapeCatalog;
  readonly set: string;
  /** Resolves when the drive may hold another cartridge; throws to give up. */
  readonly waitForMedium: (needed: NeededMedium) => Promise<void>;
}

/** Another cartridge, or an open tab, may help. */
const helpedByHands = new Set([
  'MEDIUM_ABSENT',
  'MEDIUM_BLANK',
  'MEDIUM_FOREIGN',
  'MEDIUM_UNSUPPORTED',
  'MEDIUM_WRONG',
  'MEDIUM_READ_ONLY',
]);

export class DriveUse {
  readonly #o: DriveUseOptions;

  constructor(options: DriveUseOptions) {
    this.#o = options;
  }

  /**
   * A cartridge for reading; null if the catalog has it no more: somebody gave it up.
   *
   * @throws what waiting throws; TARGET_UNAVAILABLE
   */
  async mountForRead({ label }: CatalogVolume): Promise<MountedVolume | null> {
    const { label: name, set, number: volumeNumber, volumeId } = label;
    return this.#withHands(
      async () => {
        if ((await this.#o.catalog.read()).volume(volumeId) === undefined) return null;
        return mountVolume(await this.#o.openDevice(), 'read', volumeName(label));
      },
      async () => ({ set, volumeNumber, volumeId, label: name }),
    );
  }

  /**
   * A cartridge of the set that takes more.
   *
   * @param signal ends the waiting for one with its reason
   * @throws as above; MEDIUM_MISMATCH
   */
  async nextVolume(signal: AbortSignal): Promise<VolumeWriter> {
    return this.#withHands(
      async () => {
        signal.throwIfAborted();
        return this.#append();
      },
      () => this.#neededForWrite(),
      signal,
    );
  }

  async #withHands<T>(
    work: () => Promise<T>,
    needed: () => Promise<Pick<NeededMedium, 'set' | 'volumeNumber' | 'volumeId' | 'label'>>,
    signal?: AbortSignal,
  ): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof StorageError) || !helpedByHands.has(error.code)) throw error;
        const { code, message: reason } = error;
        const medium = { ...(await needed()), reason, code };
        const waiting = this.#o.waitForMedium(medium);
        await (signal === undefined ? waiting : untilAborted(waiting, signal));
      }
    }
  }

  async #append(): Promise<VolumeWriter> {
    const device = await this.#o.openDevice();
    const volume = await mountVolume(device, 'write');
    let known: CatalogVolume;
    try {
      known = await this.#appendable(volume.label);
    } catch (error) {
      await releaseVolume(volume);
      throw error;
    }
    const point = await appendOn(device, volume, known.end);
    try {
      return await this.#taken(point);
    } catch (error) {
      await releaseVolume(point.volume);
      throw error;
    }
  }

  /** What the catalog knows of a cartridge that may be written on. @throws MEDIUM_WRONG */
  async #appendable(label: VolumeLabel): Promise<CatalogVolume> {
    const { catalog, set } = this.#o;
    const known = (await catalog.read()).volume(label.volumeId);
    const facts = { found: volumeName(label) };
    if (label.set !== set) {
      const message = `cartridge ${label.label} is of set ${label.set}`;
      throw new StorageError('MEDIUM_WRONG', message, facts);
    }
    if (known === undefined) {
      const message = `cartridge ${label.label} is not in the catalog: scan it first`;
      throw new StorageError('MEDIUM_WRONG', message, facts);
    }
    if (known.isFull) throw takesNoMore(known);
    return known;
  }

  async #taken({ volume, place, adopted, isFull: hasEnded }: AppendPoint): Promise<VolumeWriter> {
    const { catalog } = this.#o;
    const { volumeId, label } = volume.label;
    if (adopted.length > 0) {
      await catalog.add(
        ...adopted.map((part) => ({ kind: 'part' as const, part: catalogPart(part) })),
      );
    }
    if (!hasEnded) return new VolumeWriter(volume, place);
    await catalog.add({ kind: 'full', volumeId });
    throw isFull(label);
  }

  async #neededForWrite() {
    const { catalog, set } = this.#o;
    const volumes = (await catalog.read()).volumes.filter(({ label }) => label.set === set);
    const open = volumes.findLast((volume) => !volume.isFull)?.label;
    const volumeNumber = open?.number ?? (volumes.at(-1)?.label.number ?? 0) + 1;
    return { set, volumeNumber, volumeId: null, label: open?.label ?? null };
  }
}

function takesNoMore(volume: CatalogVolume): StorageError {
  const { label } = volume.label;
  if (!isTooSmall(volume)) return isFull(label);
  const message = `cartridge ${label} is too small: it has no room for a part`;
  return new StorageError('MEDIUM_WRONG', message, { next: 'load a larger one' });
}

function isFull(label: string): StorageError {
  return new StorageError('MEDIUM_WRONG', `cartridge ${label} is full`);
}

/** What the catalog notes of a part that was found on a cartridge. */
export function catalogPart({ entry, header, manifest }: ScannedPart): CatalogPart {
  const contentId = header?.info?.['contentId'];
  return { entry, manifest, contentId: typeof contentId === 'string' ? contentId : null };
}
