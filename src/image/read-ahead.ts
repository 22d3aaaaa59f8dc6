/**
 * A ring of buffers that are filled ahead of the one in use, so that reading and writing overlap.
 *
 * Life of a slot: free → being filled → handed out → free again at the next pull.
 *
 * Invariants:
 *  1. At most `slots` buffers exist, each as long as the longest slice it held.
 *  2. Slices are handed out in order, and loads start in order.
 *  3. When the generator ends, in whatever way, no load writes into a buffer any more.
 *  4. A slice of 0 bytes takes no slot: its load starts as soon as those before it have started.
 *
 * So a load may wait for those of slices that follow it, if all of them together fit the ring and
 * the iterator's `return` ends the wait for loads that will not come.
 */

/** Something to hand out: `load` fills `into` (`bytes` long) and returns a view of it, or other. */
export interface Slice {
  readonly bytes: number;
  load(into: Uint8Array): Promise<Uint8Array>;
}

interface Filling {
  readonly slot: Slot | undefined;
  readonly loaded: Promise<Uint8Array>;
}

class Slot {
  #buffer: Uint8Array | undefined;
  readonly #allocate: (bytes: number) => Uint8Array;

  constructor(allocate: (bytes: number) => Uint8Array) {
    this.#allocate = allocate;
  }

  atLeast(bytes: number): Uint8Array {
    if (this.#buffer === undefined || this.#buffer.length < bytes) {
      this.#buffer = undefined;
      this.#buffer = this.#allocate(bytes);
    }
    return this.#buffer.subarray(0, bytes);
  }
}

/** The loaded slices in order; each is valid until the next pull. */
export async function* readAhead(
  slices: Iterator<Slice>,
  slots: number,
  allocate: (bytes: number) => Uint8Array,
): AsyncGenerator<Uint8Array, void, undefined> {
  const free = Array.from({ length: slots }, () => new Slot(allocate));
  const filling: Filling[] = [];
  let next = slices.next();
  const fill = (): void => {
    for (; next.done !== true; next = slices.next()) {
      const { bytes } = next.value;
      const slot = bytes === 0 ? undefined : free.pop();
      if (bytes > 0 && slot === undefined) return;
      const loaded = next.value.load(slot?.atLeast(bytes) ?? new Uint8Array());
      loaded.catch(() => undefined); // whoever pulls it sees the error
      filling.push({ slot, loaded });
    }
  };
  try {
    for (;;) {
      fill();
      const first = filling[0];
      if (first === undefined) return;
      yield await first.loaded;
      filling.shift();
      if (first.slot !== undefined) free.push(first.slot);
    }
  } finally {
    slices.return?.();
    await Promise.allSettled(filling.map(({ loaded }) => loaded));
  }
}

/**
 * Runs `step` for 0, `stride`, 2 × `stride` … below `end`, `lanes` at a time.
 * When it ends, in whatever way, none is running any more.
 */
export async function inLanes(
  end: number,
  stride: number,
  lanes: number,
  step: (from: number, count: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < end && !failed) {
      const from = next;
      next += stride;
      try {
        await step(from, Math.min(stride, end - from));
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: lanes }, lane));
  for (const ended of ends) if (ended.status === 'rejected') throw ended.reason;
}
