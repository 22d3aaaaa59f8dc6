/**
 * The images of copies as the interface sees them: each read makes its part anew, always the same.
 *
 * Invariant: a copy has a user while its image is being read.
 */
import type * as api from '../api/storage-services.ts';
import { type Clock, uuidv7 } from '../base/clock.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { ImageWriter } from '../image/writer.ts';
import { CopyView } from './copy-view.ts';

type ImageFacts = Pick<api.CopyImage, 'imageId' | 'imageBytes'>;

export class ImageService implements api.Images {
  readonly #copies: Copies;
  readonly #clock: Clock;
  /** They never change, and lists of copies ask for them. */
  readonly #facts = new WeakMap<Copy, ImageFacts>();

  constructor(copies: Copies, clock: Clock) {
    this.#copies = copies;
    this.#clock = clock;
  }

  /** Of a copy that may be gone by now; then reading it throws NOT_FOUND. */
  of(view: api.Copy): api.CopyImage {
    const copy = view instanceof CopyView ? view.source : this.#copies.get(view.id);
    return { ...this.#factsOf(copy), read: (from, to) => this.#read(copy, from, to) };
  }

  #factsOf(copy: Copy): ImageFacts {
    const known = this.#facts.get(copy);
    if (known !== undefined) return known;
    const { imageId, layout } = new ImageWriter(copy);
    const facts = { imageId, imageBytes: layout.imageBytes };
    this.#facts.set(copy, facts);
    return facts;
  }

  async *#read(copy: Copy, from: number, to: number): AsyncGenerator<Uint8Array> {
    const stop = new AbortController();
    const release = copy.addUser({
      kind: 'image',
      id: uuidv7(this.#clock),
      sinceMs: this.#clock.nowMs(),
      abort: (reason) => {
        stop.abort(reason);
      },
    });
    try {
      yield* new ImageWriter(copy, { signal: stop.signal }).read(from, to);
    } finally {
      release();
    }
  }
}
