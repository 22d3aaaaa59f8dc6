/**
 * The changer of a virtual library: the same movements as a real one, by the list of its directory.
 *
 * The name of a cartridge is its barcode. Slots are counted from 1 here, as on every changer, from
 * 0 in the library's list; the last ones are the door.
 */
import { StorageError } from '../base/errors.ts';
import { asBarcode, ChangerError, moveRefusal } from './changer.ts';
import type { Changer, ChangerErrorCode, ChangerInventory, ElementPlace } from './changer.ts';
import type { CartridgeRecord, Place } from './library-file.ts';
import type { VirtualLibrary } from './virtual-library.ts';

/** The next so many operations go wrong. */
export interface ChangerFault {
  readonly code: Extract<ChangerErrorCode, 'busy' | 'failed' | 'garbled' | 'unreachable'>;
  /** Default all. */
  readonly operation?: 'inventory' | 'load' | 'unload' | 'transfer';
  count: number;
}

export class VirtualChanger implements Changer {
  readonly path: string;
  readonly faults: ChangerFault[] = [];
  readonly #libraryNow: () => Promise<VirtualLibrary>;

  /** @param library as it is now; hands may have been at it */
  constructor(path: string, library: () => Promise<VirtualLibrary>) {
    this.path = path;
    this.#libraryNow = library;
  }

  async inventory(): Promise<ChangerInventory> {
    this.#fail('inventory');
    return inventoryOf(await this.#library());
  }

  async load(slot: number, drive: number): Promise<void> {
    await this.#move('load', { kind: 'slot', number: slot }, { kind: 'drive', number: drive });
  }

  async unload(drive: number, slot: number): Promise<void> {
    await this.#move('unload', { kind: 'drive', number: drive }, { kind: 'slot', number: slot });
  }

  async transfer(from: number, to: number): Promise<void> {
    await this.#move('transfer', { kind: 'slot', number: from }, { kind: 'slot', number: to });
  }

  async #move(
    operation: 'load' | 'unload' | 'transfer',
    from: ElementPlace,
    to: ElementPlace,
  ): Promise<void> {
    const library = await this.#library();
    const refusal = moveRefusal(inventoryOf(library), { from, to });
    if (refusal !== undefined) throw refusal;
    this.#fail(operation);
    const moved = library.cartridges().find(({ place }) => isAt(place, from));
    try {
      await library.move(moved?.name ?? '', placeOf(to));
    } catch (error) {
      // The door of the drive is locked.
      if (!(error instanceof StorageError)) throw error;
      throw new ChangerError('failed', error.message);
    }
  }

  async #library(): Promise<VirtualLibrary> {
    try {
      return await this.#libraryNow();
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      throw new ChangerError('unreachable', error.message);
    }
  }

  #fail(operation: ChangerFault['operation']): void {
    const fault = this.faults.find((each) => {
      return each.operation === undefined || each.operation === operation;
    });
    if (fault === undefined) return;
    fault.count -= 1;
    if (fault.count <= 0) this.faults.splice(this.faults.indexOf(fault), 1);
    throw new ChangerError(
      fault.code,
      fault.code === 'failed' ? 'it is jammed' : `it is ${fault.code}`,
    );
  }
}

function inventoryOf(library: VirtualLibrary): ChangerInventory {
  const { drives, slots, importExportSlots } = library.size;
  const cartridges = library.cartridges();
  const at = (place: ElementPlace) => cartridges.find((each) => isAt(each.place, place));
  return {
    drives: Array.from({ length: drives }, (_, drive) => {
      const found = at({ kind: 'drive', number: drive });
      return { drive, ...elementOf(found), sourceSlot: sourceOf(found) };
    }),
    slots: Array.from({ length: slots + importExportSlots }, (_, index) => {
      const found = at({ kind: 'slot', number: index + 1 });
      return { slot: index + 1, isImportExport: index >= slots, ...elementOf(found) };
    }),
  };
}

function elementOf(found: CartridgeRecord | undefined) {
  return {
    isFull: found !== undefined,
    barcode: found === undefined ? null : asBarcode(found.name),
  };
}

function sourceOf(found: CartridgeRecord | undefined): number | null {
  if (found?.place.kind !== 'drive' || found.place.source === undefined) return null;
  return found.place.source + 1;
}

function isAt(place: Place, { kind, number }: ElementPlace): boolean {
  return kind === 'drive' ? isDrive(place, number) : isSlot(place, number);
}

function isDrive(place: Place, drive: number): boolean {
  return place.kind === 'drive' && place.drive === drive;
}

function isSlot(place: Place, slot: number): boolean {
  return place.kind === 'slot' && place.slot === slot - 1;
}

function placeOf({ kind, number }: ElementPlace): Place {
  return kind === 'drive' ? { kind, drive: number } : { kind, slot: number - 1 };
}
