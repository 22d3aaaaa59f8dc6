/**
 * The daemon over the virtual drive.
 */
import {
  describeTapeDaemon,
  describeTapeHands,
  describeTapeMethods,
} from '../../contract/tape-daemon.ts';
import { VirtualDaemonHands } from '../../support/tape-hands.ts';

describeTapeDaemon('virtual', (dataDir) => new VirtualDaemonHands(dataDir));
describeTapeHands('virtual', (dataDir) => new VirtualDaemonHands(dataDir));
describeTapeMethods('virtual', false, (dataDir) => new VirtualDaemonHands(dataDir));
describeTapeMethods('virtual changer', true, (dataDir) => {
  return new VirtualDaemonHands(dataDir, { hasChanger: true });
});
