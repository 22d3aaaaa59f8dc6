/**
 * Appends to one file through a ring of aligned chunks: an image, or a cartridge that is a file.
 *
 * Bytes are copied into the current chunk; a full chunk is written while the next ones fill.
 * Writes bypass the page cache (O_DIRECT) where the file system lets them: what comes in bulk is
 * written once and not read soon, and it has to be durable in the end
 * (docs/adr/0005-direct-writes.md has the numbers). Some file systems refuse that at open, some at
 * the first write; from then on all goes through the page cache. Several chunks are in flight at
 * once: a file that was cut off behind its last `confirm` may have holes there.
 *
 * Chunks begin at page boundaries of the file; a tail that is no whole page goes through the page
 * cache, and again with its page when that is full.
 *
 * Invariants:
 *  1. File bytes [0, offset) are those taken, once the chunks in flight are written.
 *  2. A chunk is in exactly one place: free, current, or in flight.
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
  readonly #ring: Buffer[];
  readonly #free: Buffer[];
  readonly #inFlight = new Set<Promise<void>>();
  #current: Chunk | undefined;
  #offset: number;
  #failure: Failure | undefined;
  #closed = false;

  private constructor(
    file: BulkFile,
    direct: BulkFile | undefined,
    ring: Buffer[],
    offset: number,
  ) {
    this.#file = file;
    this.#direct = direct;
    this.#pages = direct ?? file;
    this.#ring = ring;
    this.#free = [...ring];
    this.#offset = offset;
  }

  /**
   * Opens or creates the file, cut to `offset` bytes.
   *
   * @throws TARGET_INVALID if it is shorter; system errors
   */
  static async open(files: BulkFiles, path: string, offset: number): Promise<BulkWriter> {
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
      return new BulkWriter(file, pages, ring, offset).#withTail();
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
      if (this.#current !== undefined) await this.#writeOut(this.#current);
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
    const work = this.#attempt(() => this.#writeOut(chunk)).catch(() => undefined); // in #failure
    this.#inFlight.add(work);
    void work.then(() => {
      this.#inFlight.delete(work);
      this.#free.push(chunk.bytes);
    });
  }

  /** Whole pages past the page cache, the rest of the chunk through it. */
  async #writeOut(chunk: Chunk): Promise<void> {
    if (chunk.kept === chunk.filled) return;
    const whole = roundDown(chunk.filled, PAGE_BYTES);
    const pages = chunk.bytes.subarray(chunk.written, whole);
    await this.#writePages(pages, chunk.start + chunk.written);
    chunk.written = whole;
    const rest = chunk.bytes.subarray(whole, chunk.filled);
    await writeFully(this.#file, rest, chunk.start + whole, 1);
    chunk.kept = chunk.filled;
  }

  async #writePages(bytes: Uint8Array, offset: number): Promise<void> {
    const file = this.#pages;
    try {
      await writeFully(file, bytes, offset, PAGE_BYTES);
    } catch (error) {
      if (file === this.#file || errnoOf(error) !== 'EINVAL') throw error;
      this.#pages = this.#file;
      await writeFully(this.#file, bytes, offset, PAGE_BYTES);
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
  bytes: Uint8Array,
  offset: number,
  unit: number,
): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const count = roundDown(await file.write(bytes.subarray(done), offset + done), unit);
    if (count === 0) throw new StorageError('TARGET_FULL', 'the file system takes no more bytes');
    done += count;
  }
}

async function readFully(file: BulkFile, into: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const count = await file.read(into.subarray(done), offset + done);
    if (count === 0) throw new StorageError('IMAGE_TRUNCATED', 'the file became shorter');
    done += count;
  }
}
