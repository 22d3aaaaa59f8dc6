/**
 * The I/O of a write: what a part block keeps is read, then all data is written, physically
 * consecutive pieces in one call.
 *
 * Invariant: a new block gets all of its bytes (data, kept bytes, zeros), unless it is virgin.
 */
import { assert } from '../base/assert.ts';
import { MAX_BLOCK_SIZE_BYTES } from '../base/units.ts';
import type { Chosen } from '../pool/allocator.ts';
import type { Piece } from './block-range.ts';
import type { Disk } from './disk.ts';

/** What a write does to one block. */
export type Action =
  | { readonly kind: 'in-place'; readonly piece: Piece; readonly block: number }
  | { readonly kind: 'unmap'; readonly piece: Piece }
  /** old < 0: the block had no entry. */
  | { readonly kind: 'new'; readonly piece: Piece; readonly old: number };

const zeros = new Uint8Array(MAX_BLOCK_SIZE_BYTES);

/** Old bytes of blocks that move and are written in part, by logical block. */
export async function readKept(
  disk: Disk,
  actions: readonly Action[],
): Promise<ReadonlyMap<number, Uint8Array>> {
  const kept = new Map<number, Uint8Array>();
  for (const action of actions) {
    if (action.kind !== 'new' || action.old < 0 || action.piece.whole) continue;
    const bytes = new Uint8Array(disk.blockSizeBytes);
    await disk.pool.files.read(action.old, 0, bytes);
    kept.set(action.piece.logical, bytes);
  }
  return kept;
}

/** A stretch of consecutive bytes in the pool. */
interface Stretch {
  readonly block: number;
  readonly offset: number;
  length: number;
  readonly buffers: Uint8Array[];
}

/** Writes all data and waits for every write, even if one fails. */
export async function writeData(
  disk: Disk,
  o: {
    readonly bytes: Uint8Array;
    readonly actions: readonly Action[];
    /** One for each new piece, in order. */
    readonly chosen: readonly Chosen[];
    readonly kept: ReadonlyMap<number, Uint8Array>;
  },
): Promise<void> {
  const { actions, chosen, kept } = o;
  const size = disk.blockSizeBytes;
  const stretches: Stretch[] = [];
  let next = 0;
  for (const action of actions) {
    if (action.kind === 'unmap') continue;
    const { from, to, at } = action.piece;
    const data = o.bytes.subarray(at, at + to - from);
    if (action.kind === 'in-place') {
      append(stretches, size, action.block, from, [data]);
      continue;
    }
    const target = chosen[next];
    assert(target !== undefined, 'a block was chosen for each new piece');
    next += 1;
    const old = kept.get(action.piece.logical);
    if (target.virgin && old === undefined) append(stretches, size, target.block, from, [data]);
    else {
      const base = old ?? zeros;
      const buffers = [base.subarray(0, from), data, base.subarray(to, size)];
      append(stretches, size, target.block, 0, buffers);
    }
  }
  const writes = stretches.map(({ block, offset, buffers }) =>
    disk.pool.files.write(block, offset, buffers),
  );
  const results = await Promise.allSettled(writes);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

function append(
  stretches: Stretch[],
  size: number,
  block: number,
  offset: number,
  buffers: readonly Uint8Array[],
): void {
  const used = buffers.filter((buffer) => buffer.length > 0);
  const length = used.reduce((sum, buffer) => sum + buffer.length, 0);
  const last = stretches.at(-1);
  const start = block * size + offset;
  if (last !== undefined && last.block * size + last.offset + last.length === start) {
    last.length += length;
    for (const buffer of used) appendBuffer(last.buffers, buffer);
  } else {
    stretches.push({ block, offset, length, buffers: used });
  }
}

/** Adjacent views of one buffer become one. */
function appendBuffer(buffers: Uint8Array[], buffer: Uint8Array): void {
  const last = buffers.at(-1);
  const joins =
    last?.buffer === buffer.buffer && last.byteOffset + last.byteLength === buffer.byteOffset;
  if (!joins) {
    buffers.push(buffer);
    return;
  }
  const length = last.byteLength + buffer.byteLength;
  buffers[buffers.length - 1] = new Uint8Array(buffer.buffer, last.byteOffset, length);
}
