/**
 * The data directory: where the daemon's own files lie, and the lock that makes it one daemon's.
 *
 * The lock is on the file `lock` and ends with the process, however it ends. Its text, the owner's
 * process id, is for people only.
 *
 * Invariant: nothing in the directory but `lock` is touched before the lock is held.
 */
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError, errnoOf } from '../base/errors.ts';
import { tryLock } from '../pool/lock.ts';

/** In it: the catalogs of targets on tape. */
export const CATALOGS_FOLDER = 'tape-catalogs';

export class DataDir {
  readonly path: string;
  /** The metadata database. */
  readonly database: string;
  /** Where its regular copy goes, unless that is configured. */
  readonly databaseCopy: string;
  /** The file of the default pool. */
  readonly defaultPool: string;
  readonly #lock: FileHandle;

  /**
   * Makes the directory (0700) if it is missing, and takes the lock.
   * @throws STORE_LOCKED, PATH_NOT_ALLOWED (it cannot be used), POOL_UNAVAILABLE (no `flock`)
   */
  static async open(path: string): Promise<DataDir> {
    const lock = await openLock(path);
    try {
      if (!(await tryLock(lock.fd, join(path, 'lock')))) throw await lockedBy(path, lock);
      await lock.truncate(0);
      await lock.write(`${process.pid}\n`, 0);
      return new DataDir(path, lock);
    } catch (error) {
      await lock.close();
      throw error;
    }
  }

  private constructor(path: string, lock: FileHandle) {
    this.path = path;
    this.database = join(path, 'meta.db');
    this.databaseCopy = join(path, 'meta-copy.db');
    this.defaultPool = join(path, 'pool-default.dat');
    this.#lock = lock;
  }

  /** Files that no pool or target may be, hold or lie in. */
  get own(): string[] {
    const { database, databaseCopy } = this;
    const beside = ['-wal', '-shm', '-journal'].map((ending) => `${database}${ending}`);
    return [
      join(this.path, 'lock'),
      join(this.path, 'meta.reserve'),
      join(this.path, CATALOGS_FOLDER),
      database,
      ...beside,
      databaseCopy,
      `${databaseCopy}.part`,
    ];
  }

  /** Gives up the lock. */
  async close(): Promise<void> {
    await this.#lock.close();
  }
}

async function openLock(path: string): Promise<FileHandle> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    return await open(join(path, 'lock'), 'a+', 0o600);
  } catch (error) {
    const reason = errnoOf(error) ?? 'unknown';
    const message = `the data directory ${path} cannot be used: ${reason}`;
    throw new StorageError('PATH_NOT_ALLOWED', message, { path, reason }, error);
  }
}

async function lockedBy(path: string, lock: FileHandle): Promise<StorageError> {
  const owner = (await lock.readFile('utf8')).trim();
  const who = owner === '' ? 'another process' : `process ${owner}`;
  const message = `the data directory ${path} is in use by ${who}`;
  return new StorageError('STORE_LOCKED', message, { path });
}
