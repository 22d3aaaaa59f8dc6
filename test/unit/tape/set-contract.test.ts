/**
 * Backups on cartridges over the virtual drive.
 */
import { describeTapeSet } from '../../contract/tape-set.ts';
import { VirtualTapeHarness } from '../../support/virtual-tape.ts';

describeTapeSet('virtual', () => VirtualTapeHarness.make());
