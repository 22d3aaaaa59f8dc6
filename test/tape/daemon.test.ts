/**
 * The daemon over the st driver of this machine's kernel.
 */
import { describeSwappedCartridge, describeTapeDaemon } from '../contract/tape-daemon.ts';
import { StDaemonHands } from '../support/tape-hands.ts';

describeTapeDaemon('st', () => new StDaemonHands());
describeSwappedCartridge(() => new StDaemonHands());
