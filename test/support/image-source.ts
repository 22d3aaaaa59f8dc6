/**
 * Copies and images in memory, for tests of the image format.
 */
import type { ImageBytes } from '../../src/image/image-bytes.ts';
import type { ImageFacts } from '../../src/image/format.ts';
import { ImageWriter } from '../../src/image/writer.ts';
import type { ImageSource, WriterOptions } from '../../src/image/writer.ts';

export const copyId = '0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f';
export const diskId = '0193e4c0-1111-7222-8333-444455556666';

/** A byte pattern that differs from block to block and needs no random source. */
export function patternBlock(block: number, blockSizeBytes: number): Buffer {
  const bytes = Buffer.alloc(blockSizeBytes);
  let state = (block * 2654435761 + 12345) >>> 0;
  for (let at = 0; at < blockSizeBytes; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(state, at);
  }
  return bytes;
}

export interface MemoryCopyOptions {
  readonly places: readonly number[];
  readonly blockSizeBytes?: number;
  readonly capacityBytes?: number;
  readonly diskName?: string;
  readonly block?: (place: number, blockSizeBytes: number) => Buffer;
}

/** An ImageSource over a list of places; counts what is asked of it. */
export class MemoryCopy implements ImageSource {
  readonly facts: ImageFacts;
  readonly places: readonly number[];
  readonly kept = new Map<number, Uint32Array>();
  blocksRead = 0;
  readonly #block: (place: number, blockSizeBytes: number) => Buffer;

  constructor(options: MemoryCopyOptions) {
    const { places, blockSizeBytes = 16384 } = options;
    this.places = places;
    this.#block = options.block ?? patternBlock;
    this.facts = {
      copyId,
      diskId,
      diskName: options.diskName ?? 'web-01',
      frozenAtMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
      generation: 7,
      capacityBytes: options.capacityBytes ?? ((places.at(-1) ?? 0) + 10) * blockSizeBytes,
      blockSizeBytes,
      usedBlocks: places.length,
    };
  }

  /** The bytes of X. */
  data(copyBlock: number): Buffer {
    return this.#block(this.places[copyBlock] ?? NaN, this.facts.blockSizeBytes);
  }

  sourceBlocks(first: number, count: number): Promise<Float64Array> {
    return Promise.resolve(Float64Array.from(this.places.slice(first, first + count)));
  }

  async readBlocks(first: number, count: number, into: Uint8Array): Promise<void> {
    await Promise.resolve();
    for (let index = 0; index < count; index += 1) {
      into.set(this.data(first + index), index * this.facts.blockSizeBytes);
      this.blocksRead += 1;
    }
  }

  knownChecksums(segment: number): Promise<Uint32Array | undefined> {
    return Promise.resolve(this.kept.get(segment));
  }

  keepChecksums(segment: number, checksums: Uint32Array): Promise<void> {
    this.kept.set(segment, checksums.slice());
    return Promise.resolve();
  }
}

/** The bytes from … to of a copy's image (all by default) in one buffer. */
export async function imageOf(
  source: ImageSource,
  from?: number,
  to?: number,
  options: WriterOptions = {},
): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const bytes of new ImageWriter(source, options).read(from, to)) {
    parts.push(Buffer.from(bytes));
  }
  return Buffer.concat(parts);
}

/** An image in memory; offsets in `unreadable` fail with EIO. */
export class MemoryBytes implements ImageBytes {
  readonly #bytes: Buffer;
  readonly #unreadable: readonly number[];

  constructor(bytes: Buffer, unreadable: readonly number[] = []) {
    this.#bytes = bytes;
    this.#unreadable = unreadable;
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await Promise.resolve();
    const end = offset + into.length;
    if (end > this.#bytes.length) throw new Error('read beyond the end');
    if (this.#unreadable.some((at) => at >= offset && at < end)) {
      throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    }
    into.set(this.#bytes.subarray(offset, end));
  }
}
