/**
 * What is remembered of a pool beside its files.
 */
export interface PoolRecord {
  readonly id: string;
  readonly number: number;
  name: string;
  readonly blockSizeBytes: number;
  lowWaterPercent: number;
  criticalPercent: number;
  readonly preallocate: boolean;
  version: number;
  readonly createdAtMs: number;
  /** The normalised request of creation, JSON. */
  readonly creation: string;
}

/** `unavailable`: its files could not be opened, so it is known and neither read nor written. */
export type PoolState = 'ready' | 'low' | 'critical' | 'full' | 'poisoned' | 'unavailable';
