/**
 * The checks as tasks for a thread that reads a snapshot of the metadata: descriptions for the
 * caller, and `run` for the thread.
 */
import { systemClock } from '../base/clock.ts';
import { threadUrl } from '../base/package-files.ts';
import { type CheckOptions, type CheckProgress, checkSteps } from './check-store.ts';
import { type Finding, isFinding } from './finding.ts';
import { quickCheck } from './quick-check.ts';
import type { CheckSource } from './source.ts';

export interface CheckTask {
  readonly module: URL;
  readonly data: TaskData;
  readonly parse: (result: unknown) => Finding[];
}

type TaskData =
  | ({ readonly kind: 'full' } & CheckOptions)
  | { readonly kind: 'quick'; readonly budgetMs: number | undefined };

/** Every invariant. Time and reads follow the size of the tables. */
export function fullCheck(o: CheckOptions = {}): CheckTask {
  return task({ kind: 'full', ...o });
}

/** A part, within a budget of time (default 100 ms) beside the start of the thread. */
export function quickCheckTask(budgetMs?: number): CheckTask {
  return task({ kind: 'quick', budgetMs });
}

function task(data: TaskData): CheckTask {
  const parse = (result: unknown): Finding[] => {
    return Array.isArray(result) ? result.filter(isFinding) : [];
  };
  return { module: threadUrl('check/check-task'), data, parse };
}

/** Called in the thread. */
export function* run(source: CheckSource, data: TaskData): Generator<CheckProgress, Finding[]> {
  if (data.kind === 'full') return yield* checkSteps(source, data);
  const { budgetMs } = data;
  return quickCheck(source, { clock: systemClock, ...(budgetMs === undefined ? {} : { budgetMs }) })
    .findings;
}
