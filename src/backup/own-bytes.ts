/**
 * Whose bytes lie on a target where there is no manifest: the header of an image says it.
 */
import { isStorageError } from '../base/errors.ts';
import { decodeHeader } from '../image/header.ts';
import type { OwnBytes } from '../target/target.ts';

/** Tells bytes that are of this image. */
export function bytesOfImage(imageId: string): OwnBytes {
  return (head) => {
    try {
      return decodeHeader(head).imageId === imageId;
    } catch (error) {
      if (!isStorageError(error)) throw error;
      // no image, or none that this program could have written
      return false;
    }
  };
}
