/**
 * What a target does with the changer of its drive: fetching what a job needs, moving what hands
 * ask for.
 *
 * The caller has the drive: no job and no hands use it meanwhile, and nobody has it open.
 *
 * Invariants:
 *  1. Each movement is decided by an inventory of the same turn with the changer, never by memory:
 *     a process that was killed between two of them is no special case.
 *  2. What is fetched had its label read in the drive. Who writes reads it again.
 *  3. A cleaning cartridge is never fetched.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { TapeCatalog } from '../tape/catalog.ts';
import type { CatalogState } from '../tape/catalog-state.ts';
import { homeSlot, isChangerError } from '../tape/changer.ts';
import type { ChangerInventory } from '../tape/changer.ts';
import { alignedBuffer } from '../base/aligned-memory.ts';
import type { TapeDevice } from '../tape/drive.ts';
import { asMediumError, mediumError } from '../tape/media.ts';
import { MAX_RECORD_BYTES } from '../tape/record.ts';
import { giveBack, openDrive, readLabel } from '../tape/volume.ts';
import type { FoundLabel } from '../tape/volume.ts';
import { locate } from './cartridge-choice.ts';
import type { Belief, Located } from './cartridge-choice.ts';
import { asLibraryError } from './changer-error.ts';
import type { ChangerRoom, ChangerTurn } from './changer-room.ts';

/** A drive takes that long to thread a tape, at most; it is asked every so often. */
const READY_MS = 180_000;
const POLL_MS = 1000;

export interface ChangerUseOptions {
  readonly room: ChangerRoom;
  /** Number of the target's drive in the changer. */
  readonly drive: number;
  readonly catalog: TapeCatalog;
  readonly openDevice: () => Promise<TapeDevice>;
  readonly readyMs?: number;
  readonly pollMs?: number;
}

export class ChangerUse {
  readonly room: ChangerRoom;
  readonly drive: number;
  readonly #o: ChangerUseOptions;

  constructor(options: ChangerUseOptions) {
    this.#o = options;
    this.room = options.room;
    this.drive = options.drive;
  }

  get catalog(): TapeCatalog {
    return this.#o.catalog;
  }

  /** What is known of what a cartridge holds. */
  belief(state: CatalogState, { key, barcode }: Located): Belief {
    return barcode === null ? this.room.guess(key) : state.heldBy(barcode);
  }

  /** What is in the drive. @throws TARGET_UNAVAILABLE */
  async loaded(): Promise<Located | undefined> {
    return locate(await this.inventory()).find(({ drive }) => drive === this.drive);
  }

  /** @throws TARGET_UNAVAILABLE */
  async inventory(): Promise<ChangerInventory> {
    return this.#told(() => this.room.inventory());
  }

  /** @throws VALIDATION_FAILED: there is no such drive; TARGET_UNAVAILABLE */
  async checkDrive(): Promise<void> {
    const { drives } = await this.inventory();
    if (drives.some(({ drive }) => drive === this.drive)) return;
    const message = `the changer has no drive ${this.drive}`;
    const facts = { field: 'changerDrive', changer: this.room.path, drives: drives.length };
    throw new StorageError('VALIDATION_FAILED', message, facts);
  }

  /** A turn with the changer, its errors as ours. */
  async turn<T>(work: (turn: ChangerTurn) => Promise<T>): Promise<T> {
    return this.#told(() => this.room.turn(work));
  }

  /** Puts what is in the drive away, and this into it. In a turn with the changer. */
  async exchange(turn: ChangerTurn, inventory: ChangerInventory, slot: number): Promise<void> {
    await this.empty(turn, inventory);
    await turn.changer.load(slot, this.drive);
  }

  /**
   * Puts what is in the drive into a slot, default its own or a free one. In a turn.
   *
   * @returns where it is now; undefined: the drive was empty
   * @throws TARGET_IN_USE there is no free slot
   */
  async empty(
    { changer }: ChangerTurn,
    inventory: ChangerInventory,
    slot?: number,
  ): Promise<number | undefined> {
    if (inventory.drives.find(({ drive }) => drive === this.drive)?.isFull !== true) {
      return undefined;
    }
    const to = slot ?? homeSlot(inventory, this.drive);
    if (to === undefined) {
      const message = 'there is no free slot for the cartridge in the drive';
      throw new StorageError('TARGET_IN_USE', message, { next: 'take cartridges out' });
    }
    await this.#eject();
    await changer.unload(this.drive, to);
    return to;
  }

  /**
   * The label of what is in the drive, once that is ready.
   *
   * @throws MEDIUM_ABSENT: it has not got ready; TARGET_UNAVAILABLE
   */
  async readLoaded(signal?: AbortSignal): Promise<FoundLabel> {
    await this.waitReady(signal);
    const device = await this.#o.openDevice();
    const drive = await openDrive(device, 'read');
    try {
      return await readLabel(drive, alignedBuffer(MAX_RECORD_BYTES));
    } catch (error) {
      throw asMediumError(error, { device: device.path });
    } finally {
      await giveBack(drive, true);
    }
  }

  /** @throws MEDIUM_ABSENT: it has not got ready in time; TARGET_UNAVAILABLE */
  async waitReady(signal?: AbortSignal): Promise<void> {
    const { readyMs = READY_MS, pollMs = POLL_MS } = this.#o;
    const device = await this.#o.openDevice();
    for (let waitedMs = 0; ; waitedMs += pollMs) {
      signal?.throwIfAborted();
      try {
        await giveBack(await openDrive(device, 'read'));
        return;
      } catch (error) {
        if (!isStorageError(error, 'MEDIUM_ABSENT')) throw error;
        if (waitedMs >= readyMs) {
          const message = `drive ${this.drive} of the changer is full, but ${device.path} is not`;
          const next = 'look whether they are the same drive, and at the drive';
          throw mediumError('MEDIUM_ABSENT', message, next, { device: device.path });
        }
        // What was ejected and not taken out has to be asked for.
        if (waitedMs === 0) await this.#loadAgain(device);
      }
      await delay(pollMs, undefined, { signal });
    }
  }

  /** Notes what a cartridge holds, if that is news. */
  async remember(cartridge: Located, found: FoundLabel): Promise<void> {
    const volumeId = found.kind === 'label' ? found.label.volumeId : null;
    await this.noteHeld(cartridge, volumeId);
  }

  async noteHeld({ key, barcode }: Located, volumeId: string | null): Promise<void> {
    if (barcode === null) {
      this.room.remember(key, volumeId);
      return;
    }
    const known = (await this.catalog.read()).heldBy(barcode);
    if (known !== volumeId) await this.catalog.add({ kind: 'seen', cartridge: barcode, volumeId });
  }

  /** Rewinds it and lets go of it, so that the changer may take it. */
  async #eject(): Promise<void> {
    const device = await this.#o.openDevice();
    try {
      const drive = await device.open('read');
      try {
        await drive.unload();
      } finally {
        await giveBack(drive);
      }
    } catch (error) {
      const told = asMediumError(error, { device: device.path });
      // It was ejected before, and not taken out.
      if (!isStorageError(told, 'MEDIUM_ABSENT')) throw told;
    }
  }

  async #loadAgain(device: TapeDevice): Promise<void> {
    try {
      const drive = await device.open('read');
      try {
        await drive.load();
      } finally {
        await giveBack(drive);
      }
    } catch (error) {
      const told = asMediumError(error);
      if (!(told instanceof StorageError)) throw told;
    }
  }

  async #told<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw isChangerError(error) ? asLibraryError(error, { changer: this.room.path }) : error;
    }
  }
}
