/**
 * Proves differences against the naive model: for every pair of copies, in both directions, and for
 * every copy since the checkpoint of every deleted one, applying the changes to the older content
 * gives the newer.
 */
import { expect } from 'vitest';
import { blocksFor } from '../../src/base/units.ts';
import { checkpointOf } from '../../src/copy/checkpoints.ts';
import type { Copy } from '../../src/copy/copy.ts';
import {
  type ChangedRun,
  type Since,
  changedRuns,
  whyUnrelated,
} from '../../src/copy/difference.ts';
import type { ModelCopy } from './engine-model.ts';
import type { World } from './engine-world.ts';

/** All runs, page by page. */
export async function allChanges(
  newer: Copy,
  since: Since,
  o: { readonly maxRuns?: number; readonly from?: number } = {},
): Promise<ChangedRun[]> {
  const { maxRuns = 3 } = o;
  const runs: ChangedRun[] = [];
  for (let from: number | undefined = o.from ?? 0; from !== undefined;) {
    const page = await changedRuns(newer, since, { from, maxRuns });
    expect(page.runs.length).toBeLessThanOrEqual(maxRuns);
    runs.push(...page.runs);
    from = page.next;
  }
  return runs;
}

/** @returns how many pairs were compared, with copies and with checkpoints */
export async function compareDifferences(
  world: World,
): Promise<{ readonly copies: number; readonly checkpoints: number }> {
  const done = { copies: 0, checkpoints: 0 };
  for (const newer of world.copies) {
    for (const older of world.copies) {
      const since: Since = { kind: 'copy', copy: older.real };
      if (whyUnrelated(newer.real, since) !== undefined) continue;
      const runs = await allChanges(newer.real, since);
      expectApplied(newer.model, older.model, runs);
      expectExact(newer.model, older.model, runs);
      done.copies += 1;
    }
    const { checkpoints } = world.engine.copies;
    const gone = world.gone.map(({ id, model }) => ({ model, checkpoint: checkpoints.get(id) }));
    // and as if the copies that are there were gone
    const there = world.copies.map(({ real, model }) => ({
      model,
      checkpoint: checkpointOf(real),
    }));
    for (const { model, checkpoint } of [...gone, ...there]) {
      const since: Since = { kind: 'checkpoint', checkpoint };
      if (whyUnrelated(newer.real, since) !== undefined) continue;
      const runs = await allChanges(newer.real, since);
      expectApplied(newer.model, model, runs);
      expectExactData(newer.model, model, runs);
      done.checkpoints += 1;
    }
  }
  return done;
}

/** Applies the runs to the older one's blocks, at the newer one's capacity. */
function expectApplied(newer: ModelCopy, older: ModelCopy, runs: readonly ChangedRun[]): void {
  const end = blocksFor(newer.capacityBytes, newer.pool.size);
  const olderEnd = blocksFor(older.capacityBytes, older.pool.size);
  // something is left behind the older one's end on what it is applied to
  const result = new Map<number, Buffer | undefined>();
  for (const [block, { data }] of older.blocks) if (block < end) result.set(block, data);
  if (olderEnd < end) result.set(olderEnd, Buffer.from('left behind'));
  let at = 0;
  for (const { first, length, kind } of runs) {
    expect(first).toBeGreaterThanOrEqual(at);
    expect(length).toBeGreaterThan(0);
    at = first + length;
    const keys = kind === 'data' ? span(first, length) : [...result.keys()];
    for (const block of keys) {
      if (block < first || block >= at) continue;
      const data = newer.blocks.get(block)?.data;
      expect(data === undefined).toBe(kind === 'zero');
      result.set(block, data);
    }
  }
  expect(at).toBeLessThanOrEqual(end);
  for (const block of new Set([...newer.blocks.keys(), ...result.keys()])) {
    const wanted = newer.blocks.get(block)?.data;
    const found = result.get(block);
    const isSame =
      wanted === undefined || found === undefined ? wanted === found : wanted.equals(found);
    if (!isSame) expect(`block ${block} differs`).toBe('nothing');
  }
}

function span(first: number, length: number): number[] {
  return Array.from({ length }, (_, index) => first + index);
}

/** Only what must be told is told: blocks of other births, mapped or not, and the grown part. */
function expectExact(newer: ModelCopy, older: ModelCopy, runs: readonly ChangedRun[]): void {
  const end = blocksFor(newer.capacityBytes, newer.pool.size);
  const olderEnd = blocksFor(older.capacityBytes, older.pool.size);
  const below = [...new Set([...newer.blocks.keys(), ...older.blocks.keys()])]
    .filter((block) => block < Math.min(end, olderEnd))
    .filter((block) => isChanged(newer, older, block));
  const told = runs.reduce((sum, { length }) => sum + length, 0);
  expect(told).toBe(below.length + Math.max(0, end - olderEnd));
}

function isChanged(newer: ModelCopy, older: ModelCopy, block: number): boolean {
  const [now, before] = [newer.blocks.get(block), older.blocks.get(block)];
  return now?.id !== before?.id || now?.birth !== before?.birth;
}

/** A checkpoint knows no more: data is told where it must be, and nowhere else. */
function expectExactData(newer: ModelCopy, older: ModelCopy, runs: readonly ChangedRun[]): void {
  const data = runs.filter(({ kind }) => kind === 'data');
  const wanted = [...newer.blocks.keys()].filter((block) => isChanged(newer, older, block));
  expect(data.reduce((sum, { length }) => sum + length, 0)).toBe(wanted.length);
}
