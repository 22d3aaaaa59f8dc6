/**
 * Files and metadata whose calls take turns of the event loop, some more, some fewer, by a seed:
 * so operations overtake each other in every order.
 */
import type { Batch, PageKind } from '../../src/pool/metadata-store.ts';
import { FaultyFileSystem } from './faulty-block-file.ts';
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

export class JumpyFiles extends FaultyFileSystem {
  readonly #random: () => number;

  constructor(seed: number) {
    super({ seed });
    this.#random = generator(seed + 1);
  }

  override async step(call: Parameters<FaultyFileSystem['step']>[0]): Promise<void> {
    await super.step(call);
    await jump(this.#random);
  }
}

export class JumpyMetadata extends MemoryMetadata {
  readonly #random: () => number;

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
    await super.commit(batch);
    await jump(this.#random);
  }
}
