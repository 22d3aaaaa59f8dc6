/**
 * Takes entries out of an owed table in such a way that it can be put back exactly as it was, also
 * when others have changed what they share with it meanwhile.
 *
 * Nothing that the table lets go is let go before the change is durable: it is held as a dead root
 * in the same transaction, and given to the reclaimer afterwards. Where the way to the leaf is
 * shared, `change` copies it, and the topmost shared node keeps the reference that it would lose.
 * Where the way is the table's own, the entries move into a leaf of their own, which is dead.
 * So no disk sees a node or block as its own, and overwrites it, before there is no way back.
 */
import { defined } from '../../base/assert.ts';
import {
  FAN_OUT,
  type TableRoot,
  change,
  childOf,
  mappedBelow,
  slotAt,
} from '../../disk/allocation-table.ts';
import type { HeldRoot, Reclaimer } from '../../disk/reclaimer.ts';
import { PAGE_BYTES, type Page } from '../../pool/metadata-pages.ts';
import type { Pool } from '../../pool/pool.ts';
import type { Move } from './apply-moves.ts';

export interface TakenOut {
  /** The table without the entries. */
  readonly root: TableRoot;
  /** What was let go: the reclaimer's once it is durable that it is. */
  readonly held: readonly HeldRoot[];
  /** The table as it was, in memory. Last taken out, first put back. */
  putBack(): void;
}

/** Entries of one leaf, ascending; all pages for changing them are resident. */
export function takeOut(
  pool: Pool,
  reclaimer: Reclaimer,
  root: TableRoot,
  moves: readonly Move[],
): TakenOut {
  const { logical } = defined(moves[0], 'move');
  const path = pathTo(pool, root, logical);
  const top = path.findIndex(({ number }) => pool.nodeCounts.extra(number) > 0);
  const own = top < 0 ? path : path.slice(0, top);
  const before = own.map((page) => ({ page, words: page.words.slice() }));
  const held: HeldRoot[] = [];
  const data = moves.filter(({ block }) => block >= 0);
  const shared = path[top];
  const dead = shared ?? deadLeaf(pool, data);
  if (shared !== undefined) pool.nodeCounts.add(shared.number);
  const height = shared === undefined ? 1 : root.height - top;
  if (dead !== undefined) {
    const mapped = shared === undefined ? data.length : mappedOf(root, own.at(-1), height, logical);
    held.push(reclaimer.hold({ node: dead.number, height, mapped }, data.length));
  }
  const unmapped = moves.map((move) => ({ logical: move.logical, block: -1, birth: 0 }));
  const after = change(pool, root, unmapped);
  return {
    root: after,
    held,
    putBack() {
      if (shared !== undefined) buryCopies(pool, reclaimer, after, height, logical);
      else if (dead !== undefined) pool.pages.remove(dead);
      for (const { page, words } of before) {
        pool.pages.putBack(page);
        page.words.set(words);
      }
      for (const each of held) reclaimer.takeBack(each);
    },
  };
}

function pathTo(pool: Pool, root: TableRoot, logical: number): Page[] {
  const path: Page[] = [];
  let { node } = root;
  for (let height = root.height; height >= 1; height -= 1) {
    const page = pool.pages.page('node', node);
    path.push(page);
    if (height > 1) node = childOf(page, slotAt(height, logical));
  }
  return path;
}

/** Mapped blocks below the node at this height on the way to A. */
function mappedOf(
  root: TableRoot,
  parent: Page | undefined,
  height: number,
  logical: number,
): number {
  return parent === undefined ? root.mapped : mappedBelow(parent, slotAt(height + 1, logical));
}

/** A leaf that holds the blocks instead of the one that they are taken out of. */
function deadLeaf(pool: Pool, data: readonly Move[]): Page | undefined {
  if (data.length === 0) return undefined;
  const page = pool.pages.create('node', pool.takeNodeId(), PAGE_BYTES);
  for (const { logical, block, birth } of data) {
    pool.blockCounts.add(block);
    page.words[(logical % FAN_OUT) * 2] = block + 1;
    page.words[(logical % FAN_OUT) * 2 + 1] = birth;
  }
  return page;
}

/** What `change` has made of the shared nodes, from this height down, is nobody's. */
function buryCopies(
  pool: Pool,
  reclaimer: Reclaimer,
  root: TableRoot,
  height: number,
  logical: number,
): void {
  let { node, mapped } = root;
  for (let at = root.height; at > height && node !== 0; at -= 1) {
    const page = pool.pages.page('node', node);
    const slot = slotAt(at, logical);
    [node, mapped] = [childOf(page, slot), mappedBelow(page, slot)];
  }
  reclaimer.add({ node, height, mapped });
}
