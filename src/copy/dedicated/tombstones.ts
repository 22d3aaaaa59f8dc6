/**
 * The tombstones that are left in an owed table when no block is owed any more: differences need
 * them, so they go to the copy's own table before its source's pool is let go.
 */
import { FAN_OUT, childOf, entryAt, span } from '../../disk/allocation-table.ts';
import type { PageKey } from '../../pool/metadata-pages.ts';
import type { Tree } from '../trees.ts';
import type { Move } from './apply-moves.ts';

/** Tombstones of the first leaves of a table that maps nothing; ascending. */
export async function nextTombstones(
  treeOf: () => Tree,
  maxLeaves: number,
): Promise<readonly Move[]> {
  for (;;) {
    const { pool, root } = treeOf();
    const found: Move[] = [];
    const missing: PageKey[] = [];
    let leaves = 0;
    const visit = (node: number, height: number, base: number): void => {
      if (leaves === maxLeaves || missing.length > 0) return;
      if (!pool.pages.isResident('node', node)) {
        missing.push({ kind: 'node', number: node });
        return;
      }
      const page = pool.pages.page('node', node);
      if (height === 1) leaves += 1;
      for (let slot = 0; slot < FAN_OUT; slot += 1) {
        if (height === 1) {
          const entry = entryAt(page, slot);
          if (entry.birth !== 0) found.push({ logical: base + slot, ...entry });
        } else {
          const child = childOf(page, slot);
          if (child !== 0) visit(child, height - 1, base + slot * span(height - 1));
        }
      }
    };
    if (root.node !== 0) visit(root.node, root.height, 0);
    if (missing.length === 0) return found;
    await pool.pages.ensure(missing);
  }
}
