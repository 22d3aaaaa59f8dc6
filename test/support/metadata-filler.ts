/**
 * A process that fills the file system below a metadata store, and deletes from the store until it
 * can grow again. It prints one JSON line of what it found. Run it in a small file system only.
 *
 * Run: node test/support/metadata-filler.ts <empty directory>
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { argv, stdout } from 'node:process';
import { isStorageError } from '../../src/base/errors.ts';
import { Meta } from '../../src/meta/meta.ts';
import type { PageImage } from '../../src/pool/metadata-store.ts';

const PAGES_PER_BATCH = 64;

async function commit(meta: Meta, from: number, data: Uint8Array | undefined): Promise<boolean> {
  const images = Array.from({ length: PAGES_PER_BATCH }, (_, index): PageImage => ({
    kind: 'node',
    number: from + index,
    data,
  }));
  try {
    await meta.commit({ pages: [{ pool: 0, images }], rows: [] });
    return true;
  } catch (error) {
    if (isStorageError(error, 'METADATA_FULL')) return false;
    throw error;
  }
}

async function main(directory: string): Promise<void> {
  const path = join(directory, 'meta.db');
  const reserve = join(directory, 'meta.reserve');
  const data = new Uint8Array(4096).fill(7);
  const meta = await Meta.open({ path });
  const reserveBefore = existsSync(reserve);
  let pages = 0;
  while (await commit(meta, pages, data)) pages += PAGES_PER_BATCH;
  const reserveWhenFull = existsSync(reserve);
  const lastWhenFull = await meta.lastPage(0, 'node');
  const overwrites = await commit(meta, 0, new Uint8Array(4096).fill(8));
  let deletes = true;
  for (let from = PAGES_PER_BATCH; from < pages; from += PAGES_PER_BATCH) {
    deletes &&= await commit(meta, from, undefined);
  }
  const growsAgain = await commit(meta, 10_000_000, data);
  const findings = await meta.check({ deep: true });
  await meta.close();
  const again = await Meta.open({ path });
  const { cleanBefore } = again;
  const [first] = await again.readPages(0, 'node', [0]);
  await again.close();
  const found = { pages, reserveBefore, reserveWhenFull, lastWhenFull, overwrites, deletes };
  const more = { growsAgain, findings, cleanBefore, first: first?.[0] };
  stdout.write(`${JSON.stringify({ ...found, ...more })}\n`);
}

await main(argv[2] ?? '');
