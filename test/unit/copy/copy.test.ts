import { describe, expect, it } from 'vitest';
import type { Copy } from '../../../src/copy/copy.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { SIZE, type SmallEngine, smallEngine } from '../../support/small-engine.ts';

const blocks = [0, 1, 5, 511, 512, 513, 2 ** 20, 2 ** 30];

async function scattered(): Promise<{ small: SmallEngine; copy: Copy }> {
  const small = await smallEngine();
  const disk = await small.disk({ capacityBytes: 2 ** 30 * SIZE + 512 });
  for (const [index, block] of [...blocks.entries()].reverse()) {
    const bytes = block === 2 ** 30 ? 512 : SIZE;
    await disk.write(block * SIZE, Buffer.alloc(bytes, index + 1));
  }
  return { small, copy: await freeze(small.engine.copies, 'd', { name: 'c' }) };
}

describe('the correspondence of a copy', () => {
  it('is the same whatever the length of its pages', async () => {
    const { copy } = await scattered();
    const { runs: all } = await copy.correspondence(0, 100, true);
    expect(all.map(({ copyBlock, sourceBlock }) => [copyBlock, sourceBlock])).toEqual(
      blocks.map((block, index) => [index, block]),
    );
    for (const maxRuns of [1, 2, 3]) {
      const found: [number, number][] = [];
      for (let next: number | undefined = 0; next !== undefined;) {
        const page: Awaited<ReturnType<Copy['correspondence']>> = await copy.correspondence(
          next,
          maxRuns,
        );
        for (const { copyBlock, sourceBlock, length } of page.runs) {
          for (let at = 0; at < length; at += 1) found.push([copyBlock + at, sourceBlock + at]);
        }
        ({ next } = page);
      }
      expect(found).toEqual(blocks.map((block, index) => [index, block]));
    }
  });

  it('begins anywhere, also within a run, and is empty at the end', async () => {
    const { copy } = await scattered();
    const { runs } = await copy.correspondence(4, 1);
    expect(runs).toEqual([{ copyBlock: 4, sourceBlock: 512, length: 2 }]);
    expect(await copy.correspondence(8, 10)).toEqual({ runs: [] });
    expect(await copy.correspondence(100, 10)).toEqual({ runs: [] });
  });

  it('names the same places for any part', async () => {
    const { copy } = await scattered();
    const all = await copy.places(0, 8);
    expect([...all.source]).toEqual(blocks);
    for (let first = 0; first < 8; first += 1) {
      const part = await copy.places(first, 8 - first);
      expect(part.source).toEqual(all.source.slice(first));
      expect(part.physical).toEqual(all.physical.slice(first));
    }
    expect((await copy.places(3, 0)).source).toHaveLength(0);
  });
});

describe('the views of a copy', () => {
  it('give any bytes by X and by A', async () => {
    const { copy } = await scattered();
    const compact = Buffer.alloc(copy.viewBytes('compact'));
    await copy.read('compact', 0, compact);
    expect(copy.capacityBytes).toBe(8 * SIZE);
    for (const [offset, length] of [
      [0, 1],
      [SIZE - 1, 2],
      [3 * SIZE + 7, 3 * SIZE],
      [8 * SIZE - 1, 1],
      [8 * SIZE, 0],
    ] as const) {
      const part = Buffer.alloc(length, 0xee);
      await copy.read('compact', offset, part);
      expect(part.equals(compact.subarray(offset, offset + length))).toBe(true);
    }
    for (const [index, block] of blocks.entries()) {
      const wanted = Buffer.alloc(block === 2 ** 30 ? 512 : SIZE, index + 1);
      const full = Buffer.alloc(wanted.length);
      await copy.read('full', block * SIZE, full);
      expect(full.equals(wanted)).toBe(true);
      expect(compact.subarray(index * SIZE, index * SIZE + wanted.length).equals(wanted)).toBe(
        true,
      );
    }
  });

  it('end where they end', async () => {
    const { copy } = await scattered();
    const beyond = { code: 'RANGE_NOT_SATISFIABLE' };
    await expect(copy.read('compact', 8 * SIZE, Buffer.alloc(1))).rejects.toMatchObject(beyond);
    await expect(copy.read('full', -1, Buffer.alloc(1))).rejects.toMatchObject(beyond);
    const end = 2 ** 30 * SIZE + 512;
    await copy.read('full', end - 1, Buffer.alloc(1));
    await expect(copy.read('full', end - 1, Buffer.alloc(2))).rejects.toMatchObject(beyond);
  });
});
