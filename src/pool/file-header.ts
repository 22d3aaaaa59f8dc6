/**
 * Taking possession of pool files: makes them with a header, or opens and checks theirs.
 *
 * Creation: an empty file → header (both copies), synced → the file's full size, synced. So a
 * creation that was cut leaves an empty file, zeros no longer than the header area, or a file with
 * a header of a pool that its store does not know; the next creation takes all three over.
 */
import { isZero } from '../base/bytes.ts';
import { errnoOf, isStorageError, StorageError } from '../base/errors.ts';
import type { BlockFile, BlockFileSystem } from './block-file.ts';
import type { HeaderState, PoolHeader } from './format.ts';
import { decodeHeaderArea, encodeHeader, HEADER_AREA_BYTES, headerPosition } from './format.ts';

export interface FileSpec {
  readonly path: string;
  readonly sizeBytes: number;
}

/** Says whether the file with this header is left from a creation that was cut. */
export type IsAbandoned = (header: PoolHeader) => boolean;

/**
 * A new file of a pool, at its full size and with its header, durable.
 *
 * @throws POOL_FILE_EXISTS, POOL_FILE_FOREIGN (device), POOL_FILE_LOCKED, HOST_FULL,
 *   VALIDATION_FAILED, POOL_UNAVAILABLE; what it made is then removed
 */
export async function createWithHeader(
  fs: BlockFileSystem,
  spec: FileSpec,
  header: PoolHeader,
  preallocate: boolean,
  isAbandoned: IsAbandoned,
): Promise<BlockFile> {
  const file = await claim(fs, spec, isAbandoned);
  try {
    const copy = encodeHeader(header);
    await file.write([copy, copy], 0);
    await file.sync();
    await file.grow(spec.sizeBytes, preallocate);
    await file.sync();
    return file;
  } catch (error) {
    await discard(fs, file);
    throw asUnavailable(spec.path, error);
  }
}

/** Removes a file, or the header of a device, and closes it. A failure to remove is not told. */
export async function discard(fs: BlockFileSystem, file: BlockFile): Promise<void> {
  // what stays is taken over by the next creation; the error that led here is the one to tell
  await removeFile(fs, file).catch(() => undefined);
  await file.close();
}

/** Removes a file, or the header of a device. Does not close it. @throws POOL_UNAVAILABLE */
export async function removeFile(fs: BlockFileSystem, file: BlockFile): Promise<void> {
  if (file.kind === 'file') {
    await fs.remove(file.path);
    return;
  }
  try {
    await file.write([Buffer.alloc(HEADER_AREA_BYTES)], 0);
    await file.sync();
  } catch (error) {
    throw asUnavailable(file.path, error);
  }
}

/**
 * Opens a file of a pool and checks that it is this one.
 *
 * @param expected with the epoch of the metadata
 * @param oldestEpoch the lowest that the header may have: an older file was put in its place
 * @returns the file, and the epoch of its header
 * @throws POOL_UNAVAILABLE, POOL_FILE_LOCKED, POOL_FILE_INVALID, POOL_FILE_FOREIGN,
 *   METADATA_OLDER_THAN_POOL, DATA_UNREADABLE
 */
export async function openWithHeader(
  fs: BlockFileSystem,
  spec: FileSpec,
  expected: PoolHeader,
  oldestEpoch: number,
): Promise<{ file: BlockFile; epoch: number }> {
  const file = await fs.open(spec.path);
  try {
    if (file.sizeBytes < HEADER_AREA_BYTES) throw invalid(spec.path, 'it is too short');
    const epoch = checkHeader(spec.path, await readHeader(file), expected);
    if (epoch < oldestEpoch) {
      const reason = `it is older than the metadata: of epoch ${epoch}, not ${oldestEpoch}`;
      throw invalid(spec.path, reason);
    }
    if (file.sizeBytes < spec.sizeBytes) {
      const reason = `it is truncated: ${file.sizeBytes} of ${spec.sizeBytes} bytes`;
      throw invalid(spec.path, reason);
    }
    return { file, epoch };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The bytes and the place of the header of an epoch. */
export function headerWrite(header: PoolHeader): { bytes: Buffer; position: number } {
  return { bytes: encodeHeader(header), position: headerPosition(header.epoch) };
}

/** @returns the header's epoch */
function checkHeader(path: string, found: HeaderState, expected: PoolHeader): number {
  if (found.state !== 'valid') throw invalid(path, describe(found));
  const { header } = found;
  if (header.storeId !== expected.storeId) {
    throw foreign(path, `it belongs to store ${header.storeId}, not ${expected.storeId}`);
  }
  if (header.poolId !== expected.poolId) {
    throw foreign(path, `it belongs to pool ${header.poolId}, not ${expected.poolId}`);
  }
  if (header.epoch > expected.epoch) {
    throw new StorageError(
      'METADATA_OLDER_THAN_POOL',
      `the database (epoch ${expected.epoch}) is older than ${path} (epoch ${header.epoch}): ` +
        'put the newest meta.db back, or start with SPINDLE_SALVAGE=true to read what is there',
      { path, fileEpoch: header.epoch, metadataEpoch: expected.epoch },
    );
  }
  if (header.blockSizeBytes !== expected.blockSizeBytes) {
    const sizes = `${header.blockSizeBytes}, not ${expected.blockSizeBytes}`;
    throw invalid(path, `its block size is ${sizes}`);
  }
  if (header.fileIndex !== expected.fileIndex) {
    throw invalid(path, `it is file ${header.fileIndex} of the pool, not ${expected.fileIndex}`);
  }
  return header.epoch;
}

async function readHeader(file: BlockFile): Promise<HeaderState> {
  const area = Buffer.alloc(HEADER_AREA_BYTES);
  await file.read(area, 0);
  return decodeHeaderArea(area);
}

/** An empty file, or a device without a header of anybody; both locked. */
async function claim(
  fs: BlockFileSystem,
  spec: FileSpec,
  isAbandoned: IsAbandoned,
): Promise<BlockFile> {
  const { path } = spec;
  try {
    const file = await fs.create(path, 0, false);
    return file.kind === 'file' ? file : await checkedDevice(file, spec.sizeBytes, isAbandoned);
  } catch (error) {
    if (!isStorageError(error, 'POOL_FILE_EXISTS')) throw error;
    await removeAbandoned(fs, path, isAbandoned, error);
    return fs.create(path, 0, false);
  }
}

/** Nothing is written to a device before it has passed these. */
async function checkedDevice(
  file: BlockFile,
  sizeBytes: number,
  isAbandoned: IsAbandoned,
): Promise<BlockFile> {
  try {
    await file.grow(sizeBytes, false);
    const found = await readHeader(file);
    const ours = found.state === 'valid' && isAbandoned(found.header);
    if (found.state !== 'absent' && !ours) {
      const owner = found.state === 'valid' ? `pool ${found.header.poolId}` : describe(found);
      throw foreign(file.path, `it bears a pool header (${owner})`);
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Removes what a cut creation left, under its lock. @throws `exists` if it is anything else */
async function removeAbandoned(
  fs: BlockFileSystem,
  path: string,
  isAbandoned: IsAbandoned,
  exists: StorageError,
): Promise<void> {
  const file = await fs.open(path);
  try {
    const area = Buffer.alloc(HEADER_AREA_BYTES);
    await file.read(area.subarray(0, Math.min(area.length, file.sizeBytes)), 0);
    const onlyZeros = file.sizeBytes <= area.length && isZero(area);
    const found = decodeHeaderArea(area);
    const ours = found.state === 'valid' && isAbandoned(found.header);
    if (!onlyZeros && !ours) throw exists;
    await fs.remove(path);
  } finally {
    await file.close();
  }
}

function describe(found: Exclude<HeaderState, { state: 'valid' }>): string {
  switch (found.state) {
    case 'absent':
      return 'it has no pool header';
    case 'damaged':
      return `its header is damaged: ${found.reason}`;
    case 'unknown-version':
      return `its format version ${found.version} is unknown to this program`;
  }
}

function invalid(path: string, reason: string): StorageError {
  return new StorageError('POOL_FILE_INVALID', `${path} is not usable: ${reason}`, {
    path,
    reason,
  });
}

function foreign(path: string, reason: string): StorageError {
  return new StorageError('POOL_FILE_FOREIGN', `${path} is foreign: ${reason}`, { path, reason });
}

/** A coded error as it is; a system error as POOL_UNAVAILABLE, for files that hold no data yet. */
export function asUnavailable(path: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (isStorageError(error) || errno === undefined) return error;
  return new StorageError('POOL_UNAVAILABLE', `cannot use ${path}: ${errno}`, { path }, error);
}
