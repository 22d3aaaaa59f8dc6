/**
 * Dedicated copies that are being filled: each block is in one of their two tables, and the room
 * that the others will need is free.
 *
 * That no block is in none of them follows from the counts: the row says how many blocks the copy
 * has and how many of them are owed, and each table is counted.
 */
import { FAN_OUT, childOf, entryAt, span } from '../disk/allocation-table.ts';
import type { PoolPlace } from './check-rows.ts';
import type { Findings } from './finding.ts';
import type { Page } from '../pool/metadata-pages.ts';
import { SLOTS, SUMMARY, hasLength, nodePage, slices, wordsOf } from './pages.ts';
import type { CheckSource } from './source.ts';
import type { OwedRow, RootRow, StoreRows } from './store-rows.ts';
import { GROUP_BLOCKS } from '../pool/allocator.ts';

/** Compares the two tables of each, a few leaves at a step. */
export function* checkOwed(
  source: CheckSource,
  rows: StoreRows,
  places: readonly PoolPlace[],
  findings: Findings,
): Generator<undefined> {
  for (const { copy, own, owed } of rows.filling) {
    const [ownTree, owedTree] = [own, owed].map((root) => treeOf(source, places, root));
    if (ownTree === undefined || owedTree === undefined) continue;
    for (const { first, leaf } of leavesOf(owedTree, owedTree.root.node, owedTree.root.height, 0)) {
      yield undefined;
      const other = leafAt(ownTree, first);
      for (let slot = 0; other !== undefined && slot < FAN_OUT; slot += 1) {
        if (entryAt(leaf, slot).block < 0 || entryAt(other, slot).block < 0) continue;
        const message = `block ${first + slot} of copy ${own.name ?? copy} is in both its tables`;
        findings.add('OWED_TWICE', message, { copy, logical: first + slot });
      }
    }
  }
}

/** The free blocks of each pool against what its dedicated copies are owed. */
export function checkReservedRoom(
  source: CheckSource,
  rows: StoreRows,
  places: readonly PoolPlace[],
  findings: Findings,
): void {
  for (const { pool, totalBlocks } of places) {
    const reserved = reservedIn(rows.filling, pool.id);
    if (reserved === 0) continue;
    const summaries = SUMMARY + Math.ceil(Math.ceil(totalBlocks / GROUP_BLOCKS) / SLOTS);
    let used = 0;
    for (const slice of slices(source, pool.number, 'bitmap', SUMMARY, summaries)) {
      for (const { data } of slice) {
        if (hasLength('bitmap', data)) for (const count of wordsOf(data)) used += count;
      }
    }
    const free = totalBlocks - used;
    if (free >= reserved) continue;
    const message = `pool ${pool.name} has ${free} free blocks, ${reserved} are reserved`;
    findings.add('RESERVED_ROOM', message, { pool: pool.id, free, reserved });
  }
}

function reservedIn(filling: readonly OwedRow[], pool: string): number {
  const here = filling.filter(({ own }) => own.pool === pool);
  return here.reduce((sum, { owed }) => sum + owed.mapped, 0);
}

interface TreeOf {
  readonly root: RootRow;
  /** A node, or undefined if it cannot be read: that is found elsewhere. */
  node(number: number): Page | undefined;
}

function treeOf(
  source: CheckSource,
  places: readonly PoolPlace[],
  root: RootRow,
): TreeOf | undefined {
  const pool = places.find((place) => place.pool.id === root.pool)?.pool.number;
  if (pool === undefined) return undefined;
  return {
    root,
    node(number) {
      const data = number === 0 ? undefined : source.page(pool, 'node', number);
      return data === undefined || !hasLength('node', data) ? undefined : nodePage(number, data);
    },
  };
}

function isInner(page: Page): boolean {
  return page.words.length > FAN_OUT * 2;
}

function* leavesOf(
  tree: TreeOf,
  number: number,
  height: number,
  first: number,
): Generator<{ first: number; leaf: Page }> {
  const page = tree.node(number);
  if (page === undefined || isInner(page) !== height > 1) return;
  if (height === 1) {
    yield { first, leaf: page };
    return;
  }
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    const child = childOf(page, slot);
    if (child === 0) continue;
    yield* leavesOf(tree, child, height - 1, first + slot * span(height - 1));
  }
}

function leafAt(tree: TreeOf, first: number): Page | undefined {
  const { node, height } = tree.root;
  if (node === 0 || first >= span(height)) return undefined;
  let page = tree.node(node);
  for (let level = height; level > 1; level -= 1) {
    if (page === undefined || !isInner(page)) return undefined;
    page = tree.node(childOf(page, Math.floor(first / span(level - 1)) % FAN_OUT));
  }
  return page === undefined || isInner(page) ? undefined : page;
}
