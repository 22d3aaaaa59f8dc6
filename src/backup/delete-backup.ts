/**
 * Deleting a backup: from its target, then from the catalog.
 *
 * What is built on it goes first, newest first, or forbids it: a crash between leaves shorter
 * chains, never one with a hole.
 *
 * Invariants:
 *  1. No backup is removed that another, which stays, can only be restored with.
 *  2. An entry is marked incomplete, durably, before the first of its bytes is removed.
 */
import { isStorageError, StorageError } from '../base/errors.ts';
import type { Backups } from './backups.ts';
import type { BackupRecord } from './records.ts';

export interface DeletionOptions {
  /** Ends the jobs that use what is deleted, instead of refusing. */
  readonly force?: boolean;
  /** Takes along what is built on it, instead of refusing. */
  readonly cascade?: boolean;
}

/**
 * What would be deleted, in this order; the named one is the last. Reads memory only.
 * @throws NOT_FOUND; BACKUP_NEEDED with `neededBy`, unless it cascades
 */
export function planDeletion(
  backups: Backups,
  ref: string,
  { cascade = false }: DeletionOptions = {},
): readonly BackupRecord[] {
  const record = backups.get(ref);
  // a deletion that a crash has cut may have left an entry whose bytes are all there
  const neededBy = backups.chains().neededBy(new Set([record.id]), cascade);
  if (neededBy.length > 0 && !cascade) {
    const message = `backup ${record.name} is what others are built on: ${neededBy.length}`;
    throw new StorageError('BACKUP_NEEDED', message, {
      backup: record.name,
      neededBy: neededBy.map(({ id, name }) => ({ id, name })),
    });
  }
  return [...neededBy, record];
}

/**
 * A crash or failure between leaves an incomplete entry that can be deleted again.
 * @throws NOT_FOUND, BACKUP_NEEDED, BACKUP_IN_USE, TARGET_UNAVAILABLE (of the one it happened at
 *   nothing has changed)
 */
export async function deleteBackup(
  backups: Backups,
  ref: string,
  options: DeletionOptions = {},
): Promise<void> {
  const { id, targetId } = backups.get(ref);
  for (;;) {
    const [next] = planDeletion(backups, id, options);
    if (next === undefined) return;
    await backups.endUsers(next, options.force === true);
    const isGone = await backups.matching(targetId, () => deleteOne(backups, next, options));
    if (isGone && next.id === id) return;
  }
}

/** False: something was built on it meanwhile, which has to go before. */
async function deleteOne(
  backups: Backups,
  record: BackupRecord,
  { force = false, cascade = false }: DeletionOptions,
): Promise<boolean> {
  if (backups.find(record.id) !== record) return true;
  const { targets } = backups.options;
  const medium = targets.medium(targets.get(record.targetId));
  await medium.readManifest(record.mediumName).catch((error: unknown) => {
    if (isStorageError(error, 'TARGET_UNAVAILABLE')) throw error;
  });
  await backups.endUsers(record, force);
  if (backups.find(record.id) !== record) return true;
  // one turn from here to the mark: nobody builds on it, or begins to read it, in between
  const [first] = planDeletion(backups, record.id, { cascade });
  if (first !== record) return false;
  record.state = 'incomplete';
  await backups.save(record);
  await medium.remove(record.mediumName).catch((error: unknown) => {
    if (!isStorageError(error, 'NOT_FOUND')) throw error;
  });
  await backups.forget(record);
  return true;
}
