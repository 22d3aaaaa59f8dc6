import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { MetadataPages } from '../../../src/pool/metadata-pages.ts';
import { ReferenceCounts } from '../../../src/pool/reference-counts.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

function countsOf(store = new MemoryMetadata()): { pages: MetadataPages; counts: ReferenceCounts } {
  const pages = new MetadataPages(store, 1, MIB);
  return { pages, counts: new ReferenceCounts(pages, 'block-count') };
}

describe('reference counts', () => {
  it('are those of a naive map, whatever is added and dropped', async () => {
    const ids = fc.constantFrom(0, 1, 1023, 1024, 5000, 2 ** 32 - 3);
    const changes = fc.array(fc.record({ id: ids, add: fc.boolean() }));
    await fc.assert(
      fc.asyncProperty(changes, async (list) => {
        const { pages, counts } = countsOf();
        const model = new Map<number, number>();
        for (const { id, add } of list) {
          if (!counts.isResident(id)) await pages.ensure([counts.keyOf(id)]);
          const before = model.get(id) ?? 0;
          if (!add && before === 0) continue;
          if (add) counts.add(id);
          else counts.drop(id);
          model.set(id, before + (add ? 1 : -1));
          for (const [known, count] of model) expect(counts.extra(known)).toBe(count);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('never go below zero', async () => {
    const { pages, counts } = countsOf();
    await pages.ensure([counts.keyOf(5)]);
    expect(() => {
      counts.drop(5);
    }).toThrow('becomes -1');
  });

  it('never pass what a slot can hold', async () => {
    const { pages, counts } = countsOf();
    await pages.ensure([counts.keyOf(5)]);
    pages.page('block-count', 0).words[5] = 2 ** 32 - 2;
    expect(() => {
      counts.add(5);
    }).toThrow('becomes');
  });
});
