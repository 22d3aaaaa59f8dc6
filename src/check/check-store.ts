/**
 * The full check of a store: every invariant of `invariants`, over one state of its metadata.
 *
 * Pure: reads the source, changes nothing, knows no clock. `checkSteps` stops between short steps,
 * so that a thread can hear a cancel; `checkStore` runs them all at once.
 */
import { StorageError } from '../base/errors.ts';
import { checkRows } from './check-rows.ts';
import { type Finding, Findings } from './finding.ts';
import type { CheckSource } from './source.ts';
import { readStoreRows } from './store-rows.ts';

export interface CheckProgress {
  /** Pages read of about `total`. */
  readonly done: number;
  readonly total: number;
}

export interface CheckOptions {
  /** Default 1000; more are counted in none. */
  readonly maxFindings?: number;
}

export function* checkSteps(
  source: CheckSource,
  o: CheckOptions = {},
): Generator<CheckProgress, Finding[]> {
  const findings = new Findings(o.maxFindings ?? 1000);
  const rows = readStoreRows(source, findings);
  checkRows(source, rows, findings);
  yield { done: 0, total: 0 };
  return findings.list;
}

/** @throws CANCELLED when the signal says so */
export function checkStore(
  source: CheckSource,
  o: CheckOptions & {
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: CheckProgress) => void;
  } = {},
): Finding[] {
  const steps = checkSteps(source, o);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (o.signal?.aborted === true) throw new StorageError('CANCELLED', 'the check was cancelled');
    o.onProgress?.(step.value);
  }
}
