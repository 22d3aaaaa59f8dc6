/**
 * Files and metadata whose calls take turns of the event loop, some more, some fewer, by a seed:
 * so operations overtake each other in every order.
 */
import { StorageError } from '../../src/base/errors.ts';
import type { Batch, PageKind } from '../../src/pool/metadata-store.ts';
import { FaultyFileSystem, systemError } from './faulty-block-file.ts';
import { MemoryMetadata } from './memory-metadata.ts';
import { generator } from './volatile-medium.ts';

export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** Most calls at once, some after a few turns. */
function jump(random: () => number): Promise<void> {
  return turns(random() < 0.5 ? 0 : Math.floor(random() * 5));
}

type Call = Parameters<FaultyFileSystem['step']>[0];

export class JumpyFiles extends FaultyFileSystem {
  readonly #random: () => number;
  readonly #failures = new Map<Call, string>();

  constructor(seed: number) {
    super({ seed });
    this.#random = generator(seed + 1);
  }

  /** The next call of this kind fails. */
  failNext(call: Call, errno: string): void {
    this.#failures.set(call, errno);
  }

  /** What was announced and has not happened will not. */
  failNoMore(): void {
    this.#failures.clear();
  }

  override async step(call: Call): Promise<void> {
    await super.step(call);
    await jump(this.#random);
    const errno = this.#failures.get(call);
    this.#failures.delete(call);
    if (errno !== undefined) throw systemError(errno);
  }
}

export class JumpyMetadata extends MemoryMetadata {
  readonly #random: () => number;
  /** The next commit finds no room. */
  isFull = false;

  constructor(seed: number) {
    super();
    this.#random = generator(seed + 2);
  }

  override async readPages(
    pool: number,
    kind: PageKind,
    numbers: readonly number[],
  ): Promise<(Uint8Array | undefined)[]> {
    const found = await super.readPages(pool, kind, numbers);
    await jump(this.#random);
    return found;
  }

  override async commit(batch: Batch): Promise<void> {
    if (this.isFull) {
      this.isFull = false;
      await jump(this.#random);
      throw new StorageError('METADATA_FULL', 'made by the test');
    }
    await super.commit(batch);
    await jump(this.#random);
  }
}

/** The same promise, or a failure that says what is stuck. */
export async function within<T>(ms: number, done: Promise<T>, why: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(why()));
    }, ms);
  });
  try {
    return await Promise.race([done, late]);
  } finally {
    clearTimeout(timer);
  }
}
