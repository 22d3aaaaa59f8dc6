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
import { uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { TapeCatalog } from '../tape/catalog.ts';
import type { CatalogState } from '../tape/catalog-state.ts';
import { isTapeName } from '../tape/fields.ts';
import type { VolumeLabel } from '../tape/label.ts';
import { labelAfter, labelRefusal } from '../tape/label-volume.ts';
import type { CartridgeRecord } from '../tape/library-file.ts';
import { asMediumError } from '../tape/media.ts';
import { scanVolume } from '../tape/scan.ts';
import { giveBack, mountVolume, openDrive, releaseVolume } from '../tape/volume.ts';
import type { FoundLabel } from '../tape/volume.ts';
import { DEFAULT_RECORD_BYTES } from '../tape/record.ts';
import { openLibrary, openTapeDevice } from './tape-device.ts';
import type { TapeKind } from './tape-device.ts';
import { catalogPart } from './tape-drive-use.ts';

export interface TapeMediaOptions {
  readonly kind: TapeKind;
  readonly path: string;
  readonly set: string;
  readonly catalog: TapeCatalog;
  readonly clock: Clock;
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
  /** Name in the virtual library; null of a real cartridge. */
  readonly cartridge: string | null;
  readonly place: 'drive' | 'slot' | 'shelf' | null;
  readonly sizeBytes: number | null;
}

export interface NewLabel {
  /** Default SET-NUMBER. */
  readonly label?: string;
  readonly expiresAtMs?: number;
  readonly recordBytes?: number;
  /** The label that is on it now, or `foreign`. */
  readonly force?: string;
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
    const there = this.#o.kind === 'tape' ? [] : (await this.#library()).cartridges();
    const byName = new Map(there.map((cartridge) => [cartridge.name, cartridge]));
    const state = await this.#o.catalog.read();
    const known = state.volumes.map(({ label }) => {
      const name = state.cartridgeOf(label.volumeId);
      return this.#labelled(state, label, name === undefined ? undefined : byName.get(name));
    });
    const named = new Set(known.map(({ cartridge }) => cartridge));
    const others = there.filter(({ name }) => !named.has(name)).map(unlabelled);
    return [...known, ...others];
  }

  /** By label, name of the cartridge, or volumeId. @throws NOT_FOUND */
  async get(ref: string): Promise<Medium> {
    const media = await this.list();
    const found = media.find((medium) => {
      return [medium.label, medium.cartridge, medium.volumeId].includes(ref);
    });
    if (found !== undefined) return found;
    throw new StorageError('NOT_FOUND', `there is no cartridge ${ref}`, { medium: ref });
  }

  /** A new blank cartridge of a virtual library. @throws NAME_TAKEN, NAME_INVALID */
  async add(cartridge: string, sizeBytes?: number): Promise<Medium> {
    await (await this.#library()).addCartridge(cartridge, sizeBytes);
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

  /** Puts a cartridge of a virtual library into the drive. @throws NOT_FOUND, TARGET_IN_USE */
  async load(ref: string): Promise<Medium> {
    const library = await this.#library();
    const { cartridge } = await this.get(ref);
    if (cartridge === null) {
      const message = `cartridge ${ref} is not in the library`;
      throw new StorageError('NOT_FOUND', message, { medium: ref });
    }
    await library.load(cartridge);
    return this.get(ref);
  }

  /** Takes the cartridge out of the drive. @throws MEDIUM_ABSENT, TARGET_UNAVAILABLE */
  async unload(to: 'slot' | 'shelf'): Promise<void> {
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
    const library = await this.#library();
    const loaded = library.cartridges().find(({ place }) => place.kind === 'drive');
    if (loaded === undefined) return;
    if (to === 'shelf') await library.move(loaded.name, { kind: 'shelf' });
    else await library.unload();
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
    const cartridge = await this.#loaded();
    let label: VolumeLabel | undefined;
    await labelAfter(device, async (found) => (label = await this.#decideLabel(found, request)));
    assert(label !== undefined, 'a label that was decided on');
    await catalog.add({ kind: 'volume', label, ...(cartridge === null ? {} : { cartridge }) });
    return this.get(label.volumeId);
  }

  /** The catalog has forgotten what was on the cartridge when this resolves. */
  async #decideLabel(found: FoundLabel, request: NewLabel): Promise<VolumeLabel> {
    const { catalog, clock } = this.#o;
    const state = await catalog.read();
    const old = found.kind === 'label' ? found.label.volumeId : undefined;
    const label = this.#nextLabel(state, request, old);
    const refusal = labelRefusal(found, {
      label,
      nowMs: clock.nowMs(),
      inUse: state.volumesInUse,
      ...(request.force === undefined ? {} : { force: request.force }),
    });
    if (refusal !== undefined) throw refusal;
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
    const cartridge = await this.#loaded();
    const volume = await mountVolume(device, 'read');
    try {
      const { parts, others, isFull } = await scanVolume(volume);
      const { label } = volume;
      await catalog.add({
        kind: 'scanned',
        label,
        parts: parts.map(catalogPart),
        isFull,
        ...(cartridge === null ? {} : { cartridge }),
      });
      const { length: damaged } = others.filter((other) => other.kind !== 'empty');
      const { label: name, set, number } = label;
      return { label: name, set, number, parts: parts.length, damaged };
    } catch (error) {
      throw asMediumError(error, { device: device.path });
    } finally {
      await releaseVolume(volume);
    }
  }

  #nextLabel(state: CatalogState, request: NewLabel, old: string | undefined): VolumeLabel {
    const { set, clock } = this.#o;
    const volumes = state.volumes.map(({ label }) => label);
    const others = volumes.filter((each) => each.set === set && each.volumeId !== old);
    const last = others.at(-1);
    const number = (last?.number ?? 0) + 1;
    const label = request.label ?? `${set}-${number}`;
    if (!isTapeName(label)) {
      const message = 'a label matches [a-z0-9][a-z0-9._-]{0,62}';
      throw new StorageError('NAME_INVALID', message, { field: 'label' });
    }
    if (volumes.some((each) => each.label === label && each.volumeId !== old)) {
      throw new StorageError('NAME_TAKEN', `there is a cartridge ${label}`, { name: label });
    }
    return {
      volumeId: uuidv7(clock),
      label,
      set,
      setId: last?.setId ?? uuidv7(clock),
      number,
      previousVolumeId: last?.volumeId ?? null,
      recordBytes: request.recordBytes ?? DEFAULT_RECORD_BYTES,
      labelledAtMs: clock.nowMs(),
      expiresAtMs: request.expiresAtMs ?? null,
    };
  }

  #labelled(
    state: CatalogState,
    label: VolumeLabel,
    cartridge: CartridgeRecord | undefined,
  ): Medium {
    const { volumeId, set, number, labelledAtMs, expiresAtMs } = label;
    const volume = state.volume(volumeId);
    const own = volume?.isFull === true ? 'full' : 'appendable';
    return {
      ...placeOf(cartridge),
      volumeId,
      label: label.label,
      set,
      number,
      state: set === this.#o.set ? own : 'other-set',
      labelledAtMs,
      expiresAtMs,
      dataBytes: volume?.dataBytes ?? 0,
      backups: state.backupNamesOn(volumeId),
    };
  }

  /** Name of the cartridge in the drive of a virtual library. */
  async #loaded(): Promise<string | null> {
    if (this.#o.kind === 'tape') return null;
    const cartridges = (await this.#library()).cartridges();
    return cartridges.find(({ place }) => place.kind === 'drive')?.name ?? null;
  }

  async #library() {
    if (this.#o.kind === 'virtual-tape') return openLibrary(this.#o.path);
    const message = 'a real drive has no library: load it by hand';
    throw new StorageError('VALIDATION_FAILED', message, { field: 'target' });
  }
}

function placeOf(cartridge: CartridgeRecord | undefined) {
  return {
    cartridge: cartridge?.name ?? null,
    place: cartridge?.place.kind ?? null,
    sizeBytes: cartridge?.sizeBytes ?? null,
  };
}

function unlabelled(cartridge: CartridgeRecord): Medium {
  return {
    ...placeOf(cartridge),
    volumeId: null,
    label: null,
    set: null,
    number: null,
    state: 'unlabelled',
    labelledAtMs: null,
    expiresAtMs: null,
    dataBytes: 0,
    backups: [],
  };
}
