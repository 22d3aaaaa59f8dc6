/**
 * Appends to one file through a ring of aligned chunks: an image, or a cartridge that is a file.
 *
 * Bytes are copied into the current chunk; a full chunk is written while the next ones fill.
 * Writes bypass the page cache (O_DIRECT) where the file system lets them: what comes in bulk is
 * written once and not read soon, and it has to be durable in the end
 * (docs/adr/0005-direct-writes.md has the numbers). Some file systems refuse that at open, some at
 * the first write; from then on all goes through the page cache. Several chunks are in flight at
 * once, or one after the other where a file that was cut off must have no holes.
 *
 * Chunks begin at page boundaries of the file; a tail that is no whole page goes through the page
 * cache, and again with its page when that is full.
 *
 * Invariants:
 *  1. File bytes [0, offset) are those taken, once the chunks in flight are written.
 *  2. A chunk is in exactly one place: free, current, full, or in flight.
 *  3. The first error stays: nothing is written, synced or confirmed after it.
 */
import { assert, defined } from '../base/assert.ts';
import { StorageError, errnoOf } from '../base/errors.ts';
import { roundDown } from '../base/units.ts';
import type { BulkFile, BulkFiles } from './bulk-file.ts';
import { CHUNK_BYTES, PAGE_BYTES, returnRing, takeRing } from './page-ring.ts';

interface Chunk {
  /** Where its first byte lies in the file, a multiple of PAGE_BYTES. */
  readonly start: number;
  readonly bytes: Buffer;
  /** Bytes taken. */
  filled: number;
  /** Bytes written in whole pages, ≤ filled. */
  written: number;
  /** Bytes that are in the file, the rest of the last page included. */
  kept: number;
}

interface Failure {
  readonly error: unknown;
}

export class BulkWriter {
  readonly #file: BulkFile;
  readonly #direct: BulkFile | undefined;
  /** Where whole pages go: #direct, or #file itself. */
  #pages: BulkFile;
  readonly #isOrdered: boolean;
  readonly #ring: Buffer[];
  readonly #free: Buffer[];
  readonly #inFlight = new Set<Promise<void>>();
  /** Full, and not in flight: only where they are written one after the other. */
  readonly #full: Chunk[] = [];
  #current: Chunk | undefined;
  #offset: number;
  #failure: Failure | undefined;
  #closed = false;

  private constructor(
    file: BulkFile,
    direct: BulkFile | undefined,
    ring: Buffer[],
    offset: number,
    isOrdered: boolean,
  ) {
    this.#file = file;
    this.#direct = direct;
    this.#pages = direct ?? file;
    this.#ring = ring;
    this.#free = [...ring];
    this.#offset = offset;
    this.#isOrdered = isOrdered;
  }

  /**
   * Opens or creates the file, cut to `offset` bytes.
   *
   * @param isOrdered one write at a time: whatever cuts them off leaves a file without holes
   * @throws TARGET_INVALID if it is shorter; system errors
   */
  static async open(
    files: BulkFiles,
    path: string,
    offset: number,
    { isOrdered = false } = {},
  ): Promise<BulkWriter> {
    const file = await files.open(path, 'write');
    const ring = takeRing();
    let pages: BulkFile | undefined;
    try {
      const sizeBytes = await file.size();
      if (sizeBytes < offset) {
        const message = `the partial image has ${sizeBytes} bytes, not ${offset}`;
        throw new StorageError('TARGET_INVALID', message, { resumeFrom: offset, sizeBytes });
      }
      await file.truncate(offset);
      const page = defined(ring[0], 'chunk').subarray(0, PAGE_BYTES).fill(0);
      await readFully(file, page.subarray(0, offset % PAGE_BYTES), offset - (offset % PAGE_BYTES));
      pages = await openDirect(files, path);
      return new BulkWriter(file, pages, ring, offset, isOrdered).#withTail();
    } catch (error) {
      returnRing(ring);
      await Promise.allSettled([pages?.close(), file.close()]);
      throw error;
    }
  }

  /** True if whole pages bypass the page cache. */
  get isDirect(): boolean {
    return this.#pages !== this.#file;
  }

  get offset(): number {
    return this.#offset;
  }

  /** Takes the bytes. Resolves when all are copied; waits while every chunk is in flight. */
  async write(buffers: readonly Uint8Array[]): Promise<void> {
    for (const bytes of buffers) {
      let taken = 0;
      while (taken < bytes.length) {
        const chunk = this.#current ?? (await this.#room());
        const count = Math.min(bytes.length - taken, CHUNK_BYTES - chunk.filled);
        chunk.bytes.set(bytes.subarray(taken, taken + count), chunk.filled);
        chunk.filled += count;
        this.#offset += count;
        taken += count;
        if (chunk.filled === CHUNK_BYTES) this.#launch(chunk);
      }
    }
    this.#check();
  }

  /** Makes all bytes taken durable. @returns their number */
  async confirm(): Promise<number> {
    const confirmed = this.#offset;
    this.#check();
    await this.#drained();
    await this.#attempt(async () => {
      if (this.#current !== undefined) await this.#writeOut([this.#current]);
      await this.#file.sync();
    });
    return confirmed;
  }

  /** Waits for what is in flight and closes. Idempotent; does not make anything durable. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all(this.#inFlight);
    returnRing(this.#ring);
    try {
      await this.#direct?.close();
    } finally {
      await this.#file.close();
    }
  }

  /** The first chunk holds again the bytes of its page that are in the file already. */
  #withTail(): this {
    const tail = this.#offset % PAGE_BYTES;
    if (tail === 0) return this;
    const bytes = defined(this.#free.shift(), 'chunk');
    this.#current = { start: this.#offset - tail, bytes, filled: tail, written: 0, kept: tail };
    return this;
  }

  async #room(): Promise<Chunk> {
    this.#check();
    while (this.#free.length === 0) await Promise.race(this.#inFlight);
    this.#check();
    const start = this.#offset;
    assert(start % PAGE_BYTES === 0, 'chunk off a page boundary');
    const bytes = defined(this.#free.pop(), 'free chunk');
    this.#current = { start, bytes, filled: 0, written: 0, kept: 0 };
    return this.#current;
  }

  #launch(chunk: Chunk): void {
    assert(chunk === this.#current && chunk.filled === CHUNK_BYTES, 'chunk launched early');
    this.#current = undefined;
    this.#full.push(chunk);
    if (!this.#isOrdered || this.#inFlight.size === 0) this.#launchFull();
  }

  #launchFull(): void {
    const chunks = this.#full.splice(0);
    const work = this.#attempt(() => this.#writeOut(chunks)).catch(() => undefined); // in #failure
    this.#inFlight.add(work);
    void work.then(() => {
      this.#inFlight.delete(work);
      this.#free.push(...chunks.map(({ bytes }) => bytes));
      if (this.#full.length > 0) this.#launchFull();
    });
  }

  /** Chunks that follow each other: whole pages past the page cache, the rest through it. */
  async #writeOut(chunks: readonly Chunk[]): Promise<void> {
    const [first] = chunks;
    const last = chunks.at(-1);
    if (first === undefined || last === undefined || last.kept === last.filled) return;
    const whole = roundDown(last.filled, PAGE_BYTES);
    const pages = chunks.map((chunk) => {
      return chunk.bytes.subarray(chunk.written, chunk === last ? whole : CHUNK_BYTES);
    });
    await this.#writePages(pages, first.start + first.written);
    last.written = whole;
    const rest = last.bytes.subarray(whole, last.filled);
    await writeFully(this.#file, [rest], last.start + whole, 1);
    last.kept = last.filled;
  }

  async #writePages(buffers: readonly Uint8Array[], offset: number): Promise<void> {
    const file = this.#pages;
    try {
      await writeFully(file, buffers, offset, PAGE_BYTES);
    } catch (error) {
      if (file === this.#file || errnoOf(error) !== 'EINVAL') throw error;
      this.#pages = this.#file;
      await writeFully(this.#file, buffers, offset, PAGE_BYTES);
    }
  }

  async #drained(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
    this.#check();
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      if (this.#failure !== undefined) throw this.#failure.error;
      await work();
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  #check(): void {
    assert(!this.#closed, 'bulk writer used after close');
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** The file past the page cache, or undefined where the file system says at once that it cannot. */
async function openDirect(files: BulkFiles, path: string): Promise<BulkFile | undefined> {
  try {
    return await files.open(path, 'write-direct');
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') return undefined;
    throw error;
  }
}

/** Goes on after a short write at a multiple of `unit`, as O_DIRECT needs it. */
async function writeFully(
  file: BulkFile,
  buffers: readonly Uint8Array[],
  offset: number,
  unit: number,
): Promise<void> {
  let left = buffers.filter(({ length }) => length > 0);
  let at = offset;
  while (left.length > 0) {
    const done = roundDown(await file.write(left, at), unit);
    if (done === 0) throw new StorageError('TARGET_FULL', 'the file system takes no more bytes');
    left = behind(left, done);
    at += done;
  }
}

/** What of the buffers follows the first `count` bytes. */
function behind(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let skipped = 0;
  return buffers.flatMap((bytes) => {
    const from = Math.min(bytes.length, count - skipped);
    skipped += from;
    return from === bytes.length ? [] : [bytes.subarray(from)];
  });
}

async function readFully(file: BulkFile, into: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const count = await file.read(into.subarray(done), offset + done);
    if (count === 0) throw new StorageError('IMAGE_TRUNCATED', 'the file became shorter');
    done += count;
  }
}
