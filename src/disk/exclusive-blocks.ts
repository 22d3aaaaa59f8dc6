/**
 * How many blocks only one root holds: what deleting it, or unmapping a range of it, would free.
 *
 * Subtrees that others hold too are skipped by their counts, so the cost follows what is
 * exclusive. On a live disk the answer is of some moment during the walk.
 */
import { isStorageError } from '../base/errors.ts';
import type { PageKey } from '../pool/metadata-pages.ts';
import {
  FAN_OUT,
  type TableRoot,
  type TableSpace,
  childOf,
  entryAt,
  mappedBelow,
  span,
} from './allocation-table.ts';

const ATTEMPTS = 5;

/** Blocks `first` … `end` - 1. */
export interface BlockRange {
  readonly first: number;
  readonly end: number;
}

const EVERYTHING: BlockRange = { first: 0, end: Infinity };

export async function exclusiveBlocks(
  space: TableSpace,
  rootOf: () => TableRoot,
  range: BlockRange = EVERYTHING,
): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const { node, height } = rootOf();
      return node === 0 ? 0 : await countBelow(space, { node, height, first: 0 }, range);
    } catch (error) {
      // a node went away under a live disk: begin again
      if (attempt === ATTEMPTS || !isStorageError(error, 'METADATA_INVALID')) throw error;
    }
  }
}

/** A node of the tree, and the first block that it can map. */
interface Branch {
  readonly node: number;
  readonly height: number;
  readonly first: number;
}

async function countBelow(space: TableSpace, branch: Branch, range: BlockRange): Promise<number> {
  const { node, height, first } = branch;
  const nodePage: PageKey = { kind: 'node', number: node };
  await resident(space, () => [nodePage, space.nodeCounts.keyOf(node)]);
  if (space.nodeCounts.extra(node) > 0) return 0;
  if (height === 1) return countLeaf(space, branch, range);
  const children: Branch[] = [];
  const page = space.pages.page('node', node);
  const step = span(height - 1);
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    const start = first + slot * step;
    if (start >= range.end || start + step <= range.first) continue;
    if (mappedBelow(page, slot) === 0) continue;
    children.push({ node: childOf(page, slot), height: height - 1, first: start });
  }
  let count = 0;
  for (const child of children) count += await countBelow(space, child, range);
  return count;
}

async function countLeaf(
  space: TableSpace,
  { node, first }: Branch,
  range: BlockRange,
): Promise<number> {
  const nodePage: PageKey = { kind: 'node', number: node };
  const firstSlot = Math.max(0, range.first - first);
  const endSlot = Math.min(FAN_OUT, range.end - first);
  const blocks = (): number[] => {
    if (!space.pages.isResident('node', node)) return [];
    const page = space.pages.page('node', node);
    const held: number[] = [];
    for (let slot = firstSlot; slot < endSlot; slot += 1) {
      const { block } = entryAt(page, slot);
      if (block >= 0) held.push(block);
    }
    return held;
  };
  await resident(space, () => [
    nodePage,
    ...blocks().map((block) => space.blockCounts.keyOf(block)),
  ]);
  return blocks().filter((block) => space.blockCounts.extra(block) === 0).length;
}

/** Until all wanted pages are resident in this turn. */
async function resident(space: TableSpace, wanted: () => readonly PageKey[]): Promise<void> {
  for (;;) {
    const missing = wanted().filter(({ kind, number }) => !space.pages.isResident(kind, number));
    if (missing.length === 0) return;
    await space.pages.ensure(missing);
  }
}
