/**
 * The daemon over the virtual drive.
 */
import { describeTapeDaemon } from '../../contract/tape-daemon.ts';
import { VirtualDaemonHands } from '../../support/tape-hands.ts';

describeTapeDaemon('virtual', (dataDir) => new VirtualDaemonHands(dataDir));
