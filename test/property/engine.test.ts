import fc from 'fast-check';
import { describe, it } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { command } from '../support/engine-commands.ts';
import { World } from '../support/engine-world.ts';

const numRuns = Number(process.env['RUNS'] ?? 60);

describe('an engine beside the naive model', () => {
  it('agrees in every byte, count and refusal', { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { maxLength: 60, size: 'max' }),
        fc.constantFrom([24], [10], [12, 6]),
        fc.constantFrom(64 * KIB, 2048 * KIB),
        async (commands, pools, cacheBytes) => {
          const world = await World.open({ pools, cacheBytes });
          await world.run(commands);
        },
      ),
      { numRuns },
    );
  });
});
