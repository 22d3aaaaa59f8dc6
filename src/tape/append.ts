/**
 * Finds the place where a cartridge may be written on, and proves that nothing is lost by it.
 *
 *  1. The label is that of the cartridge that is wanted.
 *  2. What the catalog knows is there: the data reaches as far, the last part is the known one.
 *  3. What lies behind that is looked at. Closed parts were confirmed before the catalog could note
 *     them: they are given to the caller, and writing goes on behind them. What is then left is the
 *     rest of a transfer that was cut off: a filemark at its beginning cuts it off.
 *  4. Where that is refused (a cartridge written once only), writing goes on behind everything.
 *
 * Rules: docs/format/tape.md, "Writing".
 */
import { isTapeError } from './drive.ts';
import type { TapeDevice } from './drive.ts';
import { asMediumError, mediumError, volumeName } from './media.ts';
import type { VolumeName } from './media.ts';
import { FIRST_PLACE } from './parts.ts';
import type { TapePlace } from './parts.ts';
import { BadRecord, decodeRecord } from './record.ts';
import { scanVolume } from './scan.ts';
import type { ScannedPart, VolumeScan } from './scan.ts';
import { checkLabel, mountVolume, readLabel, releaseVolume } from './volume.ts';
import type { MountedVolume } from './volume.ts';

/** What the catalog knows of a cartridge. */
export interface KnownEnd {
  /** Behind the filemark of the last part, or of the label. */
  readonly place: TapePlace;
  /** The last part in front of it; null if there is none, or it is not known. */
  readonly partId: string | null;
}

export const LABEL_ONLY: KnownEnd = { place: FIRST_PLACE, partId: null };

export interface AppendPoint {
  /** Open for writing; the drive stands at `place`. The caller gives it back. */
  readonly volume: MountedVolume;
  readonly place: TapePlace;
  /** Closed parts that the catalog did not know, in the order of the tape. */
  readonly adopted: readonly ScannedPart[];
  /** Nothing may be written: the cartridge was full. */
  readonly isFull: boolean;
}

/**
 * Opens a cartridge where its data ended.
 *
 * @throws as `mountVolume`; MEDIUM_MISMATCH if the tape ends before, or something else is on it
 */
export async function openForAppend(
  device: TapeDevice,
  wanted: VolumeName,
  known: KnownEnd,
): Promise<AppendPoint> {
  return appendOn(device, await mountVolume(device, 'write', wanted), known);
}

/**
 * The same on a cartridge that is mounted for writing. An error gives it back.
 *
 * @throws MEDIUM_MISMATCH, TARGET_UNAVAILABLE
 */
export async function appendOn(
  device: TapeDevice,
  volume: MountedVolume,
  known: KnownEnd,
): Promise<AppendPoint> {
  const wanted = volumeName(volume.label);
  let found: Found;
  try {
    found = await look(volume, known);
    if (found.rest === undefined || found.isFull) return await stand(volume, found);
    if (await cutOff(volume, found.place)) {
      return { ...found, volume, place: behindFilemark(found.place) };
    }
  } catch (error) {
    await releaseVolume(volume, true);
    throw asMediumError(error, { device: device.path, volume: wanted.label });
  }
  // After an error of the drive: only a cartridge whose label was read again is written to.
  await releaseVolume(volume, true);
  return appendBehindAll(device, wanted, found, found.rest);
}

/**
 * Closed parts behind what the catalog knows. The drive stands anywhere afterwards.
 *
 * @throws MEDIUM_MISMATCH as `openForAppend`; TapeError
 */
export async function unknownParts(
  volume: MountedVolume,
  known: KnownEnd,
): Promise<readonly ScannedPart[]> {
  return (await look(volume, known)).adopted;
}

interface Found {
  /** Behind the last closed part. */
  readonly place: TapePlace;
  readonly adopted: readonly ScannedPart[];
  readonly isFull: boolean;
  /** Set if there is something behind `place`. */
  readonly rest: VolumeScan | undefined;
}

async function look(volume: MountedVolume, known: KnownEnd): Promise<Found> {
  const { drive, label } = volume;
  await drive.seekEndOfData();
  const end = await drive.tell();
  if (end < known.place.object) {
    const expected = known.place.object;
    const message = `cartridge ${label.label} ends at ${end}, the catalog knows ${expected}`;
    throw mismatch(message, label.label);
  }
  await checkLast(volume, known);
  const { place } = known;
  if (end === place.object) return { place, adopted: [], isFull: false, rest: undefined };
  const scan = await scanVolume(volume, place);
  if (scan.others.some(({ kind }) => kind === 'foreign')) {
    const message = `behind its last part cartridge ${label.label} holds something else`;
    throw mismatch(message, label.label);
  }
  const adopted = scan.parts.filter(({ entry }) => entry.state !== 'open');
  const last = adopted.at(-1)?.entry;
  const reached = last?.end ?? place;
  const rest = reached.object < end ? scan : undefined;
  return { place: reached, adopted, isFull: last?.endsVolume === true, rest };
}

/** The last part in front of the known end must be the known one. */
async function checkLast(volume: MountedVolume, known: KnownEnd): Promise<void> {
  const { drive, buffer, label } = volume;
  const { place, partId } = known;
  await drive.seek(place.object - 1);
  if ((await drive.read(buffer)) !== 0) {
    const message = `cartridge ${label.label} has no filemark where its data ended`;
    throw mismatch(message, label.label);
  }
  if (partId === null) return;
  let length: number;
  try {
    await drive.seek(place.object - 2);
    length = await drive.read(buffer);
  } catch (error) {
    if (!isTapeError(error, 'EIO')) throw error;
    // A bad spot costs this trailer, no more; but only if it is still the same cartridge.
    checkLabel(await readLabel(drive, buffer), volumeName(label));
    return;
  }
  const record = decodeRecord(buffer.subarray(0, length));
  if (!(record instanceof BadRecord) && record.head.partId !== partId) {
    const message = `the last part on cartridge ${label.label} is another one`;
    throw mismatch(message, label.label);
  }
}

async function stand(volume: MountedVolume, found: Found): Promise<AppendPoint> {
  if (!found.isFull) await goExactly(volume, found.place);
  return { ...found, volume };
}

/** @returns false if the cartridge refuses: then the drive must not be used on */
async function cutOff(volume: MountedVolume, place: TapePlace): Promise<boolean> {
  const { drive, label } = volume;
  await goExactly(volume, place);
  try {
    await drive.writeFilemarks(1);
  } catch (error) {
    if (isTapeError(error, 'EIO')) return false;
    throw error;
  }
  await drive.seekEndOfData();
  if ((await drive.tell()) === place.object + 1) return true;
  throw mismatch(`cartridge ${label.label} does not end where a filemark was written`, label.label);
}

async function appendBehindAll(
  device: TapeDevice,
  wanted: VolumeName,
  found: Found,
  { end, endsWithFilemark }: VolumeScan,
): Promise<AppendPoint> {
  const volume = await mountVolume(device, 'write', wanted);
  try {
    await goExactly(volume, end);
    if (endsWithFilemark) return { ...found, volume, place: end };
    await volume.drive.writeFilemarks(1);
    return { ...found, volume, place: behindFilemark(end) };
  } catch (error) {
    await releaseVolume(volume, true);
    throw asMediumError(error, { device: device.path, volume: wanted.label });
  }
}

async function goExactly({ drive, label }: MountedVolume, { object }: TapePlace): Promise<void> {
  await drive.seek(object);
  const told = await drive.tell();
  if (told === object) return;
  throw mismatch(`cartridge ${label.label} stands at ${told} instead of ${object}`, label.label);
}

function behindFilemark({ object, file }: TapePlace): TapePlace {
  return { object: object + 1, file: file + 1 };
}

function mismatch(message: string, volume: string) {
  const next = 'scan the cartridge; until then load another one to write';
  return mediumError('MEDIUM_MISMATCH', message, next, { volume });
}
