/**
 * What a medium changer can do: the seam between us and a library's arm, real or virtual.
 *
 * Slots are counted from 1 and drives from 0, as `mtx` does. A slot marked as import/export is the
 * library's door: people put cartridges in and take them out there.
 *
 * Laws (contract suite test/contract/changer.ts, run against every implementation):
 *  1. `inventory` tells what is there now. It moves nothing.
 *  2. A move is done when it resolves. One that is refused has moved nothing; after one that failed
 *     otherwise only a new inventory tells where the cartridge is.
 *  3. A drive tells from which slot its cartridge came, where the changer knows that.
 *
 * Whoever uses it sees to it that one operation follows the other, and that nobody has the drive
 * open from which a cartridge is taken.
 */

/** A drive, or a slot. */
export interface ChangerElement {
  readonly isFull: boolean;
  /** Of its cartridge, if it can be read; null also if it has bytes that no label has. */
  readonly barcode: string | null;
}

export interface ChangerDrive extends ChangerElement {
  /** From 0. */
  readonly drive: number;
  /** Where its cartridge came from; null: not known, or empty. */
  readonly sourceSlot: number | null;
}

export interface ChangerSlot extends ChangerElement {
  /** From 1. */
  readonly slot: number;
  readonly isImportExport: boolean;
}

export interface ChangerInventory {
  /** By number. */
  readonly drives: readonly ChangerDrive[];
  /** By number. */
  readonly slots: readonly ChangerSlot[];
}

export interface Changer {
  /** Path of the device or library, for errors. */
  readonly path: string;
  /** @throws ChangerError `unreachable`, `busy`, `failed`, `garbled` */
  inventory(): Promise<ChangerInventory>;
  /** @throws ChangerError `no-element`, `slot-empty`, `drive-full`, and as above */
  load(slot: number, drive: number): Promise<void>;
  /** @throws ChangerError `no-element`, `drive-empty`, `slot-full`, and as above */
  unload(drive: number, slot: number): Promise<void>;
  /** @throws ChangerError `no-element`, `slot-empty`, `slot-full`, and as above */
  transfer(from: number, to: number): Promise<void>;
}

/**
 * | code | what is the matter |
 * | --- | --- |
 * | no-element | there is no slot or drive of that number |
 * | slot-empty, slot-full | the slot that is moved from, or to |
 * | drive-empty, drive-full | the drive that is moved from, or to |
 * | busy | it is at work for somebody else, or gets ready: try again |
 * | failed | it is jammed, its door is open, it did not answer in time: somebody has to look |
 * | garbled | what it said makes no sense |
 * | unreachable | there is no such device, it is no changer, or `mtx` is not installed |
 */
export type ChangerErrorCode =
  | 'no-element'
  | 'slot-empty'
  | 'slot-full'
  | 'drive-empty'
  | 'drive-full'
  | 'busy'
  | 'failed'
  | 'garbled'
  | 'unreachable';

export class ChangerError extends Error {
  readonly code: ChangerErrorCode;

  constructor(code: ChangerErrorCode, message: string) {
    super(message);
    this.name = 'ChangerError';
    this.code = code;
  }
}

export function isChangerError(error: unknown, code?: ChangerErrorCode): error is ChangerError {
  return error instanceof ChangerError && (code === undefined || error.code === code);
}

/** One movement: between slots, from a slot to a drive, or from a drive to a slot. */
export interface ChangerMove {
  readonly from: ElementPlace;
  readonly to: ElementPlace;
}

export interface ElementPlace {
  readonly kind: 'slot' | 'drive';
  readonly number: number;
}

/** Why this movement cannot be done as things are, or undefined. */
export function moveRefusal(
  inventory: ChangerInventory,
  { from, to }: ChangerMove,
): ChangerError | undefined {
  const [source, goal] = [elementAt(inventory, from), elementAt(inventory, to)];
  const missing = source === undefined ? from : to;
  if (source === undefined || goal === undefined) {
    return new ChangerError('no-element', `there is no ${placeName(missing)}`);
  }
  if (!source.isFull) return new ChangerError(`${from.kind}-empty`, `${placeName(from)} is empty`);
  if (goal.isFull) return new ChangerError(`${to.kind}-full`, `${placeName(to)} is full`);
  return undefined;
}

function elementAt(
  { drives, slots }: ChangerInventory,
  { kind, number }: ElementPlace,
): ChangerElement | undefined {
  if (kind === 'drive') return drives.find(({ drive }) => drive === number);
  return slots.find(({ slot }) => slot === number);
}

function placeName({ kind, number }: ElementPlace): string {
  return `${kind} ${number}`;
}

/** What a sticker may say: Code 39, and the letters that people use beside it. */
const BARCODE = /^[A-Za-z0-9][A-Za-z0-9 $%+./_-]{0,31}$/;

/** What was read as a barcode, without the blanks that fill it up; null if it is none. */
export function asBarcode(read: string): string | null {
  const barcode = read.trimEnd();
  return BARCODE.test(barcode) ? barcode : null;
}

/** Cartridges that clean the drive instead of holding data are marked so. */
export function isCleaning(barcode: string | null): boolean {
  return barcode?.toUpperCase().startsWith('CLN') === true;
}

/** A barcode that two cartridges have names neither: it is not told of any. */
export function withDistinctBarcodes({ drives, slots }: ChangerInventory): ChangerInventory {
  const seen = new Map<string, number>();
  for (const { barcode } of [...drives, ...slots]) {
    if (barcode !== null) seen.set(barcode, (seen.get(barcode) ?? 0) + 1);
  }
  const told = <T extends ChangerElement>(element: T): T => {
    const isTwice = element.barcode !== null && (seen.get(element.barcode) ?? 0) > 1;
    return isTwice && !isCleaning(element.barcode) ? { ...element, barcode: null } : element;
  };
  return { drives: drives.map(told), slots: slots.map(told) };
}

/**
 * Where the cartridge of a drive is put back: where it came from if that is free, else the first
 * free slot that is no door. Undefined: there is none.
 */
export function homeSlot(inventory: ChangerInventory, drive: number): number | undefined {
  const source = inventory.drives.find((each) => each.drive === drive)?.sourceSlot;
  const free = inventory.slots.filter(({ isFull, isImportExport }) => !isFull && !isImportExport);
  return (free.find(({ slot }) => slot === source) ?? free[0])?.slot;
}
