/**
 * The rows of a pool's files and extents, and what they must satisfy. Pure.
 *
 * Extents, in order, cover blocks 0 … total - 1 without gaps; each lies within the recorded size of
 * its file; no two share a block of a file.
 */
import { StorageError } from '../base/errors.ts';
import { MAX_POOL_BLOCKS } from '../base/units.ts';
import type { FileSpec } from './file-header.ts';
import { blocksInFile } from './format.ts';

/** A row of pool_extents: `blocks` blocks from `firstBlock`, from block `fileBlock` of a file. */
export interface Extent {
  readonly firstBlock: number;
  blocks: number;
  readonly file: number;
  readonly fileBlock: number;
  /** Committed count of blocks from the start that may have been written. */
  highWater: number;
}

/** A row of pool_files. */
export interface RecordedFile extends FileSpec {
  readonly kind: 'file' | 'device';
}

export interface PoolLayout {
  readonly files: readonly RecordedFile[];
  readonly extents: readonly Extent[];
}

/**
 * Sizes and paths of new and larger files.
 *
 * @param known the files that the pool has
 * @throws VALIDATION_FAILED, POOL_TOO_LARGE
 */
export function checkSpecs(
  specs: readonly FileSpec[],
  known: readonly FileSpec[],
  blockSizeBytes: number,
  totalBlocks: number,
): void {
  let total = totalBlocks;
  const seen = new Set<string>();
  for (const { path, sizeBytes } of specs) {
    if (seen.has(path)) throw refused('files', `${path} is given twice`);
    seen.add(path);
    const present = known.find((file) => file.path === path)?.sizeBytes ?? 0;
    const blocks = Number.isSafeInteger(sizeBytes) ? blocksInFile(sizeBytes, blockSizeBytes) : 0;
    if (blocks < 1) {
      throw refused('files', `${path} must hold at least one block after its first MiB`);
    }
    if (sizeBytes < present) {
      throw refused('files', `${path} has ${present} bytes; pool files cannot shrink`);
    }
    total += blocks - blocksInFile(present, blockSizeBytes);
  }
  if (total > MAX_POOL_BLOCKS) {
    throw new StorageError(
      'POOL_TOO_LARGE',
      `${total} blocks; a pool has at most ${MAX_POOL_BLOCKS}: take larger blocks or two pools`,
      { blocks: total, maxBlocks: MAX_POOL_BLOCKS },
    );
  }
}

/** @throws METADATA_INVALID unless the extents fit one another and their files */
export function checkExtents(
  layout: PoolLayout & { readonly poolId: string; readonly blockSizeBytes: number },
): void {
  const { files, extents, poolId, blockSizeBytes } = layout;
  const usedInFile = new Map<number, number>();
  let next = 0;
  for (const [index, extent] of extents.entries()) {
    const file = files[extent.file];
    const inFile = file === undefined ? 0 : blocksInFile(file.sizeBytes, blockSizeBytes);
    const fits = extent.blocks > 0 && extent.fileBlock + extent.blocks <= inFile;
    const apart = extent.fileBlock >= (usedInFile.get(extent.file) ?? 0);
    const marked = extent.highWater >= 0 && extent.highWater <= extent.blocks;
    if (extent.firstBlock !== next || !fits || !apart || !marked) {
      throw new StorageError('METADATA_INVALID', `extent ${index} of pool ${poolId} does not fit`, {
        pool: poolId,
        extent: index,
      });
    }
    usedInFile.set(extent.file, extent.fileBlock + extent.blocks);
    next += extent.blocks;
  }
}

export function refused(field: string, message: string): StorageError {
  return new StorageError('VALIDATION_FAILED', message, { field });
}
