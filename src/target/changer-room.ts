/**
 * One changer as all targets of this process share it: one of them uses it at a time.
 *
 * It also remembers what cartridges without a barcode hold, by their slots. That is a guess: hands
 * may swap them unseen. A slot that was seen empty is forgotten, and so is everything at a restart.
 */
import { Mutex } from '../base/mutex.ts';
import type { Changer, ChangerInventory } from '../tape/changer.ts';
import { HeldLabels } from '../tape/held.ts';
import { MtxChanger } from '../tape/mtx-changer.ts';
import { VirtualChanger } from '../tape/virtual-changer.ts';
import { locate } from './cartridge-choice.ts';
import type { Belief } from './cartridge-choice.ts';
import { openLibrary } from './tape-device.ts';
import type { TapeKind } from './tape-device.ts';

/** What somebody may do in its turn with the changer. */
export interface ChangerTurn {
  readonly changer: Changer;
  /** @throws ChangerError */
  readonly look: () => Promise<ChangerInventory>;
}

export class ChangerRoom {
  readonly path: string;
  readonly #changer: Changer;
  readonly #turns = new Mutex();
  readonly #held = new HeldLabels();
  #last: ChangerInventory | undefined;
  #waiting = 0;

  constructor(changer: Changer) {
    this.path = changer.path;
    this.#changer = changer;
  }

  /** Runs `work` while nobody else uses the changer. */
  async turn<T>(work: (turn: ChangerTurn) => Promise<T>): Promise<T> {
    this.#waiting += 1;
    try {
      const turn = { changer: this.#changer, look: () => this.#look() };
      return await this.#turns.run(() => work(turn));
    } finally {
      this.#waiting -= 1;
    }
  }

  /** What is where; while the changer is at work, what was there before. @throws ChangerError */
  async inventory(): Promise<ChangerInventory> {
    if (this.#waiting > 0 && this.#last !== undefined) return this.#last;
    return this.turn(({ look }) => look());
  }

  /** What a cartridge without a barcode holds. */
  guess(key: string): Belief {
    return this.#held.get(key);
  }

  remember(key: string, volumeId: string | null): void {
    this.#held.see(key, volumeId);
  }

  async #look(): Promise<ChangerInventory> {
    const inventory = await this.#changer.inventory();
    this.#last = inventory;
    const there = new Set(locate(inventory).map(({ key }) => key));
    for (const key of this.#held.names()) if (!there.has(key)) this.#held.forget(key);
    return inventory;
  }
}

/** Of a target: the changer's device, or the library itself. */
export interface ChangerPlace {
  readonly kind: TapeKind;
  readonly path: string;
  /** Number of the target's drive in it. */
  readonly drive: number;
}

export class ChangerRooms {
  readonly #rooms = new Map<string, ChangerRoom>();

  room({ kind, path }: Pick<ChangerPlace, 'kind' | 'path'>): ChangerRoom {
    const there = this.#rooms.get(path);
    if (there !== undefined) return there;
    const changer =
      kind === 'tape' ? new MtxChanger(path) : new VirtualChanger(path, () => openLibrary(path));
    const made = new ChangerRoom(changer);
    this.#rooms.set(path, made);
    return made;
  }
}
