/**
 * What the medium holds of a backup, and entries that say so: the medium is the truth.
 *
 * Bytes that are gone make an entry `incomplete`. An image that is shorter than its manifest says
 * makes it `damaged`: what is there of it can still be restored, and nothing is built on it.
 *
 * Invariants:
 *  1. Only an entry that counted as readable before the look is changed: what a job is making, and
 *     what was marked before a deletion, is theirs.
 *  2. A target that does not answer tells nothing, and neither do cartridges that were not read.
 */
import { isStorageError, StorageError } from '../base/errors.ts';
import { untilAborted } from '../base/mutex.ts';
import type { Target } from '../target/target.ts';
import type { Backups } from './backups.ts';
import { type ManifestFacts, readManifest } from './manifest.ts';
import type { BackupRecord, BackupState } from './records.ts';

export type OnMedium =
  | { readonly kind: 'whole'; readonly facts: ManifestFacts }
  | { readonly kind: 'short'; readonly facts: ManifestFacts; readonly reason: string }
  /** Something of it is there, but no image with its manifest. */
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'gone' };

/** Cost: reads its manifest. @throws TARGET_UNAVAILABLE; TARGET_INVALID (the manifest) */
export async function lookFor(medium: Target, name: string): Promise<OnMedium> {
  try {
    const facts = readManifest(await medium.readManifest(name));
    const sizeBytes = await medium.imageBytes(name);
    if (sizeBytes >= facts.mediumBytes) return { kind: 'whole', facts };
    const reason = `the image has ${sizeBytes} of ${facts.mediumBytes} bytes`;
    return { kind: 'short', facts, reason };
  } catch (error) {
    if (isStorageError(error, 'NOT_FOUND')) return { kind: 'gone' };
    if (isStorageError(error, 'BACKUP_INCOMPLETE')) return { kind: 'incomplete' };
    throw error;
  }
}

/** Looks for its bytes and makes the entry say what is there. In `matching`. @throws as lookFor */
export async function matchEntry(
  backups: Backups,
  medium: Target,
  record: BackupRecord,
): Promise<OnMedium> {
  const { state: before } = record;
  const found = await lookFor(medium, record.mediumName);
  const wasReadable = before === 'complete' || before === 'damaged';
  if (!wasReadable || medium.capabilities.appendOnly) return found;
  const state = stateAfter(before, found);
  if (state !== before) {
    await backups.saveTogether([{ record, to: { state } }]);
  }
  return found;
}

function stateAfter(before: BackupState, { kind }: OnMedium): BackupState {
  if (kind === 'whole') return before;
  return kind === 'short' ? 'damaged' : 'incomplete';
}

/** Runs what reads these backups. If it fails as bytes are not there, the entries say so. */
export async function reading<T>(
  backups: Backups,
  records: readonly BackupRecord[],
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const codes = ['NOT_FOUND', 'BACKUP_INCOMPLETE', 'IMAGE_TRUNCATED'] as const;
    if (!codes.some((code) => isStorageError(error, code))) throw error;
    for (const record of records) {
      // whoever deletes by force waits there for the end of this job
      await untilAborted(matchAlone(backups, record), signal);
    }
    throw error;
  }
}

async function matchAlone(backups: Backups, record: BackupRecord): Promise<void> {
  const { targets } = backups.options;
  try {
    const medium = targets.medium(targets.get(record.targetId));
    await backups.matching(record.targetId, () => matchEntry(backups, medium, record));
  } catch (error) {
    // the error of the job counts
    if (!(error instanceof StorageError)) throw error;
  }
}
