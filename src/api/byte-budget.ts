/**
 * A bound on the memory of all bodies in hand, first come first served, and the pool of the pieces
 * that streams are cut into.
 *
 * Invariants: (1) the bytes given out never exceed the budget; (2) no one overtakes a waiter.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { collectYoung } from '../base/memory.ts';
import { MIB } from '../base/units.ts';

/** What the socket's own buffers may add up to before they are collected. */
const COLLECT_EVERY_BYTES = 16 * MIB;

interface Waiter {
  readonly bytes: number;
  grant(): void;
}

export class ByteBudget {
  #freeBytes: number;
  readonly #totalBytes: number;
  readonly #maxWaiting: number;
  readonly #waiting: Waiter[] = [];

  constructor(totalBytes: number, maxWaiting: number) {
    this.#totalBytes = totalBytes;
    this.#freeBytes = totalBytes;
    this.#maxWaiting = maxWaiting;
  }

  /** @returns the release, to be called once. @throws TOO_MANY_REQUESTS if too many wait */
  async take(bytes: number): Promise<() => void> {
    assert(bytes <= this.#totalBytes, `budget of ${bytes} bytes`);
    if (this.#waiting.length > 0 || bytes > this.#freeBytes) await this.#wait(bytes);
    else this.#freeBytes -= bytes;
    return () => {
      this.#freeBytes += bytes;
      this.#grant();
    };
  }

  async #wait(bytes: number): Promise<void> {
    if (this.#waiting.length >= this.#maxWaiting) {
      throw new StorageError('TOO_MANY_REQUESTS', 'too many data requests are waiting for memory');
    }
    await new Promise<void>((grant) => {
      this.#waiting.push({ bytes, grant });
    });
  }

  #grant(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (first.bytes > this.#freeBytes) return;
      this.#freeBytes -= first.bytes;
      this.#waiting.shift();
      first.grant();
    }
  }
}

/** Buffers of one size, kept for the next stream: fresh ones cost a page fault every 4 KiB. */
export class PiecePool {
  readonly pieceBytes: number;
  readonly #maxKept: number;
  readonly #kept: Buffer[] = [];
  #streamedBytes = 0;

  constructor(pieceBytes: number, maxKept = 3) {
    this.pieceBytes = pieceBytes;
    this.#maxKept = maxKept;
  }

  /** Holds what was in it before. */
  take(): Buffer {
    return this.#kept.pop() ?? Buffer.allocUnsafeSlow(this.pieceBytes);
  }

  /** Only for a buffer that nobody touches any more. */
  giveBack(piece: Buffer): void {
    assert(piece.length === this.pieceBytes, 'a piece of another size');
    this.#streamedBytes += piece.length;
    if (this.#streamedBytes >= COLLECT_EVERY_BYTES) {
      this.#streamedBytes = 0;
      collectYoung();
    }
    if (this.#kept.length < this.#maxKept) this.#kept.push(piece);
  }
}
