/**
 * The life of a sink: its calls follow each other, and after a failure only its end is left.
 *
 * Invariant: at most one step is under way; none begins after the end.
 */
import { assert } from '../base/assert.ts';
import type { ErrorDetails } from '../base/errors.ts';
import { StorageError } from '../base/errors.ts';

export class SinkSteps {
  readonly #explain: (error: unknown) => unknown;
  readonly #facts: ErrorDetails;
  #state: 'open' | 'broken' | 'ended' = 'open';
  #isBusy = false;

  /**
   * @param facts `target` and `backup`, for errors
   * @param explain an error of a step in the words of targets
   */
  constructor(facts: ErrorDetails, explain: (error: unknown) => unknown) {
    this.#facts = facts;
    this.#explain = explain;
  }

  get isEnded(): boolean {
    return this.#state === 'ended';
  }

  end(): void {
    this.#state = 'ended';
  }

  /** @throws TARGET_UNAVAILABLE after a step that failed; what the step throws, explained */
  async run<T>(work: () => Promise<T>): Promise<T> {
    assert(this.#state !== 'ended' && !this.#isBusy, 'sink used after its end or twice at once');
    if (this.#state === 'broken') {
      throw new StorageError('TARGET_UNAVAILABLE', 'an earlier write failed', this.#facts);
    }
    this.#isBusy = true;
    try {
      return await work();
    } catch (error) {
      this.#state = 'broken';
      throw this.#explain(error);
    } finally {
      this.#isBusy = false;
    }
  }
}
