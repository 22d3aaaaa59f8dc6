/**
 * Where a disk or copy stands in the history of all disks: the lines that it came along.
 *
 * A disk writes along a *line*: generation after generation, each freeze ends one. Where it takes
 * another table (a disk from a copy, a write-back, the return after a failed restore) a new line
 * begins on top of that table's lineage; a disk that begins empty begins a line without ancestors.
 * A line is named by the generation in which it began: generations are never used twice, so no two
 * lines have one name.
 *
 * One table is an ancestor of another if every block of it is in the other, or was replaced or
 * unmapped on the way in a later generation. So what was born later than the ancestor's generation
 * is what changed since, and nothing else did.
 *
 * Pure. Invariants:
 *  1. Steps ascend: line ≤ upTo < line of the next. The last step is the own line, and its upTo the
 *     own generation.
 *  2. At most 64 steps: older ancestors are forgotten, which makes them strangers, never mistakes.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { Cell } from '../pool/metadata-store.ts';

/** Part of a history: the generations `line` … `upTo` of the line that began in `line`. */
export interface LineageStep {
  readonly line: number;
  readonly upTo: number;
}

/** Oldest first. */
export type Lineage = readonly LineageStep[];

/** Steps that are remembered. */
export const LINEAGE_STEPS_MAX = 64;

/** A line that begins in this generation, on top of a table with this lineage. */
export function beginLine(generation: number, on: Lineage = []): Lineage {
  assert((on.at(-1)?.upTo ?? 0) < generation, 'a line begins after what it stands on');
  return [...on, { line: generation, upTo: generation }].slice(-LINEAGE_STEPS_MAX);
}

/** The same line in a later generation. */
export function continueLine(lineage: Lineage, generation: number): Lineage {
  const own = ownStep(lineage);
  assert(own.upTo <= generation, 'generations rise along a line');
  return [...lineage.slice(0, -1), { line: own.line, upTo: generation }];
}

/** The line that the owner itself is on, up to its generation. */
export function ownStep(lineage: Lineage): LineageStep {
  const own = lineage.at(-1);
  assert(own !== undefined, 'a lineage has steps');
  return own;
}

/** True if the first stands in the history of the second, or in the same place. */
export function isAncestor(older: Lineage, newer: Lineage): boolean {
  const { line, upTo } = ownStep(older);
  return newer.some((step) => step.line === line && step.upTo >= upTo);
}

/** True if both came along one line. */
export function shareHistory(a: Lineage, b: Lineage): boolean {
  return a.some(({ line }) => b.some((step) => step.line === line));
}

export function lineageText(lineage: Lineage): string {
  return JSON.stringify(lineage.map(({ line, upTo }) => [line, upTo]));
}

/**
 * Of a cell. Null (a row from before there were lineages) is a line that begins now.
 * @throws METADATA_INVALID
 */
export function readLineage(cell: Cell | undefined, generation: number): Lineage {
  if (typeof cell !== 'string') return beginLine(generation);
  const steps = parseLineage(cell);
  if (steps?.at(-1)?.upTo === generation) return steps;
  throw new StorageError('METADATA_INVALID', `a lineage of generation ${generation} is wrong`, {
    lineage: cell,
  });
}

/** The steps of a text, or undefined if it does not keep the invariants. */
export function parseLineage(text: string): Lineage | undefined {
  const steps: LineageStep[] = [];
  for (const pair of pairsOf(text)) {
    const [line, upTo] = pair;
    const after = steps.at(-1)?.upTo ?? 0;
    if (line === undefined || upTo === undefined || line <= after || upTo < line) return undefined;
    steps.push({ line, upTo });
  }
  return steps.length === 0 || steps.length > LINEAGE_STEPS_MAX ? undefined : steps;
}

function pairsOf(text: string): number[][] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return [];
  }
  if (!Array.isArray(parsed)) return [];
  return parsed.map((pair: unknown) => {
    if (!Array.isArray(pair) || pair.length !== 2) return [];
    return pair.filter((each): each is number => Number.isSafeInteger(each));
  });
}
