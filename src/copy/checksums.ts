/**
 * Block checksums of copies, kept by segment once they were computed for an image.
 *
 * They are a cache of something that never changes: losing some costs a read, so they are written
 * without waiting and dropped with their copy.
 */
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import { MIB } from '../base/units.ts';

/** Bytes of blocks that one row of checksums, and one segment of an image, covers. */
export const SEGMENT_BLOCK_BYTES = 8 * MIB;
const WRITE_AT = 64;

export class CopyChecksums {
  readonly #store: MetadataStore;
  #pending = new Map<string, RowChange>();
  /** New copies of which nothing was kept yet. */
  readonly #untouched = new Set<string>();
  #writing: Promise<void> = Promise.resolve();

  constructor(store: MetadataStore) {
    this.#store = store;
  }

  /** A new copy: it has none. */
  begin(copy: string): void {
    this.#untouched.add(copy);
  }

  /** False only if there cannot be any rows of this copy. */
  mayHave(copy: string): boolean {
    return !this.#untouched.has(copy);
  }

  async known(copy: string, segment: number): Promise<Uint32Array | undefined> {
    const pending = this.#pending.get(`${copy} ${segment}`)?.row?.['crcs'];
    const [row] =
      pending === undefined ? await this.#store.rows('checksums', { copy, segment }) : [];
    const bytes = pending ?? row?.['crcs'];
    if (!(bytes instanceof Uint8Array)) return undefined;
    const checksums = new Uint32Array(bytes.length / 4);
    new Uint8Array(checksums.buffer).set(bytes);
    return checksums;
  }

  async keep(copy: string, segment: number, checksums: Uint32Array): Promise<void> {
    const crcs = new Uint8Array(checksums.buffer, checksums.byteOffset, checksums.byteLength);
    this.#untouched.delete(copy);
    this.#pending.set(`${copy} ${segment}`, {
      table: 'checksums',
      key: { copy, segment },
      row: { crcs: crcs.slice() },
    });
    if (this.#pending.size >= WRITE_AT) await this.write();
  }

  /** Writes what is pending, in order. */
  async write(): Promise<void> {
    const before = this.#writing.catch(() => undefined);
    this.#writing = before.then(() => this.#writePending());
    await this.#writing;
  }

  async #writePending(): Promise<void> {
    // taken only now: what was dropped while it waited must not come back
    const rows = [...this.#pending.values()];
    if (rows.length === 0) return;
    await this.#store.commit({ pages: [], rows });
    for (const change of rows) {
      const name = `${String(change.key['copy'])} ${String(change.key['segment'])}`;
      if (this.#pending.get(name) === change) this.#pending.delete(name);
    }
  }

  /** Forgets a deleted copy's; its rows are gone. */
  drop(copy: string): void {
    this.#untouched.delete(copy);
    for (const name of this.#pending.keys()) {
      if (name.startsWith(`${copy} `)) this.#pending.delete(name);
    }
  }
}
