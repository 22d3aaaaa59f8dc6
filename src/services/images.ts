/**
 * The images of copies as the interface sees them: each read makes its part anew, always the same.
 *
 * Whoever reads is a user of the copy meanwhile; that is the reader's own affair.
 *
 * Invariant: all reads together hold at most 16 segments (128 MiB), and 2 MiB more of each while
 * blocks are read only for their checksums, however slow their clients.
 */
import type * as api from '../api/storage-services.ts';
import { StorageError } from '../base/errors.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { ImageWriter } from '../image/writer.ts';
import { CopyView } from './copy-view.ts';

/** Reads at once. */
const READS_MAX = 16;

type ImageFacts = Pick<api.CopyImage, 'imageId' | 'imageBytes'>;

export class ImageService implements api.Images {
  readonly #copies: Copies;
  /** They never change, and lists of copies ask for them. */
  readonly #facts = new WeakMap<Copy, ImageFacts>();
  #reads = 0;

  constructor(copies: Copies) {
    this.#copies = copies;
  }

  /** Of a copy that may be gone by now; then reading throws NOT_FOUND. */
  of(view: api.Copy): api.CopyImage {
    const copy = view instanceof CopyView ? view.source : this.#copies.get(view.id);
    return { ...this.#factsOf(copy), read: (from, to) => this.#read(copy, from, to) };
  }

  /** @throws TOO_MANY_REQUESTS, POOL_UNAVAILABLE, and as ImageWriter.read */
  async *#read(copy: Copy, from: number, to: number): AsyncGenerator<Uint8Array> {
    if (this.#reads === READS_MAX) {
      const message = `${READS_MAX} images are being read already`;
      throw new StorageError('TOO_MANY_REQUESTS', message);
    }
    // said before the head of the image, which needs no blocks, makes it a 200
    const absence = copy.pool.absence ?? copy.dedicated?.owed?.pool.absence;
    if (absence !== undefined) throw absence;
    this.#reads += 1;
    try {
      yield* new ImageWriter(copy).read(from, to);
    } finally {
      this.#reads -= 1;
    }
  }

  #factsOf(copy: Copy): ImageFacts {
    const known = this.#facts.get(copy);
    if (known !== undefined) return known;
    const { imageId, layout } = new ImageWriter(copy);
    const facts = { imageId, imageBytes: layout.imageBytes };
    this.#facts.set(copy, facts);
    return facts;
  }
}
