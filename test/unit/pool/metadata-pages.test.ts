import { describe, expect, it } from 'vitest';
import { KIB } from '../../../src/base/units.ts';
import { MetadataPages, PAGE_BYTES, type PageKey } from '../../../src/pool/metadata-pages.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

const POOL = 1;

function counts(first: number, count: number): PageKey[] {
  return Array.from({ length: count }, (_, index) => ({
    kind: 'block-count',
    number: first + index,
  }));
}

function missing(pages: MetadataPages, keys: readonly PageKey[]): PageKey[] {
  return keys.filter(({ kind, number }) => !pages.isResident(kind, number));
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A store of which each read takes a turn, as one with a thread of its own. */
class SlowMetadata extends MemoryMetadata {
  reads = 0;

  override async readPages(
    ...args: Parameters<MemoryMetadata['readPages']>
  ): Promise<(Uint8Array | undefined)[]> {
    this.reads += 1;
    const found = super.readPages(...args);
    await turn();
    return found;
  }
}

async function commit(store: MemoryMetadata, pages: MetadataPages): Promise<void> {
  const images = pages.take();
  await store.commit({ pages: [{ pool: POOL, images }], rows: [] });
  pages.settle(images);
}

describe('pages of tables in memory', () => {
  it('a count page that was never committed reads as zeros', async () => {
    const pages = new MetadataPages(new MemoryMetadata(), POOL, 64 * KIB);
    await pages.ensure(counts(5, 1));
    expect(pages.page('block-count', 5).words.every((word) => word === 0)).toBe(true);
  });

  it('a node page that was never committed is refused as damage', async () => {
    const pages = new MetadataPages(new MemoryMetadata(), POOL, 64 * KIB);
    const read = pages.ensure([{ kind: 'node', number: 7 }]);
    await expect(read).rejects.toMatchObject({ code: 'METADATA_INVALID' });
    expect(pages.isResident('node', 7)).toBe(false);
  });

  it('two who want the same page share one read', async () => {
    const store = new SlowMetadata();
    const pages = new MetadataPages(store, POOL, 64 * KIB);
    await Promise.all([pages.ensure(counts(1, 3)), pages.ensure(counts(2, 2))]);
    expect(store.reads).toBe(1);
  });

  it('an image that was taken does not change with its page', async () => {
    const pages = new MetadataPages(new MemoryMetadata(), POOL, 64 * KIB);
    const page = pages.create('node', 1, PAGE_BYTES);
    page.words[0] = 1;
    const [image] = pages.take();
    pages.change(page);
    page.words[0] = 2;
    expect(image?.data?.[0]).toBe(1);
    expect(pages.take()[0]?.data?.[0]).toBe(2);
  });

  it('a count page that has become all zeros is removed from the store', async () => {
    const store = new MemoryMetadata();
    const pages = new MetadataPages(store, POOL, 64 * KIB);
    await pages.ensure(counts(0, 1));
    const page = pages.page('block-count', 0);
    for (const value of [1, 0]) {
      pages.change(page);
      page.words[3] = value;
      await commit(store, pages);
    }
    expect(await store.lastPage(POOL, 'block-count')).toBe(-1);
  });

  it('what a batch held is changed once more if it did not commit', async () => {
    const pages = new MetadataPages(new MemoryMetadata(), POOL, 64 * KIB);
    const kept = pages.create('node', 1, PAGE_BYTES);
    kept.words[0] = 1;
    const gone = pages.create('node', 2, PAGE_BYTES);
    const old = pages.create('node', 3, PAGE_BYTES);
    pages.take();
    pages.remove(old);
    const images = pages.take();
    pages.remove(gone);
    pages.restore(images);
    const again = pages.take();
    const byNumber = new Map(again.map(({ number, data }) => [number, data]));
    expect([...byNumber.keys()].sort()).toEqual([2, 3]);
    expect(byNumber.get(2)).toBeUndefined();
    expect(byNumber.get(3)).toBeUndefined();
  });
});

describe('eviction', () => {
  it('keeps the budget once nobody works on the pages', async () => {
    const pages = new MetadataPages(new SlowMetadata(), POOL, 64 * KIB);
    for (let first = 0; first < 200; first += 4) {
      await pages.ensure(counts(first, 4));
      await turn();
    }
    await turn();
    expect(pages.residentBytes).toBeLessThanOrEqual(64 * KIB);
  });

  it('never takes a page away in the turn that found it resident, whatever is made', async () => {
    const pages = new MetadataPages(new MemoryMetadata(), POOL, 16 * KIB);
    await pages.ensure(counts(0, 4));
    expect(missing(pages, counts(0, 4))).toEqual([]);
    for (let number = 1; number <= 100; number += 1) pages.create('node', number, PAGE_BYTES);
    expect(missing(pages, counts(0, 4))).toEqual([]);
  });

  it('gives an operation more pages than the budget if it needs them, beside others', async () => {
    const pages = new MetadataPages(new SlowMetadata(), POOL, 64 * KIB);
    const operate = async (first: number, steps: number): Promise<number> => {
      for (let tries = 1; ; tries += 1) {
        expect(tries).toBeLessThan(100);
        // the next pages to read are known only when those before are there, as on a path
        for (let step = 0; step < steps; step += 1) {
          const wanted = missing(pages, counts(first + step * 20, 20));
          if (wanted.length === 0 && step === steps - 1) return tries;
          if (wanted.length === 0) continue;
          await pages.ensure(wanted);
          break;
        }
      }
    };
    const tries = await Promise.all([operate(0, 10), operate(1000, 10), operate(2000, 10)]);
    expect(Math.max(...tries)).toBeLessThanOrEqual(11);
  });

  it('never loses a page that changed before its change is durable', async () => {
    const store = new SlowMetadata();
    const pages = new MetadataPages(store, POOL, 16 * KIB);
    await pages.ensure(counts(0, 1));
    const page = pages.page('block-count', 0);
    pages.change(page);
    page.words[0] = 42;
    for (let first = 10; first < 100; first += 10) {
      await pages.ensure(counts(first, 10));
      await turn();
    }
    expect(pages.page('block-count', 0)).toBe(page);
    const images = pages.take();
    for (let first = 110; first < 200; first += 10) {
      await pages.ensure(counts(first, 10));
      await turn();
    }
    expect(pages.page('block-count', 0)).toBe(page);
    await store.commit({ pages: [{ pool: POOL, images }], rows: [] });
    pages.settle(images);
    for (let first = 210; first < 300; first += 10) {
      await pages.ensure(counts(first, 10));
      await turn();
    }
    expect(pages.isResident('block-count', 0)).toBe(false);
    await pages.ensure(counts(0, 1));
    expect(pages.page('block-count', 0).words[0]).toBe(42);
  });
});
