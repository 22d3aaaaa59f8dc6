/**
 * How many blocks only one root holds: what deleting it now would free.
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
} from './allocation-table.ts';

const ATTEMPTS = 5;

export async function exclusiveBlocks(space: TableSpace, rootOf: () => TableRoot): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const { node, height } = rootOf();
      return node === 0 ? 0 : await countBelow(space, node, height);
    } catch (error) {
      // a node went away under a live disk: begin again
      if (attempt === ATTEMPTS || !isStorageError(error, 'METADATA_INVALID')) throw error;
    }
  }
}

async function countBelow(space: TableSpace, node: number, height: number): Promise<number> {
  const nodePage: PageKey = { kind: 'node', number: node };
  await resident(space, () => [nodePage, space.nodeCounts.keyOf(node)]);
  if (space.nodeCounts.extra(node) > 0) return 0;
  if (height === 1) return countLeaf(space, node);
  const children: number[] = [];
  const page = space.pages.page('node', node);
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    if (mappedBelow(page, slot) > 0) children.push(childOf(page, slot));
  }
  let count = 0;
  for (const child of children) count += await countBelow(space, child, height - 1);
  return count;
}

async function countLeaf(space: TableSpace, node: number): Promise<number> {
  const nodePage: PageKey = { kind: 'node', number: node };
  const blocks = (): number[] => {
    if (!space.pages.isResident('node', node)) return [];
    const page = space.pages.page('node', node);
    const held: number[] = [];
    for (let slot = 0; slot < FAN_OUT; slot += 1) {
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
