/**
 * What copies hold of a pool, as disks need to know it: they do not know copies themselves.
 */
import type { Pool } from '../pool/pool.ts';

export interface CopyHolds {
  /** Copies in the pool, when nothing is left of deleted ones. */
  countIn(pool: Pool): Promise<number>;
  /** Room that is kept free for dedicated copies. */
  reservedBytesIn(pool: Pool): number;
}

export const noCopies: CopyHolds = {
  countIn: () => Promise.resolve(0),
  reservedBytesIn: () => 0,
};
