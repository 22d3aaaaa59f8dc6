import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { copyBlock, logicalBlock } from '../../../src/base/units.ts';
import {
  CorrespondenceTable,
  CorrespondenceTableBuilder,
} from '../../../src/copy/correspondence-table.ts';

describe('a table of the blocks 2, 3, 4, 9 and 2^40', () => {
  const table = CorrespondenceTable.of([2, 3, 4, 9, 2 ** 40]);

  test('has five blocks in three runs', () => {
    expect(table.usedBlocks).toBe(5);
    expect(table.runCount).toBe(3);
    expect([...table.runs()]).toEqual([
      { copyBlock: 0, sourceBlock: 2, length: 3 },
      { copyBlock: 3, sourceBlock: 9, length: 1 },
      { copyBlock: 4, sourceBlock: 2 ** 40, length: 1 },
    ]);
  });

  test('gives the place of each copy block', () => {
    const places = [0, 1, 2, 3, 4].map((x) => table.sourceBlockOf(copyBlock(x)));
    expect(places).toEqual([2, 3, 4, 9, 2 ** 40]);
  });

  test.each([0, 1, 5, 8, 10, 2 ** 40 - 1, 2 ** 40 + 1])(
    'block %i, which the source never wrote, has no copy block',
    (block) => {
      expect(table.copyBlockOf(logicalBlock(block))).toBeUndefined();
    },
  );

  test('a part of it begins and ends inside runs', () => {
    expect([...table.runs(1, 4)]).toEqual([
      { copyBlock: 1, sourceBlock: 3, length: 2 },
      { copyBlock: 3, sourceBlock: 9, length: 1 },
    ]);
    expect([...table.runs(2, 2)]).toEqual([]);
    expect([...table.runs(5)]).toEqual([]);
  });

  test('a copy block beyond the last is a bug', () => {
    expect(() => table.sourceBlockOf(copyBlock(5))).toThrow('assertion failed');
    expect(() => [...table.runs(0, 6)]).toThrow('assertion failed');
  });
});

test('an empty copy has no runs and holds nothing', () => {
  const table = CorrespondenceTable.of([]);
  expect(table.usedBlocks).toBe(0);
  expect([...table.runs()]).toEqual([]);
  expect(table.copyBlockOf(logicalBlock(0))).toBeUndefined();
});

test('blocks that do not ascend are a bug', () => {
  expect(() => CorrespondenceTable.of([3, 3])).toThrow('assertion failed');
  expect(() => CorrespondenceTable.of([3, 2])).toThrow('assertion failed');
});

test('a run of no blocks is a bug', () => {
  const builder = new CorrespondenceTableBuilder();
  expect(() => {
    builder.add(logicalBlock(1), 0);
  }).toThrow('assertion failed');
});

test('runs that touch, or leave out a copy block, make no table', () => {
  const run = { copyBlock: copyBlock(0), sourceBlock: logicalBlock(0), length: 2 };
  const touching = { copyBlock: copyBlock(2), sourceBlock: logicalBlock(2), length: 1 };
  const gap = { copyBlock: copyBlock(3), sourceBlock: logicalBlock(7), length: 1 };
  expect(() => new CorrespondenceTable([run, touching])).toThrow('meets the one before');
  expect(() => new CorrespondenceTable([run, gap])).toThrow('follows 2');
});

test('any set of blocks gives the same answers as a plain array', () => {
  const blocks = fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { maxLength: 40 });
  fc.assert(
    fc.property(blocks, fc.nat(40), fc.nat(40), (unordered, one, other) => {
      const naive = unordered.toSorted((a, b) => a - b);
      const table = CorrespondenceTable.of(naive);
      expect(table.usedBlocks).toBe(naive.length);
      naive.forEach((a, x) => {
        expect(table.sourceBlockOf(copyBlock(x))).toBe(a);
      });
      for (let a = 0; a <= 61; a += 1) {
        const x = naive.indexOf(a);
        expect(table.copyBlockOf(logicalBlock(a))).toBe(x < 0 ? undefined : x);
      }
      const end = Math.min(Math.max(one, other), naive.length);
      const from = Math.min(one, other, end);
      const runs = [...table.runs(from, end)];
      const flat = runs.flatMap((run) =>
        Array.from({ length: run.length }, (_, step) => run.sourceBlock + step),
      );
      expect(flat).toEqual(naive.slice(from, end));
    }),
  );
});
