/**
 * The I/O seam of pools: one file or block device, and the calls that make one.
 *
 * PoolFiles lies above it, Linux below it; test/support/faulty-block-file.ts implements the same
 * two interfaces in memory and loses what was not synced. test/contract/block-file.ts is the law.
 *
 * FileBlockFile: small writes into the page cache are synchronous while little is unsynced (an
 * asynchronous call costs ten times the copy), all else goes through the thread pool. A regular
 * file is locked by flock (lock.ts), a block device by O_EXCL.
 *
 * Invariants:
 *  1. No call uses a descriptor after its close (`close` waits for the calls inside).
 *  2. `sizeBytes` never shrinks.
 */
import type { Stats } from 'node:fs';
import { constants, read, write, writeSync, writev, writevSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readFile, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { assert } from '../base/assert.ts';
import { sliceBuffers, totalLength } from '../base/bytes.ts';
import { errnoOf, isStorageError, StorageError } from '../base/errors.ts';
import { Gate } from '../base/mutex.ts';
import { KIB, MIB, SECTOR_BYTES } from '../base/units.ts';
import { tryLock } from './lock.ts';
import { asHostFull, preallocate as preallocateFile } from './preallocate.ts';

export interface BlockFile {
  readonly path: string;
  readonly kind: 'file' | 'device';
  /** Present size; a device's is the device's. */
  readonly sizeBytes: number;
  /** Fills `into` from `position`. @throws DATA_UNREADABLE {path, position, length} */
  read(into: Uint8Array, position: number): Promise<void>;
  /**
   * Writes all bytes of the buffers one after the other; a file grows if they pass its end. The
   * buffers must not change until it resolves. After an error any part may be written.
   *
   * @throws HOST_FULL if the file system below is full; otherwise the system's own error: what it
   *   means to the pool is decided above
   */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** fdatasync: all writes that resolved before are durable after it. @throws the system's error */
  sync(): Promise<void>;
  /**
   * Extends a file to `sizeBytes` (never shrinks it); what is new reads as zeros. Durable after
   * the next `sync`. A device is only checked to be so large.
   *
   * @param preallocate room is taken on the host now; else the file is sparse
   * @throws HOST_FULL, the file as it was; VALIDATION_FAILED if a device is smaller
   */
  grow(sizeBytes: number, preallocate: boolean): Promise<void>;
  /** Waits for the calls inside, then gives up the lock. Syncs nothing. */
  close(): Promise<void>;
}

export interface BlockFileSystem {
  /**
   * Makes a file (0600, missing parent directories 0700, both durable), or takes an empty one, or
   * opens a block device of at least `sizeBytes`; with the exclusive lock.
   *
   * @throws POOL_FILE_EXISTS if a file is there and not empty; POOL_FILE_LOCKED; HOST_FULL with
   *   nothing left behind; POOL_UNAVAILABLE with the reason; VALIDATION_FAILED
   */
  create(path: string, sizeBytes: number, preallocate: boolean): Promise<BlockFile>;
  /** With the exclusive lock. @throws POOL_FILE_LOCKED; POOL_UNAVAILABLE with the reason */
  open(path: string): Promise<BlockFile>;
  /** Removes a file, durably. Nothing there, or a device: nothing to do. */
  remove(path: string): Promise<void>;
}

/** IOV_MAX of Linux. */
const VECTOR_MAX = 1024;
const SYNCHRONOUS_WRITE_BYTES = 64 * KIB;
/** Above this a write might have to wait for the disk (PoolFile starts a sync here). */
const SYNCHRONOUS_WHILE_UNSYNCED_BYTES = 16 * MIB;
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

class FileBlockFile implements BlockFile {
  readonly path: string;
  readonly kind: 'file' | 'device';
  readonly #handle: FileHandle;
  readonly #gate = new Gate();
  #sizeBytes: number;
  /** Written since the last finished sync began. */
  #unsyncedBytes = 0;

  constructor(path: string, kind: 'file' | 'device', handle: FileHandle, sizeBytes: number) {
    this.path = path;
    this.kind = kind;
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async read(into: Uint8Array, position: number): Promise<void> {
    this.#enter();
    try {
      let done = 0;
      while (done < into.length) {
        const count = await readSome(this.#handle.fd, into.subarray(done), position + done);
        if (count === 0) throw new Error('the file ends before');
        done += count;
      }
    } catch (error) {
      throw unreadable(this.path, position, into.length, error);
    } finally {
      this.#gate.leave();
    }
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    this.#enter();
    const length = totalLength(buffers);
    const end = length > 0 ? position + length : 0;
    try {
      let rest = buffers;
      let done = 0;
      while (done < length) {
        const count = await this.#writeSome(rest, length - done, position + done);
        assert(count > 0, 'a write made no progress');
        done += count;
        if (done < length) rest = sliceBuffers(buffers, done, length);
      }
      if (this.kind === 'file') this.#sizeBytes = Math.max(this.#sizeBytes, end);
    } catch (error) {
      throw asHostFull(error, this.path);
    } finally {
      this.#unsyncedBytes += length;
      this.#gate.leave();
    }
  }

  async sync(): Promise<void> {
    this.#enter();
    try {
      const covered = this.#unsyncedBytes;
      await this.#handle.datasync();
      this.#unsyncedBytes -= covered;
    } finally {
      this.#gate.leave();
    }
  }

  async grow(sizeBytes: number, preallocate: boolean): Promise<void> {
    this.#enter();
    try {
      if (this.kind === 'device') {
        this.#sizeBytes = await deviceSize(this.path, await this.#handle.stat());
        checkDeviceSize(this.path, this.#sizeBytes, sizeBytes);
        return;
      }
      const present = this.#sizeBytes;
      if (sizeBytes <= present) return;
      if (preallocate) await preallocateFile(this.#handle, this.path, present, sizeBytes);
      else await this.#handle.truncate(sizeBytes);
      this.#sizeBytes = sizeBytes;
    } catch (error) {
      throw asHostFull(error, this.path);
    } finally {
      this.#gate.leave();
    }
  }

  async close(): Promise<void> {
    if (!this.#gate.isOpen) return;
    await this.#gate.close();
    await this.#handle.close();
  }

  #enter(): void {
    assert(this.#gate.tryEnter(), `${this.path} is used after its close`);
  }

  /** One system call. @returns bytes written, possibly fewer than asked */
  #writeSome(
    buffers: readonly Uint8Array[],
    length: number,
    position: number,
  ): number | Promise<number> {
    const fd = this.#handle.fd;
    const unsynced = this.#unsyncedBytes + length;
    const small = length <= SYNCHRONOUS_WRITE_BYTES && unsynced < SYNCHRONOUS_WHILE_UNSYNCED_BYTES;
    const [only] = buffers;
    if (only !== undefined && buffers.length === 1) {
      if (small) return writeSync(fd, only, 0, only.length, position);
      return writeOne(fd, only, position);
    }
    const vector = buffers.slice(0, VECTOR_MAX);
    return small ? writevSync(fd, vector, position) : writeVector(fd, vector, position);
  }
}

/** The real thing: files and block devices of this machine. */
export const blockFileSystem: BlockFileSystem = {
  async create(path, sizeBytes, preallocate) {
    const found = await statIfThere(path);
    const file =
      found?.isBlockDevice() === true ? await openDevice(path) : await createFile(path, found);
    try {
      await file.grow(sizeBytes, preallocate);
      return file;
    } catch (error) {
      if (file.kind === 'file') await blockFileSystem.remove(path);
      await file.close();
      throw error;
    }
  },

  async open(path) {
    const found = await statIfThere(path);
    if (found === undefined) throw unavailable(path, 'it does not exist');
    return found.isBlockDevice() ? openDevice(path) : openFile(path);
  },

  async remove(path) {
    const found = await statIfThere(path);
    if (found === undefined || found.isBlockDevice()) return;
    try {
      await unlink(path);
      await syncDirectory(dirname(path));
    } catch (error) {
      throw unavailable(path, errnoOf(error) ?? 'it cannot be removed', error);
    }
  },
};

async function createFile(path: string, found: Stats | undefined): Promise<FileBlockFile> {
  if (found !== undefined) {
    if (found.isFile() && found.size > 0) throw exists(path);
    const file = await openFile(path);
    if (file.sizeBytes === 0) return file;
    await file.close();
    throw exists(path);
  }
  try {
    await makeDirectories(dirname(path));
    const { O_RDWR, O_CREAT, O_EXCL } = constants;
    const handle = await open(path, O_RDWR | O_CREAT | O_EXCL, FILE_MODE);
    const file = await locked(path, handle);
    await syncDirectory(dirname(path));
    return file;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw exists(path);
    throw asUnavailable(path, error);
  }
}

async function openFile(path: string): Promise<FileBlockFile> {
  try {
    return await locked(path, await open(path, constants.O_RDWR));
  } catch (error) {
    throw asUnavailable(path, error);
  }
}

/** Locks, then looks at the size. Closes the handle if that fails. */
async function locked(path: string, handle: FileHandle): Promise<FileBlockFile> {
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw unavailable(path, 'it is neither a file nor a block device');
    if (!(await tryLock(handle.fd, path))) throw lockedByAnother(path);
    const { size } = await handle.stat();
    return new FileBlockFile(path, 'file', handle, size);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openDevice(path: string): Promise<FileBlockFile> {
  try {
    const handle = await open(path, constants.O_RDWR | constants.O_EXCL);
    try {
      const sizeBytes = await deviceSize(path, await handle.stat());
      return new FileBlockFile(path, 'device', handle, sizeBytes);
    } catch (error) {
      await handle.close();
      throw error;
    }
  } catch (error) {
    throw errnoOf(error) === 'EBUSY' ? lockedByAnother(path) : asUnavailable(path, error);
  }
}

/** From /sys, by the device's number; the kernel counts in 512 bytes whatever the sector size. */
async function deviceSize(path: string, found: Stats): Promise<number> {
  if (!found.isBlockDevice()) throw unavailable(path, 'it is no block device any more');
  const device = BigInt(found.rdev);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  const text = await readFile(`/sys/dev/block/${major}:${minor}/size`, 'ascii');
  return Number(text.trim()) * SECTOR_BYTES;
}

function checkDeviceSize(path: string, deviceBytes: number, sizeBytes: number): void {
  if (sizeBytes <= deviceBytes) return;
  throw new StorageError('VALIDATION_FAILED', `device ${path} has only ${deviceBytes} bytes`, {
    path,
    field: 'sizeBytes',
    sizeBytes,
    deviceBytes,
  });
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw asUnavailable(path, error);
  }
}

/** A new name is durable when its directory is synced, and so on up to the first new directory. */
async function makeDirectories(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE });
  if (first === undefined) return;
  for (let at = directory; at.length >= first.length; at = dirname(at)) {
    await syncDirectory(dirname(at));
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function readSome(fd: number, into: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, into, 0, into.length, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

function writeOne(fd: number, bytes: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, 0, bytes.length, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

function writeVector(fd: number, vector: readonly Uint8Array[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(fd, vector, position, (error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    });
  });
}

export function unreadable(
  path: string,
  position: number,
  length: number,
  cause: unknown,
): StorageError {
  const reason = errnoOf(cause) ?? (cause instanceof Error ? cause.message : 'unknown');
  return new StorageError(
    'DATA_UNREADABLE',
    `cannot read ${length} bytes at ${position} of ${path}: ${reason}`,
    { path, position, length },
    cause,
  );
}

function exists(path: string): StorageError {
  return new StorageError('POOL_FILE_EXISTS', `${path} exists and is not empty`, { path });
}

function lockedByAnother(path: string): StorageError {
  return new StorageError('POOL_FILE_LOCKED', `${path} is in use by another process or pool`, {
    path,
  });
}

function unavailable(path: string, reason: string, cause?: unknown): StorageError {
  return new StorageError('POOL_UNAVAILABLE', `cannot use ${path}: ${reason}`, { path }, cause);
}

function asUnavailable(path: string, error: unknown): unknown {
  if (isStorageError(error)) return error;
  const full = asHostFull(error, path);
  return isStorageError(full) ? full : unavailable(path, errnoOf(error) ?? 'unknown', error);
}
