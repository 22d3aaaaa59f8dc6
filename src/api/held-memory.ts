/**
 * The memory that one data request holds, and its turn to move bytes of a disk with a rate limit.
 *
 * While a request waits for its turn it holds no memory: it parks, waits, and takes memory anew. So
 * many slow streams on one disk never stop the requests of another.
 */
import { StorageError } from '../base/errors.ts';
import type { RateLimit } from '../base/rate-limit.ts';
import type { BodyMemory, Lease, Mover } from './byte-budget.ts';

export class HeldMemory {
  readonly #memory: BodyMemory;
  readonly #bytes: number;
  #lease: Lease | undefined;
  #mover: Mover | undefined;
  #isOver = false;

  constructor(memory: BodyMemory, bytes: number) {
    this.#memory = memory;
    this.#bytes = bytes;
  }

  /** Before the first byte. @throws TOO_MANY_REQUESTS */
  async hold(): Promise<void> {
    await this.#take(false);
  }

  /** Gives it back for a while; nothing of it is touched. */
  park(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }

  /** Takes it again, however long that takes: who has begun is not refused. */
  async unpark(): Promise<void> {
    await this.#take(true);
  }

  async #take(isPatient: boolean): Promise<void> {
    if (this.#bytes === 0 || this.#lease !== undefined) return;
    const lease = await this.#memory.take(this.#bytes, isPatient);
    if (this.#isOver) {
      lease.release();
      throw new StorageError('CANCELLED', 'the request has ended');
    }
    if (this.#mover !== undefined) lease.watch(this.#mover);
    this.#lease = lease;
  }

  /** This one has to keep moving while others wait for memory. */
  watch(mover: Mover): void {
    this.#mover = mover;
    this.#lease?.watch(mover);
  }

  /** For good. Idempotent. */
  release(): void {
    this.#isOver = true;
    this.park();
  }
}

/** What a request asks before it moves bytes of a disk. */
export interface Pace {
  readonly rate: RateLimit;
  readonly memory: HeldMemory;
  /** Fires when the request is over. */
  readonly signal: AbortSignal;
}

/**
 * Waits for so many bytes of the rate. Undefined if there is nothing to wait for.
 * @param rest called before the wait: lets go of all buffers
 * @throws the reason of the signal, what `rest` throws
 */
export function paced(
  { rate, memory, signal }: Pace,
  bytes: number,
  rest: () => Promise<void> | void,
): Promise<void> | undefined {
  const turn = rate.take(bytes, signal);
  if (turn === undefined) return undefined;
  return waited(turn);

  async function waited(granted: Promise<void>): Promise<void> {
    // its failure is met below
    granted.catch(() => undefined);
    try {
      await rest();
      memory.park();
      await granted;
      await memory.unpark();
    } catch (error) {
      granted.then(
        () => {
          rate.giveBack(bytes);
        },
        () => undefined,
      );
      throw error;
    }
  }
}
