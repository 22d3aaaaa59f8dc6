/**
 * The st driver of this machine's kernel keeps the contract of tape drives.
 */
import { describeTapeDrive } from '../contract/tape-drive.ts';
import { StTapeHarness } from '../support/st-tape.ts';

describeTapeDrive('st', () => StTapeHarness.make());
