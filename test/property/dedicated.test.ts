import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { type DedicatedOptions, DedicatedWorkload } from '../support/dedicated-workload.ts';

const worlds: fc.Arbitrary<DedicatedOptions> = fc.record({
  seed: fc.nat(),
  rounds: fc.constant(40),
  sourceBlocks: fc.constantFrom(14, 24, 60),
  otherBlocks: fc.constantFrom(12, 40),
  diskBlocks: fc.constantFrom(6, 10),
  cacheBytes: fc.constantFrom(16 * KIB, 2 * MIB),
});

async function opened(o: DedicatedOptions): Promise<DedicatedWorkload> {
  const workload = new DedicatedWorkload(o);
  await workload.open();
  return workload;
}

describe('a dedicated copy', { timeout: 240_000 }, () => {
  it('never changes, and its room is what the tables say, whatever happens', async () => {
    await fc.assert(
      fc.asyncProperty(worlds, async (o) => {
        const workload = await opened(o);
        expect(await workload.run()).toBe(false);
        await workload.end();
      }),
      { numRuns: 12, endOnFailure: true },
    );
  });

  it('is found as it was after a power cut at any moment', async () => {
    const steps = fc.integer({ min: 1, max: 600 });
    await fc.assert(
      fc.asyncProperty(worlds, steps, async (o, step) => {
        const workload = await opened(o);
        workload.files.cutAt(workload.files.steps + step);
        await workload.run();
        await workload.recover();
        await workload.end();
      }),
      { numRuns: 20, endOnFailure: true },
    );
  });

  it('is read on after an error of I/O at any moment, and found by the next start', async () => {
    const steps = fc.integer({ min: 1, max: 600 });
    await fc.assert(
      fc.asyncProperty(worlds, steps, async (o, step) => {
        const workload = await opened(o);
        await workload.runUntilFailure(workload.files.steps + step);
        await workload.recover();
        await workload.end();
      }),
      { numRuns: 20, endOnFailure: true },
    );
  });

  it('is found as it was after a power cut at every single step', async () => {
    const o = { seed: 16, rounds: 11, sourceBlocks: 20, otherBlocks: 30, diskBlocks: 8 };
    const whole = await opened(o);
    const begin = whole.files.steps;
    expect(await whole.run()).toBe(false);
    const end = whole.files.steps;
    const number = expect.any(Number);
    expect(whole.counts).toMatchObject({ settle: number, lease: number, delete: number });
    for (let step = begin + 1; step <= end; step += 1) {
      const workload = await opened(o);
      workload.files.cutAt(step);
      try {
        await workload.run();
        await workload.recover();
        await workload.end();
      } catch (error) {
        throw new Error(`cut at step ${step}`, { cause: error });
      }
    }
  });
});
