import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteBudget, PiecePool } from '../../../src/api/byte-budget.ts';

/** Lets promises that are ready go on. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

describe('a budget of bytes', () => {
  it('is never exceeded, serves in order of coming, and ends up whole', async () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 10 }), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.infiniteStream(fc.nat()), async (wanted, choices) => {
        const budget = new ByteBudget(10, 100);
        const held: { bytes: number; release: () => void }[] = [];
        const served: number[] = [];
        wanted.forEach((bytes, index) => {
          void budget.take(bytes).then((release) => {
            served.push(index);
            held.push({ bytes, release });
          });
        });
        await turn();
        while (held.length > 0) {
          expect(held.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(10);
          const choice = Number(choices.next().value) % held.length;
          held.splice(choice, 1)[0]!.release();
          await turn();
        }
        expect(served).toEqual(wanted.map((_, index) => index));
        (await budget.take(10))();
      }),
      { numRuns: 50 },
    );
  });

  it('refuses who comes when enough wait', async () => {
    const budget = new ByteBudget(10, 1);
    const release = await budget.take(10);
    const second = budget.take(1);
    await expect(budget.take(1)).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    release();
    (await second)();
  });
});

describe('a pool of pieces', () => {
  it('gives back what it was given, up to its bound', () => {
    const pool = new PiecePool(16, 1);
    const [first, second] = [pool.take(), pool.take()];
    pool.giveBack(first);
    pool.giveBack(second);
    expect(pool.take()).toBe(first);
    expect(pool.take()).not.toBe(second);
    expect(() => {
      pool.giveBack(Buffer.alloc(15));
    }).toThrow();
  });
});
