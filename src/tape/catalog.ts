/**
 * The catalog of a set of cartridges, a journal of lines of JSON in one file.
 *
 * It is a cache of the cartridges: scans make it anew. What a drive has confirmed is noted before
 * anybody counts on it. Several threads may add to one file; each reads what was added since.
 *
 * Invariants:
 *  1. `add` resolves when the lines are durable.
 *  2. A line that was cut off while it was written is no line; the next one is not harmed by it.
 */
import { mkdir, open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageError, errnoOf } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { MIB } from '../base/units.ts';
import { CatalogState } from './catalog-state.ts';
import type { CatalogLine } from './catalog-state.ts';
import { isJsonObject } from './fields.ts';
import { syncDirectory } from './library-file.ts';

const FORMAT = 'spindle-tape-catalog 1';

export class TapeCatalog {
  readonly path: string;
  readonly #reading = new Mutex();
  #seen = new Seen();

  constructor(path: string) {
    this.path = path;
  }

  /**
   * What it says now. Cost: the reading of what was added since the last time, some 500 bytes a
   * part. The state goes on to change with later reads.
   *
   * @throws TARGET_INVALID if the file is no catalog
   */
  read(): Promise<CatalogState> {
    return this.#reading.run(async () => {
      let file: FileHandle;
      try {
        file = await open(this.path, 'r');
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
        this.#seen = new Seen();
        return this.#seen.state;
      }
      try {
        if (!(await this.#seen.isBeginningOf(file))) this.#seen = new Seen();
        await this.#seen.readOn(file);
        return this.#seen.state;
      } catch (error) {
        this.#seen = new Seen();
        throw withPath(error, this.path);
      } finally {
        await file.close();
      }
    });
  }

  /** Removes the file. Idempotent. */
  async forget(): Promise<void> {
    await rm(this.path, { force: true });
  }

  /** Adds lines, durably, in this order. After a crash the last ones may be missing. */
  async add(...lines: readonly CatalogLine[]): Promise<void> {
    await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
    const file = await open(this.path, 'a', 0o600);
    try {
      const { size } = await file.stat();
      // A newline in front ends a line that was cut off.
      const head = size === 0 ? FORMAT : '';
      const text = lines.map((line) => JSON.stringify(line)).join('\n');
      await file.appendFile(`${head}\n${text}\n`);
      await file.datasync();
      if (size === 0) await syncDirectory(dirname(this.path));
    } finally {
      await file.close();
    }
  }
}

const NEWLINE = 0x0a;
const PIECE_BYTES = MIB;
/** So much of what was read last is compared when it is read on. */
const COMPARED_BYTES = 256;

/** What was read of a file, and what it says. */
class Seen {
  readonly state = new CatalogState();
  /** Bytes that were understood. */
  #length = 0;
  #end: Buffer = Buffer.alloc(0);
  #hasFormat = false;

  /** False if the file is another one by now. */
  async isBeginningOf(file: FileHandle): Promise<boolean> {
    const end = Buffer.alloc(this.#end.length);
    const { bytesRead } = await file.read(end, 0, end.length, this.#length - end.length);
    return bytesRead === end.length && end.equals(this.#end);
  }

  async readOn(file: FileHandle): Promise<void> {
    let rest: Buffer = Buffer.alloc(0);
    for (let at = this.#length; ;) {
      const piece = Buffer.alloc(PIECE_BYTES);
      const { bytesRead } = await file.read(piece, 0, piece.length, at);
      at += bytesRead;
      rest = Buffer.concat([rest, piece.subarray(0, bytesRead)]);
      const whole = rest.lastIndexOf(NEWLINE) + 1;
      for (const line of rest.toString('utf8', 0, whole).split('\n')) this.#take(line);
      this.#understood(rest.subarray(0, whole));
      rest = rest.subarray(whole);
      if (bytesRead === 0) break;
    }
    // All but its newline may be there; a part of it is none.
    const last = rest.toString('utf8');
    if (!this.#hasFormat || parseLine(last).length === 0) {
      if (!this.#hasFormat && !FORMAT.startsWith(last)) throw noCatalog();
      return;
    }
    this.#take(last);
    this.#understood(rest);
  }

  #take(line: string): void {
    if (line === '') return;
    if (this.#hasFormat) for (const each of parseLine(line)) this.state.add(each);
    else if (!FORMAT.startsWith(line)) throw noCatalog();
    this.#hasFormat = true;
  }

  #understood(bytes: Buffer): void {
    this.#length += bytes.length;
    const end = Buffer.concat([this.#end, bytes]);
    this.#end = Buffer.from(end.subarray(Math.max(0, end.length - COMPARED_BYTES)));
  }
}

function noCatalog(): StorageError {
  return new StorageError('TARGET_INVALID', 'the file is no catalog of cartridges');
}

function withPath(error: unknown, path: string): unknown {
  return error instanceof StorageError ? error.with({ path }) : error;
}

function parseLine(text: string): CatalogLine[] {
  try {
    const value: unknown = JSON.parse(text);
    return isLine(value) ? [value] : [];
  } catch {
    return [];
  }
}

/** Only this program writes the file; what it has not written whole is no JSON. */
function isLine(value: unknown): value is CatalogLine {
  return isJsonObject(value) && typeof value['kind'] === 'string';
}
