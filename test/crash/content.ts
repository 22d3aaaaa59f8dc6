/** What a disk or copy holds: chunks of 64 KiB that are never changed; those not there are zero. */
export const CHUNK = 65536;
const zeros = Buffer.alloc(CHUNK);

export class Content {
  readonly #chunks = new Map<number, Buffer>();

  /** Numbers of the chunks that are not all zeros. */
  chunks(): IterableIterator<number> {
    return this.#chunks.keys();
  }

  get(chunk: number): Buffer {
    return this.#chunks.get(chunk) ?? zeros;
  }

  /** The bytes [from, to), within one chunk. */
  bytes(from: number, to: number): Buffer {
    const chunk = Math.floor(from / CHUNK);
    const start = chunk * CHUNK;
    return this.get(chunk).subarray(from - start, to - start);
  }

  /**
   * Takes in bytes that were read, from any position on; the memory of a chunk that equals the one
   * of `like` is shared with it.
   */
  put(position: number, bytes: Buffer, like?: Content): void {
    for (let at = 0; at < bytes.length;) {
      const chunk = Math.floor((position + at) / CHUNK);
      const start = position + at - chunk * CHUNK;
      const piece = bytes.subarray(at, at + CHUNK - start);
      at += piece.length;
      if (isZero(piece) && !this.#chunks.has(chunk)) continue;
      this.#chunks.set(chunk, this.#with(chunk, start, piece, like));
    }
  }

  #with(chunk: number, start: number, piece: Buffer, like: Content | undefined): Buffer {
    const known = like?.get(chunk);
    if (piece.length === CHUNK && known?.equals(piece) === true) return known;
    const old = this.#chunks.get(chunk);
    const made = Buffer.alloc(CHUNK);
    if (old !== undefined) old.copy(made);
    piece.copy(made, start);
    return made;
  }

  /** The first position at which two contents differ. */
  firstDifference(other: Content): number | undefined {
    for (const chunk of new Set([...this.chunks(), ...other.chunks()])) {
      const [mine, its] = [this.get(chunk), other.get(chunk)];
      if (mine.equals(its)) continue;
      return chunk * CHUNK + mine.findIndex((byte, index) => byte !== its[index]);
    }
    return undefined;
  }
}

export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    const piece = bytes.subarray(at, at + CHUNK);
    if (!piece.equals(zeros.subarray(0, piece.length))) return false;
  }
  return true;
}
