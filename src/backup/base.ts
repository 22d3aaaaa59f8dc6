/**
 * What a backup is built on: the request's level and base against the catalog and the history of
 * the copy.
 */
import { StorageError } from '../base/errors.ts';
import { type Checkpoint, checkpointOf } from '../copy/checkpoints.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { whyUnrelated } from '../copy/difference.ts';
import type { Backups } from './backups.ts';
import type { BackupRequest } from './begin-backup.ts';
import type { BaseChoice, NewCopy, NoBase } from './chains.ts';
import type { BackupRecord, BaseRef, TargetRecord } from './records.ts';

export interface Decision {
  /** Null: a full backup. */
  readonly base: BaseRef | null;
  /** Why it is full although an incremental was asked for. */
  readonly missing?: NoBase;
}

const reasons: Readonly<Record<NoBase, string>> = {
  'no-backup': 'no backup of it is on this target',
  incomplete: 'its backup, or what that is built on, is not complete',
  damaged: 'its backup, or what that is built on, is damaged',
  unrelated: 'its history and that of the copy are not known to be one',
  'not-older': 'it is not older than the copy',
  'block-size': 'it has blocks of another size',
  'chain-too-long': 'its chain has as many members as one may have',
};

/**
 * @throws BASE_MISSING with `reason`, if there is no base and `onMissingBase` does not say full;
 *   NOT_FOUND: a named base that is neither a backup nor a copy
 */
export function chooseBase(
  backups: Backups,
  copy: Copy,
  target: TargetRecord,
  request: BackupRequest,
): Decision {
  if (request.level !== 'incremental') return { base: null };
  const choice = choose(backups, copy, target, request.base);
  if ('base' in choice) {
    const { copyId, generation } = choice.base;
    return { base: { copyId, generation } };
  }
  const { reason } = choice;
  if (request.onMissingBase === 'full') return { base: null, missing: reason };
  const named = request.base === undefined ? {} : { base: request.base };
  const what = request.base ?? 'an earlier copy';
  throw new StorageError('BASE_MISSING', `${what} cannot be the base: ${reasons[reason]}`, {
    reason,
    target: target.name,
    disk: copy.record.diskName,
    ...named,
  });
}

function choose(
  backups: Backups,
  copy: Copy,
  target: TargetRecord,
  named: string | undefined,
): BaseChoice<BackupRecord> {
  const chains = backups.chains();
  const newCopy: NewCopy = {
    id: copy.id,
    diskId: copy.record.diskId,
    generation: copy.record.generation,
    blockSizeBytes: copy.blockSizeBytes,
  };
  const isOlder = (id: string): boolean => isAncestor(backups.options.copies, id, copy);
  if (named === undefined) return chains.newestBase(newCopy, target.id, isOlder);
  return chains.baseOf(newCopy, target.id, copyNamed(backups, named), isOlder);
}

/** The id of the copy that a backup or a copy of this name or id stands for. @throws NOT_FOUND */
function copyNamed(backups: Backups, ref: string): string {
  const backup = backups.find(ref) ?? backups.list().find(({ copyId }) => copyId === ref);
  if (backup !== undefined) return backup.copyId;
  const copy = backups.options.copies.find(ref);
  if (copy?.record.state === 'ready') return copy.id;
  throw new StorageError('NOT_FOUND', `there is no backup or copy ${ref}`, {
    field: 'base',
    base: ref,
  });
}

/**
 * Where a copy stood in the history of its disk: of a live one, or of what is left of one that was
 * deleted. Undefined if nothing is known of it.
 */
export function baseHistory(copies: Copies, copyId: string): Checkpoint | undefined {
  const copy = copies.byId(copyId);
  return copy === undefined ? copies.checkpoints.byId(copyId) : checkpointOf(copy);
}

/** True if the history of the copy is known to go through this one. */
function isAncestor(copies: Copies, copyId: string, copy: Copy): boolean {
  const checkpoint = baseHistory(copies, copyId);
  if (checkpoint === undefined) return false;
  return whyUnrelated(copy, { kind: 'checkpoint', checkpoint }) === undefined;
}
