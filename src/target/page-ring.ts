/**
 * Buffers that begin at a memory page, which O_DIRECT needs and which Node's own do not promise.
 *
 * The memory of a WebAssembly instance is mapped by pages; nothing is compiled or run. Rings are
 * kept when they are given back, because such memory is freed only by a garbage collection.
 */
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => {
    readonly buffer: ArrayBuffer;
  };
};

const WASM_PAGE_BYTES = 64 * 1024;

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

/** Where no memory can be mapped (a limit of the process), it is unaligned: no O_DIRECT then. */
function allocate(): Buffer {
  const pages = (CHUNKS * CHUNK_BYTES) / WASM_PAGE_BYTES;
  try {
    return Buffer.from(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer);
  } catch {
    return Buffer.allocUnsafeSlow(CHUNKS * CHUNK_BYTES);
  }
}
