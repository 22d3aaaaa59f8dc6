/**
 * Walks an allocation table in ascending A, reading pages as it goes: by A or by X (the rank among
 * mapped blocks). Cost follows mapped blocks met, never capacity: empty subtrees are skipped by
 * their counts.
 *
 * The root is asked for anew after every read of a page, so a live disk may change meanwhile; a
 * copy's never does, and its users keep it alive.
 */
import { assert } from '../base/assert.ts';
import type { Page, PageKey } from '../pool/metadata-pages.ts';
import {
  FAN_OUT,
  type TableRoot,
  type TableSpace,
  childOf,
  entryAt,
  mappedBelow,
  span,
} from './allocation-table.ts';

export type Found =
  | { readonly kind: 'missing'; readonly page: PageKey }
  | { readonly kind: 'leaf'; readonly first: number; readonly leaf: Page }
  | { readonly kind: 'none' };

interface Place {
  readonly node: number;
  readonly height: number;
  /** First block below this node. */
  readonly base: number;
}

/** First leaf with a mapped block at or after `from`. */
function findLeaf(space: TableSpace, at: Place, from: number): Found {
  if (!space.pages.isResident('node', at.node)) {
    return { kind: 'missing', page: { kind: 'node', number: at.node } };
  }
  const page = space.pages.page('node', at.node);
  if (at.height === 1) {
    const begin = Math.max(0, from - at.base);
    for (let slot = begin; slot < FAN_OUT; slot += 1) {
      if (page.words[slot * 2] !== 0) return { kind: 'leaf', first: at.base, leaf: page };
    }
    return { kind: 'none' };
  }
  const below = span(at.height - 1);
  for (let slot = Math.max(0, Math.floor((from - at.base) / below)); slot < FAN_OUT; slot += 1) {
    if (mappedBelow(page, slot) === 0) continue;
    const child = {
      node: childOf(page, slot),
      height: at.height - 1,
      base: at.base + slot * below,
    };
    const found = findLeaf(space, child, from);
    if (found.kind !== 'none') return found;
  }
  return { kind: 'none' };
}

/** First leaf of a table with a mapped block at or after `from`. */
export function firstLeaf(space: TableSpace, { node, height }: TableRoot, from: number): Found {
  if (node === 0 || from >= span(height)) return { kind: 'none' };
  return findLeaf(space, { node, height, base: 0 }, from);
}

/**
 * Calls `visit` for each leaf with mapped blocks at or after `from`, in order, without any `await`
 * between the look and the call; stops when it answers false.
 */
export async function walkLeaves(
  space: TableSpace,
  rootOf: () => TableRoot,
  from: number,
  visit: (first: number, leaf: Page) => boolean,
): Promise<void> {
  let at = from;
  for (;;) {
    const found = firstLeaf(space, rootOf(), at);
    if (found.kind === 'none') return;
    if (found.kind === 'missing') {
      await space.pages.ensure([found.page]);
      continue;
    }
    if (!visit(found.first, found.leaf)) return;
    at = found.first + FAN_OUT;
  }
}

/** First mapped block at or after `from`, or undefined. */
export async function nextMapped(
  space: TableSpace,
  rootOf: () => TableRoot,
  from: number,
): Promise<number | undefined> {
  let next: number | undefined;
  await walkLeaves(space, rootOf, from, (first, leaf) => {
    for (let slot = Math.max(0, from - first); slot < FAN_OUT && next === undefined; slot += 1) {
      if (entryAt(leaf, slot).block >= 0) next = first + slot;
    }
    return next === undefined;
  });
  return next;
}

/** A of the mapped block with rank X, 0 ≤ X < mapped, of a root that stays. Cost: one path. */
export async function selectMapped(
  space: TableSpace,
  rootOf: () => TableRoot,
  rank: number,
): Promise<number> {
  const root = rootOf();
  let place: Place = { node: root.node, height: root.height, base: 0 };
  let left = rank;
  for (;;) {
    const key: PageKey = { kind: 'node', number: place.node };
    while (!space.pages.isResident(key.kind, key.number)) {
      await space.pages.ensure([key]);
      rootOf();
    }
    const page = space.pages.page('node', place.node);
    let slot = 0;
    if (place.height === 1) {
      for (; slot < FAN_OUT; slot += 1) {
        if (entryAt(page, slot).block < 0) continue;
        if (left === 0) return place.base + slot;
        left -= 1;
      }
      assert(false, `no mapped block of rank ${rank}`);
    }
    while (slot < FAN_OUT && left >= mappedBelow(page, slot)) {
      left -= mappedBelow(page, slot);
      slot += 1;
    }
    const base = place.base + slot * span(place.height - 1);
    place = { node: childOf(page, slot), height: place.height - 1, base };
  }
}

/** Consecutive mapped blocks. */
export interface MappedRun {
  readonly first: number;
  readonly length: number;
  /** P of the first block if the run was asked for with places: then P is consecutive too. */
  readonly physical: number;
}

/**
 * Runs of mapped blocks from A on: at most `maxRuns` runs and `maxBlocks` blocks.
 *
 * @param physical split runs where P is not consecutive
 */
export async function mappedRuns(
  space: TableSpace,
  rootOf: () => TableRoot,
  o: { from: number; to?: number; maxRuns: number; maxBlocks?: number; physical: boolean },
): Promise<MappedRun[]> {
  const runs: { first: number; length: number; physical: number }[] = [];
  const end = o.to ?? Infinity;
  let left = o.maxBlocks ?? Infinity;
  await walkLeaves(space, rootOf, o.from, (first, leaf) => {
    for (let slot = Math.max(0, o.from - first); slot < FAN_OUT; slot += 1) {
      const { block } = entryAt(leaf, slot);
      if (block < 0) continue;
      const logical = first + slot;
      if (logical >= end || left === 0) return false;
      const last = runs.at(-1);
      const joins =
        last?.first !== undefined &&
        last.first + last.length === logical &&
        (!o.physical || last.physical + last.length === block);
      if (joins) last.length += 1;
      else if (runs.length === o.maxRuns) return false;
      else runs.push({ first: logical, length: 1, physical: block });
      left -= 1;
    }
    return true;
  });
  return runs;
}
