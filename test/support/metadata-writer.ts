/**
 * A process that commits numbered batches to a metadata store until somebody kills it, and prints
 * the number of each acknowledged one. Four batches are under way at a time; after every 100 the
 * store is closed and opened again.
 *
 * Batch n writes n into 16 pages and a row, makes page 100 + n, and removes page 100 + n - 20: see
 * `expectedPages` for what has to be found after batch n.
 *
 * Run: node test/support/metadata-writer.ts <database>
 */
import { argv, stdout } from 'node:process';
import { Meta } from '../../src/meta/meta.ts';
import type { Batch, MetadataStore, PageImage } from '../../src/pool/metadata-store.ts';

const SHARED_PAGES = 16;
const FIRST_OWN_PAGE = 100;
const KEPT_PAGES = 20;
const UNDER_WAY = 4;
const BATCHES_PER_LIFE = 100;

function pageData(batch: number): Uint8Array {
  return new Uint8Array(new Uint32Array(1024).fill(batch).buffer);
}

function batchOf(number: number): Batch {
  const shared = Array.from({ length: SHARED_PAGES }, (_, page) => page * 5);
  const images: PageImage[] = [...shared, FIRST_OWN_PAGE + number].map((page) => ({
    kind: 'node',
    number: page,
    data: pageData(number),
  }));
  if (number >= KEPT_PAGES) {
    const removed = FIRST_OWN_PAGE + number - KEPT_PAGES;
    images.push({ kind: 'node', number: removed, data: undefined });
  }
  const row = { value: String(number) };
  const rows = [{ table: 'store', key: { key: 'generation' }, row }];
  return { pages: [{ pool: 1, images }], rows };
}

/** The last batch that the store holds (-1 if none). @throws if any batch is there in part */
export async function lastBatch(store: MetadataStore): Promise<number> {
  const [row] = await store.rows('store', { key: 'generation' });
  const last = row === undefined ? -1 : Number(row.value);
  const pages = new Map<number, number>();
  for (let page = 0; page < SHARED_PAGES; page++) pages.set(page * 5, last);
  for (let own = 0; own <= last + UNDER_WAY; own++) {
    pages.set(FIRST_OWN_PAGE + own, own > last - KEPT_PAGES && own <= last ? own : -1);
  }
  const numbers = [...pages.keys()];
  const found = await store.readPages(1, 'node', numbers);
  for (const [index, number] of numbers.entries()) {
    const batch = pages.get(number) ?? -1;
    const expected = batch < 0 ? undefined : Buffer.from(pageData(batch));
    const data = found[index];
    const equal = data === undefined ? expected === undefined : expected?.equals(data) === true;
    if (!equal) throw new Error(`after batch ${last}, page ${number} is not that of ${batch}`);
  }
  return last;
}

async function write(path: string): Promise<never> {
  for (;;) {
    const meta = await Meta.open({ path });
    let next = (await lastBatch(meta)) + 1;
    const end = next + BATCHES_PER_LIFE;
    const writers = Array.from({ length: UNDER_WAY }, async () => {
      while (next < end) {
        const number = next++;
        await meta.commit(batchOf(number));
        stdout.write(`${number}\n`);
      }
    });
    await Promise.all(writers);
    await meta.close();
  }
}

if (import.meta.filename === argv[1]) await write(argv[2] ?? 'meta.db');
