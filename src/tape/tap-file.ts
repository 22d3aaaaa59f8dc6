/**
 * One cartridge as a file, in the SIMH magnetic tape format (.tap).
 *
 * An object is a record or a filemark. A record is a u32 (little endian) with its length, its
 * bytes, a zero byte if the length is odd, and the length once more. A filemark is a u32 of 0. The
 * top bit of a length says that the record cannot be read: a bad spot. Specified by "SIMH Magtape
 * Representation and Handling"; programs of others read and write such files.
 *
 *  1. `use` opens the file and makes the index of its objects, once, or anew if somebody else
 *     changed the file meanwhile. The last `release` closes it and keeps the index.
 *  2. Objects are only added at the end; `truncate` makes an earlier place the end.
 *  3. What is added goes into the file at once. Only when many records follow each other it goes
 *     through a buffer of 4 MiB and past the page cache, as a drive has its buffer: what is in it
 *     is lost with the program, and its errors are told by a later operation. `sync`, and whatever
 *     does not add, has it written first.
 *
 * Invariants: (1) the index covers the file from 0 to `#end` without gaps; (2) what lies behind
 * `#end` was cut off while it was written, and is cut off the file before the next is added.
 */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { assert, defined } from '../base/assert.ts';
import { Mutex } from '../base/mutex.ts';
import { systemFiles } from '../file/bulk-file.ts';
import type { BulkFiles } from '../file/bulk-file.ts';
import { BulkWriter } from '../file/bulk-writer.ts';

/** What `lengthAt` says of a filemark. */
export const FILEMARK = -1;

const LENGTH_BYTES = 4;
const BAD_SPOT = 0x80000000;
const END_OF_MEDIUM = 0xffffffff;
const ERASE_GAP = 0xfffffffe;
const MAX_LENGTH = 0xffffff;
/** Read at once while the index is made; most of it is used only where records are short. */
const SCAN_BYTES = 4096;
/**
 * So much at the end of a file may be what a program left that was killed, or lost its power, while
 * it wrote: holes where pages did not get there. More than that is no cartridge that we wrote.
 */
const TORN_BYTES = 8 * 1024 * 1024;
/** Nobody writes so many filemarks one behind the other: these are a hole. */
const HOLE_MARKS = 64;
/** After so many bytes without a `sync`, more of them go through the buffer. */
const BULK_AFTER_BYTES = 4 * 1024 * 1024;

/** The file is not in this format. */
export class NotTapFile extends Error {
  constructor(path: string, offset: number) {
    super(`${path} is no .tap file: no record begins at ${offset}`);
    this.name = 'NotTapFile';
  }
}

interface Stamp {
  readonly size: number;
  readonly mtimeMs: number;
}

export class TapFile {
  readonly path: string;
  readonly #files: BulkFiles;
  readonly #turn = new Mutex();
  #users = 0;
  #handle: FileHandle | undefined;
  #stamp: Stamp | undefined;
  #offsets: number[] = [];
  #lengths: number[] = [];
  #bad = new Set<number>();
  #end = 0;
  #size = 0;
  #recordBytes = 0;
  /** The length of a record as it is in the file. */
  #lastLength = Buffer.alloc(LENGTH_BYTES);
  /** Added since the last `sync`, or whatever came between. */
  #streamedBytes = 0;
  #bulk: BulkWriter | undefined;
  /** Not everything in the index got into the file. */
  #loss: { readonly error: unknown } | undefined;

  /** @param files where records that follow each other go */
  constructor(path: string, files: BulkFiles = systemFiles) {
    this.path = path;
    this.#files = files;
  }

  /** Objects in the file. */
  get count(): number {
    return this.#lengths.length;
  }

  /** Bytes of all records, which is what fills a cartridge. */
  get recordBytes(): number {
    return this.#recordBytes;
  }

  /** Length of a record in bytes, or FILEMARK, or undefined at the end. */
  lengthAt(object: number): number | undefined {
    return this.#lengths[object];
  }

  isBad(object: number): boolean {
    return this.#bad.has(object);
  }

  /** To be followed by a `release`. @throws NotTapFile, and the errors of the file system */
  async use(): Promise<void> {
    await this.#turn.run(async () => {
      if (this.#users === 0) await this.#openFile();
      this.#users += 1;
    });
  }

  async release(): Promise<void> {
    await this.#turn.run(async () => {
      assert(this.#users > 0, 'a .tap file that nobody uses is released');
      this.#users -= 1;
      if (this.#users === 0) await this.#closeFile();
    });
  }

  /** Fills `into` with the beginning of a record. */
  async read(object: number, into: Uint8Array): Promise<void> {
    assert(into.length <= defined(this.#lengths[object], 'record'), 'read beyond a record');
    const offset = defined(this.#offsets[object], 'record') + LENGTH_BYTES;
    await this.#endBulk();
    let done = 0;
    while (done < into.length) {
      const rest = into.subarray(done);
      const { bytesRead } = await this.#open.read(rest, 0, rest.length, offset + done);
      if (bytesRead === 0) throw new NotTapFile(this.path, offset);
      done += bytesRead;
    }
  }

  /** Forgets the objects from this one on. */
  async truncate(object: number): Promise<void> {
    const end = this.#offsets[object] ?? this.#end;
    for (const length of this.#lengths.slice(object)) {
      if (length !== FILEMARK) this.#recordBytes -= length;
    }
    for (const bad of [...this.#bad]) if (bad >= object) this.#bad.delete(bad);
    this.#offsets.length = Math.min(this.#offsets.length, object);
    this.#lengths.length = this.#offsets.length;
    this.#end = end;
    if (this.#size <= end) return;
    await this.#endBulk();
    await this.#open.truncate(end);
    this.#size = end;
  }

  async appendRecord(bytes: Uint8Array): Promise<void> {
    assert(bytes.length > 0 && bytes.length <= MAX_LENGTH, `record of ${bytes.length} bytes`);
    const length = this.#lengthOf(bytes.length);
    const padding = bytes.length % 2 === 0 ? [] : [Buffer.alloc(1)];
    await this.#append([length, bytes, ...padding, length], bytes.length);
  }

  /** Records of a backup have the same length. */
  #lengthOf(bytes: number): Buffer {
    if (this.#lastLength.readUInt32LE() === bytes) return this.#lastLength;
    this.#lastLength = Buffer.alloc(LENGTH_BYTES);
    this.#lastLength.writeUInt32LE(bytes);
    return this.#lastLength;
  }

  async appendFilemark(): Promise<void> {
    await this.#append([Buffer.alloc(LENGTH_BYTES)], FILEMARK);
  }

  /** Everything appended so far survives a power cut. */
  async sync(): Promise<void> {
    if (!(await this.#endBulk())) await this.#open.datasync();
  }

  /** Makes a record unreadable, for good. */
  async damage(object: number): Promise<void> {
    const length = defined(this.#lengths[object], 'record');
    assert(length !== FILEMARK, 'a filemark cannot be damaged');
    const offset = defined(this.#offsets[object], 'record');
    await this.#endBulk();
    const mark = Buffer.alloc(LENGTH_BYTES);
    mark.writeUInt32LE(BAD_SPOT + length);
    await this.#open.write(mark, 0, LENGTH_BYTES, offset);
    await this.#open.write(mark, 0, LENGTH_BYTES, offset + LENGTH_BYTES + padded(length));
    this.#bad.add(object);
  }

  async #openFile(): Promise<void> {
    const handle = await open(this.path, 'r+');
    try {
      const { size, mtimeMs } = await handle.stat();
      const isKnown = this.#stamp?.size === size && this.#stamp.mtimeMs === mtimeMs;
      if (!isKnown) await this.#scan(handle, size);
      this.#size = size;
      this.#handle = handle;
    } finally {
      if (this.#handle === undefined) await handle.close();
    }
  }

  async #closeFile(): Promise<void> {
    const handle = this.#open;
    this.#handle = undefined;
    try {
      // What was not followed by a sync was not promised to anybody.
      await this.#endBulk().catch(() => undefined);
      const { size, mtimeMs } = await handle.stat();
      this.#stamp = this.#loss === undefined ? { size, mtimeMs } : undefined;
    } finally {
      this.#loss = undefined;
      await handle.close();
    }
  }

  get #open(): FileHandle {
    return defined(this.#handle, 'open .tap file');
  }

  async #append(parts: readonly Uint8Array[], length: number): Promise<void> {
    this.#checkWhole();
    if (this.#size > this.#end) await this.truncate(this.count);
    const total = parts.reduce((sum, part) => sum + part.length, 0);
    if (this.#streamedBytes >= BULK_AFTER_BYTES) await this.#writeBulk(parts);
    else await this.#write(parts, total);
    this.#size = this.#end + total;
    this.#streamedBytes += total;
    this.#add(length, total);
  }

  async #write(parts: readonly Uint8Array[], total: number): Promise<void> {
    this.#size = this.#end + total;
    const { bytesWritten } = await this.#open.writev([...parts], this.#end);
    if (bytesWritten < total) throw new Error(`${this.path}: only a part of a record was written`);
  }

  async #writeBulk(parts: readonly Uint8Array[]): Promise<void> {
    this.#bulk ??= await BulkWriter.open(this.#files, this.path, this.#end);
    try {
      await this.#bulk.write(parts);
    } catch (error) {
      this.#loss ??= { error };
      throw error;
    }
  }

  /**
   * What is in the buffer gets into the file, and is durable. If that cannot be, the index tells
   * more than the file has: the file is of no use until it is closed and opened again.
   *
   * @returns whether there was a buffer
   */
  async #endBulk(): Promise<boolean> {
    const bulk = this.#bulk;
    this.#bulk = undefined;
    this.#streamedBytes = 0;
    try {
      this.#checkWhole();
      await bulk?.confirm();
    } catch (error) {
      this.#loss ??= { error };
      throw error;
    } finally {
      await bulk?.close();
    }
    return bulk !== undefined;
  }

  #checkWhole(): void {
    if (this.#loss !== undefined) throw this.#loss.error;
  }

  #add(length: number, fileBytes: number): void {
    this.#offsets.push(this.#end);
    this.#lengths.push(length);
    this.#end += fileBytes;
    if (length !== FILEMARK) this.#recordBytes += length;
  }

  async #scan(handle: FileHandle, size: number): Promise<void> {
    this.#offsets = [];
    this.#lengths = [];
    this.#bad = new Set();
    this.#end = 0;
    this.#recordBytes = 0;
    const numbers = new NumberReader(handle);
    for (;;) {
      const at = this.#end;
      const mark = await numbers.at(at);
      if (mark === undefined || mark === END_OF_MEDIUM) break;
      if (mark === 0) {
        this.#add(FILEMARK, LENGTH_BYTES);
      } else if (mark === ERASE_GAP) {
        this.#end += LENGTH_BYTES;
      } else {
        const length = mark % BAD_SPOT;
        const whole = padded(length) + 2 * LENGTH_BYTES;
        const isCut = length <= MAX_LENGTH && at + whole > size;
        if (isCut) break;
        const again = length > MAX_LENGTH ? undefined : await numbers.at(at + whole - LENGTH_BYTES);
        const mayBeTorn = this.#recordBytes > 0 && size - at <= TORN_BYTES;
        if (mayBeTorn && (again !== mark || this.#marksAtEnd() >= HOLE_MARKS)) break;
        if (again !== mark) throw new NotTapFile(this.path, at);
        if (mark >= BAD_SPOT) this.#bad.add(this.count);
        this.#add(length, whole);
      }
    }
    this.#dropHole();
  }

  /** A hole reads as filemarks. One is left, as after a kill. */
  #dropHole(): void {
    const marks = this.#marksAtEnd();
    if (marks < HOLE_MARKS) return;
    const kept = this.count - marks + 1;
    this.#end = defined(this.#offsets[kept], 'filemark');
    this.#offsets.length = kept;
    this.#lengths.length = kept;
  }

  /** Filemarks behind the last record. */
  #marksAtEnd(): number {
    return this.count - 1 - this.#lengths.findLastIndex((length) => length !== FILEMARK);
  }
}

function padded(length: number): number {
  return length + (length % 2);
}

/** Reads the numbers of a file front to back, a few kilobytes at a time. */
class NumberReader {
  readonly #handle: FileHandle;
  readonly #window = Buffer.alloc(SCAN_BYTES);
  #from = 0;
  #filled = 0;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** The number at this offset, or undefined if the file ends before it does. */
  async at(offset: number): Promise<number | undefined> {
    const isInside = offset >= this.#from && offset + LENGTH_BYTES <= this.#from + this.#filled;
    if (!isInside) {
      const { bytesRead } = await this.#handle.read(this.#window, 0, SCAN_BYTES, offset);
      this.#from = offset;
      this.#filled = bytesRead;
      if (bytesRead < LENGTH_BYTES) return undefined;
    }
    return this.#window.readUInt32LE(offset - this.#from);
  }
}
