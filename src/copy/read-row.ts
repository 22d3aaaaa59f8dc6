/**
 * Copies as rows of the table `copies` (docs/format/metadata.md).
 *
 * `mapped_blocks` counts all blocks of a copy; of a dedicated one that is being filled,
 * `owed_blocks` of them are in the owed table and the others in its own.
 */
import { isErrorCode } from '../base/errors.ts';
import { readLabels, readRoot } from '../disk/disk-row.ts';
import { readLineage } from '../disk/lineage.ts';
import type { Row } from '../pool/metadata-store.ts';
import type { Pools } from '../pool/pools.ts';
import type { CopyChecksums } from './checksums.ts';
import { Copy, type CopyRecord } from './copy.ts';
import { type CopyProblem, Dedicated } from './dedicated/dedicated.ts';
import type { Tree } from './trees.ts';

/** @throws NOT_FOUND if one of its pools is not there */
export function readCopy(row: Row, pools: Pools, checksums: CopyChecksums): Copy {
  const pool = pools.get(String(row['pool']));
  if (row['placement'] !== 'dedicated') return new Copy(pool, readRecord(row, 0), checksums);
  const owed = readOwed(row, pools);
  const maxBytesPerSecond = row['max_bytes_per_second'];
  const dedicated = new Dedicated({
    preserve: row['preserve'] === 'copy-first' ? 'copy-first' : 'redirect',
    onPreserveError:
      row['on_preserve_error'] === 'invalidate-copy' ? 'invalidate-copy' : 'fail-write',
    maxBytesPerSecond: typeof maxBytesPerSecond === 'number' ? maxBytesPerSecond : undefined,
    owed,
    problem: readProblem(row),
  });
  return new Copy(pool, readRecord(row, dedicated.owedBlocks), checksums, dedicated);
}

function readOwed(row: Row, pools: Pools): Tree | undefined {
  if (row['owed_pool'] === null) return undefined;
  return {
    pool: pools.get(String(row['owed_pool'])),
    root: {
      node: Number(row['owed_node']),
      height: Number(row['owed_height']),
      mapped: Number(row['owed_blocks']),
    },
  };
}

function readProblem(row: Row): CopyProblem | undefined {
  if (row['problem'] === null) return undefined;
  const parsed: unknown = JSON.parse(String(row['problem']));
  const isObject = typeof parsed === 'object' && parsed !== null;
  const facts = new Map<string, unknown>(Object.entries(isObject ? parsed : {}));
  const [code, detail, usedBlocks] = ['code', 'detail', 'usedBlocks'].map((name) =>
    facts.get(name),
  );
  return {
    code: isErrorCode(code) ? code : 'INTERNAL',
    detail: typeof detail === 'string' ? detail : '',
    usedBlocks: typeof usedBlocks === 'number' ? usedBlocks : 0,
  };
}

function readRecord(row: Row, owedBlocks: number): CopyRecord {
  const state = row['state'];
  const generation = Number(row['generation']);
  const { mapped, ...root } = readRoot(row);
  return {
    id: String(row['id']),
    name: String(row['name']),
    diskId: String(row['disk_id']),
    diskName: String(row['disk_name']),
    layout: row['layout'] === 'full' ? 'full' : 'compact',
    placement: row['placement'] === 'dedicated' ? 'dedicated' : 'shared',
    generation,
    lineage: readLineage(row['lineage'], generation),
    sourceCapacityBytes: Number(row['source_capacity_bytes']),
    root: { ...root, mapped: mapped - owedBlocks },
    haltMicroseconds: Number(row['halt_microseconds']),
    labels: readLabels(row['labels']),
    state: state === 'internal' || state === 'invalid' ? state : 'ready',
    version: Number(row['version']),
    frozenAtMs: Number(row['frozen_at']),
    ...(row['group_id'] === null ? {} : { groupId: String(row['group_id']) }),
  };
}
