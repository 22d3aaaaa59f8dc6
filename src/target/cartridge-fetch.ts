/**
 * Getting a cartridge that a job needs out of a library into the drive, one try after the other,
 * until a label was read that serves. One fetcher for as long as a job has the drive.
 *
 * What was fetched and did not serve all the same (it is write-protected, say) is not fetched again
 * for the same need, unless hands have moved it meanwhile: so this comes to an end.
 */
import { StorageError } from '../base/errors.ts';
import type { CatalogState } from '../tape/catalog-state.ts';
import type { FoundLabel } from '../tape/volume.ts';
import { chooseCartridge, locate } from './cartridge-choice.ts';
import type { Choice, Located } from './cartridge-choice.ts';
import type { ChangerTurn } from './changer-room.ts';
import type { ChangerUse } from './changer-use.ts';
import type { NeededMedium } from './tape-drive-use.ts';

export interface FetchOptions {
  /** What is in the drive is left there: hands are at it. */
  readonly leaveLoaded: boolean;
  /** Between two steps. */
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** Called after each step that may take minutes: the job is not stuck. */
  readonly progressed: () => void;
}

/** More than a large library has: a changer that makes no sense does not keep us for ever. */
const MAX_STEPS = 20_000;

export class CartridgeFetcher {
  readonly #use: ChangerUse;
  /** Of what does not serve: the slot where it was left, or null while it is in the drive. */
  readonly #refused = new Map<string, number | null>();
  #need = '';
  #given: string | undefined;
  /** What was the matter at the last search; null: it is only that the cartridge is not there. */
  problem: string | null = null;

  constructor(use: ChangerUse) {
    this.#use = use;
  }

  /**
   * Fetches it, if it is in the library. Asking again for the same says that what was fetched does
   * not serve.
   *
   * @returns true: a cartridge that serves, by its label, is in the drive. Never throws for what is
   *   the matter with the changer or a drive: somebody can load it by hand
   */
  async fetch(needed: NeededMedium, options: FetchOptions): Promise<boolean> {
    this.#begin(needed);
    try {
      return await this.#search(needed, options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (!(error instanceof StorageError)) throw error;
      if (this.problem !== error.message) options.log(`changer: ${error.message}`);
      this.problem = error.message;
      return false;
    }
  }

  /**
   * Whether a search would look at a cartridge, or has something to say. It moves nothing; to be
   * asked while the job waits, before `fetch`.
   */
  async sees(needed: NeededMedium): Promise<boolean> {
    try {
      const choice = await this.#use.turn(async (turn) => {
        return this.#choose(locate(await turn.look()), needed, new Set());
      });
      return choice.kind !== 'none' || this.problem !== null;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      return true;
    }
  }

  #begin(needed: NeededMedium): void {
    const need = needed.volumeId ?? '';
    if (need !== this.#need) this.#refused.clear();
    else if (this.#given !== undefined) this.#refused.set(this.#given, null);
    this.#need = need;
    this.#given = undefined;
  }

  async #search(needed: NeededMedium, options: FetchOptions): Promise<boolean> {
    let isOurs = false;
    /** Whatever beliefs become: none is looked at twice. */
    const looked = new Set<string>();
    for (let step = 0; step < MAX_STEPS; step += 1) {
      options.signal.throwIfAborted();
      const choice = await this.#use.turn((turn) => this.#step(turn, needed, looked, options));
      if (choice.kind === 'none') break;
      const { cartridge } = choice;
      isOurs ||= choice.kind === 'load';
      options.progressed();
      const found = await this.#use.readLoaded(options.signal);
      options.progressed();
      await this.#use.remember(cartridge, found);
      this.problem = null;
      if (serves(found, await this.#serving(needed))) {
        this.#given = cartridge.key;
        return true;
      }
      options.log(`changer: ${nameOf(cartridge)} has ${labelOf(found)}, which does not serve`);
      looked.add(cartridge.key);
    }
    // Nobody but us needs what is left in the drive now.
    if (isOurs) await this.#use.turn((turn) => this.#putBack(turn, options));
    return false;
  }

  async #step(
    turn: ChangerTurn,
    needed: NeededMedium,
    looked: ReadonlySet<string>,
    options: FetchOptions,
  ): Promise<Choice> {
    const inventory = await turn.look();
    const cartridges = locate(inventory);
    const choice = await this.#choose(cartridges, needed, looked);
    const { drive } = this.#use;
    if (choice.kind !== 'load') return choice;
    const inDrive = cartridges.find((each) => each.drive === drive);
    if (inDrive !== undefined && options.leaveLoaded) return { kind: 'none' };
    const left = await this.#use.empty(turn, inventory);
    this.#noteLeft(inDrive, left);
    options.progressed();
    await turn.changer.load(choice.slot, drive);
    options.log(`changer: ${nameOf(choice.cartridge)} loaded from slot ${choice.slot}`);
    return choice;
  }

  async #choose(
    cartridges: readonly Located[],
    needed: NeededMedium,
    looked: ReadonlySet<string>,
  ): Promise<Choice> {
    this.#forgetMoved(cartridges);
    const state = await this.#use.catalog.read();
    return chooseCartridge({
      cartridges,
      drive: this.#use.drive,
      believe: (cartridge) => this.#use.belief(state, cartridge),
      serving: servingOf(state, needed),
      refused: new Set([...this.#refused.keys(), ...looked]),
    });
  }

  async #putBack(turn: ChangerTurn, { log }: FetchOptions): Promise<void> {
    const inventory = await turn.look();
    const inDrive = locate(inventory).find(({ drive }) => drive === this.#use.drive);
    const left = await this.#use.empty(turn, inventory);
    this.#noteLeft(inDrive, left);
    if (inDrive !== undefined) log(`changer: ${nameOf(inDrive)} put back`);
  }

  #noteLeft(cartridge: Located | undefined, slot: number | undefined): void {
    if (cartridge === undefined || slot === undefined) return;
    if (this.#refused.has(cartridge.key)) this.#refused.set(cartridge.key, slot);
  }

  /** What hands have taken out, or moved: it may be another, or another way round, by now. */
  #forgetMoved(cartridges: readonly Located[]): void {
    for (const [key, left] of this.#refused) {
      const now = cartridges.find((cartridge) => cartridge.key === key);
      const isMoved = left !== null && now?.slot !== left;
      if (now === undefined || isMoved) this.#refused.delete(key);
    }
  }

  async #serving(needed: NeededMedium): Promise<string[]> {
    return servingOf(await this.#use.catalog.read(), needed);
  }
}

/** Which labelled cartridges serve, the best first: begun ones are filled before fresh ones. */
function servingOf(state: CatalogState, { volumeId, set }: NeededMedium): string[] {
  if (volumeId !== null) return [volumeId];
  const open = state.volumes.filter(({ label, isFull }) => label.set === set && !isFull);
  return open
    .sort((a, b) => Number(b.dataBytes > 0) - Number(a.dataBytes > 0))
    .map(({ label }) => label.volumeId);
}

function serves(found: FoundLabel, serving: readonly string[]): boolean {
  return found.kind === 'label' && serving.includes(found.label.volumeId);
}

function nameOf({ barcode, slot, sourceSlot }: Located): string {
  if (barcode !== null) return barcode;
  return `the cartridge of slot ${slot ?? sourceSlot ?? '?'}`;
}

function labelOf(found: FoundLabel): string {
  return found.kind === 'label' ? `label ${found.label.label}` : 'no label of ours';
}
