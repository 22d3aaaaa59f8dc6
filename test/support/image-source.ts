/**
 * Copies and images in memory, for tests of the image format.
 */
import { isStorageError } from '../../src/base/errors.ts';
import type { ErrorCode } from '../../src/base/errors.ts';
import type { ImageProblem, LostRange, OnDamage } from '../../src/image/damage.ts';
import type { ImageBytes } from '../../src/image/image-bytes.ts';
import type { ImageBase, ImageFacts } from '../../src/image/format.ts';
import { ImageReader } from '../../src/image/reader.ts';
import type { ImageSegment } from '../../src/image/segment-check.ts';
import { ImageStreamReader } from '../../src/image/stream-reader.ts';
import { ImageWriter } from '../../src/image/writer.ts';
import type { ImageSource, WriterOptions } from '../../src/image/writer.ts';

export const copyId = '0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f';
export const diskId = '0193e4c0-1111-7222-8333-444455556666';

/** A block whose 16-byte lines say where on the disk it belongs: cheap to make, easy to see. */
export function labelledBlock(place: number, blockSizeBytes: number): Buffer {
  return Buffer.alloc(blockSizeBytes, `place ${String(place).padStart(9)}\n`);
}

export interface MemoryCopyOptions {
  readonly places: readonly number[];
  readonly blockSizeBytes?: number;
  readonly capacityBytes?: number;
  readonly diskName?: string;
  readonly copyId?: string;
  readonly diskId?: string;
  readonly frozenAtMs?: number;
  readonly generation?: number;
  /** Makes it an incremental image. */
  readonly base?: ImageBase;
  /** First place and number of blocks of each. */
  readonly zeroRanges?: readonly (readonly [first: number, blocks: number])[];
  readonly copyBlocks?: number;
  readonly block?: (place: number, blockSizeBytes: number) => Buffer;
}

/** An ImageSource over a list of places; counts what is asked of it. */
export class MemoryCopy implements ImageSource {
  readonly facts: ImageFacts;
  readonly places: readonly number[];
  readonly zeroRanges: readonly (readonly [first: number, blocks: number])[];
  readonly kept = new Map<number, Uint32Array>();
  blocksRead = 0;
  readonly #block: (place: number, blockSizeBytes: number) => Buffer;

  constructor(options: MemoryCopyOptions) {
    const { places, blockSizeBytes = 16384 } = options;
    this.places = places;
    this.zeroRanges = options.zeroRanges ?? [];
    this.#block = options.block ?? labelledBlock;
    this.facts = {
      copyId: options.copyId ?? copyId,
      diskId: options.diskId ?? diskId,
      diskName: options.diskName ?? 'web-01',
      frozenAtMs: options.frozenAtMs ?? Date.UTC(2026, 0, 2, 3, 4, 5, 678),
      generation: options.generation ?? 7,
      capacityBytes: options.capacityBytes ?? ((places.at(-1) ?? 0) + 10) * blockSizeBytes,
      blockSizeBytes,
      usedBlocks: places.length,
      base: options.base ?? null,
      zeroRanges: this.zeroRanges.length,
      copyBlocks: options.copyBlocks ?? places.length,
    };
  }

  /** The bytes of X. */
  data(copyBlock: number): Buffer {
    return this.#block(this.places[copyBlock] ?? NaN, this.facts.blockSizeBytes);
  }

  sourceBlocks(first: number, count: number): Promise<Float64Array> {
    return Promise.resolve(Float64Array.from(this.places.slice(first, first + count)));
  }

  zeroRangesAt(first: number, count: number): Promise<Float64Array> {
    return Promise.resolve(Float64Array.from(this.zeroRanges.slice(first, first + count).flat()));
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

/** What a consumer gets out of an image: its good blocks by place, and everything reported. */
export interface ReadImage {
  readonly blocks: Map<number, Buffer>;
  readonly damaged: LostRange[];
  readonly problems: ImageProblem[];
}

/** Reads an image through the random access reader. */
export async function readImage(bytes: ImageBytes, onDamage: OnDamage): Promise<ReadImage> {
  const read: ReadImage = { blocks: new Map(), damaged: [], problems: [] };
  const reader = await ImageReader.open(bytes);
  const onProblem = (problem: ImageProblem): void => {
    read.problems.push(problem);
  };
  for await (const segment of reader.segments({ onDamage, onProblem })) take(read, segment);
  return read;
}

/** Reads an image through the stream reader, in pieces of these lengths, again and again. */
export function readStream(
  image: Buffer,
  onDamage: OnDamage,
  lengths: readonly number[] = [65536],
): ReadImage {
  const read: ReadImage = { blocks: new Map(), damaged: [], problems: [] };
  const onProblem = (problem: ImageProblem): void => {
    read.problems.push(problem);
  };
  const reader = new ImageStreamReader({ onDamage, onProblem });
  let at = 0;
  for (let turn = 0; at < image.length; turn += 1) {
    const length = lengths[turn % lengths.length] ?? 1;
    for (const event of reader.push(image.subarray(at, at + length))) {
      if (event.kind === 'segment') take(read, event.segment);
    }
    at += length;
  }
  for (const event of reader.finish()) if (event.kind === 'segment') take(read, event.segment);
  return read;
}

function take(read: ReadImage, segment: ImageSegment): void {
  const blockSizeBytes = segment.data.length / segment.sourceBlocks.length;
  segment.sourceBlocks.forEach((place, index) => {
    const at = index * blockSizeBytes;
    if (segment.bad.has(index)) return;
    read.blocks.set(place, Buffer.from(segment.data.subarray(at, at + blockSizeBytes)));
  });
  read.damaged.push(...segment.damaged);
}

/** The code of the StorageError that `run` ends with, or undefined if it ends well. */
export async function codeOf(run: () => unknown): Promise<ErrorCode | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    if (!isStorageError(error)) throw error;
    return error.code;
  }
}
