import fc from 'fast-check';
import { describe, it } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { command } from '../support/engine-commands.ts';
import { World } from '../support/engine-world.ts';

const commands = fc.array(command, { maxLength: 50, size: 'max' });

describe('an engine beside the naive model', { timeout: 120_000 }, () => {
  it('agrees in every byte, count and refusal', async () => {
    const pools = fc.constantFrom([24], [10], [5], [12, 6]);
    await fc.assert(
      fc.asyncProperty(commands, pools, async (list, blocks) => {
        const world = await World.open({ pools: blocks, cacheBytes: 2 * MIB });
        await world.run(list);
      }),
      { numRuns: 150 },
    );
  });

  it('agrees if its cache holds almost nothing, so that pages come and go', async () => {
    await fc.assert(
      fc.asyncProperty(commands, async (list) => {
        const world = await World.open({ pools: [14], cacheBytes: 16 * KIB });
        await world.run(list);
      }),
      { numRuns: 80 },
    );
  });
});
