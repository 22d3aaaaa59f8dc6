/**
 * The beginning of a dedicated copy (step 1305): room for all its blocks is reserved, and all of
 * them are owed by the source.
 *
 * The reservation is the count of owed blocks in the copy's row: so it begins in the transaction
 * that makes the copy, and shrinks in each that brings blocks over. Nobody else is given the room:
 * whoever allocates leaves free what is reserved for others.
 */
import { StorageError } from '../../base/errors.ts';
import type { Disk } from '../../disk/disk.ts';
import type { Pool } from '../../pool/pool.ts';
import type { Copies } from '../copies.ts';
import { Dedicated, type OnPreserveError, type Preserve } from './dedicated.ts';

export interface DedicatedRequest {
  /** Name or id; the source's by default. */
  readonly pool?: string | undefined;
  readonly preserve?: Preserve | undefined;
  readonly onPreserveError?: OnPreserveError | undefined;
  /** Of the background copier; none by default. */
  readonly maxBytesPerSecond?: number | undefined;
}

/** @throws NOT_FOUND; POOL_MISMATCH if its blocks have another size; POOL_POISONED */
export function ownPool(copies: Copies, disk: Disk, { pool: ref }: DedicatedRequest): Pool {
  const pool = ref === undefined ? disk.pool : copies.options.pools.get(ref);
  pool.assertWritable();
  if (pool.blockSizeBytes === disk.blockSizeBytes) return pool;
  throw new StorageError(
    'POOL_MISMATCH',
    `pool ${pool.name} has blocks of ${pool.blockSizeBytes} bytes, disk ${disk.name} of ` +
      `${disk.blockSizeBytes}`,
    { pool: pool.name, field: 'pool' },
  );
}

/** Waits for pending frees if they are needed. @throws POOL_FULL */
export async function makeRoom(pool: Pool, disk: Disk): Promise<void> {
  const count = disk.root.mapped;
  await pool.makeRoom(count, pool.reservedBytes + count * pool.blockSizeBytes);
}

/**
 * If it does not throw, the room can be reserved in the same turn.
 * @throws POOL_FULL, NOT_FOUND: the pool was deleted meanwhile
 */
export function assertRoom(copies: Copies, pool: Pool, disk: Disk): void {
  const count = disk.root.mapped;
  copies.options.pools.get(pool.id);
  pool.assertWritable();
  if (pool.reservedBytes + count * pool.blockSizeBytes <= pool.freeBytes) return;
  throw pool.fullError(count);
}

/** The data block table at the beginning: everything is owed. */
export function allOwed(disk: Disk, request: DedicatedRequest): Dedicated {
  const { preserve = 'redirect', onPreserveError = 'fail-write', maxBytesPerSecond } = request;
  const { pool, root } = disk;
  const owed = root.node === 0 ? undefined : { pool, root };
  return new Dedicated({ preserve, onPreserveError, maxBytesPerSecond, owed });
}
