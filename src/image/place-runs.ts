/**
 * A set of places on a disk as runs: 16 bytes for each stretch of consecutive ones.
 *
 * Invariants: runs are ascending and do not touch each other.
 */

/** Places in ascending order, as they are added. */
export class PlaceRuns {
  #runs = new Float64Array(64);
  #length = 0;

  /** Pairs of first place and end. */
  get pairs(): Float64Array {
    return this.#runs.subarray(0, this.#length);
  }

  /** @param first not below the first place of the run that was added last */
  add(first: number, end: number): void {
    if (end <= first) return;
    const last = this.#length - 1;
    const before = this.#length === 0 ? -1 : (this.#runs[last] ?? -1);
    if (first <= before) {
      this.#runs[last] = Math.max(before, end);
      return;
    }
    if (this.#length === this.#runs.length) {
      const longer = new Float64Array(2 * this.#runs.length);
      longer.set(this.#runs);
      this.#runs = longer;
    }
    this.#runs[this.#length] = first;
    this.#runs[this.#length + 1] = end;
    this.#length += 2;
  }

  /** All places that are in this set or in the other one. */
  with(other: PlaceRuns): PlaceRuns {
    const all = new PlaceRuns();
    const [a, b] = [this.pairs, other.pairs];
    let [i, j] = [0, 0];
    while (i < a.length || j < b.length) {
      if ((a[i] ?? Infinity) <= (b[j] ?? Infinity)) {
        all.add(a[i] ?? 0, a[i + 1] ?? 0);
        i += 2;
      } else {
        all.add(b[j] ?? 0, b[j + 1] ?? 0);
        j += 2;
      }
    }
    return all;
  }

  has(place: number): boolean {
    const at = this.#firstEndingBehind(place);
    return at < this.#length && (this.#runs[at] ?? Infinity) <= place;
  }

  /** What of `first` … `end` is not in the set, ascending. */
  *without(
    first: number,
    end: number,
  ): Generator<{ readonly first: number; readonly end: number }> {
    let from = first;
    for (let at = this.#firstEndingBehind(first); at < this.#length && from < end; at += 2) {
      const begin = Math.min(end, this.#runs[at] ?? end);
      if (from < begin) yield { first: from, end: begin };
      from = Math.max(from, this.#runs[at + 1] ?? end);
    }
    if (from < end) yield { first: from, end };
  }

  /** Index of the first run that ends behind a place. */
  #firstEndingBehind(place: number): number {
    let [low, high] = [0, this.#length / 2];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((this.#runs[2 * middle + 1] ?? Infinity) > place) high = middle;
      else low = middle + 1;
    }
    return 2 * low;
  }
}
