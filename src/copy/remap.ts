/**
 * A disk from a copy: a new writable disk on the same root. No data moves, at any size.
 *
 * Seed: FIG. 14B on live data: the addresses are converted, not the blocks.
 */
import { isStorageError } from '../base/errors.ts';
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
 * The same, asked for as the creation of a disk: the same request again answers the disk there is,
 * also when the copy was renamed or deleted meanwhile.
 * @throws as remap
 */
export async function createFromCopy(
  copies: Copies,
  ref: string,
  request: RemapRequest,
  effects?: Effects<Disk>,
): Promise<{ disk: Disk; created: boolean }> {
  const { disks } = copies.options;
  const madeBefore = () =>
    disks.madeBy(request.disk, (disk) => isMadeBy(disk, copies, ref, request));
  const there = await madeBefore();
  if (there !== undefined) return { disk: there, created: false };
  const copy = copies.get(ref);
  const creation = creationOf(request, copy.name);
  try {
    return { disk: await remap(copies, copy, { ...request, creation }, effects), created: true };
  } catch (error) {
    // of two at once one is first
    const other = isStorageError(error, 'NAME_TAKEN') ? await madeBefore() : undefined;
    if (other === undefined) throw error;
    return { disk: other, created: false };
  }
}

/** The parameters of a creation; which copy it was also says the disk's `origin`. */
function creationOf(request: RemapRequest, fromCopy: string): string {
  const { labels = {}, detectZeroes = true, reserveBytes = 0 } = request;
  return JSON.stringify({ fromCopy, labels, detectZeroes, reserveBytes });
}

/** True if the reference means, or meant when the disk was made, the copy it was made from. */
function isMadeBy(disk: Disk, copies: Copies, ref: string, request: RemapRequest): boolean {
  const { creation, origin } = disk.record;
  if (creation === '' || origin === null) return false;
  const made: unknown = JSON.parse(creation);
  const isFromCopy = typeof made === 'object' && made !== null && 'fromCopy' in made;
  if (!isFromCopy || typeof made.fromCopy !== 'string') return false;
  const { fromCopy } = made;
  if (creation !== creationOf(request, fromCopy)) return false;
  const live = copies.find(ref);
  return live === undefined ? ref === origin || ref === fromCopy : live.id === origin;
}

/**
 * @throws NAME_TAKEN, NAME_INVALID, POOL_POISONED, NOT_FOUND, COPY_INVALID; COPY_IN_USE while a
 *   dedicated copy is being filled
 */
export async function remap(
  copies: Copies,
  copy: Copy,
  request: RemapRequest & { readonly creation?: string },
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
