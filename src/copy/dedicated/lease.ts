/**
 * Places of a copy's blocks for a reader outside the engine: a job's worker, which reads pool files
 * by itself.
 *
 * What a dedicated copy is still owed is brought over first, so a backup that is ahead of the
 * copier does its work, and each block is read from the source once. What is handed out stays
 * where it is while the reader is a user of the copy.
 */
import type { Copies } from '../copies.ts';
import type { Copy } from '../copy.ts';
import { settle } from './settle.ts';

/** @throws as Copy.places and settle */
export async function leasePlaces(
  copies: Copies,
  copy: Copy,
  first: number,
  count: number,
): Promise<{ source: Float64Array; physical: Uint32Array }> {
  if (!copy.isWhole && count > 0) {
    const source = await copy.sourceBlocks(first, count);
    const from = source[0] ?? 0;
    const to = (source[count - 1] ?? 0) + 1;
    await settle(copies, copy, { kind: 'range', from, to });
  }
  return copy.places(first, count);
}
