import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB, MAX_CAPACITY_BYTES } from '../../../src/base/units.ts';
import { piecesOf } from '../../../src/disk/block-range.ts';

const SIZE = 16 * KIB;

describe('the pieces of a byte range', () => {
  it('are none for an empty range', () => {
    expect(piecesOf(5 * SIZE + 7, 0, SIZE, 100 * SIZE)).toEqual([]);
  });

  it('are a head, whole blocks and a tail', () => {
    expect(piecesOf(SIZE - 10, 2 * SIZE, SIZE, 100 * SIZE)).toEqual([
      { logical: 0, from: SIZE - 10, to: SIZE, at: 0, whole: false },
      { logical: 1, from: 0, to: SIZE, at: 10, whole: true },
      { logical: 2, from: 0, to: SIZE - 10, at: SIZE + 10, whole: false },
    ]);
  });

  it('are whole up to the end of the disk, be it within the block', () => {
    const capacity = 2 * SIZE + 512;
    expect(piecesOf(2 * SIZE, 512, SIZE, capacity)).toMatchObject([{ logical: 2, whole: true }]);
    expect(piecesOf(2 * SIZE, 511, SIZE, capacity)).toMatchObject([{ whole: false }]);
    expect(piecesOf(2 * SIZE + 1, 511, SIZE, capacity)).toMatchObject([{ whole: false }]);
  });

  it('follow one another without gaps and cover the range, up to 2^53', () => {
    const ranges = fc.record({
      end: fc.constantFrom(10 * SIZE, 2 ** 46, MAX_CAPACITY_BYTES),
      back: fc.nat(5 * SIZE),
      length: fc.nat(5 * SIZE),
    });
    fc.assert(
      fc.property(ranges, ({ end, back, length }) => {
        const offset = end - back;
        const bytes = Math.min(length, back);
        let at = 0;
        for (const piece of piecesOf(offset, bytes, SIZE, end)) {
          expect(piece.at).toBe(at);
          expect(piece.logical * SIZE + piece.from).toBe(offset + at);
          expect(piece.to).toBeGreaterThan(piece.from);
          expect(piece.to).toBeLessThanOrEqual(SIZE);
          at += piece.to - piece.from;
        }
        expect(at).toBe(bytes);
      }),
    );
  });
});
