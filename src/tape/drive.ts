/**
 * What a tape drive can do: the seam between our format on tape and a drive, real or virtual.
 *
 * The semantics are exactly those of Linux's st driver in variable mode, traps included
 * (docs/tape-drive.md lists them): whoever works over this interface works on the real device.
 *
 *  1. `TapeDevice.open` never waits for a cartridge; `status` tells whether one is there.
 *  2. `setRecordMode` after each open: block size and asynchronous writes outlast a close.
 *  3. One operation at a time: each is awaited before the next (asserted by `OneAtATime`).
 *  4. `close` ends it. After a record it writes a filemark, and that can fail.
 *
 * What a caller has to know:
 *  1. A record is safe only once a later `writeFilemarks` has resolved.
 *  2. After ENOSPC the same write would go through, into the reserved zone: do not try again.
 *  3. After EIO another cartridge may lie in the drive, and the next write would overwrite it:
 *     close, open, read the label. Do not trust the counters of `status` after an error; `tell`.
 *  4. A cartridge that comes while a drive is open is not seen: open again.
 */
import { isOfAligned } from '../base/aligned-memory.ts';
import { assert } from '../base/assert.ts';

/**
 * | errno | when |
 * | --- | --- |
 * | EIO | medium or drive failed, cartridge changed, or a position beyond the data |
 * | ENOSPC | early warning or end of the medium: nothing was written |
 * | ENOMEM | the record is larger than the buffer: it was skipped |
 * | ENOMEDIUM | no cartridge, or none since the open; EIO if one is there and not loaded |
 * | EROFS, EACCES | write-protected, or open for reading only; EACCES also: not allowed to open |
 * | EBUSY | somebody has the drive open |
 * | EINVAL | size of a record or a count that the drive does not take |
 * | EBADF | written through a drive that is open for reading |
 * | ENOENT, ENXIO, ENODEV | no such device, or it went away |
 * | ENOTTY | the device is no tape drive |
 * | EPERM | not allowed |
 */
export const tapeErrnos = [
  'EIO',
  'ENOSPC',
  'ENOMEM',
  'ENOMEDIUM',
  'EROFS',
  'EACCES',
  'EBUSY',
  'EINVAL',
  'EBADF',
  'ENOENT',
  'ENXIO',
  'ENODEV',
  'ENOTTY',
  'EPERM',
] as const;

export type TapeErrno = (typeof tapeErrnos)[number];

export type TapeOperation =
  | 'open'
  | 'status'
  | 'read'
  | 'write'
  | 'write-filemarks'
  | 'tell'
  | 'seek'
  | 'rewind'
  | 'space-filemarks'
  | 'space-records'
  | 'seek-end-of-data'
  | 'erase'
  | 'lock'
  | 'unlock'
  | 'unload'
  | 'load'
  | 'set-record-mode'
  | 'close';

/** An operation that the driver refused or that failed. `code` is the name of the errno. */
export class TapeError extends Error {
  readonly code: TapeErrno;
  readonly operation: TapeOperation;

  constructor(code: TapeErrno, operation: TapeOperation, detail = '') {
    super(`${operation}: ${code}${detail === '' ? '' : ` (${detail})`}`);
    this.name = 'TapeError';
    this.code = code;
    this.operation = operation;
  }
}

export function isTapeError(error: unknown, code?: TapeErrno): error is TapeError {
  return error instanceof TapeError && (code === undefined || error.code === code);
}

/** What the driver believes (MTIOCGET). It asks the drive for nothing, so it may be wrong. */
export interface TapeStatus {
  /** A cartridge was ready when the drive was opened or loaded. */
  readonly online: boolean;
  /** No cartridge was there. If neither is true, one is there that has to be loaded. */
  readonly doorOpen: boolean;
  readonly writeProtected: boolean;
  readonly atBeginning: boolean;
  /** Just behind a filemark. */
  readonly atFilemark: boolean;
  readonly atEndOfData: boolean;
  /** The last record crossed the early warning; the next write gives ENOSPC. */
  readonly earlyWarning: boolean;
  /** Filemarks before the position, -1 if not known. */
  readonly file: number;
  /** Records since the last filemark, -1 if not known. */
  readonly block: number;
  /** 0 in variable mode: one write is one record. */
  readonly blockSizeBytes: number;
  readonly needsCleaning: boolean;
}

/** An open drive. Every method may throw a TapeError; what else each can throw is a bug. */
export interface TapeDrive {
  /** Also reports the error of an earlier asynchronous write: EIO, ENOSPC. */
  status(): Promise<TapeStatus>;
  /**
   * Reads one record.
   *
   * @returns its length; 0 at a filemark, which is then behind the position; 0 a second time is the
   *   end of the recorded data, and every later read there is EIO
   * @throws ENOMEM the record is larger than `into`, which stays as it was; it was skipped
   * @throws EIO a bad spot (the position stays before it: `spaceRecords(1)` goes on), or the end of
   *   data where no filemark is before it
   */
  read(into: Uint8Array): Promise<number>;
  /**
   * Writes one record of 1 byte to 8 MiB; all that was behind the position is gone. Give it slices
   * of an `alignedBuffer` of at most 1 MiB: from others the driver may write asynchronously and
   * report the error at the next operation.
   *
   * @throws ENOSPC nothing was written
   * @throws EIO nothing was written here; whether something was elsewhere is not known
   */
  write(record: Uint8Array): Promise<void>;
  /**
   * Writes that many filemarks, after everything before them is on the medium. 0 only waits for
   * that; after it `close` writes no filemark of its own.
   */
  writeFilemarks(count: number): Promise<void>;
  /** The position: records and filemarks before it, 0 at the beginning. */
  tell(): Promise<number>;
  /**
   * Goes to a position that `tell` gave. Afterwards `file` and `block` are not known.
   *
   * @throws EIO beyond the end of data, where the position is then
   */
  seek(object: number): Promise<void>;
  rewind(): Promise<void>;
  /**
   * Behind the count-th filemark; with a negative count before the count-th one backwards.
   *
   * @throws EIO there are fewer: the position is at the end of data, or at the beginning
   */
  spaceFilemarks(count: number): Promise<void>;
  /** @throws EIO at a filemark, which was passed; or at either end */
  spaceRecords(count: number): Promise<void>;
  seekEndOfData(): Promise<void>;
  /** Erases from the position on: hours on a real drive. */
  erase(): Promise<void>;
  /** Locks the door: no changer takes the cartridge out, not even after `close`. */
  lock(): Promise<void>;
  unlock(): Promise<void>;
  /** Ejects, unlocking the door. Afterwards there is no cartridge until `load` or a new open. */
  unload(): Promise<void>;
  load(): Promise<void>;
  /**
   * Variable block size; asynchronous writes off.
   *
   * @returns false if this process is not allowed to switch those off
   */
  setRecordMode(): Promise<boolean>;
  /**
   * Ends it, also if it throws. Writes a filemark if a record was the last thing written.
   *
   * @throws EIO that filemark, or a record written asynchronously, is not on the tape
   */
  close(): Promise<void>;
}

export interface TapeDevice {
  readonly path: string;
  /**
   * Opens at once, whether a cartridge is there or not.
   *
   * @throws EBUSY, ENOENT, ENXIO, ENODEV, EACCES, ENOTTY
   */
  open(mode: 'read' | 'write'): Promise<TapeDrive>;
}

/** Bytes of one read or write: the driver takes no more. */
export const MAX_TRANSFER_BYTES = 8 * 1024 * 1024;
/** What the driver hands to the drive without copying it, if it is aligned. */
export const MAX_DIRECT_BYTES = 1024 * 1024;

/** Alignment that host adapters ask for. */
const DIRECT_ALIGNMENT_BYTES = 512;
/** True if the driver hands these bytes to the drive as they are, so that errors come at once. */
export function isDirect(bytes: Uint8Array): boolean {
  const fits = bytes.length + (bytes.byteOffset % 4096) <= MAX_DIRECT_BYTES;
  return fits && isOfAligned(bytes) && bytes.byteOffset % DIRECT_ALIGNMENT_BYTES === 0;
}

/** Asserts rule 3: no operation before the one before it has ended, none after the close. */
export class OneAtATime {
  #running: TapeOperation | undefined;
  #closed = false;

  get isClosed(): boolean {
    return this.#closed;
  }

  async run<T>(operation: TapeOperation, body: () => Promise<T>): Promise<T> {
    assert(!this.#closed, `tape drive: ${operation} after close`);
    assert(this.#running === undefined, `tape drive: ${operation} during ${this.#running ?? ''}`);
    this.#running = operation;
    if (operation === 'close') this.#closed = true;
    try {
      return await body();
    } finally {
      this.#running = undefined;
    }
  }
}
