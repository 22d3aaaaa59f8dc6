/**
 * The full check of a store: every invariant of `invariants`, over one state of its metadata.
 *
 * Pure: reads the source, changes nothing, knows no clock. `checkSteps` stops between short steps,
 * so that a thread can hear a cancel; `checkStore` runs them all at once.
 */
import { StorageError } from '../base/errors.ts';
import { pageKinds } from '../pool/metadata-store.ts';
import { WINDOW_BLOCKS, checkPool } from './check-pool.ts';
import { checkRows } from './check-rows.ts';
import { type Finding, Findings } from './finding.ts';
import { checkOwed, checkReservedRoom } from './owed.ts';
import { newPoolState } from './pool-state.ts';
import type { CheckSource } from './source.ts';
import { type StoreRows, readStoreRows } from './store-rows.ts';

export const MAX_FINDINGS = 1000;

/** Units of work done and to do, about in proportion to time. */
export interface CheckProgress {
  readonly done: number;
  readonly total: number;
}

export interface CheckOptions {
  /** Default 1000; more are not listed. */
  readonly maxFindings?: number;
  /** Blocks that are counted at once, 8 bytes each: a multiple of 32768. Default 8 Mi. */
  readonly windowBlocks?: number;
}

export function* checkSteps(
  source: CheckSource,
  o: CheckOptions = {},
): Generator<CheckProgress, Finding[]> {
  const findings = new Findings(o.maxFindings ?? MAX_FINDINGS);
  const rows = readStoreRows(source, findings);
  const places = checkRows(rows, findings);
  const known = new Set(places.map(({ pool }) => pool.id));
  const lacksRoots = rows.lacksRoots || rows.roots.some(({ pool }) => !known.has(pool));
  const states = places.map((place) => {
    const roots = rows.roots.filter(({ pool }) => pool === place.pool.id);
    return newPoolState(source, findings, place, roots, lacksRoots);
  });
  const sum = (of: 'done' | 'total'): number =>
    states.reduce((units, { work }) => units + work[of], 0);
  const total = sum('total');
  for (const state of states) {
    const steps = checkPool(state, o.windowBlocks ?? WINDOW_BLOCKS);
    while (steps.next().done !== true) yield { done: sum('done'), total };
  }
  checkReservedRoom(source, rows, places, findings);
  const steps = checkOwed(source, rows, places, findings);
  while (steps.next().done !== true) yield { done: total, total };
  checkPools(source, rows, findings);
  return findings.list;
}

/** Pages of pools that no row knows. */
function checkPools(source: CheckSource, rows: StoreRows, findings: Findings): void {
  for (const kind of pageKinds) {
    for (const pool of source.poolsOf(kind)) {
      if (rows.poolNumbers.has(pool)) continue;
      const message = `there are ${kind} pages of pool number ${pool}, which is not there`;
      findings.add('PAGE_OUTSIDE_POOL', message, { kind, poolNumber: pool });
    }
  }
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
    if (o.signal?.aborted === true) throw new StorageError('CANCELLED', 'the check was cancelled');
    const step = steps.next();
    if (step.done === true) return step.value;
    o.onProgress?.(step.value);
  }
}
