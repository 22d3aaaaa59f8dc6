/**
 * The virtual drive over walks that the kernel's driver was seen to take (test/vectors/tape, made
 * by test/tape/walk.test.ts), each step with the same result.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { walkTape } from '../../support/tape-walk.ts';
import { VirtualTapeHarness } from '../../support/virtual-tape.ts';

const folder = join(import.meta.dirname, '../../vectors/tape');
const walks = readdirSync(folder).filter((name) => /^walk-\d+\.txt$/.test(name));

it('there are walks', () => {
  expect(walks.length).toBeGreaterThan(3);
});

it.each(walks)('%s', async (name) => {
  const seen = readFileSync(join(folder, name), 'utf8').trimEnd().split('\n');
  const harness = await VirtualTapeHarness.make();
  await harness.reset();
  const seed = Number(/\d+/.exec(name)?.[0]);
  // The last two lines are the cartridges, and the close is a step beyond the last.
  const steps = seen.length - (seen.at(-3)?.startsWith('close') === true ? 3 : 2);
  const walked = await walkTape(harness, seed, steps);
  await harness.dispose();
  expect(walked).toEqual(seen);
});
