/**
 * A cartridge in a drive: opened, its label read and compared, and given back.
 *
 * Nothing can be written to a cartridge but through a `MountedVolume`, and none is made without
 * reading the label. After an error of the drive it is not used again: close, mount anew.
 *
 * The order at opening matters: the door is locked before the label is read, so that what was read
 * is what is written to.
 */
import { alignedBuffer } from '../base/aligned-memory.ts';
import { isTapeError } from './drive.ts';
import type { TapeDevice, TapeDrive } from './drive.ts';
import { decodeLabel } from './label.ts';
import type { VolumeLabel } from './label.ts';
import { asMediumError, mediumError, protectedError, volumeName } from './media.ts';
import type { VolumeName } from './media.ts';
import { BadRecord, LABEL_RECORD_BYTES, MAX_RECORD_BYTES } from './record.ts';

/** What the beginning of a cartridge says. `foreign`: not ours, or not to be read. */
export type FoundLabel =
  | { readonly kind: 'label'; readonly label: VolumeLabel }
  | { readonly kind: 'blank' }
  | { readonly kind: 'foreign'; readonly message: string }
  | { readonly kind: 'newer'; readonly message: string };

/** A cartridge whose label was read through this open drive. */
export interface MountedVolume {
  readonly drive: TapeDrive;
  readonly label: VolumeLabel;
  /** Room for the longest record: what is read goes here. */
  readonly buffer: Buffer<ArrayBuffer>;
}

/**
 * Opens the drive for use: something is in it, it is locked, rewound, and in record mode.
 *
 * @throws MEDIUM_ABSENT, MEDIUM_READ_ONLY, TARGET_UNAVAILABLE
 */
export async function openDrive(device: TapeDevice, mode: 'read' | 'write'): Promise<TapeDrive> {
  const facts = { device: device.path };
  let drive: TapeDrive | undefined;
  try {
    drive = await device.open(mode);
    const status = await drive.status();
    if (!status.online || status.doorOpen) {
      throw mediumError('MEDIUM_ABSENT', 'there is no cartridge in the drive', 'load one');
    }
    if (mode === 'write' && status.writeProtected) throw protectedError({});
    await drive.setRecordMode();
    await lockDoor(drive);
    await drive.rewind();
    return drive;
  } catch (error) {
    if (drive !== undefined) await giveBack(drive, true);
    throw asMediumError(error, facts);
  }
}

/**
 * Opens the drive and proves which cartridge is in it.
 *
 * @param wanted the one that must be there; without it any of ours
 * @throws as `openDrive`; MEDIUM_BLANK, MEDIUM_FOREIGN, MEDIUM_UNSUPPORTED, MEDIUM_WRONG
 */
export async function mountVolume(
  device: TapeDevice,
  mode: 'read' | 'write',
  wanted?: VolumeName,
): Promise<MountedVolume> {
  const drive = await openDrive(device, mode);
  try {
    const buffer = alignedBuffer(MAX_RECORD_BYTES);
    const label = checkLabel(await readLabel(drive, buffer), wanted);
    return { drive, label, buffer };
  } catch (error) {
    await giveBack(drive, true);
    const needed = wanted === undefined ? {} : { needed: wanted };
    throw asMediumError(error, { device: device.path, ...needed });
  }
}

/** The label, if it is the wanted one. @throws as `mountVolume` */
export function checkLabel(found: FoundLabel, wanted?: VolumeName): VolumeLabel {
  const next = wanted === undefined ? 'load another one' : `load cartridge ${wanted.label}`;
  if (found.kind === 'blank') {
    throw mediumError('MEDIUM_BLANK', 'the cartridge is blank', `label it, or ${next}`);
  }
  if (found.kind === 'newer') {
    const message = `the cartridge was written by a newer version: ${found.message}`;
    throw mediumError('MEDIUM_UNSUPPORTED', message, `use that version, or ${next}`);
  }
  if (found.kind === 'foreign') {
    const message = `the cartridge has no label that can be used: ${found.message}`;
    throw mediumError('MEDIUM_FOREIGN', message, next);
  }
  const { label } = found;
  if (wanted === undefined || label.volumeId === wanted.volumeId) return label;
  const message =
    label.label === wanted.label
      ? `${label.label} was labelled anew or exists twice: needed is id ${wanted.volumeId}`
      : `cartridge ${label.label} is in the drive, ${wanted.label} is needed`;
  throw mediumError('MEDIUM_WRONG', message, next, { found: volumeName(label), needed: wanted });
}

/**
 * Reads what the cartridge begins with. The position is behind the label's record, or anywhere.
 *
 * @param buffer at least 1 MiB
 * @throws TapeError if the drive fails otherwise than by not reading the record
 */
export async function readLabel(drive: TapeDrive, buffer: Buffer): Promise<FoundLabel> {
  await drive.rewind();
  let length: number;
  try {
    length = await drive.read(buffer);
  } catch (error) {
    if (isTapeError(error, 'ENOMEM')) {
      return { kind: 'foreign', message: 'it begins with a record of more than 1 MiB' };
    }
    if (!isTapeError(error, 'EIO')) throw error;
    return (await isBlank(drive))
      ? { kind: 'blank' }
      : { kind: 'foreign', message: 'its first record cannot be read' };
  }
  if (length === 0) return { kind: 'foreign', message: 'it begins with a filemark' };
  if (length !== LABEL_RECORD_BYTES) {
    return { kind: 'foreign', message: `it begins with a record of ${length} bytes` };
  }
  const label = decodeLabel(buffer.subarray(0, length));
  if (!(label instanceof BadRecord)) return { kind: 'label', label };
  return { kind: label.why === 'newer' ? 'newer' : 'foreign', message: label.message };
}

/** Whether the end of the data is the beginning. Only that proves that nothing is there. */
async function isBlank(drive: TapeDrive): Promise<boolean> {
  await drive.seekEndOfData();
  return (await drive.tell()) === 0;
}

/**
 * Unlocks the door that a killed program left locked, whatever is in the drive.
 *
 * @throws TARGET_UNAVAILABLE
 */
export async function unlockDrive(device: TapeDevice): Promise<void> {
  try {
    await giveBack(await device.open('read'));
  } catch (error) {
    throw asMediumError(error, { device: device.path });
  }
}

/**
 * Unlocks and closes.
 *
 * @param hasFailed the drive gave an error, so another cartridge may be in it
 */
export async function releaseVolume(volume: MountedVolume, hasFailed = false): Promise<void> {
  await giveBack(volume.drive, hasFailed);
}

/**
 * Closes a drive of which nothing is expected any more: what counts was confirmed by a filemark
 * before, and what was not confirmed is not counted on, so an error here says nothing new.
 *
 * @param hasFailed then nothing more must be written, but closing writes a filemark behind a
 *   record: at the beginning of whatever cartridge is there by now. Writing no filemarks at all
 *   prevents that; it is asked for twice, as an error that comes late takes the first.
 */
export async function giveBack(drive: TapeDrive, hasFailed = false): Promise<void> {
  if (hasFailed) {
    await quietly(() => drive.writeFilemarks(0));
    await quietly(() => drive.writeFilemarks(0));
  }
  await quietly(() => drive.unlock());
  await quietly(() => drive.close());
}

/** A drive without a lock is used all the same: the label is read behind this. */
async function lockDoor(drive: TapeDrive): Promise<void> {
  try {
    await drive.lock();
  } catch (error) {
    if (!isTapeError(error) || error.code === 'ENOMEDIUM') throw error;
  }
}

async function quietly(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isTapeError(error)) throw error;
  }
}

/** Goes to a place, by its number if the drive can do that, else by counting from the beginning. */
export async function goTo(drive: TapeDrive, object: number, file: number, record: number) {
  try {
    await drive.seek(object);
  } catch (error) {
    if (!isTapeError(error, 'EIO')) throw error;
    await drive.rewind();
    if (file > 0) await drive.spaceFilemarks(file);
    if (record > 0) await drive.spaceRecords(record);
  }
}
