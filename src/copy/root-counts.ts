/**
 * The reference counts of roots. Whoever shares roots in one turn makes the pages of their counts
 * resident before.
 */
import type { PageKey } from '../pool/metadata-pages.ts';
import type { Pool } from '../pool/pool.ts';
import type { Tree } from './trees.ts';

/** True if all are resident in this turn. */
export function areRootCountsResident(trees: readonly Tree[]): boolean {
  return missingCounts(trees).size === 0;
}

/**
 * All are resident when it resolves, and until the next turn. One read a pool.
 * @param treesOf asked again after each read: a root may have changed meanwhile
 */
export async function rootCountsResident(treesOf: () => readonly Tree[]): Promise<void> {
  for (;;) {
    const missing = missingCounts(treesOf());
    if (missing.size === 0) return;
    await Promise.all([...missing].map(([pool, keys]) => pool.pages.ensure(keys)));
  }
}

function missingCounts(trees: readonly Tree[]): Map<Pool, PageKey[]> {
  const missing = new Map<Pool, PageKey[]>();
  for (const { pool, root } of trees) {
    if (root.node === 0 || pool.nodeCounts.isResident(root.node)) continue;
    missing.set(pool, [...(missing.get(pool) ?? []), pool.nodeCounts.keyOf(root.node)]);
  }
  return missing;
}
