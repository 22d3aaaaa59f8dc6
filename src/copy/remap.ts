/**
 * A disk from a copy: a new writable disk on the same root. No data moves, at any size.
 *
 * Seed: FIG. 14B on live data: the addresses are converted, not the blocks.
 */
import type { Disk, Labels } from '../disk/disk.ts';
import { checkName } from '../disk/names.ts';
import type { Effects } from '../pool/pools.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';
import { rootCountsResident } from './root-counts.ts';

export interface RemapRequest {
  /** Name of the new disk. */
  readonly disk: string;
  readonly labels?: Labels;
  readonly detectZeroes?: boolean;
  readonly reserveBytes?: number;
}

/**
 * @throws NAME_TAKEN, NAME_INVALID, POOL_POISONED, NOT_FOUND, COPY_INVALID; COPY_IN_USE while a
 *   dedicated copy is being filled
 */
export async function remap(
  copies: Copies,
  copy: Copy,
  request: RemapRequest,
  effects?: Effects<Disk>,
): Promise<Disk> {
  const { disks, names } = copies.options;
  const { pool, record } = copy;
  copy.liveRoot();
  checkName(request.disk, 'disk');
  pool.assertWritable();
  await rootCountsResident(() => [{ pool, root: copy.liveRoot() }]);
  // from here to the disk's row in one turn
  names.assertFree(request.disk);
  copy.assertServed();
  const root = copy.liveRoot();
  if (root.node !== 0) pool.nodeCounts.add(root.node);
  return disks.make(
    pool,
    {
      ...request,
      name: request.disk,
      capacityBytes: record.sourceCapacityBytes,
      root,
      lineage: record.lineage,
      origin: copy.id,
      keepsTombstones: true,
    },
    effects,
  );
}
