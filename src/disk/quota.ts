/**
 * How much a disk may map: what is mapped, and what was promised to writes under way.
 *
 * A write is promised the blocks that it will map before it changes anything, and each promise ends
 * in the turn in which the table names the block, or with the write. Blocks that are mapped already
 * need none, so overwriting goes on in a disk that is at its quota or above.
 *
 * Invariant: mapped + promised blocks pass the quota only if it was set below them.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { Disk } from './disk.ts';

export class Quota {
  #promisedBlocks = 0;

  /** Blocks that writes under way will map. */
  get promisedBlocks(): number {
    return this.#promisedBlocks;
  }

  /** @throws QUOTA_EXCEEDED; a disk that a restore fills has answered for its room before */
  promise(disk: Disk, blocks: number): void {
    const { quotaBytes } = disk.record;
    if (quotaBytes !== null && disk.state === 'ready') {
      const usedBytes = disk.usedBytes + this.#promisedBlocks * disk.blockSizeBytes;
      assertWithinQuota(disk, quotaBytes, usedBytes, blocks * disk.blockSizeBytes);
    }
    this.#promisedBlocks += blocks;
  }

  /** They are mapped now, or will not be. */
  settle(blocks: number): void {
    this.#promisedBlocks -= blocks;
    assert(this.#promisedBlocks >= 0, 'a promise of blocks was settled twice');
  }
}

/** @throws QUOTA_EXCEEDED if so much more does not fit */
export function assertWithinQuota(
  disk: { readonly name: string },
  quotaBytes: number,
  usedBytes: number,
  neededBytes: number,
): void {
  if (usedBytes + neededBytes <= quotaBytes) return;
  throw new StorageError(
    'QUOTA_EXCEEDED',
    `disk ${disk.name} may use ${quotaBytes} bytes and uses ${usedBytes}`,
    { disk: disk.name, quotaBytes, usedBytes, neededBytes },
  );
}
