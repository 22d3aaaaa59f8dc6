/**
 * The store-wide counter of generations: each freeze, and each new disk, takes the next.
 *
 * It is never stored by itself: at opening it begins above every generation that a disk, copy or
 * checkpoint has, and no block can be born in a later one. What a lineage names is never above its
 * owner's generation.
 */
import { assert } from '../base/assert.ts';

export class Generations {
  #last = 0;

  /** A generation that exists. */
  seen(generation: number): void {
    this.#last = Math.max(this.#last, generation);
  }

  next(): number {
    this.#last += 1;
    assert(this.#last < 2 ** 32, 'generations are u32');
    return this.#last;
  }
}
