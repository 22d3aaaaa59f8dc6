/**
 * What cartridges were seen to hold, each under some name (a barcode, a slot).
 *
 * Where a label turns up on another cartridge, what was believed of the first one is not known any
 * more: somebody has exchanged them, or their stickers. Once: two copies of one cartridge have one
 * label both, and are not looked at again and again for that.
 */
export class HeldLabels {
  readonly #held = new Map<string, string | null>();
  /** By volumeId: whose belief was given up for its sake. */
  readonly #unlearned = new Map<string, Set<string>>();

  /** volumeId; null: no label of ours; undefined: nobody has looked. */
  get(name: string): string | null | undefined {
    return this.#held.get(name);
  }

  names(): string[] {
    return [...this.#held.keys()];
  }

  see(name: string, volumeId: string | null): void {
    if (volumeId !== null) this.#unlearn(volumeId, name);
    this.#held.set(name, volumeId);
  }

  forget(name: string): void {
    this.#held.delete(name);
  }

  /** It was labelled anew, or given up. */
  forgetVolume(volumeId: string): void {
    for (const [name, held] of this.#held) if (held === volumeId) this.#held.delete(name);
    this.#unlearned.delete(volumeId);
  }

  #unlearn(volumeId: string, except: string): void {
    const unlearned = this.#unlearned.get(volumeId) ?? new Set();
    this.#unlearned.set(volumeId, unlearned);
    for (const [name, held] of this.#held) {
      if (held !== volumeId || name === except || unlearned.has(name)) continue;
      unlearned.add(name);
      this.#held.delete(name);
    }
  }
}
