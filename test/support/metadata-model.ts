/**
 * The naive model of a metadata store for property tests, and batches to try on both.
 */
import * as fc from 'fast-check';
import { pageKinds } from '../../src/pool/metadata-store.ts';
import type {
  Batch,
  MetadataStore,
  PageImage,
  Row,
  RowChange,
} from '../../src/pool/metadata-store.ts';

const POOLS = [0, 1, 7];
const NUMBERS = [0, 1, 2, 3];

export interface MetadataContents {
  readonly pages: Readonly<Record<string, string>>;
  readonly last: Readonly<Record<string, number>>;
  readonly rows: readonly Row[];
}

/** Batches over few pools, numbers and keys, so that they meet. */
export function anyBatch(): fc.Arbitrary<Batch> {
  const image: fc.Arbitrary<PageImage> = fc.record({
    kind: fc.constantFrom(...pageKinds),
    number: fc.constantFrom(...NUMBERS),
    data: fc.option(fc.uint8Array({ maxLength: 40 }), { nil: undefined }),
  });
  const group = fc.record({
    pool: fc.constantFrom(...POOLS),
    images: fc.array(image, { maxLength: 6 }),
  });
  const count = fc.maxSafeNat();
  const change: fc.Arbitrary<RowChange> = fc.record({
    table: fc.constant('dead_roots'),
    key: fc.record({ pool: fc.constantFrom('a', 'b'), node: fc.constantFrom(...NUMBERS) }),
    row: fc.option(fc.record({ height: count, count, mapped_blocks: count }), { nil: undefined }),
  });
  return fc.record({
    pages: fc.array(group, { maxLength: 3 }),
    rows: fc.array(change, { maxLength: 4 }),
  });
}

export class MetadataModel {
  readonly #pages = new Map<string, string>();
  readonly #rows = new Map<string, Row>();

  apply(batch: Batch): void {
    for (const { pool, images } of batch.pages) {
      for (const { kind, number, data } of images) {
        const name = `${pool} ${kind} ${number}`;
        if (data === undefined) this.#pages.delete(name);
        else this.#pages.set(name, Buffer.from(data).toString('hex'));
      }
    }
    for (const { key, row } of batch.rows) {
      const name = `${String(key.pool)} ${String(key.node)}`;
      if (row === undefined) this.#rows.delete(name);
      else this.#rows.set(name, { ...key, ...row });
    }
  }

  contents(): MetadataContents {
    const last: Record<string, number> = {};
    for (const pool of POOLS) {
      for (const kind of pageKinds) {
        const present = NUMBERS.filter((number) => this.#pages.has(`${pool} ${kind} ${number}`));
        last[`${pool} ${kind}`] = Math.max(-1, ...present);
      }
    }
    const names = [...this.#rows.keys()].sort();
    const rows = names.map((name) => this.#rows.get(name) ?? {});
    return { pages: Object.fromEntries(this.#pages), last, rows };
  }

  /** What a store holds of the pages and rows that `anyBatch` names. */
  static async read(store: MetadataStore): Promise<MetadataContents> {
    const pages: Record<string, string> = {};
    const last: Record<string, number> = {};
    for (const pool of POOLS) {
      for (const kind of pageKinds) {
        const found = await store.readPages(pool, kind, NUMBERS);
        for (const [index, data] of found.entries()) {
          const name = `${pool} ${kind} ${NUMBERS[index] ?? -1}`;
          if (data !== undefined) pages[name] = Buffer.from(data).toString('hex');
        }
        last[`${pool} ${kind}`] = await store.lastPage(pool, kind);
      }
    }
    return { pages, last, rows: await store.rows('dead_roots') };
  }
}
