/**
 * What goes wrong with a changer, in the words of base/errors, with what to do next.
 */
import { StorageError } from '../base/errors.ts';
import type { ErrorCode, ErrorDetails } from '../base/errors.ts';
import type { ChangerError, ChangerErrorCode } from '../tape/changer.ts';

interface Told {
  readonly code: ErrorCode;
  readonly next: string;
}

const unavailable = (next: string): Told => ({ code: 'TARGET_UNAVAILABLE', next });

const told: Readonly<Record<ChangerErrorCode, Told>> = {
  'no-element': { code: 'NOT_FOUND', next: 'look at what the changer has' },
  'slot-empty': { code: 'MEDIUM_ABSENT', next: 'look at what is in the slots' },
  'drive-empty': { code: 'MEDIUM_ABSENT', next: 'load a cartridge' },
  'slot-full': { code: 'TARGET_IN_USE', next: 'choose a free slot' },
  'drive-full': { code: 'TARGET_IN_USE', next: 'unload the drive' },
  busy: unavailable('wait until it is ready, and try again'),
  failed: unavailable('look at the changer: is it jammed, or open?'),
  garbled: unavailable('look at what mtx -f DEVICE status prints'),
  unreachable: unavailable('check the path, the cable, and that mtx is installed'),
};

/** @returns an error with `changerError`, the changer's own code */
export function asLibraryError(error: ChangerError, details: ErrorDetails): StorageError {
  const { code, next } = told[error.code];
  const facts = { ...details, changerError: error.code, next };
  return new StorageError(code, error.message, facts, error);
}
