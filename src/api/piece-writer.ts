/**
 * Cuts a stream of bytes into the pieces that are written: one fills while the one before is being
 * written.
 */
import type { PiecePool } from './byte-budget.ts';

export interface PieceActions {
  write(offset: number, piece: Buffer): Promise<void>;
  /** A write has failed; nothing more will be written. */
  onError(error: unknown): void;
}

/**
 * Pieces end on the grid of the offsets, or where the stream rests or ends. Buffers are taken when
 * bytes come.
 *
 * Invariant: after `settle` or `rest` nothing is being written and no buffer is touched.
 */
export class PieceWriter {
  readonly #pool: PiecePool;
  readonly #actions: PieceActions;
  #filling: Buffer | undefined;
  #other: Buffer | undefined;
  #filled = 0;
  /** Where the piece that fills begins. */
  #at: number;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;
  #isSettled = false;

  constructor(pool: PiecePool, offset: number, actions: PieceActions) {
    this.#pool = pool;
    this.#actions = actions;
    this.#at = offset;
  }

  /** Where the next byte goes. */
  get end(): number {
    return this.#at + this.#filled;
  }

  /** A promise if the chunk has to wait for a write. It rejects as an earlier piece did. */
  put(chunk: Buffer): Promise<void> | undefined {
    const { pieceBytes } = this.#pool;
    let taken = 0;
    while (taken < chunk.length && !this.#isSettled) {
      const room = pieceBytes - (this.#at % pieceBytes) - this.#filled;
      const count = Math.min(room, chunk.length - taken);
      this.#filling ??= this.#pool.take();
      chunk.copy(this.#filling, this.#filled, taken, taken + count);
      this.#filled += count;
      taken += count;
      if (count < room) continue;
      if (this.#isWriting) return this.#putLater(chunk.subarray(taken));
      this.#send();
    }
    return undefined;
  }

  async #putLater(rest: Buffer): Promise<void> {
    await this.#writing;
    this.#send();
    await this.put(rest);
  }

  /** Writes the rest and waits for it. */
  async finish(): Promise<void> {
    await this.#writing;
    if (this.#filled > 0) this.#send();
    await this.#writing;
  }

  /** Writes what is in hand, waits for it, and gives the buffers back until more comes. */
  async rest(): Promise<void> {
    await this.finish();
    this.release();
  }

  /** Waits until no write is under way; `keepRest` writes what was not a whole piece yet. */
  async settle(keepRest: boolean): Promise<void> {
    if (keepRest) await this.finish().catch(() => undefined);
    this.#isSettled = true;
    await this.#writing.catch(() => undefined);
  }

  /** Only while none is being written. */
  #send(): void {
    if (this.#isSettled || this.#filling === undefined) return;
    const offset = this.#at;
    const piece = this.#filling.subarray(0, this.#filled);
    [this.#filling, this.#other] = [this.#other, this.#filling];
    this.#at += this.#filled;
    this.#filled = 0;
    this.#isWriting = true;
    this.#writing = this.#actions.write(offset, piece).finally(() => {
      this.#isWriting = false;
    });
    this.#writing.catch((error: unknown) => {
      this.#actions.onError(error);
    });
  }

  /** Only after `settle`, or `finish` without an error. Idempotent. */
  release(): void {
    for (const buffer of [this.#filling, this.#other]) {
      if (buffer !== undefined) this.#pool.giveBack(buffer);
    }
    this.#filling = undefined;
    this.#other = undefined;
  }
}
