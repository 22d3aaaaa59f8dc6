/**
 * A restore of a whole group as it is asked for: where each disk goes, and the plan of each part.
 */
import { StorageError } from '../base/errors.ts';
import type { Copies } from '../copy/copies.ts';
import { checkName } from '../disk/names.ts';
import { isJsonObject, type Job, type Json } from '../job/job.ts';
import { planRestore, readPlan, type RestorePlan, type RestoreSource } from './restore-plan.ts';

/** Where a disk of the group goes. */
export interface GroupTarget {
  /** Name (at the freeze) or id of a disk of the group. */
  readonly disk: string;
  /** Name of the new disk (remap), or name or id of the working disk (write-back). */
  readonly to: string;
}

export interface GroupRestoreRequest {
  readonly method: 'remap' | 'write-back';
  /** Remap: a new disk is called NAME-DISK unless `disks` names it. */
  readonly name?: string;
  /** Those that go elsewhere than by default. */
  readonly disks?: readonly GroupTarget[];
  /** Remap from backups: pool of the new disks. */
  readonly pool?: string;
  /** Write-back: what was on a disk stays as SAFETYCOPY-DISK. */
  readonly safetyCopy?: string;
  readonly onlyDiffering?: boolean;
  readonly onDamage?: 'fail' | 'skip';
  readonly force?: boolean;
  readonly maxBytesPerSecond?: number;
}

/** A disk of the group: of a live copy, or of a backup. */
export interface GroupPart {
  readonly diskId: string;
  readonly diskName: string;
  readonly source: RestoreSource;
  /** Pool of what a remap makes, unless the request names one. */
  readonly pool?: string;
}

export interface PlacedPart extends GroupPart {
  readonly to: string;
  readonly safetyCopy?: string;
}

/**
 * Where each part goes. Pure.
 * @throws VALIDATION_FAILED (an entry that is no disk of the group, two to one disk, no `name`),
 *   NAME_INVALID
 */
export function placeParts(
  request: GroupRestoreRequest,
  parts: readonly GroupPart[],
): PlacedPart[] {
  const { method, name, disks = [], safetyCopy } = request;
  const wanted = new Map<string, string>();
  for (const [index, { disk, to }] of disks.entries()) {
    const field = `disks/${index}`;
    const part = parts.find(({ diskId, diskName }) => diskId === disk || diskName === disk);
    if (part === undefined || wanted.has(part.diskId)) {
      const what = part === undefined ? 'is no disk of the group' : 'is in the list twice';
      throw new StorageError('VALIDATION_FAILED', `${disk} ${what}`, { field, disk });
    }
    if (method === 'remap') checkName(to, `${field}/to`);
    wanted.set(part.diskId, to);
  }
  const seen = new Set<string>();
  return parts.map((part) => {
    const to = wanted.get(part.diskId) ?? defaultOf(request, part);
    if (seen.has(to)) {
      throw new StorageError('VALIDATION_FAILED', `two disks go to ${to}`, { field: 'disks' });
    }
    seen.add(to);
    if (method === 'remap') checkName(to, wanted.has(part.diskId) ? 'disks' : 'name');
    if (safetyCopy === undefined) return { ...part, to };
    const safety = `${safetyCopy}-${part.diskName}`;
    checkName(safety, 'safetyCopy');
    return { ...part, to, safetyCopy: safety };
  });

  function defaultOf(_: GroupRestoreRequest, part: GroupPart): string {
    if (method === 'write-back') return part.diskId;
    if (name !== undefined) return `${name}-${part.diskName}`;
    const message = `where does disk ${part.diskName} go: name or disks is needed`;
    throw new StorageError('VALIDATION_FAILED', message, { field: 'name' });
  }
}

/**
 * The plans of all parts, as planRestore makes them.
 * @throws VALIDATION_FAILED (two parts into one disk), and as planRestore
 */
export function planParts(
  copies: Copies,
  request: GroupRestoreRequest,
  placed: readonly PlacedPart[],
): RestorePlan[] {
  const { method, pool, onlyDiffering, onDamage, force } = request;
  const plans = placed.map((part) =>
    planRestore(
      copies,
      part.source,
      {
        method,
        disk: part.to,
        ...(pool === undefined ? {} : { pool }),
        ...(part.safetyCopy === undefined ? {} : { safetyCopy: part.safetyCopy }),
        ...(onlyDiffering === undefined ? {} : { onlyDiffering }),
        ...(onDamage === undefined ? {} : { onDamage }),
        ...(force === undefined ? {} : { force }),
      },
      part.pool,
    ),
  );
  const objects = new Set(plans.map(({ object }) => object));
  if (objects.size === plans.length) return plans;
  throw new StorageError('VALIDATION_FAILED', 'two disks go to one', { field: 'disks' });
}

/** @throws METADATA_INVALID */
export function readParts(job: Job): RestorePlan[] {
  const { parameters } = job;
  const parts = isJsonObject(parameters) ? parameters['parts'] : undefined;
  if (Array.isArray(parts) && parts.length > 0) {
    return parts.map((part: Json) => readPlan({ ...job, parameters: part }));
  }
  throw new StorageError('METADATA_INVALID', `job ${job.id} has no valid plan`, { job: job.id });
}
