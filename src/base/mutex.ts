/**
 * Waiting: a deferred promise, a mutex, and the gate that a freeze closes.
 *
 * Gate invariants: (1) no operation enters while the gate is closed; (2) `close` resolves when no
 * operation is inside; (3) only one closer at a time, others queue.
 */
import { assert } from './assert.ts';

export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

export function deferred<T>(): Deferred<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  return { promise, resolve, reject };
}

/** What the promise gives, or the reason of the signal if that fires first. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = deferred<never>();
  const stop = (): void => {
    aborted.reject(signal.reason);
  };
  promise.catch(() => undefined); // nobody may listen any more
  signal.throwIfAborted();
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** First come, first served. */
export class Mutex {
  #tail: Promise<void> = Promise.resolve();

  /** Runs `body` alone. Its error is the caller's; the next one runs all the same. */
  async run<T>(body: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    const { promise, resolve } = deferred<undefined>();
    this.#tail = promise;
    await before;
    try {
      return await body();
    } finally {
      resolve(undefined);
    }
  }
}

export class Gate {
  #inside = 0;
  #closed = false;
  readonly #entering: (() => void)[] = [];
  readonly #closing: (() => void)[] = [];
  #drained: (() => void) | undefined;

  /** True if an operation may enter at once. */
  get isOpen(): boolean {
    return !this.#closed;
  }

  get inside(): number {
    return this.#inside;
  }

  /** Enters now if the gate is open; false if it has to wait (then use `enter`). */
  tryEnter(): boolean {
    if (this.#closed) return false;
    this.#inside += 1;
    return true;
  }

  async enter(): Promise<void> {
    while (!this.tryEnter()) {
      await new Promise<void>((resolve) => {
        this.#entering.push(resolve);
      });
    }
  }

  /** Resolves when the gate is open, without entering. */
  async opened(): Promise<void> {
    while (this.#closed) {
      await new Promise<void>((resolve) => {
        this.#entering.push(resolve);
      });
    }
  }

  leave(): void {
    assert(this.#inside > 0, 'gate left by nobody');
    this.#inside -= 1;
    if (this.#inside === 0) {
      this.#drained?.();
      this.#drained = undefined;
    }
  }

  /** Closes the gate and waits until it is empty. The caller must `open` it again. */
  async close(): Promise<void> {
    await this.shut();
    await this.drained();
  }

  /** Closes the gate. Operations may be inside still: the caller waits until it is `drained`. */
  async shut(): Promise<void> {
    while (this.#closed) {
      await new Promise<void>((resolve) => {
        this.#closing.push(resolve);
      });
    }
    this.#closed = true;
  }

  /** For who has shut it: resolves when nobody is inside. Then the caller must `open` it again. */
  async drained(): Promise<void> {
    assert(this.#closed, 'only a closed gate is waited for');
    if (this.#inside === 0) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
    });
  }

  open(): void {
    assert(this.#closed && this.#inside === 0, 'gate opened while in use');
    this.#closed = false;
    const closer = this.#closing.shift();
    if (closer !== undefined) {
      closer();
    }
    for (const enter of this.#entering.splice(0)) enter();
  }
}
