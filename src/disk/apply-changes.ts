/**
 * Takes changes of entries into a disk's table, leaf by leaf, each in one turn.
 */
import { type TableChange, change, leafEnd, missingForChange } from './allocation-table.ts';
import type { Disk } from './disk.ts';

export function byLeaf(changes: readonly TableChange[]): TableChange[][] {
  const groups: TableChange[][] = [];
  let end = -1;
  for (const each of changes) {
    const group = groups.at(-1);
    if (group === undefined || each.logical >= end) groups.push([each]);
    else group.push(each);
    end = leafEnd(each.logical);
  }
  return groups;
}

/**
 * Applies changes within one leaf to the disk's table, inside the gate.
 * @param allocated the changes' blocks are chosen ones, to be marked as used
 * @param applied called in the turn in which the table has them
 */
export async function applyLeaf(
  disk: Disk,
  changes: readonly TableChange[],
  allocated: boolean,
  applied: () => void = () => undefined,
): Promise<void> {
  const { pool } = disk;
  const first = changes[0]?.logical;
  const last = changes.at(-1)?.logical;
  if (first === undefined || last === undefined) return;
  for (;;) {
    const missing = missingForChange(pool, disk.root, first, last - first + 1);
    if (allocated) {
      for (const { block } of changes) {
        if (block >= 0) missing.push(...pool.missingForDrop(block));
      }
    }
    if (missing.length === 0) break;
    await pool.pages.ensure(missing);
  }
  if (allocated) {
    for (const { block } of changes) if (block >= 0) pool.allocator.apply(block);
  }
  disk.record.root = change(pool, disk.root, changes);
  disk.changed();
  applied();
}
