/**
 * What is left of a deleted copy goes: what another pool owes it, its checksums, its row. Each in
 * short transactions that go on after a restart, since the row stays until the last.
 */
import type { Reclaimer } from '../disk/reclaimer.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import { SEGMENT_BLOCK_BYTES } from './checksums.ts';
import type { Copy } from './copy.ts';

/** Rows of checksums deleted in one transaction. */
const CLEAR_ROWS = 1000;

/**
 * The owed table of a copy, whose row is durably `deleted`, goes to the dead in the transaction
 * that takes it out of the row.
 */
export async function giveUpOwed(
  copy: Copy,
  reclaimerOf: (pool: Pool) => Reclaimer,
): Promise<void> {
  const { dedicated } = copy;
  if (dedicated?.owed === undefined) return;
  const { pool, root } = dedicated.owed;
  pool.assertWritable();
  // what is left of the copy goes on telling how many blocks it had
  const { record } = copy;
  record.root = { ...record.root, mapped: record.root.mapped + root.mapped };
  dedicated.owed = undefined;
  reclaimerOf(pool).add(root);
  // nobody else writes the row any more: it goes with this pool's batch
  pool.addRow(copy.row());
  await pool.flush();
}

/**
 * Deletes the checksums, then the row, unless it is stopped before.
 * @param o.dataBytes all its blocks together
 */
export async function clearCopy(
  store: MetadataStore,
  { id, dataBytes }: { readonly id: string; readonly dataBytes: number },
  isStopped: () => boolean,
): Promise<void> {
  const segments = Math.ceil(dataBytes / SEGMENT_BLOCK_BYTES);
  for (let first = 0; first < segments && !isStopped(); first += CLEAR_ROWS) {
    const count = Math.min(CLEAR_ROWS, segments - first);
    const rows = Array.from({ length: count }, (_, index): RowChange => {
      return { table: 'checksums', key: { copy: id, segment: first + index }, row: undefined };
    });
    await store.commit({ pages: [], rows });
  }
  if (isStopped()) return;
  const gone: RowChange = { table: 'copies', key: { id }, row: undefined };
  await store.commit({ pages: [], rows: [gone] });
}
