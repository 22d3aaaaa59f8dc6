/**
 * A copy's blocks are in one allocation table, or in two while a dedicated copy is being filled:
 * its own, and the one that its source's pool still holds for it. Here both are walked as one, by
 * A and by X (the rank among the mapped blocks of all).
 *
 * The tables are asked for anew after every read of a page: a block may move from one to the other
 * meanwhile, but it is in exactly one of them in every turn, so A, X and contents stay the same.
 * A reader enters the epochs of all pools before it looks up P.
 */
import { assert } from '../base/assert.ts';
import { MIB } from '../base/units.ts';
import {
  FAN_OUT,
  type TableRoot,
  childOf,
  entryAt,
  lookup,
  mappedBelow,
  missingForLookup,
  span,
} from '../disk/allocation-table.ts';
import { firstLeaf } from '../disk/table-walk.ts';
import type { Page, PageKey } from '../pool/metadata-pages.ts';
import type { Pool } from '../pool/pool.ts';

export interface Tree {
  readonly pool: Pool;
  readonly root: TableRoot;
}

/** No two of them map the same A. */
export type TreesOf = () => readonly Tree[];

/** Consecutive mapped blocks; asked for with places, consecutive in one pool too. */
export interface PlacedRun {
  readonly first: number;
  readonly length: number;
  readonly physical: number;
  readonly pool: Pool;
  /** Index of its tree. */
  readonly tree: number;
}

const READ_BYTES = 4 * MIB;

interface FoundLeaf {
  readonly pool: Pool;
  readonly tree: number;
  readonly leaf: Page;
}

/** Calls for each leaf place with mapped blocks from `from` on, with the leaves of all trees. */
async function walk(
  treesOf: TreesOf,
  from: number,
  visit: (first: number, leaves: readonly FoundLeaf[]) => boolean,
): Promise<void> {
  for (let at = from; ;) {
    const trees = treesOf();
    const found = trees.map(({ pool, root }, tree) => {
      return { pool, tree, ...firstLeaf(pool, root, at) };
    });
    const missing = found.find((each) => each.kind === 'missing');
    if (missing !== undefined) {
      await missing.pool.pages.ensure([missing.page]);
      continue;
    }
    const leaves = found.filter((each) => each.kind === 'leaf');
    if (leaves.length === 0) return;
    const first = Math.min(...leaves.map((each) => each.first));
    const here = leaves.filter((each) => each.first === first);
    if (!visit(first, here)) return;
    at = first + FAN_OUT;
  }
}

/**
 * Runs of mapped blocks from A on: at most `maxRuns` runs and `maxBlocks` blocks.
 *
 * @param physical split runs where P is not consecutive
 * @param byTree split runs where one tree ends and another begins
 */
export async function placedRuns(
  treesOf: TreesOf,
  o: { from: number; maxRuns: number; maxBlocks?: number; physical?: boolean; byTree?: boolean },
): Promise<PlacedRun[]> {
  const { physical = false, byTree = physical } = o;
  const runs: { -readonly [Field in keyof PlacedRun]: PlacedRun[Field] }[] = [];
  let left = o.maxBlocks ?? Infinity;
  await walk(treesOf, o.from, (first, leaves) => {
    for (let slot = Math.max(0, o.from - first); slot < FAN_OUT; slot += 1) {
      const holder = leaves.find(({ leaf }) => entryAt(leaf, slot).block >= 0);
      if (holder === undefined) continue;
      const { block } = entryAt(holder.leaf, slot);
      if (left === 0) return false;
      const last = runs.at(-1);
      const joins =
        last !== undefined &&
        last.first + last.length === first + slot &&
        (!byTree || last.tree === holder.tree) &&
        (!physical || last.physical + last.length === block);
      if (joins) last.length += 1;
      else if (runs.length === o.maxRuns) return false;
      else {
        const { pool, tree } = holder;
        runs.push({ first: first + slot, length: 1, physical: block, pool, tree });
      }
      left -= 1;
    }
    return true;
  });
  return runs;
}

/** A of the mapped block of rank X, 0 ≤ X < all mapped. Cost: one path in each tree. */
export async function selectBlock(treesOf: TreesOf, rank: number): Promise<number> {
  for (;;) {
    const answer = trySelect(treesOf(), rank);
    if (typeof answer === 'number') return answer;
    await answer.pool.pages.ensure([answer.page]);
  }
}

/** A node of one tree at the height that is looked at. */
interface Branch {
  readonly pool: Pool;
  readonly node: number;
  /** Its own height: lower than the one looked at, it hangs below slot 0 there. */
  readonly height: number;
  readonly mapped: number;
}

function trySelect(trees: readonly Tree[], rank: number): number | { pool: Pool; page: PageKey } {
  let branches: Branch[] = trees
    .filter(({ root }) => root.node !== 0)
    .map(({ pool, root }) => ({ pool, ...root }));
  let left = rank;
  let base = 0;
  for (let height = Math.max(0, ...branches.map((each) => each.height)); height > 0; height -= 1) {
    for (const { pool, node, height: own } of branches) {
      const page: PageKey = { kind: 'node', number: node };
      if (own === height && !pool.pages.isResident('node', node)) return { pool, page };
    }
    if (height === 1) return base + slotOfRank(branches, left);
    for (let slot = 0; ; slot += 1) {
      assert(slot < FAN_OUT, `no mapped block of rank ${rank}`);
      const below = branches.map((branch) => childAt(branch, height, slot));
      const mapped = below.reduce((sum, each) => sum + each.mapped, 0);
      if (left < mapped) {
        branches = below.filter((each) => each.node !== 0);
        base += slot * span(height - 1);
        break;
      }
      left -= mapped;
    }
  }
  assert(false, `no mapped block of rank ${rank}`);
}

function childAt(branch: Branch, height: number, slot: number): Branch {
  const nothing = { ...branch, node: 0, mapped: 0 };
  if (branch.height < height) return slot === 0 ? branch : nothing;
  const page = branch.pool.pages.page('node', branch.node);
  const node = childOf(page, slot);
  const mapped = mappedBelow(page, slot);
  return node === 0 ? nothing : { pool: branch.pool, node, height: height - 1, mapped };
}

function slotOfRank(branches: readonly Branch[], rank: number): number {
  const leaves = branches.map(({ pool, node }) => pool.pages.page('node', node));
  let left = rank;
  for (let slot = 0; slot < FAN_OUT; slot += 1) {
    if (leaves.every((leaf) => entryAt(leaf, slot).block < 0)) continue;
    if (left === 0) return slot;
    left -= 1;
  }
  assert(false, `no mapped block of rank ${rank} in a leaf`);
}

/** A, pool and P of `count` blocks from X on. Cost: the leaves met. */
export async function placesOf(
  treesOf: TreesOf,
  first: number,
  count: number,
): Promise<readonly PlacedRun[]> {
  if (count === 0) return [];
  const from = await selectBlock(treesOf, first);
  return placedRuns(treesOf, { from, maxRuns: count, maxBlocks: count, physical: true });
}

/** Reads by A; what is not mapped reads as zeros. @throws DATA_UNREADABLE */
export async function readByAddress(
  treesOf: TreesOf,
  blockSizeBytes: number,
  offset: number,
  into: Uint8Array,
): Promise<void> {
  for (let at = 0; at < into.length; at += READ_BYTES) {
    const part = into.subarray(at, Math.min(into.length, at + READ_BYTES));
    await whileReading(treesOf, () => readStep(treesOf, blockSizeBytes, offset + at, part));
  }
}

/** Reads by X: bytes of the mapped blocks one after the other. @throws DATA_UNREADABLE */
export async function readByRank(
  treesOf: TreesOf,
  blockSizeBytes: number,
  offset: number,
  into: Uint8Array,
): Promise<void> {
  for (let at = 0; at < into.length; at += READ_BYTES) {
    const part = into.subarray(at, Math.min(into.length, at + READ_BYTES));
    const first = Math.floor((offset + at) / blockSizeBytes);
    const skip = offset + at - first * blockSizeBytes;
    const count = Math.ceil((skip + part.length) / blockSizeBytes);
    await whileReading(treesOf, async () => {
      await readRuns(await placesOf(treesOf, first, count), skip, part);
    });
  }
}

/** What is looked up inside is not handed out to anyone else before `work` has ended. */
async function whileReading(treesOf: TreesOf, work: () => Promise<void>): Promise<void> {
  const epochs = treesOf().map(({ pool }) => ({ pool, epoch: pool.enterRead() }));
  try {
    await work();
  } finally {
    for (const { pool, epoch } of epochs) pool.leaveRead(epoch);
  }
}

/** Blocks listed by P, from byte `skip` of the first; one read a physically consecutive stretch. */
async function readRuns(runs: readonly PlacedRun[], skip: number, into: Uint8Array): Promise<void> {
  const reads: Promise<void>[] = [];
  let done = 0;
  for (let index = 0; index < runs.length;) {
    const run = runs[index];
    assert(run !== undefined, 'run');
    const { pool, physical } = run;
    let blocks = 0;
    for (; index < runs.length; index += 1) {
      const next = runs[index];
      if (next?.pool !== pool || next.physical !== physical + blocks) break;
      blocks += next.length;
    }
    const from = done === 0 ? skip : 0;
    const bytes = Math.min(blocks * pool.blockSizeBytes - from, into.length - done);
    reads.push(pool.files.read(physical, from, into.subarray(done, done + bytes)));
    done += bytes;
  }
  await Promise.all(reads);
}

async function readStep(
  treesOf: TreesOf,
  size: number,
  offset: number,
  into: Uint8Array,
): Promise<void> {
  const first = Math.floor(offset / size);
  const count = Math.floor((offset + into.length - 1) / size) - first + 1;
  for (;;) {
    const wanted = treesOf().map(({ pool, root }) => {
      return { pool, pages: missingForLookup(pool, root, first, count) };
    });
    const missing = wanted.filter(({ pages }) => pages.length > 0);
    if (missing.length === 0) break;
    for (const { pool, pages } of missing) await pool.pages.ensure(pages);
  }
  const reads = stretchesOf(treesOf(), size, offset, into);
  await Promise.all(
    reads.map(({ pool, physical, from, at, length }) =>
      pool.files.read(physical, from, into.subarray(at, at + length)),
    ),
  );
}

interface Stretch {
  readonly pool: Pool;
  readonly physical: number;
  readonly from: number;
  readonly at: number;
  length: number;
}

/** Physically consecutive stretches; fills the holes with zeros at once. */
function stretchesOf(
  trees: readonly Tree[],
  size: number,
  offset: number,
  into: Uint8Array,
): Stretch[] {
  const stretches: Stretch[] = [];
  for (let at = 0; at < into.length;) {
    const logical = Math.floor((offset + at) / size);
    const from = offset + at - logical * size;
    const length = Math.min(size - from, into.length - at);
    const entries = trees.map(({ pool, root }) => {
      return { pool, physical: lookup(pool, root, logical).block };
    });
    const holder = entries.find(({ physical }) => physical >= 0);
    const last = stretches.at(-1);
    if (holder === undefined) into.fill(0, at, at + length);
    else if (
      last?.pool === holder.pool &&
      last.at + last.length === at &&
      last.physical * size + last.from + last.length === holder.physical * size + from
    ) {
      last.length += length;
    } else stretches.push({ ...holder, from, at, length });
    at += length;
  }
  return stretches;
}
