import fc from 'fast-check';
import { describe, it } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { cutStorm } from '../support/storm-cut.ts';
import { Storm } from '../support/storm.ts';

/** Sectors of 16 KiB blocks. */
const BLOCK = 32;

const worlds = fc.record({
  seed: fc.nat(),
  poolBlocks: fc.constantFrom(12, 40, 200),
  diskBlocks: fc.constantFrom(10, 20),
  cacheBytes: fc.constantFrom(16 * KIB, 2 * MIB),
  actors: fc.constantFrom(3, 8, 16),
  operations: fc.constant(30),
  maxSectors: fc.constantFrom(2 * BLOCK, 5 * BLOCK, 90 * BLOCK),
  troubles: fc.boolean(),
});

describe('many operations at once', { timeout: 120_000 }, () => {
  it('read what some order allows, leave nothing locked and the tables sound', async () => {
    await fc.assert(
      fc.asyncProperty(worlds, async (o) => {
        const storm = await Storm.open(o);
        await storm.run();
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  it('cut at any moment leave what was flushed, or something later, and every copy', async () => {
    const steps = fc.integer({ min: 1, max: 250 });
    await fc.assert(
      fc.asyncProperty(worlds, steps, async (o, step) => {
        await cutStorm({ ...o, troubles: false }, step);
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });
});
