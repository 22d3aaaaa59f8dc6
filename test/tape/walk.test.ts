/**
 * The virtual drive and the kernel's driver, step by step over the same random walks.
 *
 * With SPINDLE_TEST_TAPE_RECORD=DIR the walks of the kernel's driver are kept there: those under
 * test/vectors/tape, with which `npm test` compares the virtual drive, come from that.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { StTapeHarness } from '../support/st-tape.ts';
import { walkTape } from '../support/tape-walk.ts';
import { VirtualTapeHarness } from '../support/virtual-tape.ts';

const seeds = (process.env['SPINDLE_TEST_TAPE_SEEDS'] ?? '1 2 3 4').split(' ').map(Number);
const steps = 200;

it.each(seeds)('walk %i is the same on both', async (seed) => {
  const real = await StTapeHarness.make();
  await real.reset();
  const seen = await walkTape(real, seed, steps);
  const folder = process.env['SPINDLE_TEST_TAPE_RECORD'];
  if (folder !== undefined) {
    await writeFile(join(folder, `walk-${seed}.txt`), `${seen.join('\n')}\n`);
  }
  const virtual = await VirtualTapeHarness.make();
  await virtual.reset();
  const expected = await walkTape(virtual, seed, steps);
  await virtual.dispose();
  expect(expected).toEqual(seen);
});
