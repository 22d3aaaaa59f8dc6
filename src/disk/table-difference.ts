/**
 * What differs between two tables, or what a table has that is younger than a generation, block by
 * block in ascending A.
 *
 * Between two tables an entry is told by (A, birth), never by P: a block is born by one disk in one
 * generation, so equal births at one address mean equal bytes, and the place may come back for
 * other bytes. Nodes that both tables hold are skipped unread. Against a generation, subtrees
 * without younger births are skipped, and a tombstone tells what was unmapped.
 *
 * A side may be several tables of which at most one maps a block: a copy whose blocks are moving.
 * They are asked for anew after every read of a page, so blocks may move meanwhile.
 *
 * Cost: the nodes that are not shared, or hold younger births, and those above them. Reads pages;
 * gives way to others after every 64 leaves.
 */
import type { Page, PageKey } from '../pool/metadata-pages.ts';
import {
  FAN_OUT,
  type TableRoot,
  type TableSpace,
  childOf,
  entryAt,
  span,
  youngestBelow,
} from './allocation-table.ts';

export interface TableInSpace {
  readonly space: TableSpace;
  readonly root: TableRoot;
}

/** The tables of a copy, which together never change what they map. @throws NOT_FOUND if gone */
export type TablesOf = () => readonly TableInSpace[];

/** `data`: mapped now; `zero`: mapped no more. */
export type ChangeKind = 'data' | 'zero';

export interface Compared {
  readonly newer: TablesOf;
  /** Other tables, or a generation of which the newer ones know all that followed. */
  readonly since: TablesOf | number;
}

const LEAVES_PER_TURN = 64;

interface Branch {
  readonly space: TableSpace;
  readonly node: number;
  readonly height: number;
}

interface Place {
  readonly newer: readonly Branch[];
  readonly older: readonly Branch[];
  readonly height: number;
  /** First block below. */
  readonly base: number;
}

interface Missing {
  readonly space: TableSpace;
  readonly page: PageKey;
}

type Found =
  | { readonly kind: 'missing'; readonly missing: readonly Missing[] }
  | { readonly kind: 'leaf'; readonly place: Place }
  | { readonly kind: 'none' };

const NONE: Found = { kind: 'none' };

/** Blocks `from` … `to` - 1. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** Calls `visit` for each changed block of the range, ascending; stops when it answers false. */
export async function walkChanges(
  compared: Compared,
  range: Range,
  visit: (logical: number, kind: ChangeKind) => boolean,
): Promise<void> {
  const after = typeof compared.since === 'number' ? compared.since : -1;
  let { from } = range;
  for (let leaves = 1; from < range.to;) {
    const found = findLeaf(rootsOf(compared), { from, to: range.to }, after);
    if (found.kind === 'none') return;
    if (found.kind === 'missing') {
      await Promise.all(found.missing.map(({ space, page }) => space.pages.ensure([page])));
      continue;
    }
    if (!visitLeaf(found.place, { from, to: range.to }, after, visit)) return;
    from = found.place.base + FAN_OUT;
    leaves += 1;
    if (leaves % LEAVES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

function rootsOf({ newer, since }: Compared): Place {
  const branches = (tablesOf: TablesOf): Branch[] =>
    tablesOf().flatMap(({ space, root: { node, height } }) =>
      node === 0 ? [] : [{ space, node, height }],
    );
  const sides = { newer: branches(newer), older: typeof since === 'number' ? [] : branches(since) };
  const heights = [...sides.newer, ...sides.older].map(({ height }) => height);
  return { ...sides, height: Math.max(1, ...heights), base: 0 };
}

/**
 * The first leaf of the range that may differ.
 * @param after births up to this are no change; -1: what differs from the older side is
 */
function findLeaf(place: Place, range: Range, after: number): Found {
  const { newer, older, height, base } = place;
  if (range.from >= base + span(height) || isSame(newer, older)) return NONE;
  const missing = missingOf([...newer, ...older], height);
  if (missing.length > 0) return { kind: 'missing', missing };
  if (height === 1) return { kind: 'leaf', place };
  const below = span(height - 1);
  const begin = Math.max(0, Math.floor((range.from - base) / below));
  for (let slot = begin; slot < FAN_OUT && base + slot * below < range.to; slot += 1) {
    const child: Place = {
      newer: childrenOf(newer, height, slot, after),
      older: childrenOf(older, height, slot, after),
      height: height - 1,
      base: base + slot * below,
    };
    const found = findLeaf(child, range, after);
    if (found.kind !== 'none') return found;
  }
  return NONE;
}

function isSame(newer: readonly Branch[], older: readonly Branch[]): boolean {
  if (newer.length !== older.length) return false;
  return newer.every(({ space, node }, index) => {
    const other = older[index];
    return other?.node === node && other.space === space;
  });
}

/** A table that is lower than the place lies below its first child. */
function missingOf(branches: readonly Branch[], height: number): Missing[] {
  return branches
    .filter((each) => each.height === height && !each.space.pages.isResident('node', each.node))
    .map(({ space, node }) => ({ space, page: { kind: 'node', number: node } }));
}

function childrenOf(
  branches: readonly Branch[],
  height: number,
  slot: number,
  after: number,
): Branch[] {
  const children: Branch[] = [];
  for (const branch of branches) {
    if (branch.height < height) {
      if (slot === 0) children.push(branch);
      continue;
    }
    const page = branch.space.pages.page('node', branch.node);
    const node = childOf(page, slot);
    if (node === 0 || youngestBelow(page, slot) <= after) continue;
    children.push({ space: branch.space, node, height: height - 1 });
  }
  return children;
}

/** In one turn with `findLeaf`. */
function visitLeaf(
  { newer, older, base }: Place,
  range: Range,
  after: number,
  visit: (logical: number, kind: ChangeKind) => boolean,
): boolean {
  const pagesOf = (branches: readonly Branch[]): Page[] =>
    branches.map(({ space, node }) => space.pages.page('node', node));
  const [now, before] = [pagesOf(newer), pagesOf(older)];
  const end = Math.min(FAN_OUT, range.to - base);
  for (let slot = Math.max(0, range.from - base); slot < end; slot += 1) {
    const birth = birthAt(now, slot);
    const kind =
      after < 0 ? changeBetween(birth, birthAt(before, slot)) : changeAfter(birth, after);
    if (kind !== undefined && !visit(base + slot, kind)) return false;
  }
  return true;
}

/** Birth of the block, or that of a tombstone below zero; 0: neither. */
function birthAt(leaves: readonly Page[], slot: number): number {
  let tombstone = 0;
  for (const leaf of leaves) {
    const { block, birth } = entryAt(leaf, slot);
    if (block >= 0) return birth;
    tombstone = Math.max(tombstone, birth);
  }
  return -tombstone;
}

function changeBetween(newer: number, older: number): ChangeKind | undefined {
  if (newer > 0) return newer === older ? undefined : 'data';
  return older > 0 ? 'zero' : undefined;
}

function changeAfter(birth: number, after: number): ChangeKind | undefined {
  if (birth > after) return 'data';
  return -birth > after ? 'zero' : undefined;
}
