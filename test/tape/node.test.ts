/**
 * Device nodes of the real driver that must not be taken.
 */
import { expect, it } from 'vitest';
import { isTapeError } from '../../src/tape/drive.ts';
import { stDevice } from '../../src/tape/st-drive.ts';

it('the node that rewinds at the close is refused', async () => {
  const path = (process.env['SPINDLE_TEST_TAPE'] ?? '/dev/nst0').replace('nst', 'st');
  const error = await stDevice(path)
    .open('write')
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  expect(isTapeError(error, 'EINVAL')).toBe(true);
});
