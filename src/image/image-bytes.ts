/**
 * Reads what can be read of a damaged or shortened image and leaves zeros for the rest.
 *
 * Zeros are safe: whatever is made of them has to match a checksum.
 */
import { errnoOf, isStorageError } from '../base/errors.ts';
import type { OnDamage } from './damage.ts';

/** The bytes of an image wherever they are. */
export interface ImageBytes {
  readonly sizeBytes: number;
  /**
   * True where going to and fro is dear, as between cartridges: then an image is looked at from its
   * beginning to its end, and a cut or wrong end is told last.
   */
  readonly isSequential?: boolean;
  /** Fills `into` from `offset`; nothing beyond `sizeBytes` is ever asked for. */
  read(offset: number, into: Uint8Array): Promise<void>;
}

/** True for an error of the medium at this place, false for one of the whole source. */
function isUnreadable(error: unknown): boolean {
  return isStorageError(error, 'DATA_UNREADABLE') || errnoOf(error) === 'EIO';
}

/**
 * Fills `into` from `offset`. If that fails and damage is skipped, part by part, with zeros where
 * a part cannot be read; zeros also beyond the end. Cost: one read, or one for each part.
 *
 * @param cuts ends of the parts, ascending, the last equal to `into.length`
 * @throws with `fail` any error of the source, with `skip` those that are not of the medium
 */
export async function readParts(
  bytes: ImageBytes,
  offset: number,
  into: Uint8Array,
  cuts: readonly number[],
  onDamage: OnDamage,
): Promise<void> {
  if (onDamage === 'fail' || offset + into.length <= bytes.sizeBytes) {
    try {
      await bytes.read(offset, into);
      return;
    } catch (error) {
      if (onDamage === 'fail' || !isUnreadable(error)) throw error;
    }
  }
  let from = 0;
  for (const to of cuts) {
    await readPart(bytes, offset + from, into.subarray(from, to));
    from = to;
  }
}

async function readPart(bytes: ImageBytes, offset: number, into: Uint8Array): Promise<void> {
  into.fill(0);
  const length = Math.min(into.length, Math.max(0, bytes.sizeBytes - offset));
  if (length === 0) return;
  try {
    await bytes.read(offset, into.subarray(0, length));
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    into.fill(0);
  }
}
