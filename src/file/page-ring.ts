/**
 * Rings of buffers that begin at a memory page, which O_DIRECT and drives need.
 *
 * Rings are kept when they are given back, because such memory is freed only by a garbage
 * collection.
 */
import { alignedBuffer } from '../base/aligned-memory.ts';

/** Where the memory of a ring comes from. */
export interface RingMemory {
  /** Bytes of all chunks of one `take`. */
  readonly bytes: number;
  /** Chunks of 1 MiB. */
  take(): readonly Buffer[];
  giveBack(chunks: readonly Buffer[]): void;
}

/** What one file in writing needs: four writes of 1 MiB in flight. */
export const CHUNK_BYTES = 1024 * 1024;
export const CHUNKS = 4;
/** The alignment of addresses, offsets and lengths that every device accepts. */
export const PAGE_BYTES = 4096;

const kept: Buffer[] = [];
const MAX_KEPT = 4;

/** CHUNKS buffers of CHUNK_BYTES, page-aligned if possible; their contents are undefined. */
export function takeRing(): Buffer[] {
  const memory = kept.pop() ?? allocate();
  return Array.from({ length: CHUNKS }, (_, index) =>
    memory.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
  );
}

/** Gives the buffers of `takeRing` back. Nothing may read or write them any more. */
export function returnRing(ring: readonly Buffer[]): void {
  const first = ring[0];
  if (first === undefined || kept.length >= MAX_KEPT) return;
  kept.push(Buffer.from(first.buffer, 0, CHUNKS * CHUNK_BYTES));
}

/** The same for the ring of a drive, which is made of several of these. */
export const ringMemory: RingMemory = {
  bytes: CHUNKS * CHUNK_BYTES,
  take: takeRing,
  giveBack: returnRing,
};

/** Where no memory can be mapped (a limit of the process), it is unaligned: no O_DIRECT then. */
function allocate(): Buffer {
  try {
    return alignedBuffer(CHUNKS * CHUNK_BYTES);
  } catch {
    return Buffer.allocUnsafeSlow(CHUNKS * CHUNK_BYTES);
  }
}
