/**
 * The pool that a new store begins with, so that the daemon serves at once.
 *
 * It is made once in the life of a store: a row of `store`, committed with it, remembers that, and
 * an operator who deletes it does not get it again.
 */
import type { ErrorCode } from '../base/errors.ts';
import { StorageError, isStorageError } from '../base/errors.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import type { Pools } from '../pool/pools.ts';

const KEY = { key: 'default_pool' };

/** Refusals that another size may help against. */
const aboutSize: readonly ErrorCode[] = ['HOST_FULL', 'VALIDATION_FAILED', 'POOL_TOO_LARGE'];
const SETTING = 'SPINDLE_POOL_BYTES';

export interface DefaultPool {
  readonly path: string;
  readonly sizeBytes: number;
}

/**
 * Makes the pool `default`, if the store never had one. Cost: the room is taken on the host.
 * @returns whether it was made
 * @throws as Pools.create; a message about the size names SPINDLE_POOL_BYTES, and so does the
 *   detail `setting` if no pool can have it
 */
export async function makeDefaultPool(
  pools: Pools,
  store: MetadataStore,
  { path, sizeBytes }: DefaultPool,
): Promise<boolean> {
  const [made] = await store.rows('store', KEY);
  if (made !== undefined || pools.list().length > 0) return false;
  const mark: RowChange = { table: 'store', key: KEY, row: { value: 'made' } };
  try {
    await pools.create({ name: 'default', files: [{ path, sizeBytes }] }, () => [mark]);
    return true;
  } catch (error) {
    if (!isStorageError(error) || !aboutSize.includes(error.code)) throw error;
    throw new StorageError(
      error.code,
      `the default pool of ${sizeBytes} bytes cannot be made: ${error.message}; ` +
        `${SETTING} sets another size`,
      // room may come; a size that no pool can have is a setting that cannot be used
      error.code === 'HOST_FULL' ? error.details : { ...error.details, setting: SETTING },
      error,
    );
  }
}
