/**
 * Reads blocks of a pool with file descriptors of its own: for a worker thread that was given the
 * places of blocks which cannot change or be handed out again while its job uses their copy.
 */
import { defined } from '../base/assert.ts';
import type { BlockReader } from '../pool/block-reader.ts';
import { openBlockReader } from '../pool/block-reader.ts';
import type { PoolPlaces } from './worker-protocol.ts';
import { DATA_OFFSET } from '../pool/format.ts';

export class PoolReader {
  readonly #places: PoolPlaces;
  readonly #blockSizeBytes: number;
  readonly #files: BlockReader[];

  private constructor(places: PoolPlaces, blockSizeBytes: number, files: BlockReader[]) {
    this.#places = places;
    this.#blockSizeBytes = blockSizeBytes;
    this.#files = files;
  }

  static async open(places: PoolPlaces, blockSizeBytes: number): Promise<PoolReader> {
    const files: BlockReader[] = [];
    for (const path of places.files) files.push(await openBlockReader(path));
    return new PoolReader(places, blockSizeBytes, files);
  }

  /** The blocks listed by P, one after the other; one read a physically consecutive stretch. */
  async read(physical: Uint32Array, into: Uint8Array): Promise<void> {
    const size = this.#blockSizeBytes;
    const reads: Promise<void>[] = [];
    for (let index = 0; index < physical.length;) {
      const first = physical[index] ?? 0;
      const extent = this.#extentOf(first);
      const limit = extent.firstBlock + extent.blocks - first;
      let count = 1;
      while (count < limit && physical[index + count] === first + count) count += 1;
      const position = DATA_OFFSET + (extent.fileBlock + first - extent.firstBlock) * size;
      const file = defined(this.#files[extent.file], 'pool file');
      reads.push(file.read(into.subarray(index * size, (index + count) * size), position));
      index += count;
    }
    await Promise.all(reads);
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }

  #extentOf(block: number): PoolPlaces['extents'][number] {
    return defined(
      this.#places.extents.findLast((extent) => extent.firstBlock <= block),
      `extent of block ${block}`,
    );
  }
}
