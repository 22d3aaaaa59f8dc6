/**
 * The records of a ring: page-aligned memory, cut to the size that the cartridges have.
 *
 * Memory comes in chunks, as the ring fills for the first time: what is written in one go with the
 * source never needs all of it.
 *
 * Invariants: (1) a record is free, or with who took it; (2) no more than `count` exist.
 */
import { assert, defined } from '../base/assert.ts';
import type { RingMemory } from '../file/page-ring.ts';

export class RecordRing {
  readonly recordBytes: number;
  /** Records that the ring has, taken or free; at least 2. */
  readonly count: number;
  readonly #memory: RingMemory;
  readonly #chunks: (readonly Buffer[])[] = [];
  readonly #free: Buffer[] = [];
  readonly #mostTakes: number;
  #taken = 0;

  /** @param ringBytes of memory, rounded down to whole takes; one at least */
  constructor(recordBytes: number, ringBytes: number, memory: RingMemory) {
    this.recordBytes = recordBytes;
    this.#memory = memory;
    this.#mostTakes = Math.max(1, Math.floor(ringBytes / memory.bytes));
    this.#grow();
    this.count = this.#mostTakes * this.#free.length;
    assert(this.count >= 2, 'a ring of less than two records');
  }

  get hasFree(): boolean {
    return this.#taken < this.count;
  }

  /** A free record; its bytes are undefined. The caller looks at `hasFree` first. */
  take(): Buffer {
    if (this.#free.length === 0) this.#grow();
    this.#taken += 1;
    return defined(this.#free.pop(), 'a free record');
  }

  giveBack(record: Buffer): void {
    this.#taken -= 1;
    this.#free.push(record);
  }

  /** Gives the memory back. Nobody may use a record any more, nor the ring. */
  end(): void {
    for (const chunks of this.#chunks.splice(0)) this.#memory.giveBack(chunks);
    this.#free.length = 0;
  }

  #grow(): void {
    assert(this.#chunks.length < this.#mostTakes, 'a ring grown beyond its size');
    const chunks = this.#memory.take();
    this.#chunks.push(chunks);
    for (const chunk of chunks) {
      for (let end = this.recordBytes; end <= chunk.length; end += this.recordBytes) {
        this.#free.push(chunk.subarray(end - this.recordBytes, end));
      }
    }
  }
}
