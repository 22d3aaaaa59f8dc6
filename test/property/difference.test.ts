import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { compareDifferences } from '../support/compare-differences.ts';
import { type Command, command } from '../support/engine-commands.ts';
import { World } from '../support/engine-world.ts';

/** Few disks, and freezes between the changes. */
const commands = fc
  .array(fc.tuple(command, fc.nat(7), fc.boolean()), { maxLength: 60, size: 'max' })
  .map((list) => {
    const create: Command = {
      do: 'create',
      pool: 0,
      capacity: 20 * 16 * KIB,
      detectZeroes: true,
      reserve: 0,
    };
    const steps = list.flatMap(([each, disk, freezes]): Command[] =>
      freezes ? [each, { do: 'freeze', disk }] : [each],
    );
    return [create, ...steps];
  });

describe('differences beside the naive model', { timeout: 120_000 }, () => {
  it.each([
    { blocks: 200, cacheBytes: 2 * MIB, runs: 60 },
    { blocks: 200, cacheBytes: 16 * KIB, runs: 20 },
    // full as a rule, so that blocks are adopted and places come back at once
    { blocks: 14, cacheBytes: 2 * MIB, runs: 60 },
  ])('make the newer copy of the older, for every pair ($blocks blocks)', async (o) => {
    const seen = { copies: 0, checkpoints: 0 };
    await fc.assert(
      fc.asyncProperty(commands, async (list) => {
        const { cacheBytes } = o;
        const world = await World.open({ pools: [o.blocks], cacheBytes, maxCopies: 20 });
        for (const each of list) await world.step(each);
        const done = await compareDifferences(world);
        seen.copies += done.copies;
        seen.checkpoints += done.checkpoints;
        await world.settle();
        await world.check();
        await world.engine.close();
        expect(world.engine.errors).toEqual([]);
      }),
      { numRuns: o.runs },
    );
    expect(seen.copies).toBeGreaterThan(o.runs);
    expect(seen.checkpoints).toBeGreaterThan(o.runs);
  });
});
