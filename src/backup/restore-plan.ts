/**
 * A restore as it is asked for and remembered: request, parameters, checks before anything happens.
 */
import { StorageError } from '../base/errors.ts';
import { blocksFor } from '../base/units.ts';
import type { Copies } from '../copy/copies.ts';
import { checkName } from '../disk/names.ts';
import { assertWithinQuota } from '../disk/quota.ts';
import { isJsonObject, type Job, type JsonObject } from '../job/job.ts';
import type { Pool } from '../pool/pool.ts';

export type RestoreMethod = 'copy' | 'remap' | 'write-back';

export interface RestoreRequest {
  readonly method: RestoreMethod;
  /** New disk (remap) or working disk (write-back). */
  readonly disk?: string;
  /** New copy (copy). */
  readonly copy?: string;
  readonly pool?: string;
  readonly safetyCopy?: string;
  readonly onlyDiffering?: boolean;
  readonly onDamage?: 'fail' | 'skip';
  readonly keepPartial?: boolean;
  readonly force?: boolean;
  readonly maxBytesPerSecond?: number;
}

/** Where the blocks come from. */
export type RestoreSource =
  | { readonly kind: 'backup'; readonly id: string }
  | { readonly kind: 'copy'; readonly id: string }
  | { readonly kind: 'upload' };

/** What a job needs to begin, and to begin again. */
export interface RestorePlan {
  readonly source: RestoreSource;
  readonly method: RestoreMethod;
  /** Name of what is made (remap, copy), or id of the working disk (write-back). */
  readonly object: string;
  /** Id of the pool. */
  readonly pool: string;
  readonly safetyCopy: string | null;
  readonly onlyDiffering: boolean;
  readonly onDamage: 'fail' | 'skip';
  readonly keepPartial: boolean;
  readonly force: boolean;
}

/** @throws VALIDATION_FAILED, NOT_FOUND, NAME_TAKEN, NAME_INVALID, DISK_IN_USE, DISK_FENCED */
export function planRestore(
  copies: Copies,
  source: RestoreSource,
  request: RestoreRequest,
  defaultPool?: string,
): RestorePlan {
  const { disks } = copies.options;
  const field = request.method === 'copy' ? 'copy' : 'disk';
  const name = request.method === 'copy' ? request.copy : request.disk;
  if (name === undefined) {
    const message = `method ${request.method} needs the name of a ${field}`;
    throw new StorageError('VALIDATION_FAILED', message, { field });
  }
  if (request.safetyCopy !== undefined) assertFree(copies, request.safetyCopy, 'safetyCopy');
  let pool: Pool;
  let object = name;
  if (request.method === 'write-back') {
    const disk = disks.get(name);
    if (request.force !== true) disk.assertUnused();
    disk.assertAccessible();
    ({ pool } = disk);
    object = disk.id;
  } else {
    checkName(name, field);
    assertFree(copies, name, field);
    pool = disks.poolFor(request.pool ?? defaultPool);
  }
  pool.assertWritable();
  return {
    source,
    method: request.method,
    object,
    pool: pool.id,
    safetyCopy: request.safetyCopy ?? null,
    onlyDiffering: request.onlyDiffering ?? false,
    onDamage: request.onDamage ?? 'fail',
    keepPartial: request.keepPartial ?? false,
    force: request.force ?? false,
  };
}

function assertFree(copies: Copies, name: string, field: string): void {
  checkName(name, field);
  copies.options.names.assertFree(name, { field });
}

/** @throws POOL_FULL if the pool cannot hold so much beside what it has */
export function assertRoom(copies: Copies, pool: Pool, usedBytes: number): void {
  const reclaiming = copies.options.disks.reclaimer(pool).pendingBlocks * pool.blockSizeBytes;
  const free = pool.freeBytes + pool.freeingBytes + reclaiming - pool.reservedBytes;
  if (usedBytes <= free) return;
  throw pool.fullError(blocksFor(usedBytes, pool.blockSizeBytes));
}

/**
 * What comes back may not take the working disk above its quota.
 * @throws QUOTA_EXCEEDED
 */
export function assertQuota(copies: Copies, plan: RestorePlan, usedBytes: number): void {
  if (plan.method !== 'write-back') return;
  const disk = copies.options.disks.get(plan.object);
  if (disk.quotaBytes !== null) assertWithinQuota(disk, disk.quotaBytes, 0, usedBytes);
}

export function planJson(plan: RestorePlan): JsonObject {
  return { ...plan, source: { ...plan.source } };
}

/** @throws METADATA_INVALID */
export function readPlan(job: Job): RestorePlan {
  const { parameters } = job;
  if (isJsonObject(parameters)) {
    const { source, method, object, pool, onDamage, safetyCopy } = parameters;
    const knownMethod = method === 'copy' || method === 'remap' || method === 'write-back';
    const texts = typeof object === 'string' && typeof pool === 'string';
    const from = source === undefined || !isJsonObject(source) ? undefined : readSource(source);
    if (knownMethod && texts && from !== undefined) {
      return {
        source: from,
        method,
        object,
        pool,
        safetyCopy: typeof safetyCopy === 'string' ? safetyCopy : null,
        onlyDiffering: parameters['onlyDiffering'] === true,
        onDamage: onDamage === 'skip' ? 'skip' : 'fail',
        keepPartial: parameters['keepPartial'] === true,
        force: parameters['force'] === true,
      };
    }
  }
  throw new StorageError('METADATA_INVALID', `job ${job.id} has no valid plan`, { job: job.id });
}

function readSource(source: JsonObject): RestoreSource | undefined {
  const { kind, id } = source;
  if (kind === 'upload') return { kind };
  if ((kind === 'backup' || kind === 'copy') && typeof id === 'string') return { kind, id };
  return undefined;
}
