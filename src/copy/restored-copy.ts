/**
 * Turns a disk that a restore has filled into a copy (FIG. 14A): the root changes its holder, no
 * data moves, and the disk is gone, all in one transaction.
 */
import { uuidv7 } from '../base/clock.ts';
import type { Disk } from '../disk/disk.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Copies } from './copies.ts';
import { Copy, type Layout } from './copy.ts';
import { commitCopy } from './freeze.ts';

/** The disk that was frozen, as the image says. */
export interface FrozenSource {
  readonly diskId: string;
  readonly diskName: string;
  readonly frozenAtMs: number;
  readonly capacityBytes: number;
}

/** @param rows committed with it, made for the new copy */
export async function copyFromDisk(
  copies: Copies,
  disk: Disk,
  o: { readonly source: FrozenSource; readonly layout?: Layout },
  rows: (copy: Copy) => readonly RowChange[] = () => [],
): Promise<Copy> {
  const { clock, disks, names } = copies.options;
  const { pool, record } = disk;
  pool.assertWritable();
  const { name } = record;
  const id = uuidv7(clock);
  const copy = new Copy(
    pool,
    {
      id,
      name,
      diskId: o.source.diskId,
      diskName: o.source.diskName,
      layout: o.layout ?? 'compact',
      placement: 'shared',
      generation: record.generation,
      lineage: record.lineage,
      sourceCapacityBytes: o.source.capacityBytes,
      root: record.root,
      haltMicroseconds: 0,
      labels: record.labels,
      state: 'ready',
      version: 1,
      frozenAtMs: o.source.frozenAtMs,
    },
    copies.checksums,
  );
  // one turn: the disk goes without its root, the copy has it
  disks.forgetShell(disk);
  names.take(name, id, record.job);
  copies.add(copy);
  await commitCopy(copies, copy, rows(copy));
  return copy;
}
