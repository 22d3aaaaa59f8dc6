/**
 * The checksums of one segment in a stream, where its head goes out before its blocks: known from
 * before, or computed while the blocks are read ahead.
 *
 * Invariants:
 *  1. `all` is answered once they are known, or once every block was added; it rejects with the
 *     first error of a read, or when the stream has ended before every block was asked for.
 *  2. Where they are known, a block that differs is never added without being named.
 */
import { assert } from '../base/assert.ts';
import { crc32 } from '../base/checksum.ts';
import { StorageError } from '../base/errors.ts';
import { deferred } from '../base/mutex.ts';

export class SegmentChecksums {
  /** Those from before, if there are any. */
  readonly known: Promise<Uint32Array | undefined>;
  readonly #computed: Uint32Array;
  readonly #complete = deferred<undefined>();
  /** Blocks of the stream whose reads have not begun, and all those that were not added. */
  #toBegin: number;
  #toAdd: number;

  /**
   * @param known those from before, if there are any
   * @param inStream the first blocks, which the stream gives; the rest is read for this alone
   */
  constructor(blocks: number, known: Promise<Uint32Array | undefined>, inStream: number) {
    this.known = known;
    this.#computed = new Uint32Array(blocks);
    this.#toBegin = inStream;
    this.#toAdd = blocks;
    // whoever asks for them sees the errors
    known.catch(() => undefined);
    this.#complete.promise.catch(() => undefined);
  }

  /**
   * Adds `count` blocks of the stream once they are read into `bytes`.
   *
   * @returns the index of the first that is not what was known, or undefined
   * @throws what reading throws
   */
  async add(
    first: number,
    count: number,
    bytes: Uint8Array,
    reading: Promise<void>,
  ): Promise<number | undefined> {
    this.#toBegin -= count;
    assert(this.#toBegin >= 0, 'a block added twice');
    return this.addRest(first, count, bytes, reading);
  }

  /** The same for blocks that the stream does not give. */
  async addRest(
    first: number,
    count: number,
    bytes: Uint8Array,
    reading: Promise<void>,
  ): Promise<number | undefined> {
    try {
      await reading;
    } catch (error) {
      this.#complete.reject(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
    const computed = this.#computed.subarray(first, first + count);
    checksumsOf(bytes, computed);
    this.#toAdd -= count;
    if (this.#toAdd === 0) this.#complete.resolve(undefined);
    const known = (await this.known)?.subarray(first, first + count);
    if (known === undefined) return undefined;
    const index = computed.findIndex((checksum, at) => checksum !== known[at]);
    return index < 0 ? undefined : first + index;
  }

  /** Of blocks that were added. */
  of(first: number, count: number): Uint32Array {
    return this.#computed.subarray(first, first + count);
  }

  /** The stream is past this segment or has ended: no more reads begin. */
  end(): void {
    if (this.#toBegin === 0) return;
    this.#complete.reject(new StorageError('CANCELLED', 'reading ended within a segment'));
  }

  /** `isNew` if they were computed. */
  async all(): Promise<{ readonly checksums: Uint32Array; readonly isNew: boolean }> {
    const known = await this.known;
    if (known !== undefined) return { checksums: known, isNew: false };
    await this.#complete.promise;
    return { checksums: this.#computed, isNew: true };
  }
}

/** CRC-32 of each of the blocks of equal size that `bytes` consists of. */
export function checksumsOf(bytes: Uint8Array, into: Uint32Array): void {
  const blockSizeBytes = bytes.length / into.length;
  for (let index = 0; index < into.length; index += 1) {
    into[index] = crc32(bytes.subarray(index * blockSizeBytes, (index + 1) * blockSizeBytes));
  }
}
