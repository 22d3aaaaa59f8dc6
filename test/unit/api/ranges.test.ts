import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkRange, parseContentRange, selectRange } from '../../../src/api/ranges.ts';

const anySize = fc.integer({ min: 0, max: 2 ** 53 - 1 });

describe('a range', () => {
  it('that is given lies within the bytes there are, and is what was asked for', () => {
    fc.assert(
      fc.property(anySize, anySize, anySize, (sizeBytes, first, last) => {
        try {
          const header = `bytes=${first}-${last}`;
          const { offset, length, isPartial } = selectRange({}, header, sizeBytes);
          expect([isPartial, offset]).toEqual([true, first]);
          expect(length).toBeGreaterThan(0);
          expect(length).toBe(Math.min(last, sizeBytes - 1) - first + 1);
        } catch (error) {
          const code = last < first ? 'RANGE_INVALID' : 'RANGE_NOT_SATISFIABLE';
          expect(error).toMatchObject({ code });
          if (code === 'RANGE_NOT_SATISFIABLE') expect(first).toBeGreaterThanOrEqual(sizeBytes);
        }
      }),
    );
  });

  it('is checked without losing a bit', () => {
    fc.assert(
      fc.property(anySize, anySize, anySize, (offset, length, capacity) => {
        const fits = BigInt(offset) + BigInt(length) <= BigInt(capacity);
        let isAccepted = true;
        try {
          checkRange(offset, length, capacity);
        } catch {
          isAccepted = false;
        }
        expect(isAccepted).toBe(fits);
      }),
    );
  });

  it('of all bytes is the default, also where there are none', () => {
    expect(selectRange({}, undefined, 0)).toEqual({ offset: 0, length: 0, isPartial: false });
    expect(selectRange({}, undefined, 9)).toEqual({ offset: 0, length: 9, isPartial: false });
    expect(selectRange({ offset: 4 }, undefined, 9)).toMatchObject({ offset: 4, length: 5 });
  });
});

describe('a Content-Range', () => {
  it.each([
    ['bytes 0-9/10', { first: 0, last: 9, total: 10 }],
    ['Bytes 5-9/*', { first: 5, last: 9 }],
  ])('%s is understood', (header, range) => {
    expect(parseContentRange(header)).toEqual(range);
  });

  it.each(['', 'bytes', 'bytes */10', 'bytes 5-4/10', 'bytes 0-10/10', 'lines 0-1/2'])(
    '%s is refused',
    (header) => {
      expect(() => parseContentRange(header)).toThrow('not a Content-Range');
    },
  );

  it('with numbers that are not exact is refused', () => {
    expect(() => parseContentRange('bytes 0-9007199254740992/*')).toThrow();
  });
});
