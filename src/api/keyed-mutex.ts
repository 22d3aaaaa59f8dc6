/**
 * One mutex for each key that somebody holds or waits for; none is kept for later.
 */
import { Mutex } from '../base/mutex.ts';

interface Held {
  readonly mutex: Mutex;
  holders: number;
}

export class KeyedMutex {
  readonly #held = new Map<string, Held>();

  /** Runs `body` alone among those with this key. Its error is the caller's. */
  async run<T>(key: string, body: () => Promise<T>): Promise<T> {
    const held = this.#held.get(key) ?? { mutex: new Mutex(), holders: 0 };
    this.#held.set(key, held);
    held.holders += 1;
    try {
      return await held.mutex.run(body);
    } finally {
      held.holders -= 1;
      if (held.holders === 0) this.#held.delete(key);
    }
  }
}
