/**
 * Another name or other labels for a copy: durable when it is answered, or as before.
 */
import { bumpIfChanged } from '../base/version.ts';
import type { Labels } from '../disk/disk.ts';
import type { Effects } from '../pool/pools.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';

export interface CopyPatch {
  readonly name?: string;
  readonly labels?: Labels;
}

/**
 * For one that nobody else changes meanwhile.
 * @throws NAME_TAKEN, NAME_INVALID, NOT_FOUND, POOL_POISONED, METADATA_FULL; nothing has changed
 */
export async function updateCopy(
  copies: Copies,
  copy: Copy,
  patch: CopyPatch,
  effects?: Effects<Copy>,
): Promise<Copy> {
  copy.assertServed();
  copy.pool.assertWritable();
  const { names } = copies.options;
  const { name: before, labels } = copy.record;
  const { name = before } = patch;
  return names.rename(copy.id, before, name, async () => {
    set(copies, copy, name, patch.labels ?? labels);
    try {
      await copy.pool.flush(effects?.(copy));
      return copy;
    } catch (error) {
      set(copies, copy, before, labels);
      throw error;
    }
  });
}

function set(copies: Copies, copy: Copy, name: string, labels: Labels): void {
  const before = [copy.record.name, copy.record.labels];
  Object.assign(copy.record, { name, labels });
  bumpIfChanged(copy.record, before, [name, labels]);
  copies.changed(copy);
}
