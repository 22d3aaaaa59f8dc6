/**
 * Numbers that cannot be mixed, and the one place that asserts the sizes of 1.2.
 *
 * A LogicalBlock is < 2^41 and so is not safe for bit operators: split it by division.
 * All byte quantities are integers from 0 to 2^53 - 1.
 */
import { assert } from './assert.ts';
import { StorageError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/** Index of a block in a disk (A in the figures). */
export type LogicalBlock = Branded<number, 'LogicalBlock'>;
/** Index of a block in a pool (P). */
export type PhysicalBlock = Branded<number, 'PhysicalBlock'>;
/** Index of a block in compact order (X). */
export type CopyBlock = Branded<number, 'CopyBlock'>;
/** Store-wide counter; each freeze takes the next. u32, 1 is the first. */
export type Generation = Branded<number, 'Generation'>;
/** Row number of a table node within its pool; 0 means "no node". */
export type NodeId = Branded<number, 'NodeId'>;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

export const MIN_BLOCK_SIZE_BYTES = 16 * KIB;
export const MAX_BLOCK_SIZE_BYTES = MIB;
export const DEFAULT_BLOCK_SIZE_BYTES = 64 * KIB;
/** A pool's blocks are numbered 0 … 2^32 - 3; P + 1 must fit u32 beside "no block". */
export const MAX_POOL_BLOCKS = 2 ** 32 - 2;
export const SECTOR_BYTES = 512;
export const MIN_CAPACITY_BYTES = SECTOR_BYTES;
export const MAX_CAPACITY_BYTES = 2 ** 53 - 512;
const MAX_LOGICAL_BLOCK = 2 ** 41;
const MAX_U32 = 2 ** 32 - 1;

function isIndex(value: number, end: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value < end;
}

export function logicalBlock(value: number): LogicalBlock {
  assert(isIndex(value, MAX_LOGICAL_BLOCK), `logical block ${value}`);
  return value as LogicalBlock;
}

export function physicalBlock(value: number): PhysicalBlock {
  assert(isIndex(value, MAX_POOL_BLOCKS), `physical block ${value}`);
  return value as PhysicalBlock;
}

export function copyBlock(value: number): CopyBlock {
  assert(isIndex(value, MAX_POOL_BLOCKS), `copy block ${value}`);
  return value as CopyBlock;
}

export function generation(value: number): Generation {
  assert(isIndex(value, MAX_U32) && value > 0, `generation ${value}`);
  return value as Generation;
}

export function nodeId(value: number): NodeId {
  assert(Number.isSafeInteger(value) && value >= 0, `node ${value}`);
  return value as NodeId;
}

export function isBlockSize(value: number): boolean {
  const inRange = value >= MIN_BLOCK_SIZE_BYTES && value <= MAX_BLOCK_SIZE_BYTES;
  return inRange && Number.isInteger(Math.log2(value));
}

/** @throws CAPACITY_INVALID unless a multiple of 512 from 512 to 2^53 - 512 */
export function checkCapacity(capacityBytes: number, field = 'capacityBytes'): number {
  const whole = Number.isSafeInteger(capacityBytes) && capacityBytes % SECTOR_BYTES === 0;
  if (!whole || capacityBytes < MIN_CAPACITY_BYTES || capacityBytes > MAX_CAPACITY_BYTES) {
    throw new StorageError(
      'CAPACITY_INVALID',
      `capacity must be a multiple of 512 from 512 to ${MAX_CAPACITY_BYTES} bytes`,
      { field, capacityBytes },
    );
  }
  return capacityBytes;
}

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

export function roundDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

/** Number of blocks that hold `bytes`. */
export function blocksFor(bytes: number, blockSizeBytes: number): number {
  return Math.ceil(bytes / blockSizeBytes);
}
