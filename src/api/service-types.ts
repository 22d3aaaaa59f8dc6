/**
 * What all services share: effects, labels, users, dry runs.
 */
import type { StorageError } from '../base/errors.ts';
import type { Batch, Row, RowChange } from '../pool/metadata-store.ts';

export type Effects<T> = (result: T) => readonly RowChange[];

export type Labels = Readonly<Record<string, string>>;

/** The part of the metadata store that keeps records of Idempotency-Keys. */
export interface RecordStore {
  rows(table: string, where?: Row): Promise<Row[]>;
  commit(batch: Batch): Promise<void>;
}

/** What is known of an image in a body before it comes. */
export interface UploadBody {
  /** Length of the body, if it is known. */
  readonly imageBytes: number | undefined;
  /** Of its Idempotency-Key and token; a digest of the request: its repeat has the same two. */
  readonly key: { readonly place: string; readonly digest: string } | undefined;
}

/** Whoever works on a disk or copy; `abort` ends it. It is gone when it has called its release. */
export interface User {
  readonly kind: string;
  readonly id: string;
  readonly sinceMs: number;
  abort(reason: StorageError): void;
}

/** What a deletion would take along or end. */
export interface Affected {
  readonly kind: string;
  readonly id: string;
  readonly name?: string;
}

/** What a deletion would do, for `dryRun`. */
export interface WouldFree {
  readonly wouldFreeBytes: number;
  readonly affects: readonly Affected[];
}

/** What a client can change of a copy or target. */
export interface Rename {
  readonly name?: string;
  readonly labels?: Labels;
}

export interface ForceOption {
  /** Ends the users first instead of refusing. */
  readonly force?: boolean;
}
