/**
 * A copy as a row of the table `copies` (docs/format/metadata.md); back again in read-row.ts.
 */
import { lineageText } from '../disk/lineage.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Copy } from './copy.ts';
import { dedicatedCells } from './dedicated/dedicated.ts';

/** As it is now. */
export function copyRow(copy: Copy): RowChange {
  const { record } = copy;
  return {
    table: 'copies',
    key: { id: record.id },
    row: {
      name: record.name,
      disk_id: record.diskId,
      disk_name: record.diskName,
      pool: copy.pool.id,
      layout: record.layout,
      placement: record.placement,
      generation: record.generation,
      block_size_bytes: copy.blockSizeBytes,
      source_capacity_bytes: record.sourceCapacityBytes,
      root_node: record.root.node,
      root_height: record.root.height,
      mapped_blocks: record.root.mapped + (copy.dedicated?.owedBlocks ?? 0),
      halt_microseconds: record.haltMicroseconds,
      labels: JSON.stringify(record.labels),
      state: copy.isDeleted ? 'deleted' : record.state,
      lineage: lineageText(record.lineage),
      version: record.version,
      frozen_at: record.frozenAtMs,
      group_id: record.groupId ?? null,
      ...dedicatedCells(copy.dedicated),
    },
  };
}
