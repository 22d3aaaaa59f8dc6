/**
 * The files of a pool as one row of physical blocks.
 *
 * An extent is a stretch of blocks that lies in one file; extents follow one another without gaps.
 * Block b of an extent begins at DATA_OFFSET + (fileBlock + b - firstBlock) * blockSizeBytes of its
 * file. Bytes of files: docs/format/pool.md. Bounds, sync and poison: pool-file.ts.
 *
 * Invariants:
 *  1. Extents cover 0 … totalBlocks - 1 in order, and no byte outside the data area is written
 *     but the header copies.
 *  2. The list of files and extents changes only in `grow`, after the new room is durable.
 *  3. `epoch` of every header ≤ the epoch of the metadata (raised there first).
 */
import { assert, defined } from '../base/assert.ts';
import { sliceBuffers, totalLength } from '../base/bytes.ts';
import type { StorageError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { isBlockSize } from '../base/units.ts';
import { absentFile } from './absent-file.ts';
import type { BlockFile, BlockFileSystem } from './block-file.ts';
import type { FileSpec, IsAbandoned } from './file-header.ts';
import {
  asUnavailable,
  createWithHeader,
  discard,
  headerWrite,
  openWithHeader,
} from './file-header.ts';
import type { PoolHeader } from './format.ts';
import { blocksInFile, DATA_OFFSET } from './format.ts';
import { Poison, PoolFile } from './pool-file.ts';
import type { Extent, PoolLayout, RecordedFile } from './pool-layout.ts';
import { checkExtents, checkSpecs, refused } from './pool-layout.ts';

export type { FileSpec } from './file-header.ts';
export type { Extent, PoolLayout, RecordedFile } from './pool-layout.ts';

interface Identity {
  readonly storeId: string;
  readonly poolId: string;
  readonly blockSizeBytes: number;
  readonly epoch: number;
}

export interface CreateOptions extends Identity {
  readonly files: readonly FileSpec[];
  readonly preallocate: boolean;
  /** True for a pool id that the store does not know: its creation or deletion was cut. */
  readonly isAbandoned?: (poolId: string) => boolean;
}

export interface OpenOptions extends Identity, PoolLayout {
  /** The lowest epoch that a header may have; default: any. */
  readonly oldestEpoch?: number;
}

/** One file's share of a run of bytes. */
interface Piece {
  readonly file: PoolFile;
  readonly position: number;
  readonly length: number;
}

export class PoolFiles {
  readonly #fs: BlockFileSystem;
  readonly #identity: Identity;
  readonly #poison = new Poison();
  readonly #files: PoolFile[] = [];
  readonly #virgin: boolean[] = [];
  readonly #extents: Extent[] = [];
  readonly #changes = new Mutex();
  #epoch: number;
  #lowestEpoch: number;
  #totalBlocks = 0;

  private constructor(fs: BlockFileSystem, identity: Identity) {
    this.#fs = fs;
    this.#identity = identity;
    this.#epoch = identity.epoch;
    this.#lowestEpoch = identity.epoch;
  }

  /**
   * Makes the files of a new pool, durable. What a cut creation of an abandoned pool left at these
   * paths is taken over.
   *
   * @throws VALIDATION_FAILED, POOL_TOO_LARGE, POOL_FILE_EXISTS, POOL_FILE_FOREIGN,
   *   POOL_FILE_LOCKED, POOL_UNAVAILABLE, HOST_FULL; what it made is then removed
   */
  static async create(fs: BlockFileSystem, o: CreateOptions): Promise<PoolFiles> {
    if (!isBlockSize(o.blockSizeBytes)) {
      throw refused('blockSizeBytes', 'the block size must be a power of two, 16 KiB to 1 MiB');
    }
    if (o.files.length === 0) throw refused('files', 'a pool needs at least one file');
    checkSpecs(o.files, [], o.blockSizeBytes, 0);
    const pool = new PoolFiles(fs, o);
    const isAbandoned = o.isAbandoned ?? ((poolId) => poolId === o.poolId);
    const made = await pool.#make(o.files, o.preallocate, ({ poolId }) => isAbandoned(poolId));
    for (const [index, spec] of o.files.entries()) pool.#accept(spec, made[index]);
    return pool;
  }

  /**
   * Opens the files of a pool and checks each header. Writes nothing.
   *
   * @throws POOL_UNAVAILABLE (missing), POOL_FILE_LOCKED, POOL_FILE_INVALID (truncated, damaged,
   *   wrong block size or index), POOL_FILE_FOREIGN (other store or pool), METADATA_OLDER_THAN_POOL
   *   (an epoch above `o.epoch`), METADATA_INVALID (extents that do not fit); nothing stays open
   */
  static async open(fs: BlockFileSystem, o: OpenOptions): Promise<PoolFiles> {
    const pool = new PoolFiles(fs, o);
    checkExtents(o);
    try {
      for (const [index, recorded] of o.files.entries()) {
        const expected = pool.#header(index);
        const { oldestEpoch = 0 } = o;
        const { file, epoch } = await openWithHeader(fs, recorded, expected, oldestEpoch);
        pool.#lowestEpoch = Math.min(pool.#lowestEpoch, epoch);
        // a file that has become a device may hold anything above its marks
        pool.#add(file, recorded.sizeBytes, recorded.kind === 'file' && file.kind === 'file');
      }
    } catch (error) {
      await pool.close();
      throw error;
    }
    pool.#takeExtents(o.extents);
    return pool;
  }

  /** What is recorded of files that cannot be opened; every use of them throws `cause`. */
  static absent(fs: BlockFileSystem, o: OpenOptions, cause: StorageError): PoolFiles {
    const pool = new PoolFiles(fs, o);
    for (const recorded of o.files) {
      pool.#add(absentFile(recorded, cause), recorded.sizeBytes, false);
    }
    pool.#takeExtents(o.extents);
    return pool;
  }

  get blockSizeBytes(): number {
    return this.#identity.blockSizeBytes;
  }

  /** The lowest epoch that a header had when the files were opened. */
  get lowestEpoch(): number {
    return this.#lowestEpoch;
  }

  get totalBlocks(): number {
    return this.#totalBlocks;
  }

  get extents(): readonly Extent[] {
    return this.#extents;
  }

  get files(): readonly RecordedFile[] {
    return this.#files.map(({ path, sizeBytes, kind }) => ({ path, sizeBytes, kind }));
  }

  /** Bytes of resolved writes that no finished sync covers, over all files. */
  get unsyncedBytes(): number {
    let bytes = 0;
    for (const file of this.#files) bytes += file.unsyncedBytes;
    return bytes;
  }

  /** The first failure of a write or sync; from then on only reads go on. */
  get poison(): StorageError | undefined {
    return this.#poison.error;
  }

  /** True if a block of the extent that was never written reads as zeros (files that we made). */
  canBeVirgin(extentIndex: number): boolean {
    return this.#virgin[defined(this.#extents[extentIndex], 'extent').file] === true;
  }

  /**
   * Reads from byte `offset` of block `first`, across blocks and extents. Works on a poisoned pool.
   *
   * @throws DATA_UNREADABLE {path, position, length}
   */
  async read(first: number, offset: number, into: Uint8Array): Promise<void> {
    let done = 0;
    for (const piece of this.#pieces(first, offset, into.length)) {
      await piece.file.read(into.subarray(done, done + piece.length), piece.position);
      done += piece.length;
    }
  }

  /**
   * Writes the buffers one after the other from byte `offset` of block `first`. Volatile until
   * `sync`. Waits while 256 MiB of a file are unsynced. After an error any part may be written.
   *
   * @throws POOL_POISONED; HOST_FULL, which does not poison
   */
  async write(first: number, offset: number, buffers: readonly Uint8Array[]): Promise<void> {
    this.#poison.check();
    const pieces = this.#pieces(first, offset, totalLength(buffers));
    let done = 0;
    for (const { file, position, length } of pieces) {
      const part = pieces.length === 1 ? buffers : sliceBuffers(buffers, done, done + length);
      await file.write(part, position, length);
      done += length;
    }
  }

  /**
   * Makes durable every write that resolved before this call: fdatasync of the files that have
   * unsynced bytes. Concurrent calls share it. @throws POOL_POISONED
   */
  async sync(): Promise<void> {
    this.#poison.check();
    await Promise.all(this.#files.map((file) => file.sync()));
  }

  /**
   * Larger sizes of known paths extend them, new paths are added; durable when it resolves. What a
   * cut grow left at a new path is taken over. Reads and writes go on meanwhile.
   *
   * @returns the new lists, to be committed before a new block is used
   * @throws as `create`, and POOL_POISONED; the pool is then as before (a known file that was
   *   already extended stays longer, which does no harm)
   */
  async grow(files: readonly FileSpec[], preallocate: boolean): Promise<PoolLayout> {
    return this.#changes.run(async () => {
      this.#poison.check();
      checkSpecs(files, this.#files, this.blockSizeBytes, this.#totalBlocks);
      const known = this.#files.length;
      const isNew = ({ path }: FileSpec): boolean => this.#known(path) === undefined;
      const made = await this.#make(files.filter(isNew), preallocate, (header) => {
        return header.poolId === this.#identity.poolId && header.fileIndex >= known;
      });
      try {
        for (const spec of files) await this.#extend(spec, preallocate);
      } catch (error) {
        for (const file of made) await discard(this.#fs, file);
        throw error;
      }
      for (const spec of files) this.#accept(spec, isNew(spec) ? made.shift() : undefined);
      return { files: this.files, extents: [...this.#extents] };
    });
  }

  /**
   * Writes and syncs the header of every file with a higher epoch, after the metadata have it.
   *
   * @throws POOL_POISONED
   */
  async raiseEpoch(epoch: number): Promise<void> {
    await this.#changes.run(async () => {
      this.#poison.check();
      assert(epoch >= this.#epoch, `epoch ${epoch} after ${this.#epoch}`);
      this.#epoch = epoch;
      for (const [index, file] of this.#files.entries()) {
        const { bytes, position } = headerWrite(this.#header(index));
        await file.write([bytes], position, bytes.length);
      }
      await this.sync();
    });
  }

  /** Waits for the calls inside and gives up the locks. Syncs nothing. */
  async close(): Promise<void> {
    await this.#changes.run(async () => {
      await Promise.all(this.#files.map((file) => file.close()));
    });
  }

  /** Removes the files and the headers of devices, durably, and closes them. */
  async remove(): Promise<void> {
    try {
      for (const file of this.#files) await file.remove(this.#fs);
    } finally {
      await this.close();
    }
  }

  #takeExtents(extents: readonly Extent[]): void {
    for (const extent of extents) {
      this.#extents.push({ ...extent });
      this.#totalBlocks += extent.blocks;
    }
  }

  #known(path: string): PoolFile | undefined {
    return this.#files.find((file) => file.path === path);
  }

  #header(fileIndex: number): PoolHeader {
    const { storeId, poolId, blockSizeBytes } = this.#identity;
    return { storeId, poolId, blockSizeBytes, fileIndex, epoch: this.#epoch };
  }

  /** Makes new files after the known ones, or none. Changes no list. */
  async #make(
    specs: readonly FileSpec[],
    preallocate: boolean,
    isAbandoned: IsAbandoned,
  ): Promise<BlockFile[]> {
    const made: BlockFile[] = [];
    const isOurs = (header: PoolHeader): boolean => {
      const sameStore = header.storeId === this.#identity.storeId;
      return sameStore && header.epoch <= this.#epoch && isAbandoned(header);
    };
    try {
      for (const spec of specs) {
        const header = this.#header(this.#files.length + made.length);
        made.push(await createWithHeader(this.#fs, spec, header, preallocate, isOurs));
      }
      return made;
    } catch (error) {
      for (const file of made) await discard(this.#fs, file);
      throw error;
    }
  }

  /** Gives a known file its new size, durably; the pool does not use it yet. */
  async #extend(spec: FileSpec, preallocate: boolean): Promise<void> {
    const file = this.#known(spec.path);
    if (file === undefined || file.sizeBytes === spec.sizeBytes) return;
    try {
      await file.grow(spec.sizeBytes, preallocate);
    } catch (error) {
      throw asUnavailable(spec.path, error);
    }
    await file.sync();
  }

  /** Takes a new file, or the new size of a known one, into the lists. */
  #accept(spec: FileSpec, made: BlockFile | undefined): void {
    let index = this.#files.findIndex((file) => file.path === spec.path);
    let before = 0;
    if (made !== undefined) {
      index = this.#files.length;
      this.#add(made, spec.sizeBytes, made.kind === 'file');
    } else {
      const file = defined(this.#files[index], spec.path);
      before = blocksInFile(file.sizeBytes, this.blockSizeBytes);
      file.accept(spec.sizeBytes);
    }
    const blocks = blocksInFile(spec.sizeBytes, this.blockSizeBytes) - before;
    this.#append(index, before, blocks);
  }

  #add(file: BlockFile, sizeBytes: number, virgin: boolean): void {
    this.#files.push(new PoolFile(file, sizeBytes, this.#poison));
    this.#virgin.push(virgin);
  }

  /** New blocks at the end of the pool: a longer last extent where they continue it. */
  #append(file: number, fileBlock: number, blocks: number): void {
    if (blocks === 0) return;
    const virgin = this.#virgin[file] === true;
    const last = this.#extents.at(-1);
    if (last?.file === file && last.fileBlock + last.blocks === fileBlock) {
      last.blocks += blocks;
      if (!virgin) last.highWater = last.blocks;
    } else {
      const highWater = virgin ? 0 : blocks;
      this.#extents.push({ firstBlock: this.#totalBlocks, blocks, file, fileBlock, highWater });
    }
    this.#totalBlocks += blocks;
  }

  /** Where a run of bytes lies. One piece unless it crosses an extent. */
  #pieces(first: number, offset: number, length: number): Piece[] {
    const size = this.#identity.blockSizeBytes;
    const start = first * size + offset;
    const end = start + length;
    assert(first >= 0 && offset >= 0 && end <= this.#totalBlocks * size, `bytes at block ${first}`);
    const pieces: Piece[] = [];
    let index = this.#extentAt(Math.floor(start / size));
    for (let at = start; at < end; index += 1) {
      const extent = defined(this.#extents[index], 'extent');
      const stop = Math.min(end, (extent.firstBlock + extent.blocks) * size);
      const position = DATA_OFFSET + (extent.fileBlock - extent.firstBlock) * size + at;
      const file = defined(this.#files[extent.file], 'file');
      pieces.push({ file, position, length: stop - at });
      at = stop;
    }
    return pieces;
  }

  /** Index of the extent that holds a block, by halving. */
  #extentAt(block: number): number {
    let low = 0;
    let high = this.#extents.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (defined(this.#extents[middle], 'extent').firstBlock <= block) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
