/**
 * The contract of medium changers as tests: in `npm test` over that of a virtual library, in
 * `npm run test:tape` over `mtx` and the device of a real one.
 *
 *     describeChanger('virtual', async () => harness);
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { homeSlot, isChangerError } from '../../src/tape/changer.ts';
import type { Changer, ChangerInventory } from '../../src/tape/changer.ts';
import type { TapeDevice } from '../../src/tape/drive.ts';

/** One drive, at least six slots, of which only the first two have a cartridge. */
export interface ChangerHarness {
  readonly changer: Changer;
  /** Its drive 0. */
  readonly device: TapeDevice;
  /** T001 is in slot 1 and T002 in slot 2, the drive is empty and nobody has it open. */
  reset(): Promise<void>;
  /** One whose device is not there, and one whose device is no changer. */
  others(): readonly Changer[];
  dispose(): Promise<void>;
}

export function describeChanger(name: string, make: () => Promise<ChangerHarness>): void {
  describe(`changer: ${name}`, () => {
    let harness: ChangerHarness;
    let changer: Changer;

    beforeEach(async () => {
      harness = await make();
      await harness.reset();
      ({ changer } = harness);
    });
    afterEach(async () => {
      await harness.dispose();
    });

    it('tells what is where', async () => {
      const { drives, slots } = await changer.inventory();
      expect(drives[0]).toEqual({ drive: 0, isFull: false, barcode: null, sourceSlot: null });
      expect(slots.map(({ slot }) => slot)).toEqual(slots.map((_, index) => index + 1));
      expect(slots.length).toBeGreaterThan(5);
      expect(slots.slice(0, 3)).toEqual([
        { slot: 1, isFull: true, barcode: 'T001', isImportExport: false },
        { slot: 2, isFull: true, barcode: 'T002', isImportExport: false },
        { slot: 3, isFull: false, barcode: null, isImportExport: false },
      ]);
    });

    it('loads the drive, which then knows where that came from, and unloads it', async () => {
      await changer.load(2, 0);
      const loaded = await changer.inventory();
      expect(loaded.drives[0]).toEqual({ drive: 0, isFull: true, barcode: 'T002', sourceSlot: 2 });
      expect(loaded.slots[1]).toMatchObject({ isFull: false, barcode: null });
      expect(homeSlot(loaded, 0)).toBe(2);
      expect(await isOnline(harness)).toBe(true);
      await changer.unload(0, 5);
      expect(placesOf(await changer.inventory())).toEqual({ T001: 'slot 1', T002: 'slot 5' });
      expect(await isOnline(harness)).toBe(false);
    });

    it('moves cartridges from slot to slot', async () => {
      await changer.transfer(1, 6);
      expect(placesOf(await changer.inventory())).toEqual({ T001: 'slot 6', T002: 'slot 2' });
    });

    it('goes over to another cartridge', async () => {
      await changer.load(1, 0);
      expect(await isOnline(harness)).toBe(true);
      await changer.unload(0, 1);
      await changer.load(2, 0);
      expect(placesOf(await changer.inventory())).toEqual({ T001: 'slot 1', T002: 'drive 0' });
      expect(await isOnline(harness)).toBe(true);
    });

    it('refuses what cannot be done, each with its code, and moves nothing', async () => {
      const { slots } = await changer.inventory();
      const none = slots.length + 1;
      expect(await codeOf(changer.load(3, 0))).toBe('slot-empty');
      expect(await codeOf(changer.load(none, 0))).toBe('no-element');
      expect(await codeOf(changer.load(0, 0))).toBe('no-element');
      expect(await codeOf(changer.load(1, 9))).toBe('no-element');
      expect(await codeOf(changer.unload(0, 3))).toBe('drive-empty');
      expect(await codeOf(changer.unload(9, 3))).toBe('no-element');
      expect(await codeOf(changer.transfer(3, 4))).toBe('slot-empty');
      expect(await codeOf(changer.transfer(1, 2))).toBe('slot-full');
      expect(await codeOf(changer.transfer(1, none))).toBe('no-element');
      expect(placesOf(await changer.inventory())).toEqual({ T001: 'slot 1', T002: 'slot 2' });
      await changer.load(1, 0);
      expect(await codeOf(changer.load(2, 0))).toBe('drive-full');
      expect(await codeOf(changer.load(1, 0))).toBe('slot-empty');
      expect(await codeOf(changer.unload(0, 2))).toBe('slot-full');
      expect(placesOf(await changer.inventory())).toEqual({ T001: 'drive 0', T002: 'slot 2' });
    });

    it('cannot take a cartridge out of a locked drive', async () => {
      await changer.load(1, 0);
      const drive = await harness.device.open('read');
      await drive.rewind();
      await drive.lock();
      expect(await codeOf(changer.unload(0, 1))).toBe('failed');
      expect(placesOf(await changer.inventory())).toMatchObject({ T001: 'drive 0' });
      await drive.unlock();
      await drive.unload();
      await drive.close();
      await changer.unload(0, 1);
      expect(placesOf(await changer.inventory())).toMatchObject({ T001: 'slot 1' });
    });

    it('that is not there, or is none, cannot be reached', async () => {
      for (const other of harness.others()) {
        expect(await codeOf(other.inventory())).toBe('unreachable');
        expect(await codeOf(other.load(1, 0))).toBe('unreachable');
      }
    });
  });
}

/** 'ok', or the code with which it was refused. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error: unknown) => {
      if (isChangerError(error)) return error.code;
      throw error;
    },
  );
}

/** Where each barcode is. */
export function placesOf({ drives, slots }: ChangerInventory): Record<string, string> {
  const places: [string, string][] = [];
  for (const { drive, barcode } of drives) {
    if (barcode !== null) places.push([barcode, `drive ${drive}`]);
  }
  for (const { slot, barcode } of slots) {
    if (barcode !== null) places.push([barcode, `slot ${slot}`]);
  }
  return Object.fromEntries(places);
}

async function isOnline({ device }: ChangerHarness): Promise<boolean> {
  const drive = await device.open('read');
  try {
    return (await drive.status()).online;
  } finally {
    await drive.close();
  }
}
