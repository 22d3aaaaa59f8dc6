/**
 * What happens when a source is about to update blocks that it owes a dedicated copy.
 *
 * `redirect`: nothing: the source writes elsewhere and the copier still finds the old block. Only
 * where the pool is full, the block is brought over so that the source can write at all.
 * `copy-first` (FIG. 4): the block is brought over first (its data synced, the settled mark
 * committed); then disk/write.ts commits the source's new birth and overwrites in place, if nobody
 * else holds the block, when those who read it have left.
 *
 * If a block cannot be preserved: `fail-write` fails the write; `invalidate-copy` gives the copy
 * up: durably, before anything is overwritten.
 */
import type { StorageError } from '../../base/errors.ts';
import { isStorageError } from '../../base/errors.ts';
import type { Disk, OwedBlock } from '../../disk/disk.ts';
import type { Copies } from '../copies.ts';
import type { Copy } from '../copy.ts';
import type { Dedicated } from './dedicated.ts';
import { settle } from './settle.ts';

/** Sets or clears the disk's hook. @param copies all that there are */
export function watchOverwrites(copies: Copies, disk: Disk, all: readonly Copy[]): void {
  const owns = ({ record, dedicated }: Copy): boolean =>
    record.diskId === disk.id &&
    record.state === 'ready' &&
    (dedicated?.preserve === 'copy-first' || dedicated?.owed?.pool === disk.pool);
  const found = all.filter(owns);
  disk.beforeOverwrite =
    found.length === 0 ? undefined : (blocks, isFull) => preserve(copies, found, blocks, isFull);
}

async function preserve(
  copies: Copies,
  all: readonly Copy[],
  blocks: readonly OwedBlock[],
  isFull: boolean,
): Promise<boolean> {
  let isAsked = false;
  for (const copy of all) {
    const { dedicated } = copy;
    if (dedicated === undefined || copy.isDeleted || copy.record.state === 'invalid') continue;
    if (!isFull && dedicated.preserve !== 'copy-first') continue;
    isAsked = true;
    await preserveFor(copies, copy, dedicated, blocks, isFull);
  }
  return isAsked;
}

async function preserveFor(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  blocks: readonly OwedBlock[],
  isFull: boolean,
): Promise<void> {
  const source = dedicated.owed?.pool;
  if (source === undefined) return;
  try {
    await settle(copies, copy, { kind: 'blocks', blocks });
  } catch (error) {
    if (isStorageError(error, 'NOT_FOUND') || isStorageError(error, 'COPY_INVALID')) return;
    // the write cannot be durable either
    const isOwn = source.poison !== undefined || isStorageError(error, 'METADATA_FULL');
    if (isOwn || isStorageError(error, 'SHUTTING_DOWN')) throw error;
    if (!isStorageError(error)) throw error;
    if (dedicated.onPreserveError === 'invalidate-copy') {
      await invalidate(copies, copy, dedicated, error);
    } else if (!isFull) {
      throw error.with({ copy: copy.name, onPreserveError: 'fail-write' });
    }
  }
}

/** Gives the copy up, durably: what its source's pool holds for it is let go. */
async function invalidate(
  copies: Copies,
  copy: Copy,
  dedicated: Dedicated,
  error: StorageError,
): Promise<void> {
  await dedicated.exclusively(async () => {
    const { owed } = dedicated;
    if (copy.isDeleted || copy.record.state === 'invalid' || owed === undefined) return;
    // no batch of its own pool holds the row as it was
    if (copy.pool.poison === undefined && !copy.pool.isReadOnly) await copy.pool.flush();
    owed.pool.assertWritable();
    const { usedBlocks } = copy;
    copy.record.state = 'invalid';
    dedicated.problem = { code: error.code, detail: error.message, usedBlocks };
    dedicated.owed = undefined;
    dedicated.invalidIn = owed.pool;
    dedicated.releaseArena(copy.pool);
    copies.options.disks.reclaimer(owed.pool).add(owed.root);
    owed.pool.addRow(copy.row());
    copies.updateDiskOf(copy);
    await owed.pool.flush();
    dedicated.invalidIn = undefined;
  });
}
