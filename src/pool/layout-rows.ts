/**
 * The rows that say of what files and extents a pool is made, and how far each may be written.
 */
import { defined } from '../base/assert.ts';
import type { Allocator } from './allocator.ts';
import type { RowChange } from './metadata-store.ts';
import type { PoolFiles } from './pool-files.ts';

interface Parts {
  readonly id: string;
  readonly files: PoolFiles;
  readonly allocator: Allocator;
}

/** Rows of all files and extents as they are now. */
export function layoutRows(pool: Parts): RowChange[] {
  const files = pool.files.files.map(({ path, sizeBytes, kind }, file): RowChange => ({
    table: 'pool_files',
    key: { pool: pool.id, file },
    row: { path, size_bytes: sizeBytes, kind },
  }));
  const extents = pool.files.extents.map((extent, index) => {
    const { highWater } = pool.allocator.extents[index] ?? extent;
    return extentRow(pool, index, { blocks: extent.blocks, highWater });
  });
  return [...files, ...extents];
}

/** @param o how long the extent is, and its high-water mark */
export function extentRow(
  pool: Parts,
  index: number,
  o: { readonly blocks: number; readonly highWater: number },
): RowChange {
  const place = defined(pool.files.extents[index], `extent ${index}`);
  return {
    table: 'pool_extents',
    key: { pool: pool.id, extent: index },
    row: {
      first_block: place.firstBlock,
      blocks: o.blocks,
      file: place.file,
      file_block: place.fileBlock,
      high_water: o.highWater,
    },
  };
}
