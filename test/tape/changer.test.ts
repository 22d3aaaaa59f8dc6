/**
 * `mtx` keeps the contract of changers, where this machine has one or SPINDLE_TEST_CHANGER says so.
 */
import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { describeChanger } from '../contract/changer.ts';
import { describeChangerUse } from '../contract/changer-use.ts';
import { changerPath, MtxChangerHarness } from '../support/mtx-changer.ts';

// A drive may have no changer: only then there is nothing to test.
const isAsked = process.env['SPINDLE_TEST_CHANGER'] !== undefined || existsSync('/dev/sg1');

if (isAsked) {
  describeChanger('mtx', () => MtxChangerHarness.make());
  describeChangerUse('mtx', () => MtxChangerHarness.make());
} else {
  it('this machine has no changer', () => {
    expect(existsSync(changerPath)).toBe(false);
  });
}
