/**
 * Rows and errors for tests of commits that fail.
 */
import { StorageError } from '../../src/base/errors.ts';
import type { Batch, RowChange } from '../../src/pool/metadata-store.ts';
import { MemoryMetadata } from './memory-metadata.ts';

/** Remembers which batches had rows of which tables. */
export class RecordingMetadata extends MemoryMetadata {
  readonly batches: Batch[] = [];

  override async commit(batch: Batch): Promise<void> {
    this.batches.push(batch);
    await super.commit(batch);
  }

  /** Numbers of the batches that put or removed a row of this table. */
  batchesOf(table: string): number[] {
    return [...this.batches.keys()].filter((index) =>
      this.batches[index]!.rows.some((change) => change.table === table),
    );
  }
}

export function metadataFull(): StorageError {
  return new StorageError('METADATA_FULL', 'made by the test');
}

/** A row that a caller wants in the transaction of an effect. */
export const effect: RowChange = {
  table: 'idempotency',
  key: { scope: 's', key: 'k' },
  row: {
    request_digest: 'd',
    status: 201,
    headers: '{}',
    body: new Uint8Array(),
    created_at: 0,
  },
};
