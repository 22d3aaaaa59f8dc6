/**
 * Puts together what scans of cartridges found: sets and backups, and what of them is missing.
 *
 * Pure. Any subset of the cartridges, in any order, gives what it holds: more cartridges only add.
 *
 * Rules: docs/format/tape.md, "What counts".
 */
import type { Json } from './fields.ts';
import type { VolumeLabel } from './label.ts';
import { volumeName } from './media.ts';
import type { VolumeName } from './media.ts';
import { partEnd } from './parts.ts';
import type { PartEntry } from './parts.ts';
import type { ScannedPart } from './scan.ts';
import { SET_START } from './set-writer.ts';
import type { SetPosition } from './set-writer.ts';

export interface VolumeContents {
  readonly label: VolumeLabel;
  readonly parts: readonly ScannedPart[];
}

/** Bytes `offset` … `offset + length` of an image. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface FoundSet {
  readonly setId: string;
  readonly set: string;
  /** By number. */
  readonly volumes: readonly VolumeName[];
  /** Numbers below the highest one of which there is no cartridge. */
  readonly missingNumbers: readonly number[];
  /** Numbers that several cartridges have. */
  readonly doubleNumbers: readonly number[];
}

export interface FoundBackup {
  readonly backupId: string;
  /** null if no header of a part could be read. */
  readonly backup: string | null;
  readonly info: Json | null;
  readonly manifest: Json | null;
  /** The final part was found, closed. Bytes may be missing all the same. */
  readonly isComplete: boolean;
  /** Length of the image, null if the final part was not found. */
  readonly imageBytes: number | null;
  /** By place in the image. */
  readonly parts: readonly PartEntry[];
  /** What no part holds, up to `imageBytes`, or else to the end of the last part. */
  readonly missing: readonly ByteRange[];
  /** Cartridges that the found parts name, and that are not among those scanned. */
  readonly missingVolumeIds: readonly string[];
}

export function assembleSets(labels: readonly VolumeLabel[]): FoundSet[] {
  return [...Map.groupBy(labels, ({ setId }) => setId).values()].map((members) => {
    const sorted = members.toSorted((a, b) => a.number - b.number);
    const ids = Map.groupBy(sorted, ({ number }) => number);
    const highest = sorted.at(-1)?.number ?? 0;
    const numbers = Array.from({ length: highest }, (_, index) => index + 1);
    const idsOf = (number: number) => new Set(ids.get(number)?.map(({ volumeId }) => volumeId));
    const first = sorted[0];
    return {
      setId: first?.setId ?? '',
      set: first?.set ?? '',
      volumes: sorted.map(volumeName),
      missingNumbers: numbers.filter((number) => idsOf(number).size === 0),
      doubleNumbers: numbers.filter((number) => idsOf(number).size > 1),
    };
  });
}

export function assembleBackups(volumes: readonly VolumeContents[]): FoundBackup[] {
  const scanned = new Set(volumes.map(({ label }) => label.volumeId));
  const parts = volumes.flatMap((volume) => volume.parts);
  const byBackup = Map.groupBy(parts, ({ entry }) => entry.backupId);
  return [...byBackup].map(([backupId, found]) => assembleBackup(backupId, found, scanned));
}

function assembleBackup(
  backupId: string,
  found: readonly ScannedPart[],
  scanned: ReadonlySet<string>,
): FoundBackup {
  const parts = sortParts(found.map(({ entry }) => entry));
  const finals = found.filter(({ entry }) => entry.state === 'final');
  const final = finals.find(({ manifest }) => manifest !== null) ?? finals[0];
  const imageBytes = final === undefined ? null : partEnd(final.entry);
  const named = parts.flatMap(({ previousVolumeId }) => previousVolumeId ?? []);
  return {
    backupId,
    backup: parts.find(({ backup }) => backup !== null)?.backup ?? null,
    info: found.find(({ header }) => header !== null)?.header?.info ?? null,
    manifest: final?.manifest ?? null,
    isComplete: final !== undefined,
    imageBytes,
    parts,
    missing: missingRanges(parts, imageBytes ?? highest(parts, partEnd, 0)),
    missingVolumeIds: [...new Set(named.filter((id) => !scanned.has(id)))],
  };
}

/** By place in the image; of equal places the longer one first. */
export function sortParts(parts: readonly PartEntry[]): PartEntry[] {
  return parts.toSorted((a, b) => a.firstOffset - b.firstOffset || b.dataBytes - a.dataBytes);
}

/** What of the bytes 0 … `end` no part holds. @param parts sorted */
export function missingRanges(parts: readonly PartEntry[], end: number): ByteRange[] {
  const missing: ByteRange[] = [];
  let reached = 0;
  for (const part of parts) {
    const gapEnd = Math.min(part.firstOffset, end);
    if (gapEnd > reached) missing.push({ offset: reached, length: gapEnd - reached });
    reached = Math.max(reached, partEnd(part));
  }
  if (end > reached) missing.push({ offset: reached, length: end - reached });
  return missing;
}

/**
 * Where a backup that was cut off goes on: behind what is confirmed without a gap. Open parts count
 * if they end a cartridge: the writer noted those when their data was confirmed.
 */
export function resumePosition(parts: readonly PartEntry[]): SetPosition {
  let { offset, previousVolumeId } = SET_START;
  for (const part of sortParts(parts)) {
    const isConfirmed = part.state !== 'open' || part.endsVolume;
    if (!isConfirmed || part.firstOffset > offset || partEnd(part) <= offset) continue;
    offset = partEnd(part);
    previousVolumeId = part.volumeId;
  }
  const part = highest(parts, (each) => each.part, -1) + 1;
  return { part, offset, previousVolumeId };
}

function highest<T>(items: readonly T[], valueOf: (item: T) => number, least: number): number {
  return items.reduce((most, item) => Math.max(most, valueOf(item)), least);
}
