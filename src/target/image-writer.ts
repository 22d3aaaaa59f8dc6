/**
 * Appends to one image file through a ring of aligned chunks with several writes in flight.
 *
 * Bytes are copied into the current chunk; a full chunk is written while the next one fills.
 * Writes bypass the page cache (O_DIRECT) where the file system lets them: an image is written once
 * and not read soon, and it has to be durable in the end (docs/adr/0005-direct-writes.md has the
 * numbers). Chunks begin at page boundaries of the file; a tail that is no whole page goes through
 * the page cache, and again with its page when that is full.
 *
 * Invariants:
 *  1. File bytes [0, offset) are those taken, once the chunks in flight are written.
 *  2. A chunk is in exactly one place: free, current, or in flight.
 *  3. The first error stays: nothing is written, synced or confirmed after it.
 */
import { assert, defined } from '../base/assert.ts';
import { StorageError, errnoOf } from '../base/errors.ts';
import { roundDown } from '../base/units.ts';
import type { ImageFile, ImageFiles } from './image-file.ts';
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

export class ImageWriter {
  readonly #file: ImageFile;
  /** Where whole pages go: past the page cache, or #file itself. */
  readonly #pages: ImageFile;
  readonly #ring: Buffer[];
  readonly #free: Buffer[];
  readonly #inFlight = new Set<Promise<void>>();
  #current: Chunk | undefined;
  #offset: number;
  #failure: Failure | undefined;
  #closed = false;

  private constructor(file: ImageFile, pages: ImageFile, ring: Buffer[], offset: number) {
    this.#file = file;
    this.#pages = pages;
    this.#ring = ring;
    this.#free = [...ring];
    this.#offset = offset;
  }

  /**
   * Opens or creates the file, cut to `offset` bytes.
   * @throws TARGET_INVALID if it is shorter; system errors
   */
  static async open(files: ImageFiles, path: string, offset: number): Promise<ImageWriter> {
    const file = await files.open(path, 'write');
    const ring = takeRing();
    let pages: ImageFile | undefined;
    try {
      const sizeBytes = await file.size();
      if (sizeBytes < offset) {
        const message = `the partial image has ${sizeBytes} bytes, not ${offset}`;
        throw new StorageError('TARGET_INVALID', message, { resumeFrom: offset, sizeBytes });
      }
      await file.truncate(offset);
      const page = defined(ring[0], 'chunk').subarray(0, PAGE_BYTES).fill(0);
      await readFully(file, page.subarray(0, offset % PAGE_BYTES), offset - (offset % PAGE_BYTES));
      pages = await openDirect(files, path, page, offset);
      await file.truncate(offset);
      return new ImageWriter(file, pages ?? file, ring, offset).#withTail();
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
        const chunk = await this.#room();
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
      if (this.isDirect) await this.#pages.close();
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
    if (this.#current !== undefined) return this.#current;
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
    const work = this.#attempt(() => this.#writeOut(chunk)).then(
      () => undefined,
      () => undefined, // kept in #failure
    );
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
    await writeFully(this.#pages, pages, chunk.start + chunk.written, PAGE_BYTES);
    chunk.written = whole;
    const rest = chunk.bytes.subarray(whole, chunk.filled);
    await writeFully(this.#file, rest, chunk.start + whole, 1);
    chunk.kept = chunk.filled;
  }

  async #drained(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
    this.#check();
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  #check(): void {
    assert(!this.#closed, 'image writer used after close');
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** No O_DIRECT here; or no room for a page more than there is, which may be all that is needed. */
const noTrial = new Set(['EINVAL', 'ENOSPC', 'EDQUOT']);

/**
 * The file past the page cache, or undefined where the file system cannot: some say so at open,
 * some at the first write, so the page at `offset` is written as it is (`page`, zeros behind).
 */
async function openDirect(
  files: ImageFiles,
  path: string,
  page: Buffer,
  offset: number,
): Promise<ImageFile | undefined> {
  let file: ImageFile | undefined;
  try {
    file = await files.open(path, 'write-direct');
    await writeFully(file, page, roundDown(offset, PAGE_BYTES), PAGE_BYTES);
    return file;
  } catch (error) {
    await file?.close();
    if (noTrial.has(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** Goes on after a short write at a multiple of `unit`, as O_DIRECT needs it. */
async function writeFully(
  file: ImageFile,
  bytes: Uint8Array,
  offset: number,
  unit: number,
): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const count = await file.write(bytes.subarray(done), offset + done);
    const next = done + roundDown(count, unit);
    if (next === done) throw new StorageError('TARGET_FULL', 'the file system takes no more bytes');
    done = next;
  }
}

async function readFully(file: ImageFile, into: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const count = await file.read(into.subarray(done), offset + done);
    if (count === 0) throw new StorageError('IMAGE_TRUNCATED', 'the file became shorter');
    done += count;
  }
}
