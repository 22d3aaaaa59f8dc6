/**
 * Memory that begins at a page, which direct I/O needs and which Node's own buffers do not promise.
 *
 * The memory of a WebAssembly instance is mapped by pages; nothing is compiled or run. It is given
 * back only by a garbage collection, so take few and cut slices at multiples of 4096.
 */
interface WasmMemory {
  readonly buffer: ArrayBuffer;
}
/** In Node, but not in its types. */
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number }) => WasmMemory;
};

const WASM_PAGE_BYTES = 64 * 1024;
const aligned = new WeakSet<ArrayBufferLike>();

/** Zeros that begin at a page of memory. @throws RangeError if the process may map no more */
export function alignedBuffer(bytes: number): Buffer<ArrayBuffer> {
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES);
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  aligned.add(buffer);
  return Buffer.from(buffer, 0, bytes);
}

/** True for slices of what `alignedBuffer` gave; where they begin is theirs to know. */
export function isOfAligned(bytes: Uint8Array): boolean {
  return aligned.has(bytes.buffer);
}
