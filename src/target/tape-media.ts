/**
 * What hands do with the cartridges of a tape target: look at them, load, take out, label.
 *
 * The caller sees to it that no job has the drive meanwhile.
 *
 * Invariants:
 *  1. A label is in the catalog only if it was read from the cartridge.
 *  2. The catalog forgets a cartridge before it is overwritten, so that nothing is ever counted on
 *     that is not there.
 */
import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { TapeCatalog } from '../tape/catalog.ts';
import type { VolumeLabel } from '../tape/label.ts';
import { labelAfter, labelRefusal } from '../tape/label-volume.ts';
import { asMediumError } from '../tape/media.ts';
import { scanVolume } from '../tape/scan.ts';
import { giveBack, mountVolume, openDrive, releaseVolume } from '../tape/volume.ts';
import type { FoundLabel, MountedVolume } from '../tape/volume.ts';
import { slotRef } from './cartridge-choice.ts';
import type { Located } from './cartridge-choice.ts';
import {
  ejectByHand,
  exportCartridge,
  importCartridge,
  isAtSlot,
  loadByHand,
  unloadByHand,
} from './changer-hands.ts';
import type { Wanted } from './changer-hands.ts';
import type { ChangerUse } from './changer-use.ts';
import { foundBy, foundIn, loadedBy, nameOf, notInLibrary } from './medium-place.ts';
import { mediaOf, mediumOf } from './medium-place.ts';
import type { FoundCartridge, LibraryView, LoadedCartridge, MediumPlace } from './medium-place.ts';
import { openLibrary, openTapeDevice } from './tape-device.ts';
import type { TapeKind } from './tape-device.ts';
import { catalogPart } from './tape-drive-use.ts';
import { nextLabel } from './tape-label.ts';
import type { NewLabel } from './tape-label.ts';
import { assertAllKnown, keptBecause } from './tape-relabel.ts';

export interface TapeMediaOptions {
  readonly kind: TapeKind;
  readonly path: string;
  readonly set: string;
  readonly catalog: TapeCatalog;
  readonly clock: Clock;
  /** What loads the drive; default: hands. */
  readonly changer?: ChangerUse;
}

export type MediumState = 'unlabelled' | 'appendable' | 'full' | 'other-set';

/** A cartridge as far as it is known: by its label, by its place, or by both. */
export interface Medium {
  /** UUID of its labelling; null: not labelled, as far as is known. */
  readonly volumeId: string | null;
  readonly label: string | null;
  readonly set: string | null;
  readonly number: number | null;
  readonly state: MediumState;
  readonly labelledAtMs: number | null;
  readonly expiresAtMs: number | null;
  /** Bytes of images on it, also of backups that were deleted. */
  readonly dataBytes: number;
  /** Names of the backups of which bytes are on it. */
  readonly backups: readonly string[];
  /** It may be labelled anew now, as far as is known without looking at it. */
  readonly canBeLabelled: boolean;
  /** Why it may not. */
  readonly keptBecause: string | null;
  /** What is wrong with it, for people. */
  readonly problem: string | null;
  /** Name in the virtual library; null of a real cartridge. */
  readonly cartridge: string | null;
  /** As the library reads it; null: it has none, or no library tells. */
  readonly barcode: string | null;
  /** Null: not known. */
  readonly place: MediumPlace | null;
  /** Where it is in the library, or, of one in a drive, where it came from. */
  readonly slot: number | null;
  /** Null: not known. */
  readonly inDrive: boolean | null;
  readonly sizeBytes: number | null;
}

export interface MediumScan {
  readonly label: string;
  readonly set: string;
  readonly number: number;
  readonly parts: number;
  /** Tape files that were not understood. */
  readonly damaged: number;
}

export class TapeMedia {
  readonly #o: TapeMediaOptions;

  constructor(options: TapeMediaOptions) {
    this.#o = options;
  }

  /** Labelled ones by number, then the others. Reads the catalog and the library, no cartridge. */
  async list(): Promise<Medium[]> {
    return this.#list(false);
  }

  /**
   * By id, barcode, name of the cartridge, label, or `slot:NUMBER`.
   *
   * @throws NOT_FOUND; VALIDATION_FAILED: several have this label
   */
  async get(ref: string): Promise<Medium> {
    return mediumOf(await this.#list(false), ref);
  }

  /** @param isStrict TARGET_UNAVAILABLE where a changer does not tell what is where */
  async #list(isStrict: boolean): Promise<Medium[]> {
    const { kind, changer, set, clock, catalog } = this.#o;
    const state = await catalog.read();
    let there: readonly FoundCartridge[] = [];
    if (kind === 'virtual-tape') there = foundIn(await this.#library(), state);
    else if (changer !== undefined) there = await foundBy(changer, state, isStrict);
    return mediaOf(state, set, clock.nowMs(), there);
  }

  /** A new blank cartridge of a virtual library. @throws NAME_TAKEN, NAME_INVALID */
  async add(cartridge: string, sizeBytes?: number): Promise<Medium> {
    await this.#alone(async () => (await this.#library()).addCartridge(cartridge, sizeBytes));
    return this.get(cartridge);
  }

  /**
   * Gives a cartridge up: it is lost. What is on it is lost from now on, and not waited for; a scan
   * brings it back.
   *
   * @throws NOT_FOUND: no cartridge of the catalog; TARGET_IN_USE: backups are on it
   */
  async forget(ref: string, { force = false } = {}): Promise<void> {
    const { volumeId, label, backups } = await this.get(ref);
    if (volumeId === null) {
      const message = `cartridge ${ref} is not labelled`;
      throw new StorageError('NOT_FOUND', message, { medium: ref });
    }
    if (backups.length > 0 && !force) {
      const message = `backups are on cartridge ${label ?? ref}`;
      throw new StorageError('TARGET_IN_USE', message, { medium: ref, backups });
    }
    await this.#o.catalog.add({ kind: 'gone', volumeId });
  }

  /**
   * Puts a cartridge into the drive: one of a virtual library, or by a changer.
   *
   * @throws NOT_FOUND; TARGET_IN_USE: it is in another drive, or there is no free slot for what is
   *   in the drive; TARGET_UNAVAILABLE
   */
  async load(ref: string): Promise<Medium> {
    const { changer } = this.#o;
    if (changer === undefined) return this.#loadVirtual(ref);
    const wanted = await this.#wanted(changer, ref);
    const { place } = wanted.medium;
    if (place === 'shelf') return changer.turn(() => this.#loadVirtual(ref));
    await loadByHand(changer, wanted);
    return this.get(ref);
  }

  async #loadVirtual(ref: string): Promise<Medium> {
    const library = await this.#library();
    const { cartridge } = await this.get(ref);
    if (cartridge === null) throw notInLibrary(ref);
    await library.load(cartridge);
    return this.get(cartridge);
  }

  /** To the door of the library. @throws as `exportCartridge`; VALIDATION_FAILED: no changer */
  async export(ref: string, mayUseDrive = false): Promise<Medium> {
    const changer = this.#needChanger();
    const slot = await exportCartridge(changer, await this.#wanted(changer, ref), mayUseDrive);
    return this.get(slotRef(slot));
  }

  /**
   * From the door of the library into a slot; of a virtual library also from the shelf.
   *
   * @throws as `importCartridge`; VALIDATION_FAILED: no changer
   */
  async import(ref: string): Promise<Medium> {
    const changer = this.#needChanger();
    const wanted = await this.#wanted(changer, ref);
    const { cartridge, place } = wanted.medium;
    if (place === 'shelf' && cartridge !== null) {
      await changer.turn(async () => (await this.#library()).stow(cartridge));
      return this.get(cartridge);
    }
    const slot = await importCartridge(changer, wanted);
    return this.get(slotRef(slot));
  }

  /** What the changer has. @throws VALIDATION_FAILED: there is none; TARGET_UNAVAILABLE */
  async library(): Promise<LibraryView> {
    const changer = this.#needChanger();
    const inventory = await changer.inventory();
    const media = await this.list();
    return { path: changer.room.path, drive: changer.drive, inventory, media };
  }

  /**
   * Takes the cartridge out of the drive.
   *
   * @param to `shelf`: out of the library, or to its door if a changer does it
   * @param slot default: where it came from, or a free one. Only with a changer
   * @throws MEDIUM_ABSENT, TARGET_UNAVAILABLE, TARGET_IN_USE
   */
  async unload(to: 'slot' | 'shelf', slot?: number): Promise<void> {
    const { changer } = this.#o;
    if (slot !== undefined) this.#needChanger('slot');
    if (changer !== undefined && to === 'slot') return unloadByHand(changer, slot);
    if (changer !== undefined && this.#o.kind === 'tape') return ejectByHand(changer);
    const device = await openTapeDevice(this.#o.kind, this.#o.path);
    const drive = await openDrive(device, 'read');
    try {
      await drive.unload();
    } catch (error) {
      throw asMediumError(error, { device: device.path });
    } finally {
      await giveBack(drive);
    }
    if (this.#o.kind === 'tape') return;
    await this.#alone(async () => {
      const library = await this.#library();
      const loaded = library.cartridges().find(({ place }) => place.kind === 'drive');
      if (loaded === undefined) return;
      if (to === 'shelf') await library.move(loaded.name, { kind: 'shelf' });
      else await library.unload();
    });
  }

  /** While no changer moves anything in the library. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const { changer } = this.#o;
    return changer === undefined ? work() : changer.turn(work);
  }

  /**
   * Labels the cartridge in the drive as the next one of the set.
   *
   * @throws as `labelAfter`; MEDIUM_UNEXPIRED; MEDIUM_FOREIGN; MEDIUM_UNSUPPORTED; NAME_INVALID;
   *   NAME_TAKEN: another cartridge has this label
   */
  async label(request: NewLabel): Promise<Medium> {
    const { catalog, kind, path } = this.#o;
    const device = await openTapeDevice(kind, path);
    const loaded = await this.#loaded();
    let label: VolumeLabel | undefined;
    await labelAfter(device, async (found, mounted) => {
      label = await this.#decideLabel(found, mounted, request);
      return label;
    });
    assert(label !== undefined, 'a label that was decided on');
    await catalog.add({ kind: 'volume', label, ...nameOf(loaded) });
    await this.#noteHeld(loaded, label.volumeId);
    return this.get(label.volumeId);
  }

  /** The catalog has forgotten what was on the cartridge when this resolves. */
  async #decideLabel(
    found: FoundLabel,
    mounted: MountedVolume | undefined,
    request: NewLabel,
  ): Promise<VolumeLabel> {
    const { catalog, clock, set } = this.#o;
    const { force } = request;
    const state = await catalog.read();
    const nowMs = clock.nowMs();
    const known = mounted === undefined ? undefined : state.volume(mounted.label.volumeId);
    const old = mounted?.label.volumeId;
    const isFree = known !== undefined && keptBecause(known.label, state, nowMs) === null;
    const label = nextLabel(state, request, old, { set, clock });
    const refusal = labelRefusal(found, {
      label,
      nowMs,
      inUse: state.volumesInUse,
      released: isFree ? [known.label.volumeId] : [],
      ...(force === undefined ? {} : { force }),
    });
    if (refusal !== undefined) throw refusal;
    if (mounted !== undefined && force === undefined) await assertAllKnown(mounted, state, set);
    if (old !== undefined && state.volume(old) !== undefined) {
      await catalog.add({ kind: 'gone', volumeId: old });
    }
    return label;
  }

  /**
   * Reads what is on the cartridge in the drive into the catalog.
   *
   * @throws as `mountVolume`
   */
  async scan(): Promise<MediumScan> {
    const { catalog, kind, path } = this.#o;
    const device = await openTapeDevice(kind, path);
    const loaded = await this.#loaded();
    const volume = await mountVolume(device, 'read');
    try {
      const { parts, others, isFull } = await scanVolume(volume);
      const { label } = volume;
      await catalog.add({
        kind: 'scanned',
        label,
        parts: parts.map(catalogPart),
        isFull,
        ...nameOf(loaded),
      });
      await this.#noteHeld(loaded, label.volumeId);
      const { length: damaged } = others.filter((other) => other.kind !== 'empty');
      const { label: name, set, number } = label;
      return { label: name, set, number, parts: parts.length, damaged };
    } catch (error) {
      throw asMediumError(error, { device: device.path });
    } finally {
      await releaseVolume(volume);
    }
  }

  async #loaded(): Promise<LoadedCartridge> {
    const { kind, changer } = this.#o;
    if (kind === 'tape') return loadedBy(changer);
    const cartridges = (await this.#library()).cartridges();
    return { name: cartridges.find(({ place }) => place.kind === 'drive')?.name ?? null };
  }

  /** What has no barcode is remembered by its slot. */
  async #noteHeld({ located }: LoadedCartridge, volumeId: string): Promise<void> {
    if (located !== undefined) await this.#o.changer?.noteHeld(located, volumeId);
  }

  /** A cartridge that is to be moved. @throws as `get`; TARGET_UNAVAILABLE */
  async #wanted(changer: ChangerUse, ref: string): Promise<Wanted & { readonly medium: Medium }> {
    const medium = mediumOf(await this.#list(true), ref);
    const state = await this.#o.catalog.read();
    const isIt = (cartridge: Located): boolean => {
      if (isAtSlot(ref, cartridge) || cartridge.barcode === ref) return true;
      return medium.volumeId !== null && changer.belief(state, cartridge) === medium.volumeId;
    };
    return { ref, isIt, medium };
  }

  #needChanger(field = 'target'): ChangerUse {
    const { changer } = this.#o;
    if (changer !== undefined) return changer;
    const message = 'the target has no changer';
    throw new StorageError('VALIDATION_FAILED', message, { field });
  }

  async #library() {
    if (this.#o.kind === 'virtual-tape') return openLibrary(this.#o.path);
    const message = 'a real drive has no virtual library: load it by hand, or by a changer';
    throw new StorageError('VALIDATION_FAILED', message, { field: 'target' });
  }
}
