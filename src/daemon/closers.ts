/**
 * Closing what was opened, in reverse, in bounded time.
 *
 * Invariant: every closer is begun, whatever those before it did.
 */
export interface Closer {
  readonly name: string;
  /** After this the next one is begun; the work is left to the end of the process. */
  readonly limitMs: number;
  readonly close: () => Promise<void>;
}

/** Called for each closer when it is done; with an error if it failed or took too long. */
export type Closed = (name: string, error?: unknown) => void;

export class Closers {
  readonly #closers: Closer[] = [];

  add(name: string, limitMs: number, close: () => Promise<void>): void {
    this.#closers.push({ name, limitMs, close });
  }

  /** The last one added comes first. @returns whether all closed in good order and in time */
  async closeAll(onClosed: Closed): Promise<boolean> {
    let isClean = true;
    for (const closer of this.#closers.splice(0).reverse()) {
      try {
        await withinTime(closer);
        onClosed(closer.name);
      } catch (error) {
        isClean = false;
        onClosed(closer.name, error);
      }
    }
    return isClean;
  }
}

async function withinTime({ limitMs, close }: Closer): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new Error(`it takes more than ${limitMs} ms`));
  }, limitMs);
  try {
    await Promise.race([close(), promise]);
  } finally {
    clearTimeout(timer);
  }
}
