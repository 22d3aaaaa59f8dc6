/**
 * A real tape drive: Linux's st driver through its device node, such as /dev/nst0.
 *
 * It adds nothing to what the driver does but the names of errors. Reads and writes go through
 * Node's file descriptors, everything else through ioctl; all of it off the event loop.
 *
 * Invariants: (1) the node is opened with O_NONBLOCK, so an open waits for no cartridge; (2) it is
 * one that does not rewind at the close; (3) one operation at a time.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { assert } from '../base/assert.ts';
import { OneAtATime, TapeError } from './drive.ts';
import type { TapeDevice, TapeDrive, TapeOperation, TapeStatus } from './drive.ts';
import { loadIoctl } from './ioctl.ts';
import type { Ioctl } from './ioctl.ts';
import {
  CLEAR_ASYNC_WRITES,
  MTIOCGET,
  MTIOCPOS,
  MTIOCTOP,
  decodePosition,
  decodeStatus,
  encodeOperation,
  errnoName,
  positionBuffer,
  statusBuffer,
} from './mtio.ts';
import type { MtOperation } from './mtio.ts';

/** Of SCSI tape drives; bit 7 of the minor number says that a close does not rewind. */
const TAPE_MAJOR = 9;
const NO_REWIND = 128;

/**
 * @param path of a node that does not rewind: /dev/nst0, /dev/tape/by-id/…-nst
 * @param ioctlOf for tests
 */
export function stDevice(path: string, ioctlOf: () => Promise<Ioctl> = loadIoctl): TapeDevice {
  return {
    path,
    open: async (mode) => {
      const ioctl = await ioctlOf();
      return openDrive(path, mode, ioctl);
    },
  };
}

async function openDrive(path: string, mode: 'read' | 'write', ioctl: Ioctl): Promise<TapeDrive> {
  const access = mode === 'read' ? constants.O_RDONLY : constants.O_RDWR;
  const handle = await open(path, access + constants.O_NONBLOCK).catch((error: unknown) => {
    throw asTapeError(error, 'open');
  });
  try {
    await checkNode(handle);
    const drive = new StDrive(handle, ioctl);
    await drive.status();
    return drive;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function checkNode(handle: FileHandle): Promise<void> {
  const stats = await handle.stat();
  const major = Math.floor(stats.rdev / 256) % 4096;
  if (!stats.isCharacterDevice() || major !== TAPE_MAJOR) {
    throw new TapeError('ENOTTY', 'open', 'not a SCSI tape drive');
  }
  if (stats.rdev % 256 >= NO_REWIND) return;
  throw new TapeError('EINVAL', 'open', 'this node rewinds at each close: take /dev/nst…');
}

class StDrive implements TapeDrive {
  readonly #handle: FileHandle;
  readonly #ioctl: Ioctl;
  readonly #turn = new OneAtATime();

  constructor(handle: FileHandle, ioctl: Ioctl) {
    this.#handle = handle;
    this.#ioctl = ioctl;
  }

  status(): Promise<TapeStatus> {
    return this.#turn.run('status', async () => {
      const answer = statusBuffer();
      await this.#call('status', MTIOCGET, answer);
      return decodeStatus(answer);
    });
  }

  read(into: Uint8Array): Promise<number> {
    return this.#transfer('read', async () => {
      const { bytesRead } = await this.#handle.read(into, 0, into.length, null);
      return bytesRead;
    });
  }

  write(record: Uint8Array): Promise<void> {
    return this.#transfer('write', async () => {
      const { length } = record;
      const { bytesWritten } = await this.#handle.write(record, 0, length, null);
      if (bytesWritten === length) return;
      throw new TapeError('EIO', 'write', `${bytesWritten} of ${length} bytes`);
    });
  }

  writeFilemarks(count: number): Promise<void> {
    return this.#operate('write-filemarks', 'writeFilemarks', count);
  }

  tell(): Promise<number> {
    return this.#turn.run('tell', async () => {
      const answer = positionBuffer();
      await this.#call('tell', MTIOCPOS, answer);
      return decodePosition(answer);
    });
  }

  seek(object: number): Promise<void> {
    return this.#operate('seek', 'seek', object);
  }

  rewind(): Promise<void> {
    return this.#operate('rewind', 'rewind');
  }

  spaceFilemarks(count: number): Promise<void> {
    assert(count !== 0, 'space over no filemarks');
    const operation = count > 0 ? 'spaceFilemarks' : 'backFilemarks';
    return this.#operate('space-filemarks', operation, Math.abs(count));
  }

  spaceRecords(count: number): Promise<void> {
    assert(count !== 0, 'space over no records');
    const operation = count > 0 ? 'spaceRecords' : 'backRecords';
    return this.#operate('space-records', operation, Math.abs(count));
  }

  seekEndOfData(): Promise<void> {
    return this.#operate('seek-end-of-data', 'endOfData');
  }

  erase(): Promise<void> {
    return this.#operate('erase', 'erase');
  }

  lock(): Promise<void> {
    return this.#operate('lock', 'lock');
  }

  unlock(): Promise<void> {
    return this.#operate('unlock', 'unlock');
  }

  unload(): Promise<void> {
    return this.#operate('unload', 'offline');
  }

  load(): Promise<void> {
    return this.#operate('load', 'load');
  }

  setRecordMode(): Promise<boolean> {
    return this.#turn.run('set-record-mode', async () => {
      const variable = encodeOperation('setBlockSize', 0);
      await this.#call('set-record-mode', MTIOCTOP, variable);
      const options = encodeOperation('setOptions', CLEAR_ASYNC_WRITES);
      const errno = await this.#ioctl(this.#handle.fd, MTIOCTOP, options);
      if (errno === 0) return true;
      if (errnoName(errno) === 'EPERM') return false;
      throw asErrno(errno, 'set-record-mode');
    });
  }

  close(): Promise<void> {
    return this.#transfer('close', () => this.#handle.close());
  }

  #operate(operation: TapeOperation, name: MtOperation, count = 1): Promise<void> {
    return this.#turn.run(operation, () =>
      this.#call(operation, MTIOCTOP, encodeOperation(name, count)),
    );
  }

  async #call(operation: TapeOperation, request: number, argument: Buffer): Promise<void> {
    const errno = await this.#ioctl(this.#handle.fd, request, argument);
    if (errno !== 0) throw asErrno(errno, operation);
  }

  #transfer<T>(operation: TapeOperation, body: () => Promise<T>): Promise<T> {
    return this.#turn.run(operation, async () => {
      try {
        return await body();
      } catch (error) {
        throw asTapeError(error, operation);
      }
    });
  }
}

function asErrno(errno: number, operation: TapeOperation): TapeError {
  const name = errnoName(errno);
  if (name !== undefined) return new TapeError(name, operation);
  return new TapeError('EIO', operation, `errno ${errno}`);
}

/** Node knows not every errno by name (ENOMEDIUM), but gives each number, negative. */
function asTapeError(error: unknown, operation: TapeOperation): unknown {
  if (!(error instanceof Error) || !('errno' in error)) return error;
  if (typeof error.errno !== 'number') return error;
  return asErrno(-error.errno, operation);
}
