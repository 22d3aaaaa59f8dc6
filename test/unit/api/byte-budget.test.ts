import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteBudget, PiecePool } from '../../../src/api/byte-budget.ts';
import type { BudgetOptions } from '../../../src/api/byte-budget.ts';

/** Lets promises that are ready go on. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** 10 bytes, in hours. */
function budgetOf(maxWaiting: number, options: Partial<BudgetOptions> = {}): BudgetOptions {
  const long = { maxWaitMs: 3_600_000, slowWindowMs: 3_600_000 };
  return { totalBytes: 10, maxWaiting, ...long, slowBytes: 5, ...options };
}

describe('a budget of bytes', () => {
  it('is never exceeded, serves in order of coming, and ends up whole', async () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 10 }), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.infiniteStream(fc.nat()), async (wanted, choices) => {
        const budget = new ByteBudget(budgetOf(100));
        const held: { bytes: number; release: () => void }[] = [];
        const served: number[] = [];
        wanted.forEach((bytes, index) => {
          void budget.take(bytes).then((lease) => {
            served.push(index);
            held.push({
              bytes,
              release: () => {
                lease.release();
              },
            });
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
        (await budget.take(10)).release();
      }),
      { numRuns: 50 },
    );
  });

  it('refuses who comes when enough wait', async () => {
    const budget = new ByteBudget(budgetOf(1));
    const first = await budget.take(10);
    const second = budget.take(1);
    await expect(budget.take(1)).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    first.release();
    (await second).release();
  });

  it('refuses who has waited too long, and serves the next one', async () => {
    const budget = new ByteBudget(budgetOf(9, { maxWaitMs: 20 }));
    const first = await budget.take(6);
    const tooLarge = budget.take(10);
    await expect(tooLarge).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    const [large, small] = [budget.take(8), budget.take(4)];
    await expect(large).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    (await small).release();
    first.release();
    (await budget.take(10)).release();
  });

  it('ends, while somebody waits, who is waited for and does not move', async () => {
    const budget = new ByteBudget(budgetOf(9, { slowWindowMs: 8 }));
    const ended: string[] = [];
    const hold = async (name: string, awaited: () => number | undefined): Promise<void> => {
      const lease = await budget.take(3);
      lease.watch({
        get awaitedBytes() {
          return awaited();
        },
        endSlow() {
          ended.push(name);
          lease.release();
        },
      });
    };
    let moved = 0;
    await hold('moving', () => (moved += 5));
    await hold('still', () => 7);
    await hold('not waited for', () => undefined);
    (await budget.take(3)).release();
    expect(ended).toEqual(['still']);
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
