/**
 * The harness of the changer's contract over `mtx`: the changer SPINDLE_TEST_CHANGER (default
 * /dev/sg1) of a library with the cartridges T001 and T002, whose drive 0 is SPINDLE_TEST_TAPE.
 * Others that are in it are put into its last slots, and not seen.
 */
import type { Changer, ChangerElement, ChangerInventory } from '../../src/tape/changer.ts';
import { MtxChanger } from '../../src/tape/mtx-changer.ts';
import { stDevice } from '../../src/tape/st-drive.ts';
import { giveBack } from '../../src/tape/volume.ts';
import type { ChangerUseHarness } from '../contract/changer-use.ts';
import { placesOf } from '../contract/changer.ts';

export const changerPath = process.env['SPINDLE_TEST_CHANGER'] ?? '/dev/sg1';

const OWN: readonly (string | null)[] = ['T001', 'T002', null];

/** The changer as it is without the cartridges of others. */
class OwnCartridges implements Changer {
  readonly all: Changer;

  constructor(all: Changer) {
    this.all = all;
  }

  get path(): string {
    return this.all.path;
  }

  async inventory(): Promise<ChangerInventory> {
    const seen = <E extends ChangerElement>(element: E): E => {
      return OWN.includes(element.barcode) ? element : { ...element, isFull: false, barcode: null };
    };
    const { drives, slots } = await this.all.inventory();
    return { drives: drives.map(seen), slots: slots.map(seen) };
  }

  load(slot: number, drive: number): Promise<void> {
    return this.all.load(slot, drive);
  }

  unload(drive: number, slot: number): Promise<void> {
    return this.all.unload(drive, slot);
  }

  transfer(from: number, to: number): Promise<void> {
    return this.all.transfer(from, to);
  }
}

export class MtxChangerHarness implements ChangerUseHarness {
  readonly kind = 'tape';
  readonly path = process.env['SPINDLE_TEST_TAPE'] ?? '/dev/nst0';
  readonly changer = new OwnCartridges(new MtxChanger(changerPath));
  readonly device = stDevice(this.path);

  static async make(): Promise<MtxChangerHarness> {
    return new MtxChangerHarness();
  }

  async reset(): Promise<void> {
    await giveBack(await this.device.open('read'));
    const { all } = this.changer;
    const { drives, slots } = await all.inventory();
    if (drives[0]?.isFull === true) await all.unload(0, await this.#freeSlot());
    for (const { slot, barcode } of slots) {
      const last = await this.#freeSlot();
      if (!OWN.includes(barcode) && slot < last) await all.transfer(slot, last);
    }
    await this.#put('T002', 2);
    await this.#put('T001', 1);
    await this.#put('T002', 2);
  }

  others(): readonly MtxChanger[] {
    // sg0 is the drive, which takes none of a changer's commands.
    return [new MtxChanger('/dev/sg99'), new MtxChanger('/dev/null'), new MtxChanger('/dev/sg0')];
  }

  async dispose(): Promise<void> {
    await giveBack(await this.device.open('read'));
  }

  /** What lies there already goes out of its way. */
  async #put(barcode: string, slot: number): Promise<void> {
    const inventory = await this.changer.inventory();
    const place = placesOf(inventory)[barcode] ?? '';
    if (place === `slot ${slot}`) return;
    if (inventory.slots[slot - 1]?.isFull === true) {
      await this.changer.transfer(slot, await this.#freeSlot());
    }
    await this.changer.transfer(Number(place.replace('slot ', '')), slot);
  }

  /** Behind those of the tests. */
  async #freeSlot(): Promise<number> {
    const { slots } = await this.changer.all.inventory();
    return slots.findLast(({ isFull }) => !isFull)?.slot ?? 0;
  }
}
