/**
 * Backups on cartridges over the st driver of this machine's kernel.
 */
import { describeTapeSet } from '../contract/tape-set.ts';
import { StTapeHarness } from '../support/st-tape.ts';

describeTapeSet('st', () => StTapeHarness.make());
