/**
 * The daemon over the st driver of this machine's kernel.
 */
import {
  describeSwappedCartridge,
  describeTapeDaemon,
  describeTapeHands,
  describeTapeMethods,
} from '../contract/tape-daemon.ts';
import { StDaemonHands } from '../support/tape-hands.ts';

describeTapeMethods('st and mtx', true, () => new StDaemonHands({ hasChanger: true }));
describeTapeDaemon('st and mtx', () => new StDaemonHands({ hasChanger: true }));
describeTapeHands('st', () => new StDaemonHands());
describeSwappedCartridge(() => new StDaemonHands());
