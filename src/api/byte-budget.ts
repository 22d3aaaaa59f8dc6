/**
 * A bound on the memory of all bodies in hand, first come first served, and the pool of the pieces
 * that streams are cut into.
 *
 * Memory is held for as long as a client sends or takes; so that slow ones do not stop the others:
 *  * who waits for memory too long is refused, and may come again;
 *  * while somebody waits, holders are looked at: who was waited for during a whole window and
 *    moved less than `slowBytes` in it is ended;
 *  * small bodies have a budget of their own.
 *
 * Invariants: (1) the bytes given out never exceed the budget; (2) no one overtakes a waiter of the
 * same budget.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { collectYoung } from '../base/memory.ts';
import { KIB, MIB } from '../base/units.ts';
import type { ApiLimits } from './limits.ts';

/** What the socket's own buffers may add up to before they are collected. */
const COLLECT_EVERY_BYTES = 16 * MIB;

/** Bodies up to here are small. */
const SMALL_BYTES = 256 * KIB;

/** How often holders are looked at in a window. */
const LOOKS = 4;

interface Waiter {
  readonly bytes: number;
  readonly timer: NodeJS.Timeout | undefined;
  grant(): void;
}

/** Moves the bytes that the memory is held for. */
export interface Mover {
  /** Bytes that the client has sent or taken; undefined while we do not wait for it. */
  readonly awaitedBytes: number | undefined;
  /** The client is too slow for those who wait. */
  endSlow(): void;
}

export interface BudgetOptions {
  readonly totalBytes: number;
  readonly maxWaiting: number;
  readonly maxWaitMs: number;
  /** While somebody waits: in so long a holder has to move `slowBytes`. */
  readonly slowWindowMs: number;
  readonly slowBytes: number;
}

/** Memory in hand. */
export class Lease {
  readonly #release: () => void;
  #mover: Mover | undefined;
  #looks = 0;
  #windowFrom = 0;
  #isReleased = false;

  constructor(release: () => void) {
    this.#release = release;
  }

  /** From now on this one has to keep moving while others wait. */
  watch(mover: Mover): void {
    this.#mover = mover;
  }

  /** Idempotent. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#release();
  }

  /** One of LOOKS in a window. */
  look(slowBytes: number): void {
    const moved = this.#mover?.awaitedBytes;
    if (moved === undefined) {
      this.#looks = 0;
      return;
    }
    if (this.#looks === 0) this.#windowFrom = moved;
    this.#looks += 1;
    if (this.#looks <= LOOKS) return;
    this.#looks = 0;
    if (moved - this.#windowFrom < slowBytes) this.#mover?.endSlow();
  }

  /** What was seen while nobody waited before says nothing now. */
  forget(): void {
    this.#looks = 0;
  }
}

export class ByteBudget {
  readonly #options: BudgetOptions;
  #freeBytes: number;
  readonly #waiting: Waiter[] = [];
  readonly #leases = new Set<Lease>();
  #looking: NodeJS.Timeout | undefined;

  constructor(options: BudgetOptions) {
    this.#options = options;
    this.#freeBytes = options.totalBytes;
  }

  /**
   * The lease is to be released once the memory is not touched any more.
   * @param isPatient waits in its turn for as long as it takes
   * @throws TOO_MANY_REQUESTS if too many wait, or after `maxWaitMs`
   */
  async take(bytes: number, isPatient = false): Promise<Lease> {
    assert(bytes <= this.#options.totalBytes, `budget of ${bytes} bytes`);
    if (this.#waiting.length > 0 || bytes > this.#freeBytes) await this.#wait(bytes, isPatient);
    else this.#freeBytes -= bytes;
    const lease = new Lease(() => {
      this.#leases.delete(lease);
      this.#freeBytes += bytes;
      this.#grant();
    });
    this.#leases.add(lease);
    return lease;
  }

  async #wait(bytes: number, isPatient: boolean): Promise<void> {
    const { maxWaiting, maxWaitMs } = this.#options;
    if (!isPatient && this.#waiting.length >= maxWaiting) throw tooMany();
    await new Promise<void>((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(tooMany());
        // the next one may need less
        this.#grant();
      };
      const timer = isPatient ? undefined : setTimeout(giveUp, maxWaitMs);
      const waiter: Waiter = { bytes, timer, grant: resolve };
      this.#waiting.push(waiter);
      this.#lookOrRest();
    });
  }

  #grant(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (first.bytes > this.#freeBytes) break;
      this.#freeBytes -= first.bytes;
      this.#waiting.shift();
      clearTimeout(first.timer);
      first.grant();
    }
    this.#lookOrRest();
  }

  #lookOrRest(): void {
    if (this.#waiting.length === 0) {
      clearInterval(this.#looking);
      this.#looking = undefined;
      return;
    }
    if (this.#looking !== undefined) return;
    const { slowWindowMs, slowBytes } = this.#options;
    const look = (): void => {
      for (const lease of [...this.#leases]) lease.look(slowBytes);
    };
    for (const lease of this.#leases) lease.forget();
    look();
    this.#looking = setInterval(look, slowWindowMs / LOOKS);
  }
}

function tooMany(): StorageError {
  return new StorageError('TOO_MANY_REQUESTS', 'too many data requests are waiting for memory');
}

/** Two budgets: small bodies never wait behind large ones. */
export class BodyMemory {
  readonly #small: ByteBudget;
  readonly #large: ByteBudget;

  constructor(limits: ApiLimits) {
    const { memoryWaitMs: maxWaitMs, slowWindowMs, slowBytes } = limits;
    const common = { maxWaiting: limits.waitingForMemory, maxWaitMs, slowWindowMs, slowBytes };
    this.#small = new ByteBudget({ ...common, totalBytes: limits.smallBodyMemoryBytes });
    this.#large = new ByteBudget({ ...common, totalBytes: limits.bodyMemoryBytes });
  }

  /** @throws TOO_MANY_REQUESTS, unless it is patient */
  take(bytes: number, isPatient = false): Promise<Lease> {
    return (bytes <= SMALL_BYTES ? this.#small : this.#large).take(bytes, isPatient);
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
