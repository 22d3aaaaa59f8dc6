/**
 * One file of a pool: a block file, what of it is unsynced, and what a failure does to the pool.
 *
 * Unsynced bytes are bounded, since one fdatasync pays for all (16 MiB 15 ms, 256 MiB 150 ms): a
 * sync starts by itself at 16 MiB, and writers wait from 256 MiB until a sync has finished.
 *
 * Invariants:
 *  1. `sync` covers every write that resolved before it was called; bytes written while a sync
 *     runs stay unsynced until a later one.
 *  2. One fdatasync at a time, and waiting callers share the next.
 *  3. After the first failed write or sync of any file of the pool no write and no sync starts;
 *     nothing is tried again (after a failed fdatasync the kernel counts lost pages as clean).
 *     ENOSPC of a write and failed reads do not poison.
 */
import { AssertionError } from '../base/assert.ts';
import { errnoOf, isStorageError, StorageError } from '../base/errors.ts';
import { MIB, SECTOR_BYTES } from '../base/units.ts';
import type { BlockFile, BlockFileSystem } from './block-file.ts';
import { removeFile } from './file-header.ts';

export const SYNC_STARTS_AT_BYTES = 16 * MIB;
export const WRITERS_WAIT_AT_BYTES = 256 * MIB;

/** The first failure of a pool, shared by its files. */
export class Poison {
  #error: StorageError | undefined;

  get error(): StorageError | undefined {
    return this.#error;
  }

  /** @throws POOL_POISONED with the first cause */
  check(): void {
    if (this.#error !== undefined) throw this.#error;
  }

  /** Poisons, unless that has happened. @returns the first failure */
  set(path: string, operation: 'write' | 'sync', cause: unknown): StorageError {
    const reason = errnoOf(cause) ?? (cause instanceof Error ? cause.message : 'unknown');
    this.#error ??= new StorageError(
      'POOL_POISONED',
      `a ${operation} of ${path} failed (${reason}); the pool is read-only until it is reopened`,
      { path, operation, reason },
      cause,
    );
    return this.#error;
  }
}

export class PoolFile {
  readonly path: string;
  readonly kind: 'file' | 'device';
  readonly #file: BlockFile;
  readonly #poison: Poison;
  /** Size that the pool uses; the file may be longer. */
  #sizeBytes: number;
  #inFlightBytes = 0;
  #unsyncedBytes = 0;
  /** The part of #unsyncedBytes that the running sync covers. */
  #coveredBytes = 0;
  #syncing: Promise<void> | undefined;
  #syncsStarted = 0;
  #syncsFinished = 0;
  #waiting: (() => void)[] = [];

  constructor(file: BlockFile, sizeBytes: number, poison: Poison) {
    this.path = file.path;
    this.kind = file.kind;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#poison = poison;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Bytes of resolved writes that no finished sync covers. */
  get unsyncedBytes(): number {
    return this.#unsyncedBytes;
  }

  read(into: Uint8Array, position: number): Promise<void> {
    return this.#file.read(into, position);
  }

  /** @throws POOL_POISONED; HOST_FULL, which does not poison */
  async write(buffers: readonly Uint8Array[], position: number, length: number): Promise<void> {
    this.#poison.check();
    while (this.#unsyncedBytes + this.#inFlightBytes >= WRITERS_WAIT_AT_BYTES) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      this.#poison.check();
    }
    this.#inFlightBytes += length;
    try {
      await this.#file.write(buffers, position);
    } catch (error) {
      throw this.#writeFailed(error);
    } finally {
      this.#inFlightBytes -= length;
      this.#unsyncedBytes += length;
      this.#syncIfDue();
    }
  }

  /** Cost: nothing if nothing is unsynced, else at most two fdatasync. @throws POOL_POISONED */
  async sync(): Promise<void> {
    this.#poison.check();
    if (this.#unsyncedBytes === 0) return;
    const runningCovers = this.#syncing !== undefined && this.#coveredBytes === this.#unsyncedBytes;
    const wanted = runningCovers ? this.#syncsStarted : this.#syncsStarted + 1;
    while (this.#syncsFinished < wanted) await (this.#syncing ?? this.#startSync());
  }

  /** Extends the file; the pool's own size follows with `accept`. @throws HOST_FULL */
  async grow(sizeBytes: number, preallocate: boolean): Promise<void> {
    await this.#file.grow(sizeBytes, preallocate);
    // a new size counts as one sector written, so that the next sync covers it
    this.#unsyncedBytes += SECTOR_BYTES;
  }

  accept(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
  }

  /** Removes the file, or the header of a device; does not close it. */
  remove(fs: BlockFileSystem): Promise<void> {
    return removeFile(fs, this.#file);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #syncIfDue(): void {
    if (this.#poison.error !== undefined) this.#wakeAll();
    else if (this.#unsyncedBytes >= SYNC_STARTS_AT_BYTES) this.#syncInBackground();
  }

  #syncInBackground(): void {
    if (this.#syncing !== undefined) return;
    // a failure is kept as the poison: the next write or flush throws it
    this.#startSync().catch(() => undefined);
  }

  #startSync(): Promise<void> {
    this.#poison.check();
    this.#syncsStarted += 1;
    this.#coveredBytes = this.#unsyncedBytes;
    this.#syncing = this.#runSync();
    return this.#syncing;
  }

  async #runSync(): Promise<void> {
    try {
      await this.#file.sync();
      this.#unsyncedBytes -= this.#coveredBytes;
      this.#syncsFinished = this.#syncsStarted;
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      throw this.#poison.set(this.path, 'sync', error);
    } finally {
      this.#coveredBytes = 0;
      this.#syncing = undefined;
      this.#wakeAll();
    }
    this.#syncIfDue();
  }

  #writeFailed(error: unknown): unknown {
    if (isStorageError(error, 'HOST_FULL') || error instanceof AssertionError) return error;
    return this.#poison.set(this.path, 'write', error);
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
