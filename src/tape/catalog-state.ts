/**
 * What the catalog of a set of cartridges says: cartridges, and the backups on them. Pure.
 *
 * It is the sum of the lines of a journal (catalog.ts), each told once, in order. Cartridges can be
 * scanned in any order, any number of times: what a scan found replaces what was known of that
 * cartridge. A backup that was removed stays so, whatever is found of it later.
 *
 * What is asked for is worked out when it is first asked for and kept until a line changes it: the
 * cost follows what is asked, not what there is. Who keeps a state sees what is added to it.
 *
 * Invariant: what was confirmed is never behind the end of a cartridge for having lost its
 * trailer. A scan does not unlearn it, and the part that follows it proves it.
 */
import { LABEL_ONLY } from './append.ts';
import type { KnownEnd } from './append.ts';
import { HeldLabels } from './held.ts';
import { CatalogBackup } from './catalog-backup.ts';
import type { CatalogPart } from './catalog-backup.ts';
import type { VolumeLabel } from './label.ts';
import { holdsAnything } from './parts.ts';
import type { PartEntry } from './parts.ts';

export type CatalogLine =
  | { readonly kind: 'volume'; readonly label: VolumeLabel; readonly cartridge?: string }
  | {
      readonly kind: 'scanned';
      readonly label: VolumeLabel;
      readonly cartridge?: string;
      readonly parts: readonly CatalogPart[];
      readonly isFull: boolean;
    }
  /** What a label was read on, by barcode; null: it has none of ours. */
  | { readonly kind: 'seen'; readonly cartridge: string; readonly volumeId: string | null }
  | { readonly kind: 'full'; readonly volumeId: string }
  /** Labelled anew, or given up. */
  | { readonly kind: 'gone'; readonly volumeId: string }
  | {
      readonly kind: 'begun';
      readonly backupId: string;
      readonly backup: string;
      readonly contentId: string | null;
    }
  | { readonly kind: 'part'; readonly part: CatalogPart }
  | { readonly kind: 'removed'; readonly backupId: string };

export interface CatalogVolume {
  readonly label: VolumeLabel;
  readonly isFull: boolean;
  /** Where it may be written on. */
  readonly end: KnownEnd;
  /** Bytes of images on it, also of backups that were removed. */
  readonly dataBytes: number;
}

/** It is full with nothing on it: no part finds room there. */
export function isTooSmall({ isFull, end }: CatalogVolume): boolean {
  return isFull && end === LABEL_ONLY;
}

interface Begun {
  readonly name: string;
  readonly contentId: string | null;
}

/** Parts by partId. */
type Parts = Map<string, CatalogPart>;

export class CatalogState {
  readonly #labels = new Map<string, VolumeLabel>();
  readonly #full = new Set<string>();
  /** Name in a library, by volumeId. */
  readonly #cartridges = new Map<string, string>();
  readonly #held = new HeldLabels();
  readonly #begun = new Map<string, Begun>();
  readonly #removed = new Set<string>();
  /** By partId: what is told again is not there twice. */
  readonly #parts: Parts = new Map();
  readonly #onVolume = new Map<string, Parts>();
  readonly #ofBackup = new Map<string, Parts>();
  /** By volumeId, those that do not tell of themselves that they were confirmed: few. */
  readonly #unclosed = new Map<string, Parts>();
  /** What was worked out. */
  readonly #volumes = new Map<string, CatalogVolume>();
  readonly #backups = new Map<string, CatalogBackup>();

  constructor(lines: Iterable<CatalogLine> = []) {
    for (const line of lines) this.add(line);
  }

  /** By number, then by time of labelling. */
  get volumes(): CatalogVolume[] {
    return [...this.#labels.values()]
      .sort((a, b) => a.number - b.number || a.labelledAtMs - b.labelledAtMs)
      .map((label) => this.#volume(label));
  }

  volume(volumeId: string): CatalogVolume | undefined {
    const label = this.#labels.get(volumeId);
    return label === undefined ? undefined : this.#volume(label);
  }

  /** Its name in the library when it was last looked at. */
  cartridgeOf(volumeId: string): string | undefined {
    return this.#cartridges.get(volumeId);
  }

  /**
   * What a cartridge of a library held when its label was read: a volumeId, which the catalog need
   * not know; null: no label of ours; undefined: nobody has read it.
   */
  heldBy(cartridge: string): string | null | undefined {
    return this.#held.get(cartridge);
  }

  /** All that were not removed; of several with one name the newest is the last. */
  get backups(): CatalogBackup[] {
    const ids = new Set([...this.#begun.keys(), ...this.#ofBackup.keys()]);
    return this.#kept(ids).map((id) => this.#backup(id));
  }

  /** The one that this name stands for: a complete one first, then the newest. */
  byName(name: string): CatalogBackup | undefined {
    const found = this.backups.filter((backup) => backup.name === name);
    return found.findLast(({ isComplete }) => isComplete) ?? found.at(-1);
  }

  wasRemoved(backupId: string): boolean {
    return this.#removed.has(backupId);
  }

  /** Cartridges with bytes of backups that were not removed. */
  get volumesInUse(): string[] {
    return [...this.#onVolume.keys()].filter((id) => this.#isInUse(id));
  }

  /** Of the backups that were not removed and have a part on the cartridge. */
  backupNamesOn(volumeId: string): string[] {
    const parts = this.#partsOn(volumeId).filter(({ entry }) => holdsAnything(entry));
    const ids = new Set(parts.map(({ entry }) => entry.backupId));
    return [...new Set(this.#kept(ids).map((id) => this.#backup(id).name))];
  }

  /** One more line of the journal. */
  add(line: CatalogLine): void {
    switch (line.kind) {
      case 'volume':
        this.#addVolume(line.label, line.cartridge);
        return;
      case 'scanned':
        this.#addScan(line);
        return;
      case 'seen':
        this.#see(line.cartridge, line.volumeId);
        return;
      case 'full':
        this.#full.add(line.volumeId);
        this.#volumes.delete(line.volumeId);
        return;
      case 'gone':
        this.#forgetVolume(line.volumeId);
        return;
      case 'begun':
        this.#begun.set(line.backupId, { name: line.backup, contentId: line.contentId });
        this.#backups.delete(line.backupId);
        return;
      case 'part':
        this.#dropWrittenOver(line.part.entry);
        this.#addPart(line.part);
        return;
      case 'removed':
        this.#removed.add(line.backupId);
    }
  }

  #addScan({ label, cartridge, parts, isFull }: Extract<CatalogLine, { kind: 'scanned' }>): void {
    const kept = parts.map((part) => this.#knownBetter(part) ?? part);
    // A scan does not try whether more finds room.
    const { volumeId } = label;
    const hasSeenLess = kept.some((part, at) => part !== parts[at]);
    const was = this.volume(volumeId);
    this.#forgetVolume(volumeId);
    this.#addVolume(label, cartridge);
    for (const part of kept) this.#addPart(part);
    const isAsLong =
      was !== undefined && this.#volume(label).end.place.object >= was.end.place.object;
    if (isFull || (was?.isFull === true && (hasSeenLess || isAsLong))) this.#full.add(volumeId);
    this.#volumes.delete(volumeId);
  }

  /** The part as it was confirmed, where a scan finds it there without a trailer. */
  #knownBetter({ entry }: CatalogPart): CatalogPart | undefined {
    const known = this.#parts.get(entry.partId);
    if (entry.state !== 'open' || known === undefined || !isConfirmed(known.entry)) {
      return undefined;
    }
    const { volumeId, place } = known.entry;
    return volumeId === entry.volumeId && place.object === entry.place.object ? known : undefined;
  }

  #addVolume(label: VolumeLabel, cartridge: string | undefined): void {
    this.#labels.set(label.volumeId, label);
    this.#volumes.delete(label.volumeId);
    if (cartridge !== undefined) this.#see(cartridge, label.volumeId);
  }

  /** What was in this cartridge before is not there any more. */
  #see(cartridge: string, volumeId: string | null): void {
    for (const [id, name] of this.#cartridges) {
      if (name === cartridge) this.#cartridges.delete(id);
    }
    this.#held.see(cartridge, volumeId);
    if (volumeId !== null) this.#cartridges.set(volumeId, cartridge);
  }

  #forgetVolume(volumeId: string): void {
    this.#labels.delete(volumeId);
    this.#full.delete(volumeId);
    this.#cartridges.delete(volumeId);
    this.#held.forgetVolume(volumeId);
    for (const part of this.#partsOn(volumeId)) this.#dropPart(part);
    this.#volumes.delete(volumeId);
  }

  #addPart(part: CatalogPart): void {
    const { partId, volumeId, backupId } = part.entry;
    const before = this.#parts.get(partId);
    if (before !== undefined) this.#dropPart(before);
    this.#parts.set(partId, part);
    partsIn(this.#onVolume, volumeId).set(partId, part);
    partsIn(this.#ofBackup, backupId).set(partId, part);
    if (!isConfirmed(part.entry)) partsIn(this.#unclosed, volumeId).set(partId, part);
    this.#touch(part);
  }

  /** The rest of a transfer that was cut off, which a scan has found, is gone with what follows. */
  #dropWrittenOver({ volumeId, partId, place }: PartEntry): void {
    for (const part of this.#unclosed.get(volumeId)?.values() ?? []) {
      const { entry } = part;
      const isBehind = entry.partId !== partId && entry.end.object > place.object;
      if (isBehind && !this.#counts(entry)) this.#dropPart(part);
    }
  }

  /** It was confirmed, as its entry or another part tells. */
  #counts(entry: PartEntry): boolean {
    return isConfirmed(entry) || isFollowed(entry, this.#entriesOf(entry.backupId));
  }

  #dropPart(part: CatalogPart): void {
    const { partId, volumeId, backupId } = part.entry;
    this.#parts.delete(partId);
    dropFrom(this.#onVolume, volumeId, partId);
    dropFrom(this.#ofBackup, backupId, partId);
    dropFrom(this.#unclosed, volumeId, partId);
    this.#touch(part);
  }

  /** What was worked out with this part, or without it, does not hold any more. */
  #touch({ entry }: CatalogPart): void {
    this.#volumes.delete(entry.volumeId);
    if (entry.previousVolumeId !== null) this.#volumes.delete(entry.previousVolumeId);
    this.#backups.delete(entry.backupId);
  }

  /** Those that were not removed, the oldest first. */
  #kept(ids: ReadonlySet<string>): string[] {
    return [...ids].filter((id) => !this.#removed.has(id)).sort();
  }

  #isInUse(volumeId: string): boolean {
    return this.#partsOn(volumeId).some(({ entry }) => {
      return holdsAnything(entry) && !this.#removed.has(entry.backupId);
    });
  }

  #partsOn(volumeId: string): CatalogPart[] {
    return [...(this.#onVolume.get(volumeId)?.values() ?? [])];
  }

  #volume(label: VolumeLabel): CatalogVolume {
    const known = this.#volumes.get(label.volumeId);
    if (known !== undefined) return known;
    const entries = this.#partsOn(label.volumeId)
      .map(({ entry }) => entry)
      .sort((a, b) => a.place.object - b.place.object);
    const last = entries.findLast((entry) => this.#counts(entry));
    const hasEnded = entries.some(({ endsVolume }) => endsVolume);
    const made: CatalogVolume = {
      label,
      isFull: this.#full.has(label.volumeId) || hasEnded || this.#isLeft(entries.at(-1)),
      end: last === undefined ? LABEL_ONLY : { place: last.end, partId: last.partId },
      dataBytes: entries.reduce((sum, { dataBytes }) => sum + dataBytes, 0),
    };
    this.#volumes.set(label.volumeId, made);
    return made;
  }

  /** The last part of a cartridge, without a trailer, which the backup left behind it. */
  #isLeft(last: PartEntry | undefined): boolean {
    if (last === undefined || isConfirmed(last)) return false;
    const others = this.#entriesOf(last.backupId);
    return others.some((other) => other.volumeId !== last.volumeId && follows(other, last));
  }

  #entriesOf(backupId: string): PartEntry[] {
    return [...(this.#ofBackup.get(backupId)?.values() ?? [])].map(({ entry }) => entry);
  }

  #backup(backupId: string): CatalogBackup {
    const known = this.#backups.get(backupId);
    if (known !== undefined) return known;
    const parts = [...(this.#ofBackup.get(backupId)?.values() ?? [])];
    const { name, contentId = null } = this.#begun.get(backupId) ?? {};
    const told = parts.find(({ entry }) => entry.backup !== null)?.entry.backup;
    const made = new CatalogBackup(backupId, name ?? told ?? '', contentId, parts);
    this.#backups.set(backupId, made);
    return made;
  }
}

function partsIn(all: Map<string, Parts>, id: string): Parts {
  const parts = all.get(id) ?? new Map<string, CatalogPart>();
  all.set(id, parts);
  return parts;
}

function dropFrom(all: Map<string, Parts>, id: string, partId: string): void {
  const parts = all.get(id);
  parts?.delete(partId);
  if (parts?.size === 0) all.delete(id);
}

/** A filemark behind its data was written with success, as far as the entry alone tells. */
function isConfirmed({ state, endsVolume }: PartEntry): boolean {
  return state !== 'open' || endsVolume;
}

/**
 * A part of its backup names this cartridge as that of the part before it, and begins behind where
 * this one begins. Parts begin behind what is confirmed, so this one was.
 */
function isFollowed(entry: PartEntry, others: readonly PartEntry[]): boolean {
  return others.some((other) => follows(other, entry));
}

function follows(other: PartEntry, entry: PartEntry): boolean {
  const { previousVolumeId, firstOffset } = other;
  return previousVolumeId === entry.volumeId && firstOffset > entry.firstOffset;
}
