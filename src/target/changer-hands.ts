/**
 * What hands have a changer do: load, unload, and bring cartridges in and out through its door.
 *
 * Where a cartridge is, is looked up in the same turn with the changer in which it is moved.
 */
import { StorageError } from '../base/errors.ts';
import { isCleaning } from '../tape/changer.ts';
import type { ChangerInventory } from '../tape/changer.ts';
import { mediumError } from '../tape/media.ts';
import { locate, slotRef } from './cartridge-choice.ts';
import type { Located } from './cartridge-choice.ts';
import type { ChangerTurn } from './changer-room.ts';
import type { ChangerUse } from './changer-use.ts';
import { notInLibrary } from './medium-place.ts';

/** Where a cartridge is; `isIt` tells which one is meant. */
export interface Wanted {
  readonly ref: string;
  readonly isIt: (cartridge: Located) => boolean;
}

/** Puts a cartridge into the drive, and waits until that is ready. @throws NOT_FOUND, … */
export async function loadByHand(use: ChangerUse, wanted: Wanted): Promise<void> {
  const cartridge = await use.turn(async (turn) => {
    const inventory = await turn.look();
    const found = find(inventory, wanted);
    if (found.drive === use.drive) return found;
    if (found.slot === null) throw inOtherDrive(wanted.ref, found);
    await use.exchange(turn, inventory, found.slot);
    return found;
  });
  // A cleaning cartridge never gets ready.
  if (!isCleaning(cartridge.barcode)) await use.waitReady();
}

/** @throws MEDIUM_ABSENT; NOT_FOUND: no such slot; TARGET_IN_USE: it is full, or none is free */
export async function unloadByHand(use: ChangerUse, slot?: number): Promise<void> {
  await use.turn(async (turn) => {
    const inventory = await turn.look();
    if (slot !== undefined) checkFree(inventory, slot);
    if ((await use.empty(turn, inventory, slot)) === undefined) throw driveIsEmpty();
  });
}

/** @throws NOT_FOUND: no such slot; TARGET_IN_USE: it is full */
function checkFree({ slots }: ChangerInventory, slot: number): void {
  const goal = slots.find((each) => each.slot === slot);
  if (goal === undefined) throw new StorageError('NOT_FOUND', `there is no slot ${slot}`, { slot });
  if (goal.isFull) throw new StorageError('TARGET_IN_USE', `slot ${slot} is full`, { slot });
}

/** Out of the drive to the door. @throws MEDIUM_ABSENT, TARGET_IN_USE: no free door */
export async function ejectByHand(use: ChangerUse): Promise<void> {
  await use.turn(async (turn) => {
    const inventory = await turn.look();
    const inDrive = locate(inventory).find(({ drive }) => drive === use.drive);
    if (inDrive === undefined) throw driveIsEmpty();
    await use.empty(turn, inventory, freeSlot(inventory, true));
  });
}

/**
 * To the door, where people take it out.
 *
 * @param mayUseDrive the caller has the drive, so it may be taken out of there
 * @returns the slot in which it is now
 * @throws NOT_FOUND; TARGET_IN_USE: no free door, or it is in a drive that is not the caller's
 */
export async function exportCartridge(
  use: ChangerUse,
  wanted: Wanted,
  mayUseDrive: boolean,
): Promise<number> {
  return use.turn(async (turn) => {
    const inventory = await turn.look();
    const found = find(inventory, wanted);
    if (found.isImportExport && found.slot !== null) return found.slot;
    if (found.drive !== null && !(mayUseDrive && found.drive === use.drive)) {
      throw inOtherDrive(wanted.ref, found);
    }
    const to = freeSlot(inventory, true);
    if (found.slot === null) await use.empty(turn, inventory, to);
    else await turn.changer.transfer(found.slot, to);
    return to;
  });
}

/** From the door into a slot. @throws NOT_FOUND; TARGET_IN_USE: it is in a drive; no free slot */
export async function importCartridge(use: ChangerUse, wanted: Wanted): Promise<number> {
  return use.turn(async (turn: ChangerTurn) => {
    const inventory = await turn.look();
    const found = find(inventory, wanted);
    if (found.slot === null) throw inOtherDrive(wanted.ref, found);
    if (!found.isImportExport) return found.slot;
    const to = freeSlot(inventory, false);
    await turn.changer.transfer(found.slot, to);
    return to;
  });
}

function find(inventory: ChangerInventory, { ref, isIt }: Wanted): Located {
  const found = locate(inventory).filter(isIt);
  // What is in a slot goes before what came from there.
  const first = found.find(({ slot }) => slot !== null) ?? found[0];
  if (first !== undefined) return first;
  throw notInLibrary(ref);
}

function inOtherDrive(ref: string, { drive }: Located): StorageError {
  const message = `cartridge ${ref} is in drive ${drive ?? '?'} of the changer`;
  return new StorageError('TARGET_IN_USE', message, { medium: ref, drive });
}

function freeSlot({ slots }: ChangerInventory, isDoor: boolean): number {
  const kind = slots.filter(({ isImportExport }) => isImportExport === isDoor);
  const free = kind.find(({ isFull }) => !isFull);
  if (free !== undefined) return free.slot;
  const name = isDoor ? 'import/export slot' : 'slot';
  const none = kind.length === 0 ? `the changer has no ${name}` : `no ${name} is free`;
  const next = isDoor && kind.length > 0 ? 'take out what is there' : 'take cartridges out by hand';
  throw new StorageError('TARGET_IN_USE', none, { next });
}

function driveIsEmpty(): StorageError {
  return mediumError('MEDIUM_ABSENT', 'there is no cartridge in the drive', 'load one');
}

/** `slot:4` means what is in that slot, or came from there. */
export function isAtSlot(ref: string, { slot, sourceSlot }: Located): boolean {
  const place = slot ?? sourceSlot;
  return place !== null && slotRef(place) === ref;
}
