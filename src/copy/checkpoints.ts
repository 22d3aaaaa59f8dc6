/**
 * Checkpoints: what is left of a copy that was deleted after it was backed up. No table and no
 * block, only where in the history of its disk it stood: enough to tell what changed since.
 *
 * Life: a backed-up copy is deleted, its checkpoint's row goes into the transaction that does it →
 * base of incremental backups → `prune`, once no backup of the copy is left.
 *
 * Invariants:
 *  1. A store has at most one of a copy and its checkpoint.
 *  2. While a checkpoint exists, the disks that descend from it leave tombstones, and no
 *     generation up to its own is given out again.
 */
import { StorageError } from '../base/errors.ts';
import type { Generations } from '../disk/generations.ts';
import { type Lineage, lineageText, readLineage } from '../disk/lineage.ts';
import type { MetadataStore, Row, RowChange } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import type { Copy } from './copy.ts';

export interface Checkpoint {
  /** Of the copy that it stands for. */
  readonly id: string;
  readonly diskId: string;
  /** Name of the disk at the freeze. */
  readonly diskName: string;
  readonly generation: number;
  /** Of the disk at the freeze. */
  readonly capacityBytes: number;
  readonly blockSizeBytes: number;
  readonly lineage: Lineage;
  readonly frozenAtMs: number;
}

/** What would be left of a copy. */
export function checkpointOf({ id, record, blockSizeBytes }: Copy): Checkpoint {
  const { diskId, diskName, generation, sourceCapacityBytes, lineage, frozenAtMs } = record;
  const capacityBytes = sourceCapacityBytes;
  return { id, diskId, diskName, generation, capacityBytes, blockSizeBytes, lineage, frozenAtMs };
}

export class Checkpoints {
  readonly #store: MetadataStore;
  readonly #checkpoints = new Map<string, Checkpoint>();
  /** Pools in whose batches rows of new ones may still be. */
  readonly #written = new Map<string, Pool>();

  constructor(store: MetadataStore) {
    this.#store = store;
  }

  async open(generations: Generations): Promise<void> {
    for (const row of await this.#store.rows('checkpoints')) {
      const checkpoint = readCheckpoint(row);
      generations.seen(checkpoint.generation);
      this.#checkpoints.set(checkpoint.id, checkpoint);
    }
  }

  /** Those of one disk, or all; in no order. */
  list(filter: { readonly diskId?: string } = {}): Checkpoint[] {
    const { diskId } = filter;
    const all = [...this.#checkpoints.values()];
    return diskId === undefined ? all : all.filter((each) => each.diskId === diskId);
  }

  /** By the id of its copy. */
  byId(copyId: string): Checkpoint | undefined {
    return this.#checkpoints.get(copyId);
  }

  /** @throws NOT_FOUND */
  get(copyId: string): Checkpoint {
    const checkpoint = this.byId(copyId);
    if (checkpoint !== undefined) return checkpoint;
    throw new StorageError('NOT_FOUND', `there is no checkpoint of copy ${copyId}`, {
      copy: copyId,
    });
  }

  /** A copy is being deleted: its checkpoint goes into the same batch of its pool. */
  keep(copy: Copy): void {
    const { id, pool } = copy;
    this.#checkpoints.set(id, checkpointOf(copy));
    this.#written.set(id, pool);
    pool.changeRow(`checkpoint ${id}`, () => rowOf(id, this.#checkpoints.get(id)));
  }

  /** Drops those that are needed no more, durably. */
  async prune(needed: { has(copyId: string): boolean }): Promise<void> {
    const gone = [...this.#checkpoints.keys()].filter((id) => !needed.has(id));
    const pools = new Set<Pool>();
    for (const id of gone) {
      this.#checkpoints.delete(id);
      const pool = this.#written.get(id);
      if (pool !== undefined) pools.add(pool);
      this.#written.delete(id);
    }
    if (gone.length === 0) return;
    // a row on its way must not come after its removal; where it cannot come there is none
    for (const pool of pools) await pool.flush().catch(() => undefined);
    await this.#store.commit({ pages: [], rows: gone.map((id) => rowOf(id, undefined)) });
  }
}

function rowOf(id: string, checkpoint: Checkpoint | undefined): RowChange {
  const key = { id };
  if (checkpoint === undefined) return { table: 'checkpoints', key, row: undefined };
  return {
    table: 'checkpoints',
    key,
    row: {
      disk_id: checkpoint.diskId,
      disk_name: checkpoint.diskName,
      generation: checkpoint.generation,
      capacity_bytes: checkpoint.capacityBytes,
      block_size_bytes: checkpoint.blockSizeBytes,
      lineage: lineageText(checkpoint.lineage),
      frozen_at: checkpoint.frozenAtMs,
    },
  };
}

function readCheckpoint(row: Row): Checkpoint {
  const generation = Number(row['generation']);
  return {
    id: String(row['id']),
    diskId: String(row['disk_id']),
    diskName: String(row['disk_name']),
    generation,
    capacityBytes: Number(row['capacity_bytes']),
    blockSizeBytes: Number(row['block_size_bytes']),
    lineage: readLineage(row['lineage'], generation),
    frozenAtMs: Number(row['frozen_at']),
  };
}
