/**
 * What every metadata store keeps to, whatever it is made of: describeMetadataStore(name, make).
 */
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.ts';
import { pageKinds } from '../../src/pool/metadata-store.ts';
import type { Batch, MetadataStore, PageImage, Row } from '../../src/pool/metadata-store.ts';
import { MetadataModel, anyBatch } from '../support/metadata-model.ts';

export interface MetadataStoreHarness {
  readonly store: MetadataStore;
  /** The store as the next process finds it after this one was killed now. */
  crash(): Promise<MetadataStoreHarness>;
  close(): Promise<void>;
}

type Make = () => Promise<MetadataStoreHarness>;

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

function node(number: number, data: Uint8Array | undefined): PageImage {
  return { kind: 'node', number, data };
}

function pagesOf(pool: number, ...images: PageImage[]): Batch {
  return { pages: [{ pool, images }], rows: [] };
}

function fact(key: string, value: string | undefined): Batch {
  const row = value === undefined ? undefined : { value };
  return { pages: [], rows: [{ table: 'store', key: { key }, row }] };
}

function deadRoot(pool: string, node: number, row: Row | undefined): Batch {
  return { pages: [], rows: [{ table: 'dead_roots', key: { pool, node }, row }] };
}

const root: Row = { height: 1, count: 1, mapped_blocks: 7 };

export function describeMetadataStore(name: string, make: Make): void {
  describe(`metadata store: ${name}`, () => {
    let harness: MetadataStoreHarness;
    let store: MetadataStore;

    beforeEach(async () => {
      harness = await make();
      store = harness.store;
    });

    afterEach(async () => {
      await harness.close();
    });

    describePages(() => store);
    describeOrder(() => store);
    describeRows(() => store);
    describeMistakes(() => store);

    it('a crash keeps every acknowledged batch', async () => {
      await store.commit(pagesOf(1, node(1, bytes(1)), node(2, bytes(2))));
      await store.commit(pagesOf(1, node(1, undefined), node(3, bytes(3))));
      await store.commit(fact('generation', '9'));
      harness = await harness.crash();
      const after = harness.store;
      expect(await after.readPages(1, 'node', [1, 2, 3])).toEqual([undefined, bytes(2), bytes(3)]);
      expect(await after.rows('store', { key: 'generation' })).toHaveLength(1);
    });

    it('after a crash unacknowledged batches are whole, up to the first lost one', async () => {
      const numbers = Array.from({ length: 20 }, (_, index) => index);
      for (const number of numbers) {
        const pair = pagesOf(1, node(number, bytes(number)), node(100 + number, bytes(1)));
        const batch = { ...pair, rows: deadRoot('p', number, root).rows };
        // nobody hears the answer in a process that is dead
        store.commit(batch).catch(() => undefined);
      }
      harness = await harness.crash();
      const after = harness.store;
      const kept = (await after.rows('dead_roots')).length;
      const first = await after.readPages(1, 'node', numbers);
      const second = await after.readPages(
        1,
        'node',
        numbers.map((number) => 100 + number),
      );
      const present = numbers.map((number) => number < kept);
      expect(first.map((page) => page !== undefined)).toEqual(present);
      expect(second.map((page) => page !== undefined)).toEqual(present);
    });

    it('any sequence of batches reads as in a naive model', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(anyBatch(), { minLength: 1, maxLength: 12 }), async (batches) => {
          const own = await make();
          try {
            const model = new MetadataModel();
            for (const batch of batches) {
              model.apply(batch);
              await own.store.commit(batch);
            }
            expect(await MetadataModel.read(own.store)).toEqual(model.contents());
          } finally {
            await own.close();
          }
        }),
        { numRuns: 15 },
      );
    });
  });
}

function describePages(store: () => MetadataStore): void {
  it('a page that was never committed reads as undefined, and the last page is -1', async () => {
    for (const kind of pageKinds) {
      expect(await store().readPages(0, kind, [0, 7])).toEqual([undefined, undefined]);
      expect(await store().lastPage(0, kind)).toBe(-1);
    }
    expect(await store().readPages(0, 'node', [])).toEqual([]);
  });

  it('pages come in the order asked for, each as often as asked for', async () => {
    await store().commit(pagesOf(1, node(5, bytes(5)), node(2, bytes(2, 2))));
    const found = await store().readPages(1, 'node', [5, 9, 2, 5]);
    expect(found).toEqual([bytes(5), undefined, bytes(2, 2), bytes(5)]);
    expect(await store().lastPage(1, 'node')).toBe(5);
  });

  it('a removed page reads as undefined, and the last page goes back', async () => {
    await store().commit(pagesOf(1, node(1, bytes(1)), node(8, bytes(8))));
    await store().commit(pagesOf(1, node(8, undefined), node(9, undefined)));
    expect(await store().readPages(1, 'node', [1, 8])).toEqual([bytes(1), undefined]);
    expect(await store().lastPage(1, 'node')).toBe(1);
  });

  it('the same number in other pools and kinds is another page', async () => {
    const images = pageKinds.map((kind, index) => ({ kind, number: 3, data: bytes(index) }));
    await store().commit({
      pages: [
        { pool: 1, images },
        { pool: 2, images: [node(3, bytes(99))] },
      ],
      rows: [],
    });
    for (const [index, kind] of pageKinds.entries()) {
      expect(await store().readPages(1, kind, [3])).toEqual([bytes(index)]);
    }
    expect(await store().readPages(2, 'node', [3])).toEqual([bytes(99)]);
    expect(await store().readPages(2, 'bitmap', [3])).toEqual([undefined]);
    expect(await store().lastPage(3, 'node')).toBe(-1);
  });

  it('the highest pool and page numbers do not meet their neighbours', async () => {
    const last = 2 ** 40 - 1;
    await store().commit(pagesOf(0, node(last, bytes(1))));
    await store().commit(pagesOf(1, node(0, bytes(2))));
    await store().commit(pagesOf(2 ** 13 - 1, node(last, bytes(3))));
    expect(await store().lastPage(0, 'node')).toBe(last);
    expect(await store().lastPage(1, 'node')).toBe(0);
    expect(await store().readPages(2 ** 13 - 1, 'node', [last])).toEqual([bytes(3)]);
  });

  it('pages of 0, 4096 and 65536 bytes keep their length', async () => {
    const lengths = [0, 4096, 65_536];
    const images = lengths.map((length, number) => node(number, new Uint8Array(length).fill(7)));
    await store().commit(pagesOf(1, ...images));
    const found = await store().readPages(1, 'node', [0, 1, 2]);
    expect(found.map((page) => page?.length)).toEqual(lengths);
    expect(found[2]?.every((byte) => byte === 7)).toBe(true);
  });

  it('only the view is kept when a page is a view into a larger buffer', async () => {
    const large = Buffer.from('before|page|after');
    await store().commit(pagesOf(1, node(1, large.subarray(7, 11))));
    expect(await store().readPages(1, 'node', [1])).toEqual([Uint8Array.from(Buffer.from('page'))]);
    expect(large.toString()).toBe('before|page|after');
  });

  it('what the caller does to its buffers later does not reach the store', async () => {
    const mine = bytes(1, 2, 3);
    const committed = store().commit(pagesOf(1, node(1, mine)));
    mine.fill(0);
    await committed;
    const [first] = await store().readPages(1, 'node', [1]);
    expect(first).toEqual(bytes(1, 2, 3));
    first?.fill(9);
    expect(await store().readPages(1, 'node', [1])).toEqual([bytes(1, 2, 3)]);
  });
}

function describeOrder(store: () => MetadataStore): void {
  it('a read sees every commit called before it, awaited or not', async () => {
    const committed = store().commit({ ...pagesOf(1, node(1, bytes(1))), ...fact('a', 'b') });
    const pages = store().readPages(1, 'node', [1]);
    const merged = store().commit({ pages: pagesOf(1, node(1, bytes(2))).pages, rows: [] });
    const rows = store().rows('store', { key: 'a' });
    const later = store().readPages(1, 'node', [1]);
    await Promise.all([committed, merged]);
    expect(await pages).toEqual([undefined]);
    expect(await rows).toEqual([{ key: 'a', value: 'b' }]);
    expect(await later).toEqual([bytes(2)]);
  });

  it('commits that are called together take effect in the order of the calls', async () => {
    const values = Array.from({ length: 50 }, (_, index) => index);
    await Promise.all(values.map((value) => store().commit(pagesOf(1, node(1, bytes(value))))));
    expect(await store().readPages(1, 'node', [1])).toEqual([bytes(49)]);
  });

  it('of two images of one page in a batch the later stays', async () => {
    await store().commit(pagesOf(1, node(1, bytes(1)), node(1, bytes(2)), node(2, bytes(3))));
    await store().commit(pagesOf(1, node(2, bytes(4)), node(2, undefined)));
    expect(await store().readPages(1, 'node', [1, 2])).toEqual([bytes(2), undefined]);
  });

  it('an empty batch commits', async () => {
    await expect(store().commit({ pages: [], rows: [] })).resolves.toBeUndefined();
  });
}

function describeRows(store: () => MetadataStore): void {
  it('a row is put, replaced and deleted; deleting what is not there is no error', async () => {
    await store().commit(fact('a', '1'));
    await store().commit(fact('a', '2'));
    expect(await store().rows('store', { key: 'a' })).toEqual([{ key: 'a', value: '2' }]);
    await store().commit(fact('a', undefined));
    await store().commit(fact('a', undefined));
    expect(await store().rows('store', { key: 'a' })).toEqual([]);
  });

  it('rows come ordered by primary key and filtered by all given columns', async () => {
    await store().commit(deadRoot('b', 1, root));
    await store().commit(deadRoot('a', 10, { ...root, height: 2 }));
    await store().commit(deadRoot('a', 9, root));
    const keys = (rows: Row[]): string[] =>
      rows.map((row) => `${String(row.pool)}${String(row.node)}`);
    expect(keys(await store().rows('dead_roots'))).toEqual(['a9', 'a10', 'b1']);
    expect(keys(await store().rows('dead_roots', { pool: 'a' }))).toEqual(['a9', 'a10']);
    expect(keys(await store().rows('dead_roots', { pool: 'a', height: 2 }))).toEqual(['a10']);
    expect(keys(await store().rows('dead_roots', { pool: 'c' }))).toEqual([]);
  });

  it('integers up to 2^53 - 1, blobs and any text come back as they went in', async () => {
    const most = Number.MAX_SAFE_INTEGER;
    await store().commit(deadRoot('größe 📼', most, { ...root, mapped_blocks: most }));
    const segment = { copy: 'c', segment: 0 };
    const crcs = new Uint8Array(70_000).fill(3);
    await store().commit({
      pages: [],
      rows: [{ table: 'checksums', key: segment, row: { crcs } }],
    });
    const [found] = await store().rows('dead_roots');
    expect(found).toEqual({ pool: 'größe 📼', node: most, ...root, mapped_blocks: most });
    const [checksums] = await store().rows('checksums', { copy: 'c' });
    expect(checksums?.crcs).toHaveLength(70_000);
    expect(Buffer.compare(Buffer.from(crcs), checksums?.crcs as Uint8Array)).toBe(0);
  });

  it('a nullable column that is left out reads as null and is found by null', async () => {
    const job = jobRow({ disk: 'd1' });
    const key = { id: 'j1' };
    await store().commit({ pages: [], rows: [{ table: 'jobs', key, row: job }] });
    expect(await store().rows('jobs', { target: null, disk: 'd1' })).toEqual([
      {
        ...key,
        ...job,
        target: null,
        result: null,
        problem: null,
        started_at: null,
        ended_at: null,
      },
    ]);
    await store().commit({ pages: [], rows: [{ table: 'jobs', key, row: jobRow({}) }] });
    expect(await store().rows('jobs', { disk: null })).toHaveLength(1);
  });
}

/** A whole job row but for the nullable columns. */
function jobRow(more: Row): Row {
  const texts = [
    'kind',
    'state',
    'subject',
    'parameters',
    'progress',
    'checkpoint',
    'log',
    'labels',
  ];
  const filled = Object.fromEntries(texts.map((name) => [name, '{}']));
  return { ...filled, attempts: 0, created_at: 1, ...more };
}

function describeMistakes(store: () => MetadataStore): void {
  const mistakes: readonly [string, Batch][] = [
    ['an unknown table', { pages: [], rows: [{ table: 'tapes', key: {}, row: undefined }] }],
    ['an unknown column', deadRoot('p', 1, { ...root, colour: 'red' })],
    ['a missing column', deadRoot('p', 1, { height: 1, count: 1 })],
    [
      'a missing part of the key',
      { pages: [], rows: [{ table: 'dead_roots', key: { pool: 'p' }, row: root }] },
    ],
    ['text in an integer column', deadRoot('p', 1, { ...root, count: '1' })],
    ['a fraction in an integer column', deadRoot('p', 1, { ...root, count: 1.5 })],
    ['null in a column that has to be there', deadRoot('p', 1, { ...root, count: null })],
    ['a key of the store that is not the engine’s', fact('epoch', '99')],
  ];

  it.each(mistakes)('a batch with %s is a bug and changes nothing', async (_, { rows }) => {
    const batch: Batch = { pages: pagesOf(1, node(1, bytes(1))).pages, rows };
    await expect(store().commit(batch)).rejects.toThrow(AssertionError);
    expect(await store().readPages(1, 'node', [1])).toEqual([undefined]);
    await expect(store().commit(fact('still', 'alive'))).resolves.toBeUndefined();
  });

  it.each([
    ['pool', 2 ** 13, 0],
    ['pool', -1, 0],
    ['page', 0, 2 ** 40],
    ['page', 0, -1],
    ['page', 0, 0.5],
  ])('a %s number out of range is a bug (pool %d, page %d)', async (_, pool, number) => {
    await expect(store().commit(pagesOf(pool, node(number, bytes(1))))).rejects.toThrow(
      AssertionError,
    );
    await expect(store().readPages(pool, 'node', [number])).rejects.toThrow(AssertionError);
  });

  it('a read of an unknown table or column is a bug', async () => {
    await expect(store().rows('tapes')).rejects.toThrow(AssertionError);
    await expect(store().rows('store', { colour: 'red' })).rejects.toThrow(AssertionError);
  });
}
