/**
 * Labelling: makes a cartridge one of ours, and forgets all that was on it.
 *
 * Decide (`labelRefusal`, pure, on what was read through this open drive), then do: label and
 * filemark are written, and read again.
 *
 * Invariant: a cartridge that is neither blank nor expired nor given free by the catalog is
 * overwritten only if its label, or the word `foreign` where it has none, was typed.
 */
import { rfc3339 } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import { alignedBuffer } from '../base/aligned-memory.ts';
import { isTapeError } from './drive.ts';
import type { TapeDevice } from './drive.ts';
import { encodeLabel } from './label.ts';
import type { VolumeLabel } from './label.ts';
import { asMediumError, mediumError, volumeName } from './media.ts';
import { LABEL_RECORD_BYTES, MAX_RECORD_BYTES } from './record.ts';
import { giveBack, openDrive, readLabel } from './volume.ts';
import type { FoundLabel, MountedVolume } from './volume.ts';

/** What is typed to overwrite a cartridge that has no label of ours. */
export const FOREIGN_WORD = 'foreign';

export interface LabelRequest {
  readonly label: VolumeLabel;
  readonly nowMs: number;
  /** The label that is on the cartridge now, typed by who wants it overwritten. */
  readonly force?: string;
  /** volumeIds that the catalog has given free. */
  readonly released?: readonly string[];
  /** volumeIds with backups that the catalog still has: they do not expire by their labels. */
  readonly inUse?: readonly string[];
}

/** @returns the label to be written */
export type DecideLabel = (
  found: FoundLabel,
  mounted: MountedVolume | undefined,
) => Promise<VolumeLabel>;

/** Why this cartridge must not be labelled, or undefined. */
export function labelRefusal(found: FoundLabel, request: LabelRequest): StorageError | undefined {
  if (found.kind === 'blank') return undefined;
  if (found.kind !== 'label') return foreignRefusal(found.message, found.kind, request);
  const { label } = found;
  const isInUse = request.inUse?.includes(label.volumeId) === true;
  const isPast = label.expiresAtMs !== null && label.expiresAtMs <= request.nowMs;
  const hasExpired = isPast && !isInUse;
  const isReleased = request.released?.includes(label.volumeId) === true;
  if (request.force === label.label) return undefined;
  if (hasExpired || isReleased) return typedRefusal(label, request.force);
  return mediumError(
    'MEDIUM_UNEXPIRED',
    `cartridge ${label.label} may not be overwritten: ${whyKept(label, isPast, isInUse)}`,
    `load another one, ${isInUse ? 'delete its backups, ' : ''}or give force: "${label.label}"`,
    { found: volumeName(label), expiresAt: timeOf(label.expiresAtMs) },
  );
}

/** Who types another label has another cartridge in mind, though this one would be free. */
function typedRefusal(label: VolumeLabel, force: string | undefined): StorageError | undefined {
  if (force === undefined) return undefined;
  return mediumError(
    'MEDIUM_WRONG',
    `cartridge ${label.label} is in the drive, and "${force}" was to be overwritten`,
    `load that one, or give no force: this one is free`,
    { found: volumeName(label) },
  );
}

function whyKept({ expiresAtMs }: VolumeLabel, isPast: boolean, isInUse: boolean): string {
  const expiresAt = timeOf(expiresAtMs);
  const expiry = expiresAt === null ? 'it does not expire by itself' : `it expires at ${expiresAt}`;
  if (!isInUse) return expiry;
  const backups = 'backups that the catalog has are on it';
  return isPast || expiresAt === null ? backups : `${backups}, and ${expiry}`;
}

function timeOf(ms: number | null): string | null {
  return ms === null ? null : rfc3339(ms);
}

function foreignRefusal(
  message: string,
  kind: 'foreign' | 'newer',
  request: LabelRequest,
): StorageError | undefined {
  if (request.force === FOREIGN_WORD) return undefined;
  return mediumError(
    kind === 'newer' ? 'MEDIUM_UNSUPPORTED' : 'MEDIUM_FOREIGN',
    `the cartridge holds something else: ${message}`,
    `load another one, or give force: "${FOREIGN_WORD}" to lose what is on it`,
  );
}

/** Labels the cartridge in the drive if that is allowed, as `labelAfter` does. */
export async function labelVolume(device: TapeDevice, request: LabelRequest): Promise<FoundLabel> {
  return labelAfter(device, async (found) => {
    const refusal = labelRefusal(found, request);
    if (refusal !== undefined) throw refusal;
    return request.label;
  });
}

/**
 * Labels the cartridge in the drive. Afterwards it is rewound, and the drive closed.
 *
 * @param decide given what is on it, mounted if that is a label of ours, while nobody can change
 *   it; throws to leave it as it is
 * @returns what was on it
 * @throws MEDIUM_ABSENT, MEDIUM_READ_ONLY (also if it can be written once only), MEDIUM_UNEXPIRED,
 *   MEDIUM_FOREIGN, MEDIUM_UNSUPPORTED, TARGET_UNAVAILABLE; MEDIUM_MISMATCH if it reads otherwise
 */
export async function labelAfter(device: TapeDevice, decide: DecideLabel): Promise<FoundLabel> {
  const buffer = alignedBuffer(MAX_RECORD_BYTES);
  const found = await tryLabel(device, decide, buffer);
  const { again, hasFilemark } = await lookAgain(device, buffer);
  const isOnTape = again.kind === 'label' && again.label.volumeId === found.volumeId;
  if (isOnTape && hasFilemark) return found.was;
  if (found.error === undefined) {
    const next = 'clean the drive and try again, or load another cartridge';
    throw mediumError('MEDIUM_MISMATCH', 'the label that was written reads otherwise', next);
  }
  if (found.was.kind !== 'blank' && isSame(found.was, again) && isTapeError(found.error, 'EIO')) {
    const message = 'the cartridge cannot be overwritten: it is written once only, or defective';
    throw mediumError('MEDIUM_READ_ONLY', message, 'load another one', { device: device.path });
  }
  throw asMediumError(found.error, { device: device.path });
}

/** Reads, decides, and writes. The error of the writing is part of the answer. */
async function tryLabel(device: TapeDevice, decide: DecideLabel, buffer: Buffer<ArrayBuffer>) {
  const drive = await openDrive(device, 'write');
  let hasFailed = true;
  try {
    const was = await readLabel(drive, buffer);
    const mounted = was.kind === 'label' ? { drive, label: was.label, buffer } : undefined;
    const label = await decide(was, mounted);
    const { volumeId } = label;
    const record = buffer.subarray(0, LABEL_RECORD_BYTES);
    encodeLabel(label).copy(record);
    try {
      await drive.rewind();
      await drive.write(record);
      await drive.writeFilemarks(1);
      hasFailed = false;
      return { was, volumeId, error: undefined };
    } catch (error) {
      return { was, volumeId, error };
    }
  } catch (error) {
    throw asMediumError(error, { device: device.path });
  } finally {
    await giveBack(drive, hasFailed);
  }
}

async function lookAgain(device: TapeDevice, buffer: Buffer) {
  const drive = await openDrive(device, 'read');
  try {
    const again = await readLabel(drive, buffer);
    const hasFilemark = again.kind === 'label' && (await drive.read(buffer)) === 0;
    return { again, hasFilemark };
  } catch (error) {
    throw asMediumError(error, { device: device.path });
  } finally {
    await giveBack(drive);
  }
}

function isSame(was: FoundLabel, now: FoundLabel): boolean {
  if (was.kind !== 'label' || now.kind !== 'label') return was.kind === now.kind;
  return was.label.volumeId === now.label.volumeId;
}
