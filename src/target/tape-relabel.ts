/**
 * Which cartridges may be labelled anew, and why the others are kept. Pure but for `unknownParts`.
 *
 * A cartridge that the catalog knows is free if no backup that was kept has bytes on it and its
 * label does not keep it longer. One of the set that the catalog does not know, or that holds more
 * than it knows, may hold what somebody counts on: it is scanned first.
 */
import { rfc3339 } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import { unknownParts } from '../tape/append.ts';
import type { CatalogState, CatalogVolume } from '../tape/catalog-state.ts';
import type { VolumeLabel } from '../tape/label.ts';
import { mediumError, volumeName } from '../tape/media.ts';
import type { MountedVolume } from '../tape/volume.ts';

const NAMES_TOLD = 3;

/** Why a cartridge of the catalog is kept now; null: it may be labelled anew. */
export function keptBecause(
  { volumeId, expiresAtMs }: VolumeLabel,
  state: CatalogState,
  nowMs: number,
): string | null {
  const names = state.backupNamesOn(volumeId);
  const more = names.length > NAMES_TOLD ? ` and ${names.length - NAMES_TOLD} more` : '';
  if (names.length > 0) return `needed by ${names.slice(0, NAMES_TOLD).join(', ')}${more}`;
  if (expiresAtMs === null || expiresAtMs <= nowMs) return null;
  return `expires at ${rfc3339(expiresAtMs)}`;
}

/** @param same all cartridges of the set with this number, itself among them */
export function sameNumberProblem(
  { set, number, volumeId }: VolumeLabel,
  same: readonly CatalogVolume[],
): string | null {
  const others = same.map(({ label }) => label.volumeId).filter((id) => id !== volumeId);
  if (others.length === 0) return null;
  return `set ${set} has another cartridge of number ${number}: ${others.join(', ')}`;
}

/**
 * Refuses a cartridge of which the catalog does not know all that is on it.
 *
 * @throws MEDIUM_MISMATCH; TapeError
 */
export async function assertAllKnown(
  volume: MountedVolume,
  state: CatalogState,
  set: string,
): Promise<void> {
  const { label } = volume;
  const known = state.volume(label.volumeId);
  if (known === undefined) {
    if (label.set !== set) return;
    throw unknown(label, `cartridge ${label.label} is of this set, and not in the catalog`);
  }
  const found = await unknownParts(volume, known.end);
  const parts = found.filter(({ entry }) => !state.wasRemoved(entry.backupId));
  if (parts.length === 0) return;
  const names = [...new Set(parts.map(({ entry }) => entry.backup ?? 'one without a name'))];
  const what = names.slice(0, NAMES_TOLD).join(', ');
  throw unknown(label, `cartridge ${label.label} holds bytes that the catalog has not: of ${what}`);
}

function unknown(label: VolumeLabel, message: string): StorageError {
  const next = `scan it first, load another one, or give force: "${label.label}"`;
  return mediumError('MEDIUM_MISMATCH', message, next, { found: volumeName(label) });
}
