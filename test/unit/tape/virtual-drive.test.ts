/**
 * The virtual drive keeps the contract of tape drives.
 */
import { describeTapeDrive } from '../../contract/tape-drive.ts';
import { VirtualTapeHarness } from '../../support/virtual-tape.ts';

describeTapeDrive('virtual', () => VirtualTapeHarness.make());
