/**
 * A virtual tape library: a directory of cartridges, slots for them, and drives.
 *
 * The directory holds `library.json` and one .tap file per cartridge. To rehearse, people do with
 * it what they would do in the machine room: load and take out cartridges, slide the write-protect
 * tab, carry some off-site (the shelf), and let things go wrong.
 *
 *  1. `open` reads the directory or begins a new library in it.
 *  2. `device` gives a drive as the program sees it; all other methods are hands from outside, and
 *     may act while a program works.
 *
 * Invariants: (1) a cartridge is in one place, a slot or drive holds at most one; (2) a drive is
 * open once among all processes; (3) what a killed process wrote gets the filemark that the kernel
 * would have written for it, at the next open.
 */
import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defined } from '../base/assert.ts';
import { StorageError, errnoOf } from '../base/errors.ts';
import { TapeError } from './drive.ts';
import type { TapeDevice, TapeDrive } from './drive.ts';
import { tryOwn } from './exclusive.ts';
import {
  isCartridgeName,
  newCartridge,
  readLibrary,
  syncDirectory,
  tapNames,
  tapPath,
  writeLibrary,
} from './library-file.ts';
import type { CartridgeRecord, Place } from './library-file.ts';
import { StState } from './st-state.ts';
import { TapFile } from './tap-file.ts';
import { VirtualDrive } from './virtual-drive.ts';
import { VirtualMechanism } from './virtual-mechanism.ts';
import type { Cartridge, Fault } from './virtual-mechanism.ts';

export interface LibraryOptions {
  /** Of a new library; default 1. */
  readonly drives?: number;
  /** Of a new library; default 8. */
  readonly slots?: number;
  /** Of a new library, behind the other slots: where people put in and take out; default none. */
  readonly importExportSlots?: number;
  /** False for a program that is not root on a real machine. Default true. */
  readonly mayChangeOptions?: boolean;
}

export type CartridgeChange = Partial<
  Pick<CartridgeRecord, 'sizeBytes' | 'earlyWarningBytes' | 'writeProtected' | 'worm'>
>;

export interface LibrarySize {
  readonly drives: number;
  /** Without those of the door. */
  readonly slots: number;
  readonly importExportSlots: number;
}

interface Drive {
  readonly mechanism: VirtualMechanism;
  /** The driver's, anew for each connection; undefined while the drive is unplugged. */
  state: StState | undefined;
}

export class VirtualLibrary {
  readonly directory: string;
  readonly #options: LibraryOptions;
  readonly #cartridges = new Map<string, Cartridge & CartridgeRecord>();
  readonly #drives: Drive[];
  readonly size: LibrarySize;

  private constructor(
    directory: string,
    options: LibraryOptions,
    size: LibrarySize,
    cartridges: readonly CartridgeRecord[],
  ) {
    this.directory = directory;
    this.#options = options;
    this.size = size;
    this.#drives = Array.from({ length: size.drives }, () => ({
      mechanism: new VirtualMechanism(),
      state: new StState(),
    }));
    for (const record of cartridges) this.#place(record);
  }

  /**
   * Costs the reading of a small file.
   *
   * @throws TARGET_INVALID if the directory holds a list that cannot be understood
   */
  static async open(directory: string, options: LibraryOptions = {}): Promise<VirtualLibrary> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const record = await readLibrary(directory);
    const listed = record?.cartridges ?? [];
    const known = new Set(listed.map(({ name }) => name));
    const found = (await tapNames(directory)).filter((name) => !known.has(name));
    const { drives = 1, slots = 8, importExportSlots = 0 } = record ?? options;
    const size = { drives, slots, importExportSlots };
    const cartridges = [...listed, ...found.map((name) => newCartridge(name))];
    const library = new VirtualLibrary(directory, options, size, cartridges);
    if (record === undefined || found.length > 0) await library.#save();
    return library;
  }

  /** The drive as programs see it. */
  device(drive = 0): TapeDevice {
    const path = join(this.directory, `drive-${drive}`);
    return { path, open: (mode) => this.#openDrive(drive, mode) };
  }

  cartridges(): CartridgeRecord[] {
    return [...this.#cartridges.values()].map(({ file: _file, ...record }) => record);
  }

  /**
   * A blank cartridge, in the first free slot, or on the shelf if there is none.
   *
   * @throws NAME_INVALID, NAME_TAKEN
   */
  async addCartridge(name: string, sizeBytes?: number, earlyWarningBytes?: number): Promise<void> {
    if (!isCartridgeName(name)) {
      const message = 'a name matches [A-Za-z0-9][A-Za-z0-9._-]{0,31}';
      throw new StorageError('NAME_INVALID', message, { cartridge: name });
    }
    if (this.#cartridges.has(name)) {
      const message = `there is a cartridge ${name}`;
      throw new StorageError('NAME_TAKEN', message, { cartridge: name });
    }
    const file = await open(tapPath(this.directory, name), 'ax', 0o600);
    await file.close();
    const record = newCartridge(name, sizeBytes);
    if (earlyWarningBytes !== undefined) record.earlyWarningBytes = earlyWarningBytes;
    this.#place({ ...record, place: this.#freePlace() });
    await syncDirectory(this.directory);
    await this.#save();
  }

  /** Puts a cartridge into a drive; what is in there goes back to its slot, or a free place. */
  async load(name: string, drive = 0): Promise<void> {
    const { mechanism } = this.#drive(drive);
    if (mechanism.cartridge?.name === name) return;
    if (mechanism.cartridge !== undefined) await this.unload(drive);
    await this.move(name, { kind: 'drive', drive });
  }

  /** Takes the cartridge out of a drive. @throws TARGET_IN_USE if the door is locked */
  async unload(drive = 0): Promise<void> {
    const { cartridge } = this.#drive(drive).mechanism;
    if (cartridge !== undefined) await this.move(cartridge.name, this.#homeOf(cartridge.name));
  }

  /** Puts a cartridge into a free slot, or on the shelf if there is none. @throws NOT_FOUND */
  async stow(name: string): Promise<void> {
    await this.move(name, this.#freePlace());
  }

  /**
   * Moves a cartridge: what a changer does, or a person with a cardboard box.
   *
   * @throws NOT_FOUND, or TARGET_IN_USE if the place is taken or the drive's door is locked
   */
  async move(name: string, place: Place): Promise<void> {
    const cartridge = this.#cartridge(name);
    const from = cartridge.place;
    if (place.kind !== 'shelf' && this.#at(place) !== undefined) {
      throw new StorageError('TARGET_IN_USE', 'there is a cartridge in that place', { place });
    }
    if (from.kind === 'drive') {
      const { mechanism } = this.#drive(from.drive);
      if (mechanism.isDoorLocked) {
        throw new StorageError('TARGET_IN_USE', `the door of drive ${from.drive} is locked`, from);
      }
      await mechanism.remove();
    }
    const isFromSlot = place.kind === 'drive' && from.kind === 'slot';
    cartridge.place = isFromSlot ? { ...place, source: from.slot } : place;
    if (place.kind === 'drive') await this.#drive(place.drive).mechanism.insert(cartridge);
    await this.#save();
  }

  /** Slides the tab, or makes a cartridge larger or smaller. */
  async change(name: string, change: CartridgeChange): Promise<void> {
    Object.assign(this.#cartridge(name), change);
    await this.#save();
  }

  /** A bad spot: this record cannot be read any more. */
  async damage(name: string, object: number): Promise<void> {
    await this.#withFile(name, (file) => file.damage(object));
  }

  /** What is on a cartridge: lengths of records in bytes, -1 for a filemark. */
  async objects(name: string): Promise<number[]> {
    return this.#withFile(name, async (file) =>
      Array.from({ length: file.count }, (_, at) => defined(file.lengthAt(at), 'object')),
    );
  }

  /** Each command of that kind takes so much longer; 0 for as fast as the host. */
  setDelay(operation: Fault['operation'], delayMs: number, drive = 0): void {
    this.#drive(drive).mechanism.delays.set(operation, delayMs);
  }

  injectFault(fault: Fault, drive = 0): void {
    this.#drive(drive).mechanism.faults.push({ ...fault });
  }

  /** Options that an administrator has set with `mt`, and that outlast every close. */
  setDriverOptions(options: { blockSizeBytes?: number; asyncWrites?: boolean }, drive = 0): void {
    Object.assign(defined(this.#drive(drive).state, 'driver of an unplugged drive'), options);
  }

  /** Pulls the drive's cable: there is no such device, and who has it open has lost it. */
  unplug(drive = 0): void {
    this.#drive(drive).state = undefined;
  }

  /** Back again: the tape stands where it stood, and the driver knows nothing of it. */
  plugIn(drive = 0): void {
    this.#drive(drive).state ??= new StState();
  }

  /** Closes the files of cartridges, also where a drive was left open. */
  async close(): Promise<void> {
    for (const { mechanism } of this.#drives) await mechanism.rest();
  }

  async #openDrive(drive: number, mode: 'read' | 'write'): Promise<TapeDrive> {
    const { mechanism, state } = this.#drive(drive);
    if (state === undefined) throw new TapeError('ENOENT', 'open');
    const { dev, ino } = await stat(this.directory);
    const ownership = await tryOwn(`spindle-tape-${dev}-${ino}-${drive}`);
    if (ownership === undefined) throw new TapeError('EBUSY', 'open');
    try {
      const marker = join(this.directory, `drive-${drive}.writing`);
      await this.#finishKilledWriter(marker);
      return await VirtualDrive.open(mechanism, state, mode, {
        mayChangeOptions: this.#options.mayChangeOptions ?? true,
        isGone: () => this.#drive(drive).state !== state,
        noteWriting: (isWriting) => noteWriting(marker, isWriting, mechanism.cartridge?.name),
        release: async () => {
          await mechanism.rest();
          await ownership.release();
        },
      });
    } catch (error) {
      await ownership.release();
      throw error;
    }
  }

  /**
   * If the marker is there, a process was killed between a record and its filemark: it goes to the
   * end of the data of the cartridge that the marker names, wherever that is by now.
   */
  async #finishKilledWriter(marker: string): Promise<void> {
    let name: string;
    try {
      name = await readFile(marker, 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return;
      throw error;
    }
    if (this.#cartridges.has(name)) {
      await this.#withFile(name, async (file) => {
        await file.appendFilemark();
        await file.sync();
      });
    }
    await rm(marker, { force: true });
  }

  async #withFile<T>(name: string, body: (file: TapFile) => Promise<T>): Promise<T> {
    const { file } = this.#cartridge(name);
    await file.use();
    try {
      return await body(file);
    } finally {
      await file.release();
    }
  }

  #place(record: CartridgeRecord): void {
    const file = new TapFile(tapPath(this.directory, record.name));
    const cartridge = { ...record, file };
    this.#cartridges.set(record.name, cartridge);
    if (record.place.kind !== 'drive') return;
    this.#drive(record.place.drive).mechanism.begin(cartridge);
  }

  #drive(drive: number): Drive {
    const found = this.#drives[drive];
    if (found === undefined) throw new StorageError('NOT_FOUND', 'no such drive', { drive });
    return found;
  }

  #cartridge(name: string): Cartridge & CartridgeRecord {
    const cartridge = this.#cartridges.get(name);
    if (cartridge !== undefined) return cartridge;
    throw new StorageError('NOT_FOUND', `no cartridge ${name}`, { cartridge: name });
  }

  #at(place: Place): CartridgeRecord | undefined {
    if (place.kind === 'drive') this.#drive(place.drive);
    const { slots, importExportSlots } = this.size;
    if (place.kind === 'slot' && place.slot >= slots + importExportSlots) {
      throw new StorageError('NOT_FOUND', 'no such slot', { slot: place.slot });
    }
    return [...this.#cartridges.values()].find((each) => isSamePlace(each.place, place));
  }

  /** Where a cartridge goes back to: its own slot, if that is free still. */
  #homeOf(name: string): Place {
    const { place } = this.#cartridge(name);
    const slot = place.kind === 'drive' ? place.source : undefined;
    const isFree = slot !== undefined && this.#at({ kind: 'slot', slot }) === undefined;
    return isFree && slot < this.size.slots ? { kind: 'slot', slot } : this.#freePlace();
  }

  /** That of a cartridge in a drive only if there is no other. */
  #freePlace(): Place {
    const places = [...this.#cartridges.values()].map(({ place }) => place);
    const taken = new Set(places.flatMap((place) => (place.kind === 'slot' ? place.slot : [])));
    const homes = new Set(
      places.flatMap((place) => (place.kind === 'drive' ? (place.source ?? []) : [])),
    );
    const slots = Array.from({ length: this.size.slots }, (_, slot) => slot);
    const free = slots.filter((slot) => !taken.has(slot));
    const slot = free.find((each) => !homes.has(each)) ?? free[0];
    return slot === undefined ? { kind: 'shelf' } : { kind: 'slot', slot };
  }

  #save(): Promise<void> {
    return writeLibrary(this.directory, {
      format: 'spindle-virtual-library',
      version: 1,
      ...this.size,
      cartridges: this.cartridges(),
    });
  }
}

function isSamePlace(a: Place, b: Place): boolean {
  if (a.kind === 'drive') return b.kind === 'drive' && a.drive === b.drive;
  return a.kind === 'slot' && b.kind === 'slot' && a.slot === b.slot;
}

/** @param cartridge that is written to */
async function noteWriting(marker: string, isWriting: boolean, cartridge = ''): Promise<void> {
  if (isWriting) await writeFile(marker, cartridge, { mode: 0o600 });
  else await rm(marker, { force: true });
}
