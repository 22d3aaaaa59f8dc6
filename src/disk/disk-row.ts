/**
 * Rows of disks, and the columns that rows of copies share with them, as records. Pure.
 */
import type { Cell, Row } from '../pool/metadata-store.ts';
import type { TableRoot } from './allocation-table.ts';
import type { DiskRecord, Labels } from './disk.ts';
import { readLineage } from './lineage.ts';

export function readDisk(row: Row): DiskRecord {
  const state = row['state'];
  const generation = Number(row['generation']);
  return {
    id: String(row['id']),
    name: String(row['name']),
    capacityBytes: Number(row['capacity_bytes']),
    labels: readLabels(row['labels']),
    detectZeroes: row['detect_zeroes'] === 1,
    reserveBytes: Number(row['reserve_bytes']),
    quotaBytes: readNumber(row['quota_bytes']),
    maxBytesPerSecond: readNumber(row['max_bytes_per_second']),
    generation,
    lineage: readLineage(row['lineage'], generation),
    root: readRoot(row),
    state: state === 'fenced' || state === 'restoring' ? state : 'ready',
    job: row['job'] === null ? null : String(row['job']),
    origin: row['origin'] === null ? null : String(row['origin']),
    creation: String(row['creation']),
    version: Number(row['version']),
    createdAtMs: Number(row['created_at']),
  };
}

function readNumber(cell: Cell | undefined): number | null {
  return cell === null || cell === undefined ? null : Number(cell);
}

export function readRoot(row: Row): TableRoot {
  return {
    node: Number(row['root_node']),
    height: Number(row['root_height']),
    mapped: Number(row['mapped_blocks']),
  };
}

export function readLabels(cell: unknown): Labels {
  const parsed: unknown = JSON.parse(String(cell));
  if (typeof parsed !== 'object' || parsed === null) return {};
  return Object.fromEntries(Object.entries(parsed).map(([key, value]) => [key, String(value)]));
}

/** What a client can set of a disk. */
export function settingsOf(record: DiskRecord): Partial<DiskRecord> {
  const { name, capacityBytes, labels, detectZeroes, reserveBytes } = record;
  const { quotaBytes, maxBytesPerSecond } = record;
  const limits = { quotaBytes, maxBytesPerSecond };
  return { name, capacityBytes, labels, detectZeroes, reserveBytes, ...limits };
}
