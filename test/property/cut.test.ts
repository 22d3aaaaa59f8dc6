import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { type CutOptions, CutWorkload } from '../support/cut-workload.ts';

/** Cuts at every step; every third time the opening that follows is cut too. */
async function cutEverywhere(o: CutOptions): Promise<void> {
  const whole = new CutWorkload(o);
  expect(await whole.run()).toBe(false);
  for (let step = 1; step <= whole.files.steps; step += 1) {
    const workload = new CutWorkload(o);
    workload.files.cutAt(step);
    try {
      await workload.run();
      if (step % 3 === 0) {
        workload.crash();
        await workload.openUntilCut(1 + (step % 5));
      }
      await workload.recover();
      await workload.goOn();
    } catch (error) {
      throw new Error(`seed ${o.seed}, cut at step ${step}`, { cause: error });
    }
  }
}

describe('a power cut at any step', { timeout: 120_000 }, () => {
  it('loses nothing that was answered and shows nothing foreign', async () => {
    await cutEverywhere({ seed: 1, poolBlocks: 60, diskBlocks: 10, operations: 80 });
  });

  it('does so on a pool that is nearly always full', async () => {
    await cutEverywhere({ seed: 5, poolBlocks: 14, diskBlocks: 10, operations: 150 });
  });

  it('does so with a cache that holds almost nothing, on a pool of many large holes', async () => {
    const cacheBytes = 16 * KIB;
    await cutEverywhere({ seed: 9, poolBlocks: 30, diskBlocks: 12, operations: 80, cacheBytes });
  });

  it('or an error of I/O at any step: only reads go on, and the next start finds all', async () => {
    const o = { seed: 17, poolBlocks: 20, diskBlocks: 10, operations: 80 };
    const whole = new CutWorkload(o);
    await whole.run();
    for (let step = 1; step <= whole.files.steps; step += 1) {
      const workload = new CutWorkload(o);
      try {
        await workload.runUntilFailure(step);
        await workload.recover();
        await workload.goOn();
      } catch (error) {
        throw new Error(`seed ${o.seed}, failure at step ${step}`, { cause: error });
      }
    }
  });

  it('does so for any seed', async () => {
    for (const seed of [11, 12, 13, 14, 15, 16]) {
      const o = { seed, poolBlocks: 20, diskBlocks: 10, operations: 200, cacheBytes: 2 * MIB };
      const workload = new CutWorkload(o);
      workload.files.cutAt(100 + seed * 7);
      await workload.run();
      await workload.recover();
      await workload.goOn();
    }
  });
});
