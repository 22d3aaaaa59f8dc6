/**
 * Where the cartridges of a target are, and what is believed to be on them.
 */
import { isStorageError, StorageError } from '../base/errors.ts';
import type { CatalogState } from '../tape/catalog-state.ts';
import type { ChangerInventory } from '../tape/changer.ts';
import type { VolumeLabel } from '../tape/label.ts';
import type { CartridgeRecord } from '../tape/library-file.ts';
import type { VirtualLibrary } from '../tape/virtual-library.ts';
import { locate, slotRef } from './cartridge-choice.ts';
import type { Belief, Located } from './cartridge-choice.ts';
import type { ChangerUse } from './changer-use.ts';
import type { Medium } from './tape-media.ts';
import { keptBecause, sameNumberProblem } from './tape-relabel.ts';

/** The shelf is outside of a virtual library. */
export type MediumPlace = 'drive' | 'slot' | 'import-export' | 'shelf';

export interface FoundCartridge {
  /** In a virtual library. */
  readonly name: string | null;
  readonly barcode: string | null;
  readonly place: MediumPlace;
  readonly slot: number | null;
  readonly sizeBytes: number | null;
  readonly volumeId: Belief;
}

/** What is in the drive. */
export interface LoadedCartridge {
  /** That the catalog notes; null: it has none, or nobody knows. */
  readonly name: string | null;
  readonly located?: Located;
}

/** All places of a changer, and what is known of the cartridges. */
export interface LibraryView {
  readonly path: string;
  /** The target's own drive. */
  readonly drive: number;
  readonly inventory: ChangerInventory;
  readonly media: readonly Medium[];
}

export function foundIn(library: VirtualLibrary, state: CatalogState): FoundCartridge[] {
  return library.cartridges().map((cartridge) => {
    const { name, sizeBytes } = cartridge;
    const where = placeIn(library, cartridge);
    return { name, barcode: name, sizeBytes, volumeId: state.heldBy(name), ...where };
  });
}

function placeIn(
  { size }: VirtualLibrary,
  { place }: CartridgeRecord,
): Pick<FoundCartridge, 'place' | 'slot'> {
  switch (place.kind) {
    case 'shelf':
      return { place: 'shelf', slot: null };
    case 'drive':
      return { place: 'drive', slot: place.source === undefined ? null : place.source + 1 };
    case 'slot':
      return { place: place.slot < size.slots ? 'slot' : 'import-export', slot: place.slot + 1 };
  }
}

/**
 * Nothing while the changer does not answer: where they are is not known then.
 *
 * @param isStrict throws TARGET_UNAVAILABLE instead
 */
export async function foundBy(
  changer: ChangerUse,
  state: CatalogState,
  isStrict: boolean,
): Promise<FoundCartridge[]> {
  let inventory: ChangerInventory;
  try {
    inventory = await changer.inventory();
  } catch (error) {
    if (isStrict || !(error instanceof StorageError)) throw error;
    return [];
  }
  return locate(inventory).map((cartridge) => {
    const { barcode, drive, isImportExport } = cartridge;
    const inSlot = isImportExport ? 'import-export' : 'slot';
    return {
      name: null,
      barcode,
      place: drive === null ? inSlot : 'drive',
      slot: cartridge.slot ?? cartridge.sourceSlot,
      sizeBytes: null,
      volumeId: changer.belief(state, cartridge),
    };
  });
}

/** A changer that does not answer keeps nobody from using the drive. */
export async function loadedBy(changer: ChangerUse | undefined): Promise<LoadedCartridge> {
  try {
    const located = await changer?.loaded();
    return located === undefined ? { name: null } : { name: located.barcode, located };
  } catch (error) {
    if (!isStorageError(error, 'TARGET_UNAVAILABLE')) throw error;
    return { name: null };
  }
}

export function nameOf({ name }: LoadedCartridge): { readonly cartridge?: string } {
  return name === null ? {} : { cartridge: name };
}

function placeOf(found: FoundCartridge | undefined) {
  return {
    cartridge: found?.name ?? null,
    barcode: found?.barcode ?? null,
    place: found?.place ?? null,
    slot: found?.slot ?? null,
    inDrive: found === undefined ? null : found.place === 'drive',
    sizeBytes: found?.sizeBytes ?? null,
  };
}

/** Labelled cartridges by number, then the others. */
export function mediaOf(
  state: CatalogState,
  ownSet: string,
  nowMs: number,
  there: readonly FoundCartridge[],
): Medium[] {
  const { volumes } = state;
  const numbered = Map.groupBy(volumes, ({ label }) => `${label.set} ${label.number}`);
  const ids = new Set(volumes.map(({ label }) => label.volumeId));
  const byId = new Map<string, FoundCartridge>();
  const others: FoundCartridge[] = [];
  for (const cartridge of there) {
    const { volumeId } = cartridge;
    // Of two that are believed to be one, the second is shown as one that nobody knows.
    const isKnown = typeof volumeId === 'string' && ids.has(volumeId) && !byId.has(volumeId);
    if (isKnown) byId.set(volumeId, cartridge);
    else others.push(cartridge);
  }
  const known = volumes.map(({ label }) => {
    const same = numbered.get(`${label.set} ${label.number}`) ?? [];
    const keeps = {
      keptBecause: keptBecause(label, state, nowMs),
      problem: sameNumberProblem(label, same),
    };
    return labelledMedium(state, label, ownSet, keeps, byId.get(label.volumeId));
  });
  return [...known, ...others.map(unlabelled)];
}

/** @throws NOT_FOUND; VALIDATION_FAILED: several have this label */
export function mediumOf(media: readonly Medium[], ref: string): Medium {
  const found = media.find(({ volumeId, cartridge, barcode }) => {
    return [volumeId, cartridge, barcode].includes(ref);
  });
  const [labelled, ...others] = media.filter(({ label }) => label === ref);
  if (found === undefined && others.length > 0) {
    const message = `several cartridges have the label ${ref}: give the id`;
    throw new StorageError('VALIDATION_FAILED', message, { field: 'medium', medium: ref });
  }
  const medium = found ?? labelled ?? atSlot(media, ref);
  if (medium !== undefined) return medium;
  throw new StorageError('NOT_FOUND', `there is no cartridge ${ref}`, { medium: ref });
}

/** What is in the slot of `slot:NUMBER`; if that is empty, what came from there. */
function atSlot(media: readonly Medium[], ref: string): Medium | undefined {
  const found = media.filter(({ slot }) => slot !== null && slotRef(slot) === ref);
  return found.find(({ inDrive }) => inDrive === false) ?? found[0];
}

function labelledMedium(
  state: CatalogState,
  label: VolumeLabel,
  ownSet: string,
  keeps: Pick<Medium, 'keptBecause' | 'problem'>,
  found: FoundCartridge | undefined,
): Medium {
  const { volumeId, set, number, labelledAtMs, expiresAtMs } = label;
  const volume = state.volume(volumeId);
  const own = volume?.isFull === true ? 'full' : 'appendable';
  return {
    ...placeOf(found),
    volumeId,
    label: label.label,
    set,
    number,
    state: set === ownSet ? own : 'other-set',
    labelledAtMs,
    expiresAtMs,
    dataBytes: volume?.dataBytes ?? 0,
    backups: state.backupNamesOn(volumeId),
    canBeLabelled: keeps.keptBecause === null,
    ...keeps,
  };
}

function unlabelled(cartridge: FoundCartridge): Medium {
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
    canBeLabelled: true,
    keptBecause: null,
    problem: null,
  };
}

export function notInLibrary(ref: string): StorageError {
  const message = `cartridge ${ref} is not in the library`;
  return new StorageError('NOT_FOUND', message, { medium: ref });
}
