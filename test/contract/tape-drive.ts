/**
 * The contract of tape drives as tests: what the st driver does, trap by trap. Over the virtual
 * drive in `npm test`, over a real driver in `npm run test:tape`.
 *
 *     describeTapeDrive('virtual', async () => harness);
 */
import { TapeBench } from './tape-bench.ts';
import type { TapeHarness } from './tape-bench.ts';
import { describeChange, describeEnd } from './tape-drive-end.ts';
import { describeFilemarks, describePositions, describeReading } from './tape-drive-motion.ts';
import { describeAsynchronous, describeOpening, describeRecords } from './tape-drive-records.ts';

export function describeTapeDrive(name: string, make: () => Promise<TapeHarness>): void {
  const bench = TapeBench.use(make);
  describeOpening(name, bench);
  describeRecords(name, bench);
  describeAsynchronous(name, bench);
  describeFilemarks(name, bench);
  describeReading(name, bench);
  describePositions(name, bench);
  describeEnd(name, bench);
  describeChange(name, bench);
}
