/**
 * What a client asks for when it makes a target, and what goes together in it. Pure.
 */
import { StorageError } from '../base/errors.ts';
import type { Labels, TargetKind } from './records.ts';

export interface TargetRequest {
  readonly name: string;
  readonly kind: TargetKind;
  /** Directory below the roots, or device that the operator named. */
  readonly path: string;
  /** Of cartridges. Default: the name. */
  readonly set?: string;
  /** Memory between the source and the drive. Default: 16 MiB. */
  readonly bufferBytes?: number;
  /** Device that the operator named; `virtual`: that of a virtual library. Default: none. */
  readonly changer?: string;
  /** Number of the drive in it. Default 0. */
  readonly changerDrive?: number;
  readonly labels?: Labels;
}

/** The changer of a virtual library. */
export const VIRTUAL = 'virtual';

/** @throws VALIDATION_FAILED: these do not go together */
export function checkTape({ kind, set, changer, changerDrive }: TargetRequest): void {
  const refuse = (field: string, message: string): never => {
    throw new StorageError('VALIDATION_FAILED', message, { field });
  };
  if (kind === 'directory' && set !== undefined) refuse('set', 'a directory has no set');
  if (kind === 'directory' && changer !== undefined) {
    refuse('changer', 'a directory has no changer');
  }
  if (changer === undefined && changerDrive !== undefined) {
    refuse('changerDrive', 'a drive of a changer needs a changer');
  }
  if (kind !== 'virtual-tape' || changer === undefined) return;
  if (changer !== VIRTUAL) refuse('changer', `the changer of a virtual library is "${VIRTUAL}"`);
  if ((changerDrive ?? 0) !== 0) refuse('changerDrive', 'a virtual library works with drive 0');
}
