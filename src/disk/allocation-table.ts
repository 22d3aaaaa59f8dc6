/**
 * The allocation table of a disk or copy: a persistent radix tree A → (P, birth).
 *
 * Fan-out 512. A leaf holds 512 entries of 8 bytes: u32 P + 1 (0: no block) and u32 birth. An
 * inner node holds 512 child ids (u64), and of each child the count of mapped blocks below (u32)
 * and a bound of the births below (u32): what changed since a generation is found without reading
 * the rest. The height of the tree follows the highest mapped block, never the capacity. A root is
 * a value: sharing one costs one reference. A node with one holder on an unshared path is changed
 * in place; any other is copied first, and the copy adds one reference to each thing below.
 *
 * Entry: P + 1 ≠ 0 is data born in `birth`; P + 1 = 0 with birth ≠ 0 is a tombstone (unmapped in
 * that generation, remembered for differences); 0, 0 was never written.
 *
 * Everything here is synchronous on resident pages. `missing…` answers which pages to make
 * resident first; an empty answer makes the next call, in the same turn, valid.
 *
 * Invariants:
 *  1. A node's count = its parents + roots that hold it; a block's count = leaves that hold it.
 *  2. A count of mapped blocks in an inner node = mapped entries below that child.
 *  3. Nothing reachable from a shared node is ever changed.
 *  4. No node without any entry or tombstone stays in the tree.
 *  5. No birth below a child is later than the bound that its inner node has for it.
 *
 * Seed: FIG. 2B, 10, 12.
 */
import { assert } from '../base/assert.ts';
import {
  INNER_BYTES,
  type MetadataPages,
  PAGE_BYTES,
  type Page,
  type PageKey,
} from '../pool/metadata-pages.ts';
import type { ReferenceCounts } from '../pool/reference-counts.ts';

export const FAN_OUT = 512;
const COUNTS_AT = FAN_OUT * 2;
const BIRTHS_AT = FAN_OUT * 3;
/** A bound that is not known: of nodes from before there were bounds. */
export const ANY_BIRTH = 2 ** 32 - 1;

/** node 0: nothing is mapped. Height 1: the root is a leaf. */
export interface TableRoot {
  readonly node: number;
  readonly height: number;
  readonly mapped: number;
}

export const EMPTY_ROOT: TableRoot = { node: 0, height: 0, mapped: 0 };

/** block < 0: no block. */
export interface TableEntry {
  readonly block: number;
  readonly birth: number;
}

const NO_ENTRY: TableEntry = { block: -1, birth: 0 };

/** What the tables need of their pool. */
export interface TableSpace {
  readonly pages: MetadataPages;
  readonly nodeCounts: ReferenceCounts;
  readonly blockCounts: ReferenceCounts;
  /** The id that the next call of takeNodeId gives. */
  readonly nextNodeId: number;
  takeNodeId(): number;
  missingForDrop(block: number): PageKey[];
  dropBlock(block: number): void;
}

/** Number of blocks that a tree of this height can map. */
export function span(height: number): number {
  return FAN_OUT ** height;
}

/** Index of the child on the path to A at this height (1 is a leaf). Division: A may pass 2^32. */
export function slotAt(height: number, logical: number): number {
  return Math.floor(logical / span(height - 1)) % FAN_OUT;
}

export function childOf(page: Page, slot: number): number {
  return (page.words[slot * 2 + 1] ?? 0) * 2 ** 32 + (page.words[slot * 2] ?? 0);
}

export function mappedBelow(page: Page, slot: number): number {
  return page.words[COUNTS_AT + slot] ?? 0;
}

/** No birth below this child is later: of blocks and of tombstones. */
export function youngestBelow(page: Page, slot: number): number {
  return page.words[BIRTHS_AT + slot] ?? ANY_BIRTH;
}

export function entryAt(page: Page, slot: number): TableEntry {
  return { block: (page.words[slot * 2] ?? 0) - 1, birth: page.words[slot * 2 + 1] ?? 0 };
}

/** The pages of the path to A that are not resident (at most one: the next one down). */
export function missingOnPath(space: TableSpace, root: TableRoot, logical: number): PageKey[] {
  let node = logical < span(root.height) ? root.node : 0;
  for (let height = root.height; node !== 0 && height >= 1; height -= 1) {
    if (!space.pages.isResident('node', node)) return [{ kind: 'node', number: node }];
    if (height > 1) node = childOf(space.pages.page('node', node), slotAt(height, logical));
  }
  return [];
}

/** Pages to make resident before looking up `count` blocks from `first`. */
export function missingForLookup(
  space: TableSpace,
  root: TableRoot,
  first: number,
  count: number,
): PageKey[] {
  const missing: PageKey[] = [];
  for (let at = first; at < first + count; at = leafEnd(at)) {
    missing.push(...missingOnPath(space, root, at));
  }
  return missing;
}

/** First block of the next leaf. */
export function leafEnd(logical: number): number {
  return (Math.floor(logical / FAN_OUT) + 1) * FAN_OUT;
}

/** The leaf that holds A, or undefined if there is none. */
export function leafOf(space: TableSpace, root: TableRoot, logical: number): Page | undefined {
  let node = logical < span(root.height) ? root.node : 0;
  for (let height = root.height; node !== 0; height -= 1) {
    const page = space.pages.page('node', node);
    if (height === 1) return page;
    node = childOf(page, slotAt(height, logical));
  }
  return undefined;
}

export function lookup(space: TableSpace, root: TableRoot, logical: number): TableEntry {
  const leaf = leafOf(space, root, logical);
  return leaf === undefined ? NO_ENTRY : entryAt(leaf, logical % FAN_OUT);
}

/** True if A's leaf is reached by this root alone (its path pages and counts are resident). */
export function isPathExclusive(space: TableSpace, root: TableRoot, logical: number): boolean {
  let node = logical < span(root.height) ? root.node : 0;
  for (let height = root.height; node !== 0; height -= 1) {
    if (space.nodeCounts.extra(node) > 0) return false;
    if (height === 1) return true;
    node = childOf(space.pages.page('node', node), slotAt(height, logical));
  }
  return false;
}

/** One change of an entry; block < 0 unmaps (birth ≠ 0 leaves a tombstone). */
export interface TableChange {
  readonly logical: number;
  readonly block: number;
  readonly birth: number;
}

/** Pages to make resident before `change` of `count` blocks from `first`. */
export function missingForChange(
  space: TableSpace,
  root: TableRoot,
  first: number,
  count: number,
): PageKey[] {
  const missing: PageKey[] = [];
  for (let at = first; at < first + count; at = leafEnd(at)) {
    const end = Math.min(first + count, leafEnd(at));
    missing.push(...missingForLeafChange(space, root, at, end - at));
  }
  return missing;
}

function missingForLeafChange(
  space: TableSpace,
  root: TableRoot,
  first: number,
  count: number,
): PageKey[] {
  const missing = missingOnPath(space, root, first);
  // new nodes get the next ids: a path is at most six nodes, a taller root six more
  for (const id of [space.nextNodeId, space.nextNodeId + 12]) {
    if (!space.nodeCounts.isResident(id)) missing.push(space.nodeCounts.keyOf(id));
  }
  // a root that must first grow taller is put below a new node as it is
  if (missing.length > 0 || first >= span(root.height)) return missing;
  let node = root.node;
  let shared = false;
  for (let height = root.height; node !== 0 && height >= 1; height -= 1) {
    if (!space.nodeCounts.isResident(node)) return [space.nodeCounts.keyOf(node)];
    shared ||= space.nodeCounts.extra(node) > 0;
    const page = space.pages.page('node', node);
    if (shared) missing.push(...missingForCopy(space, page, height));
    if (height === 1) {
      missing.push(...missingForDrops(space, page, first, count));
      break;
    }
    node = childOf(page, slotAt(height, first));
  }
  return missing;
}

/** Count pages of everything that a copied node holds. */
function missingForCopy(space: TableSpace, page: Page, height: number): PageKey[] {
  const missing = new Map<number, PageKey>();
  const counts = height === 1 ? space.blockCounts : space.nodeCounts;
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    const held = height === 1 ? (page.words[slot * 2] ?? 0) - 1 : childOf(page, slot) || -1;
    if (held < 0 || counts.isResident(held)) continue;
    const key = counts.keyOf(held);
    missing.set(key.number, key);
  }
  return [...missing.values()];
}

function missingForDrops(space: TableSpace, leaf: Page, first: number, count: number): PageKey[] {
  const missing: PageKey[] = [];
  for (let logical = first; logical < first + count; logical += 1) {
    const { block } = entryAt(leaf, logical % FAN_OUT);
    if (block >= 0) missing.push(...space.missingForDrop(block));
  }
  return missing;
}

/**
 * Applies changes, ascending by A and all within one leaf, and gives the new root.
 * Blocks that lose their last holder are dropped; the root passed in must not be used again.
 *
 * @param youngest no birth in the table is later; default: the latest of the changes, since a disk
 *   writes in its own generation
 */
export function change(
  space: TableSpace,
  root: TableRoot,
  changes: readonly TableChange[],
  youngest?: number,
): TableRoot {
  const [head] = changes;
  if (head === undefined) return root;
  const unmapsOnly = changes.every((each) => each.block < 0 && each.birth === 0);
  if (unmapsOnly && leafOf(space, root, head.logical) === undefined) return root;
  const birth = changes.reduce((latest, each) => Math.max(latest, each.birth), 0);
  const tall = grow(space, root, head.logical, youngest ?? birth);
  const path = writablePath(space, tall, head.logical);
  const leaf = path.at(-1);
  assert(leaf !== undefined, 'a path ends in a leaf');
  let delta = 0;
  for (const each of changes) delta += changeEntry(space, leaf, each);
  tellPath(space, path, { logical: head.logical, delta, birth });
  const top = path[0];
  assert(top !== undefined, 'a path begins at the root');
  const next: TableRoot = { node: top.number, height: tall.height, mapped: tall.mapped + delta };
  return pruneEmpty(space, next, path, head.logical);
}

function changeEntry(space: TableSpace, leaf: Page, change: TableChange): number {
  const slot = change.logical % FAN_OUT;
  const old = entryAt(leaf, slot);
  space.pages.change(leaf);
  leaf.words[slot * 2] = change.block + 1;
  leaf.words[slot * 2 + 1] = change.birth;
  if (old.block >= 0 && old.block !== change.block) space.dropBlock(old.block);
  return (change.block >= 0 ? 1 : 0) - (old.block >= 0 ? 1 : 0);
}

/**
 * Puts new roots on top until A fits.
 * @param youngest no birth in the table is later; 0 if that is not known
 */
function grow(space: TableSpace, root: TableRoot, logical: number, youngest: number): TableRoot {
  let { node, height } = root;
  if (node === 0) {
    height = 1;
    while (logical >= span(height)) height += 1;
    return { node: 0, height, mapped: 0 };
  }
  while (logical >= span(height)) {
    const page = space.pages.create('node', space.takeNodeId(), INNER_BYTES);
    setChild(space, page, 0, { node, mapped: root.mapped, youngest: youngest || ANY_BIRTH });
    node = page.number;
    height += 1;
  }
  return { node, height, mapped: root.mapped };
}

/** The path from the root to A's leaf, made of nodes that only this root holds. */
function writablePath(space: TableSpace, root: TableRoot, logical: number): Page[] {
  const path: Page[] = [];
  let node = root.node;
  for (let height = root.height; height >= 1; height -= 1) {
    const page = writableNode(space, node, height);
    const parent = path.at(-1);
    if (parent !== undefined && page.number !== node) {
      const slot = slotAt(height + 1, logical);
      const mapped = mappedBelow(parent, slot);
      const youngest = youngestBelow(parent, slot);
      setChild(space, parent, slot, { node: page.number, mapped, youngest });
    }
    path.push(page);
    if (height > 1) node = childOf(page, slotAt(height, logical));
  }
  return path;
}

function writableNode(space: TableSpace, node: number, height: number): Page {
  const bytes = height === 1 ? PAGE_BYTES : INNER_BYTES;
  if (node === 0) return space.pages.create('node', space.takeNodeId(), bytes);
  if (space.nodeCounts.extra(node) === 0) return space.pages.page('node', node);
  const shared = space.pages.page('node', node);
  const copy = space.pages.create('node', space.takeNodeId(), bytes);
  copy.words.set(shared.words);
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    if (height === 1) {
      const { block } = entryAt(copy, slot);
      if (block >= 0) space.blockCounts.add(block);
    } else {
      const child = childOf(copy, slot);
      if (child === 0) continue;
      space.nodeCounts.add(child);
      copy.words[BIRTHS_AT + slot] = youngestBelow(shared, slot);
    }
  }
  space.nodeCounts.drop(node);
  return copy;
}

interface Child {
  readonly node: number;
  readonly mapped: number;
  readonly youngest: number;
}

const NO_CHILD: Child = { node: 0, mapped: 0, youngest: 0 };

function setChild(space: TableSpace, page: Page, slot: number, child: Child): void {
  const { node, mapped, youngest } = child;
  space.pages.change(page);
  page.words[slot * 2] = node % 2 ** 32;
  page.words[slot * 2 + 1] = Math.floor(node / 2 ** 32);
  page.words[COUNTS_AT + slot] = mapped;
  page.words[BIRTHS_AT + slot] = youngest;
}

/** Tells the inner nodes of a path what has changed below. */
function tellPath(
  space: TableSpace,
  path: readonly Page[],
  { logical, delta, birth }: { logical: number; delta: number; birth: number },
): void {
  path.slice(0, -1).forEach((page, index) => {
    const slot = slotAt(path.length - index, logical);
    const youngest = youngestBelow(page, slot);
    if (delta === 0 && birth <= youngest) return;
    space.pages.change(page);
    page.words[COUNTS_AT + slot] = mappedBelow(page, slot) + delta;
    page.words[BIRTHS_AT + slot] = Math.max(youngest, birth);
  });
}

/** Removes nodes of the path that hold nothing any more, from the leaf up. */
function pruneEmpty(
  space: TableSpace,
  root: TableRoot,
  path: readonly Page[],
  logical: number,
): TableRoot {
  for (let index = path.length - 1; index >= 0; index -= 1) {
    const page = path[index];
    assert(page !== undefined, 'path index');
    if (page.words.some((word) => word !== 0)) return root;
    space.pages.remove(page);
    const parent = path[index - 1];
    if (parent !== undefined) {
      setChild(space, parent, slotAt(path.length - index + 1, logical), NO_CHILD);
    }
  }
  return EMPTY_ROOT;
}
