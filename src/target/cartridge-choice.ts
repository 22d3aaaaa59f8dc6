/**
 * Which cartridge of a library to look at next for one that is needed. Pure.
 *
 * What a cartridge holds is believed, by its barcode or by its slot, until its label was read: a
 * belief chooses what to load, never what to write to.
 */
import { isCleaning } from '../tape/changer.ts';
import type { ChangerInventory } from '../tape/changer.ts';

/** A cartridge in a library, and where it is. */
export interface Located {
  /** Names it as long as nobody moves it by hand: its barcode, else its slot. */
  readonly key: string;
  readonly barcode: string | null;
  /** Null: it is in a drive. */
  readonly slot: number | null;
  readonly isImportExport: boolean;
  /** Null: it is in a slot. */
  readonly drive: number | null;
  /** Of one in a drive, if the changer knows. */
  readonly sourceSlot: number | null;
}

export function locate({ drives, slots }: ChangerInventory): Located[] {
  const inDrives = drives.flatMap(({ drive, isFull, barcode, sourceSlot }): Located[] => {
    if (!isFull) return [];
    const key = keyOf(barcode, sourceSlot === null ? `drive:${drive}` : slotRef(sourceSlot));
    return [{ key, barcode, slot: null, isImportExport: false, drive, sourceSlot }];
  });
  const inSlots = slots.flatMap(({ slot, isFull, barcode, isImportExport }): Located[] => {
    if (!isFull) return [];
    const key = keyOf(barcode, slotRef(slot));
    return [{ key, barcode, slot, isImportExport, drive: null, sourceSlot: null }];
  });
  return [...inDrives, ...inSlots];
}

/** How a slot is named where a cartridge could be. */
export function slotRef(slot: number): string {
  return `slot:${slot}`;
}

function keyOf(barcode: string | null, place: string): string {
  return barcode === null ? place : `barcode:${barcode}`;
}

/** A volumeId; null: it has no label of ours; undefined: nobody has looked. */
export type Belief = string | null | undefined;

export interface Search {
  readonly cartridges: readonly Located[];
  /** The drive that is to have the cartridge. */
  readonly drive: number;
  readonly believe: (cartridge: Located) => Belief;
  /** Labelled ones that serve, the best first. */
  readonly serving: readonly string[];
  /** Keys of those that were tried in vain. */
  readonly refused: ReadonlySet<string>;
}

export type Choice =
  /** It is in the drive: read its label. */
  | { readonly kind: 'there'; readonly cartridge: Located }
  | { readonly kind: 'load'; readonly cartridge: Located; readonly slot: number }
  | { readonly kind: 'none' };

/**
 * What is in the drive comes first: nothing has to be moved. Then one that is believed to serve,
 * then one that nobody has looked at; of these, one in the door last, as somebody may be about to
 * take it away. A cleaning cartridge never.
 */
export function chooseCartridge(search: Search): Choice {
  const { drive, serving, refused } = search;
  const ranked = search.cartridges
    .filter(({ key, barcode }) => !refused.has(key) && !isCleaning(barcode))
    .map((cartridge) => ({ cartridge, rank: rankOf(search.believe(cartridge), serving) }))
    .filter(({ rank }) => rank <= serving.length)
    .sort((a, b) => groupOf(a, serving) - groupOf(b, serving) || a.rank - b.rank);
  const there = ranked.find(({ cartridge }) => cartridge.drive === drive)?.cartridge;
  if (there !== undefined) return { kind: 'there', cartridge: there };
  for (const { cartridge } of ranked) {
    if (cartridge.slot !== null) return { kind: 'load', cartridge, slot: cartridge.slot };
  }
  return { kind: 'none' };
}

function groupOf(
  { cartridge, rank }: { readonly cartridge: Located; readonly rank: number },
  serving: readonly string[],
): number {
  return (rank === serving.length ? 2 : 0) + (cartridge.isImportExport ? 1 : 0);
}

/** Unknown ones behind all that serve; beyond that: it does not serve. */
function rankOf(belief: Belief, serving: readonly string[]): number {
  if (belief === undefined) return serving.length;
  const place = belief === null ? -1 : serving.indexOf(belief);
  return place < 0 ? Infinity : place;
}
