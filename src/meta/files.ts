/**
 * The files around the database: migrations, the reserve, sizes, and putting a copy in its place.
 *
 * The database file itself is never opened here: closing any descriptor of it in this process would
 * drop the POSIX locks that SQLite holds on it. `stat` is harmless.
 */
import * as fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { StorageError, errnoOf } from '../base/errors.ts';
import { MIB } from '../base/units.ts';

export const RESERVE_BYTES = 8 * MIB;
/** Written at once. */
const PIECE_BYTES = 64 * 1024;

export interface TextFile {
  readonly name: string;
  readonly text: string;
}

/** The files of a directory whose names end so, ordered by name. */
export function readTextFiles(directory: string, ending: string): TextFile[] {
  const names = fs.readdirSync(directory).filter((name) => name.endsWith(ending));
  return names
    .sort()
    .map((name) => ({ name, text: fs.readFileSync(join(directory, name), 'utf8') }));
}

/** @throws METADATA_INVALID if the file's directory does not exist */
export function checkDirectory(path: string): void {
  if (fs.existsSync(dirname(path))) return;
  const message = `the directory of the metadata does not exist: ${dirname(path)}`;
  throw new StorageError('METADATA_INVALID', message, { path });
}

/** Size of a file, 0 if it does not exist. */
export function sizeOf(path: string): number {
  return fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

export function removeFile(path: string): void {
  fs.rmSync(path, { force: true });
}

/** Forces a file and its directory entry to the medium under its final name. */
export async function publish(temporary: string, path: string): Promise<void> {
  await syncPath(temporary);
  await fs.promises.rename(temporary, path);
  await syncPath(dirname(path));
}

export async function syncPath(path: string): Promise<void> {
  const handle = await fs.promises.open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * A filler file: room that is given back to the file system when the database finds none, so that
 * deletes can still commit.
 */
export class Reserve {
  readonly bytes: number;
  readonly #path: string;
  #held = false;

  constructor(databasePath: string, bytes: number) {
    this.bytes = bytes;
    const name = basename(databasePath).replace(/\.[^.]*$/, '');
    this.#path = join(dirname(databasePath), `${name}.reserve`);
  }

  get isHeld(): boolean {
    return this.#held;
  }

  /**
   * Takes the room, if as much again stays free. Cost: a write and a sync of the file if it is not
   * there yet, else one stat.
   */
  take(): boolean {
    if (this.#held) return true;
    if (sizeOf(this.#path) !== this.bytes) {
      const { bavail, bsize } = fs.statfsSync(dirname(this.#path));
      if (bavail * bsize < 2 * this.bytes || !this.#fill()) return false;
    }
    this.#held = true;
    return true;
  }

  /** Gives the room back. False if it was not held. */
  release(): boolean {
    const held = this.#held;
    this.#held = false;
    removeFile(this.#path);
    return held;
  }

  #fill(): boolean {
    try {
      writeZeros(this.#path, this.bytes);
      return true;
    } catch (error) {
      removeFile(this.#path);
      if (errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT') return false;
      throw error;
    }
  }
}

/** Writes a file of zeros, durably. In pieces: garbage of its whole size would stay in memory. */
function writeZeros(path: string, bytes: number): void {
  const zeros = Buffer.alloc(Math.min(bytes, PIECE_BYTES));
  const file = fs.openSync(path, 'w', 0o600);
  try {
    for (let at = 0; at < bytes;) {
      at += fs.writeSync(file, zeros, 0, Math.min(bytes - at, PIECE_BYTES));
    }
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
}
