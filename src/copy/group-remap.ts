/**
 * New disks from copies, of any pools, all in one transaction: a group back as disks of its own.
 * No data moves. What remap.ts does for one.
 */
import { type Deferred, deferred } from '../base/mutex.ts';
import type { Disk, Labels } from '../disk/disk.ts';
import { checkName, nameTaken } from '../disk/names.ts';
import type { Effects } from '../pool/pools.ts';
import { Pool } from '../pool/pool.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';
import { rootCountsResident } from './root-counts.ts';

export interface NewDisk {
  readonly copy: Copy;
  /** Name of the new disk. */
  readonly disk: string;
  readonly labels?: Labels;
}

/**
 * All disks, or none. @returns them in the order of the request
 * @throws NAME_TAKEN, NAME_INVALID, NOT_FOUND (a copy), POOL_POISONED, METADATA_FULL
 */
export async function remapTogether(
  copies: Copies,
  wanted: readonly NewDisk[],
  effects?: Effects<readonly Disk[]>,
): Promise<readonly Disk[]> {
  for (const { disk, copy } of wanted) {
    checkName(disk, 'disk');
    copy.pool.assertWritable();
  }
  await rootCountsResident(() =>
    wanted.map(({ copy }) => ({ pool: copy.pool, root: copy.liveRoot() })),
  );
  // from here to the flush in one turn
  assertFree(copies, wanted);
  const disks: Disk[] = [];
  const durable: Deferred<undefined> = deferred<undefined>();
  const made = wanted.map((each) => makeOne(copies, each, disks, durable));
  const pools = [...new Set(wanted.map(({ copy }) => copy.pool))];
  Pool.flushTogether(pools, effects?.(disks) ?? []).then(() => {
    durable.resolve(undefined);
  }, durable.reject);
  const ends = await Promise.allSettled(made);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return disks;
}

async function makeOne(
  copies: Copies,
  { copy, disk: name, labels }: NewDisk,
  disks: Disk[],
  durable: Deferred<undefined>,
): Promise<Disk> {
  const { pool, record } = copy;
  if (record.root.node !== 0) pool.nodeCounts.add(record.root.node);
  const { sourceCapacityBytes: capacityBytes, root, lineage } = record;
  const o = { name, capacityBytes, root, lineage, origin: copy.id, keepsTombstones: true };
  return copies.options.disks.make(
    pool,
    labels === undefined ? o : { ...o, labels },
    (disk) => {
      disks.push(disk);
      return [];
    },
    () => durable.promise,
  );
}

/** @throws NAME_TAKEN, NOT_FOUND */
function assertFree({ options }: Copies, wanted: readonly NewDisk[]): void {
  const seen = new Map<string, string>();
  for (const { disk: name, copy } of wanted) {
    options.names.assertFree(name);
    const id = seen.get(name);
    if (id !== undefined) throw nameTaken(name, { id });
    seen.set(name, copy.id);
    copy.liveRoot();
    copy.pool.assertWritable();
  }
}
