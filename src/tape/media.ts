/**
 * What goes wrong with cartridges and drives, as coded errors that say what to do next.
 *
 * Every error here carries `next`, a sentence for the operator, beside the facts for programs.
 */
import { StorageError } from '../base/errors.ts';
import type { ErrorCode, ErrorDetails } from '../base/errors.ts';
import { isTapeError } from './drive.ts';
import type { TapeError } from './drive.ts';
import type { VolumeLabel } from './label.ts';

export type MediumCode = Extract<ErrorCode, `MEDIUM_${string}`>;

/** A cartridge as errors and jobs name it. */
export interface VolumeName {
  readonly volumeId: string;
  readonly label: string;
  readonly set: string;
  readonly number: number;
}

export function volumeName({ volumeId, label, set, number }: VolumeLabel): VolumeName {
  return { volumeId, label, set, number };
}

export function mediumError(
  code: MediumCode,
  message: string,
  next: string,
  details: ErrorDetails = {},
): StorageError {
  return new StorageError(code, message, { ...details, next });
}

/**
 * An error of a drive in the words of base/errors; anything else as it is.
 *
 * @param details facts to add: `device`, `volume`, `confirmedBytes` …
 * @returns MEDIUM_ABSENT, MEDIUM_READ_ONLY, or TARGET_UNAVAILABLE with the `errno`
 */
export function asMediumError(error: unknown, details: ErrorDetails = {}): unknown {
  if (error instanceof StorageError) return error.with({ ...details, ...error.details });
  if (!isTapeError(error)) return error;
  const facts = { ...details, errno: error.code, operation: error.operation };
  if (error.code === 'ENOMEDIUM') {
    const message = 'there is no cartridge in the drive';
    return new StorageError('MEDIUM_ABSENT', message, { ...facts, next: 'load it' }, error);
  }
  const isProtected = error.code === 'EROFS' || error.code === 'EACCES';
  if (isProtected && error.operation !== 'open') return protectedError(facts, error);
  const { message, next } = failures[error.code] ?? driveFailed;
  const text = `${message} (${error.code} at ${error.operation})`;
  return new StorageError('TARGET_UNAVAILABLE', text, { ...facts, next }, error);
}

/** For a cartridge that may not be written. */
export function protectedError(details: ErrorDetails, cause?: unknown): StorageError {
  const message = 'the cartridge is write-protected';
  const next = 'open its write protection and load it again, or load another one';
  return new StorageError('MEDIUM_READ_ONLY', message, { ...details, next }, cause);
}

interface Failure {
  readonly message: string;
  readonly next: string;
}

const driveFailed: Failure = {
  message: 'the drive failed',
  next: 'look at the drive and the system log; clean the drive if it asks for that; try again',
};
const noDevice: Failure = {
  message: 'the device is not there',
  next: 'check the path, the cable and the power of the drive',
};
const failures: Partial<Record<TapeError['code'], Failure>> = {
  EBUSY: { message: 'another program has the drive open', next: 'end that program' },
  EACCES: { message: 'the device may not be opened', next: 'allow this user to use the device' },
  EPERM: { message: 'the device may not be used so', next: 'allow this user to use the device' },
  ENOTTY: { message: 'the device is no tape drive', next: 'give the path of a tape drive' },
  ENOENT: noDevice,
  ENXIO: noDevice,
  ENODEV: noDevice,
};
