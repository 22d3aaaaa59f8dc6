import SqliteDatabase from 'better-sqlite3';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Meta } from '../../../src/meta/meta.ts';
import type { Batch, PageImage } from '../../../src/pool/metadata-store.ts';

let directory: string;
let path: string;
let copyPath: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'meta-'));
  path = join(directory, 'meta.db');
  copyPath = join(directory, 'copies', 'meta.db');
  mkdirSync(join(directory, 'copies'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

const COUNT = 64;

/** All pages get this value, and so does a row: whoever sees two values has seen half a batch. */
function round(value: number): Batch {
  const images = Array.from({ length: COUNT }, (_, number): PageImage => ({
    kind: 'node',
    number: number * 100,
    data: new Uint8Array(4096).fill(value),
  }));
  const rows = [{ table: 'store', key: { key: 'generation' }, row: { value: String(value) } }];
  return { pages: [{ pool: 1, images }], rows };
}

async function load(meta: Meta, pages: number): Promise<void> {
  const data = new Uint8Array(4096).fill(5);
  const images = Array.from({ length: pages }, (_, number): PageImage => ({
    kind: 'bitmap',
    number,
    data,
  }));
  await meta.commit({ pages: [{ pool: 2, images }], rows: [] });
}

describe('a copy of the metadata', () => {
  it('made while batches commit holds one state between two of them', async () => {
    const meta = await Meta.open({ path });
    await load(meta, 1500);
    await meta.commit(round(0));
    const progress = { copied: false };
    const copy = meta.copyTo(copyPath).finally(() => {
      progress.copied = true;
    });
    for (let value = 1; !progress.copied; value = (value + 1) % 250) {
      await meta.commit(round(value));
    }
    await copy;
    await meta.close();

    const found = await Meta.open({ path: copyPath });
    expect([found.storeId, found.epoch, found.cleanBefore]).toEqual([meta.storeId, 2, false]);
    const numbers = Array.from({ length: COUNT }, (_, number) => number * 100);
    const pages = await found.readPages(1, 'node', numbers);
    const [row] = await found.rows('store', { key: 'generation' });
    expect(new Set(pages.map((page) => String(page?.[0])))).toEqual(new Set([row?.value]));
    expect(await found.lastPage(2, 'bitmap')).toBe(1499);
    expect(await found.check({ deep: true })).toEqual([]);
    await found.close();
  });

  it('replaces the copy before it and leaves nothing beside it', async () => {
    const meta = await Meta.open({ path });
    await meta.copyTo(copyPath);
    await meta.commit(round(9));
    await Promise.all([meta.copyTo(copyPath), meta.copyTo(copyPath)]);
    expect(readdirSync(join(directory, 'copies'))).toEqual(['meta.db']);
    const db = new SqliteDatabase(copyPath, { readonly: true });
    expect(db.prepare("SELECT value FROM store WHERE key = 'generation'").pluck().get()).toBe('9');
    db.close();
    await meta.close();
  });

  it('to a directory that does not exist is TARGET_UNAVAILABLE and hurts nobody', async () => {
    const meta = await Meta.open({ path });
    const missing = join(directory, 'none', 'meta.db');
    await expect(meta.copyTo(missing)).rejects.toMatchObject({
      code: 'TARGET_UNAVAILABLE',
      details: { path: missing },
    });
    await meta.commit(round(1));
    await meta.close();
  });

  it('under way when the store closes ends with SHUTTING_DOWN and leaves no file', async () => {
    const meta = await Meta.open({ path });
    await load(meta, 4000);
    const copies = [meta.copyTo(copyPath), meta.copyTo(copyPath)];
    const ends = copies.map((copy) =>
      expect(copy).rejects.toMatchObject({ code: 'SHUTTING_DOWN' }),
    );
    await meta.close();
    await Promise.all(ends);
    expect(existsSync(copyPath)).toBe(false);
    expect(readdirSync(join(directory, 'copies'))).toEqual([]);
  });
});

describe('the check of the structure', () => {
  it('finds nothing in a healthy store, quick or deep', async () => {
    const meta = await Meta.open({ path });
    await load(meta, 600);
    await meta.commit(round(3));
    expect(await meta.check()).toEqual([]);
    expect(await meta.check({ deep: true })).toEqual([]);
    await meta.close();
  });

  it('names the table whose pages are damaged, at most 100 times', async () => {
    const first = await Meta.open({ path });
    await load(first, 600);
    await first.close();
    const size = statSync(path).size;
    const file = openSync(path, 'r+');
    writeSync(file, Buffer.alloc(size / 2, 0xff), 0, size / 2, size / 2);
    closeSync(file);
    const meta = await Meta.open({ path });
    const findings = await meta.check({ deep: true });
    expect(findings.length).toBeGreaterThan(0);
    expect(findings.length).toBeLessThanOrEqual(100);
    expect(findings.some((finding) => finding.startsWith('bitmaps: '))).toBe(true);
    await expect(meta.readPages(2, 'bitmap', [599])).rejects.toMatchObject({
      code: 'METADATA_INVALID',
    });
    await meta.close();
  });
});
