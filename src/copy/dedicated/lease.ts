/**
 * Places of a copy's blocks for a reader outside the engine: a job's worker, which reads pool files
 * by itself.
 *
 * What a dedicated copy is still owed is brought over first, so a backup that is ahead of the
 * copier does its work, and each block is read from the source once. What is handed out stays
 * where it is while the reader is a user of the copy.
 */
import type { Copies } from '../copies.ts';
import type { Copy, Places } from '../copy.ts';
import { settle } from './settle.ts';

/** From X on. @throws as Copy.places and settle */
export async function leasePlaces(
  copies: Copies,
  copy: Copy,
  first: number,
  count: number,
): Promise<Places> {
  if (!copy.isWhole && count > 0) {
    const source = await copy.sourceBlocks(first, count);
    const to = (source[count - 1] ?? 0) + 1;
    await settle(copies, copy, { kind: 'range', from: source[0] ?? 0, to });
  }
  return copy.places(first, count);
}

/** Of mapped neighbours on the disk, from A on. */
export async function leaseNeighbours(
  copies: Copies,
  copy: Copy,
  from: number,
  count: number,
): Promise<Places> {
  if (!copy.isWhole) await settle(copies, copy, { kind: 'range', from, to: from + count });
  return copy.placesAt(from, count);
}
