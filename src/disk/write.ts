/**
 * Writes any byte range of a disk, in three steps for each operation of at most 1 MiB:
 *
 *  decide (in one turn, on resident tables, under the range lock): for each block: leave unmapped,
 *    unmap (zeros), overwrite in place (born in this generation), or take a new block: a first
 *    write, or the *redirect* of a block that a copy may have;
 *  do: read what a part block keeps, then write the data, inside the gate;
 *  apply (in one turn): map the new blocks, drop the old ones.
 *
 * The blocks of the whole request are chosen before its first operation, so a request that does
 * not fit changes nothing. A block that only this disk holds, but was born earlier, is adopted on
 * a full pool: its new birth is committed before it is overwritten in place.
 *
 * Invariants:
 *  1. No `await` between a plan and entering the gate: a plan's generation is the disk's, and the
 *     disk was not deleted since the request came, nor fenced before its first operation.
 *  2. A new block's bytes are all defined (data, old data, zeros; or it is virgin) when mapped.
 *  3. Whatever happens, each chosen block is applied or released.
 */
import { assert } from '../base/assert.ts';
import { isZero } from '../base/bytes.ts';
import { isStorageError } from '../base/errors.ts';
import { type Deferred, deferred } from '../base/mutex.ts';
import { MIB } from '../base/units.ts';
import type { Chosen } from '../pool/allocator.ts';
import {
  type TableChange,
  isPathExclusive,
  lookup,
  missingForChange,
  missingForLookup,
} from './allocation-table.ts';
import { applyLeaf, byLeaf } from './apply-changes.ts';
import { type Piece, piecesOf } from './block-range.ts';
import type { Disk } from './disk.ts';
import { type Action, readKept, writeData } from './write-data.ts';

export const OPERATION_BYTES = MIB;
export const WRITE_MAX_BYTES = 4 * MIB;
/** More than all bodies in hand and all streams can take between two operations of a request. */
const ROOM_FOR_A_FREEZE_BYTES = 256 * MIB;

interface Request {
  readonly disk: Disk;
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly chosen: Chosen[];
  /** Blocks of the disk's quota that it holds. */
  promisedBlocks: number;
  readonly detectZeroes: boolean;
  /** Throws if the disk was deleted, fenced or given back since the request came. */
  admitted: () => void;
  /** Resolves when the attempt under way is over. */
  over: Deferred<undefined>;
}

function requestOf(
  disk: Disk,
  offset: number,
  bytes: Uint8Array,
  detectZeroes: boolean,
  admitted = disk.admission(),
): Request {
  const over = deferred<undefined>();
  return { disk, offset, bytes, chosen: [], promisedBlocks: 0, detectZeroes, admitted, over };
}

/**
 * @param detectZeroes overrides the disk's: a restore keeps mapped blocks of zeros mapped
 * @param admitted of the operation that this is a part of
 */
export async function writeRange(
  disk: Disk,
  offset: number,
  bytes: Uint8Array,
  detectZeroes = disk.detectZeroes,
  admitted = disk.admission(),
): Promise<void> {
  assert(bytes.length <= WRITE_MAX_BYTES, 'a write of more than 4 MiB is several');
  if (bytes.length === 0) return;
  const size = disk.blockSizeBytes;
  const first = Math.floor(offset / size);
  const end = Math.floor((offset + bytes.length - 1) / size) + 1;
  const request = requestOf(disk, offset, bytes, detectZeroes, admitted);
  const pieces = piecesOf(offset, bytes.length, size, disk.capacityBytes);
  const shared = operationsOf(pieces).length === 1 && looksInPlace(request, pieces);
  if (shared && (await writeUnder(request, first, end, false))) return;
  await writeUnder(request, first, end, true);
}

/** The same for a caller that holds the range exclusively. */
export async function writeHeld(disk: Disk, offset: number, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return;
  await writeLocked(requestOf(disk, offset, bytes, false), true);
}

/** False if the range must be held exclusively after all. */
async function writeUnder(
  request: Request,
  first: number,
  end: number,
  exclusive: boolean,
): Promise<boolean> {
  const hold = await request.disk.lock.acquire(first, end, exclusive);
  try {
    return await writeLocked(request, exclusive);
  } finally {
    request.disk.lock.release(hold);
  }
}

async function writeLocked(request: Request, exclusive: boolean): Promise<boolean> {
  const { disk, offset, bytes } = request;
  disk.assertRange(offset, bytes.length);
  const all = piecesOf(offset, bytes.length, disk.blockSizeBytes, disk.capacityBytes);
  request.over = deferred();
  try {
    if (exclusive) await chooseBlocks(request, all);
    for (const pieces of isShortOfRoom(disk) ? [all] : operationsOf(all)) {
      if (!(await operate(request, pieces, exclusive))) return false;
    }
    return true;
  } finally {
    disk.begun.delete(request.over.promise);
    request.over.resolve(undefined);
    disk.pool.release(request.chosen.splice(0));
    disk.quota.settle(request.promisedBlocks);
  }
}

/**
 * A freeze between two operations turns what was in place into new blocks. Where room for that
 * may be gone by then, the whole request is one operation: the freeze waits for at most 4 MiB.
 */
function isShortOfRoom(disk: Disk): boolean {
  const keep = reservedByOthers(disk) * disk.blockSizeBytes;
  return disk.pool.freeBytes - keep < ROOM_FOR_A_FREEZE_BYTES;
}

/** Groups of pieces of at most 1 MiB. */
function operationsOf(pieces: readonly Piece[]): Piece[][] {
  const groups: Piece[][] = [];
  let bytes = 0;
  for (const piece of pieces) {
    bytes += piece.to - piece.from;
    const group = groups.at(-1);
    if (group === undefined || bytes > OPERATION_BYTES) {
      groups.push([piece]);
      bytes = piece.to - piece.from;
    } else {
      group.push(piece);
    }
  }
  return groups;
}

function looksInPlace(request: Request, pieces: readonly Piece[]): boolean {
  const { disk } = request;
  const [head] = pieces;
  if (head === undefined || disk.isDeleted) return false;
  if (missingForLookup(disk.pool, disk.root, head.logical, pieces.length).length > 0) return false;
  return decide(request, pieces).every((action) => action.kind === 'in-place');
}

/** Decides each piece; its table pages are resident. Pieces that change nothing are left out. */
function decide(request: Request, pieces: readonly Piece[]): Action[] {
  const { disk, bytes, detectZeroes } = request;
  const root = disk.liveRoot();
  const actions: Action[] = [];
  for (const piece of pieces) {
    const { block, birth } = lookup(disk.pool, root, piece.logical);
    const slice = bytes.subarray(piece.at, piece.at + piece.to - piece.from);
    const zero = detectZeroes && (block < 0 || piece.whole) && isZero(slice);
    if (zero) {
      if (block >= 0) actions.push({ kind: 'unmap', piece });
    } else if (block >= 0 && birth === disk.generation) {
      actions.push({ kind: 'in-place', piece, block });
    } else {
      actions.push({ kind: 'new', piece, old: block });
    }
  }
  return actions;
}

function newBlocks(actions: readonly Action[]): number {
  return actions.filter((action) => action.kind === 'new').length;
}

/** Of the actions that map a block where none was. */
function newMappings(actions: readonly Action[]): number {
  return actions.filter((action) => action.kind === 'new' && action.old < 0).length;
}

/** @throws QUOTA_EXCEEDED */
function promiseMappings(request: Request, actions: readonly Action[]): void {
  const lacking = newMappings(actions) - request.promisedBlocks;
  if (lacking <= 0) return;
  request.disk.quota.promise(request.disk, lacking);
  request.promisedBlocks += lacking;
}

/** Chooses all blocks that the pieces need. @throws QUOTA_EXCEEDED, POOL_FULL */
async function chooseBlocks(request: Request, pieces: readonly Piece[]): Promise<void> {
  const { disk, chosen } = request;
  const { pool } = disk;
  const [head] = pieces;
  if (head === undefined) return;
  for (;;) {
    pool.assertWritable();
    request.admitted();
    disk.assertRange(request.offset, request.bytes.length);
    const missing = missingForLookup(pool, disk.liveRoot(), head.logical, pieces.length);
    if (missing.length > 0) {
      await pool.pages.ensure(missing);
      continue;
    }
    const actions = decide(request, pieces);
    promiseMappings(request, actions);
    const lacking = newBlocks(actions) - chosen.length;
    if (lacking <= 0) return;
    if (await preserve(request, pieces, false)) continue;
    try {
      chosen.push(...(await pool.allocate(lacking, () => reservedByOthers(disk))));
    } catch (error) {
      if (!isStorageError(error, 'POOL_FULL')) throw error;
      if (await adopt(request, pieces)) continue;
      if (!(await preserve(request, pieces, true))) throw error;
    }
  }
}

/**
 * Copies that want the blocks of these pieces first get them; then what nobody else holds can be
 * overwritten where it is. False if nothing was won. @throws if a block could not be preserved
 */
async function preserve(
  request: Request,
  pieces: readonly Piece[],
  isFull: boolean,
): Promise<boolean> {
  const { disk } = request;
  const [head] = pieces;
  if (disk.beforeOverwrite === undefined || head === undefined) return false;
  for (;;) {
    request.admitted();
    const missing = missingForLookup(disk.pool, disk.liveRoot(), head.logical, pieces.length);
    if (missing.length === 0) break;
    await disk.pool.pages.ensure(missing);
  }
  const blocks = decide(request, pieces).flatMap((action) => {
    if (action.kind !== 'new' || action.old < 0) return [];
    return [{ logical: action.piece.logical, block: action.old }];
  });
  if (blocks.length === 0) return false;
  return (await disk.beforeOverwrite(blocks, isFull)) && adopt(request, pieces);
}

function reservedByOthers(disk: Disk): number {
  const bytes = Math.max(0, disk.pool.reservedBytes - disk.reserveBytes);
  return Math.ceil(bytes / disk.blockSizeBytes);
}

/** Decide, do, apply. False if the lock is shared and the pieces are not all in place. */
async function operate(
  request: Request,
  pieces: readonly Piece[],
  exclusive: boolean,
): Promise<boolean> {
  const { disk } = request;
  const { pool } = disk;
  const [head] = pieces;
  assert(head !== undefined, 'an operation has pieces');
  for (;;) {
    await pool.throttle();
    if (disk.adoptions.size > 0) await settleAdoptions(disk);
    if (exclusive) await chooseBlocks(request, pieces);
    pool.assertWritable();
    request.admitted();
    disk.assertRange(request.offset, request.bytes.length);
    const missing = missingForChange(pool, disk.liveRoot(), head.logical, pieces.length);
    if (missing.length > 0) {
      await pool.pages.ensure(missing);
      continue;
    }
    const { generation } = disk;
    const actions = decide(request, pieces);
    if (!exclusive && actions.some((action) => action.kind !== 'in-place')) return false;
    if (newBlocks(actions) > request.chosen.length) continue;
    const kept = await readKept(disk, actions);
    request.admitted();
    if (disk.generation !== generation || !disk.gate.tryEnter()) {
      await disk.gate.opened();
      continue;
    }
    begin(request);
    try {
      const chosen = request.chosen.slice(0, newBlocks(actions));
      await writeData(disk, { bytes: request.bytes, actions, chosen, kept });
      await apply(request, actions, chosen);
    } finally {
      disk.gate.leave();
    }
    return true;
  }
}

/** A part of it is being applied: a fence that comes now waits for the rest. */
function begin(request: Request): void {
  const { disk, over } = request;
  disk.begun.add(over.promise);
  request.admitted = () => {
    disk.liveRoot();
  };
}

/** Maps and unmaps in one turn per leaf, on resident pages. */
async function apply(
  request: Request,
  actions: readonly Action[],
  chosen: readonly Chosen[],
): Promise<void> {
  const { disk } = request;
  const tombstone = disk.keepsTombstones ? disk.generation : 0;
  const changes: TableChange[] = [];
  const first = new Set<number>();
  let next = 0;
  for (const action of actions) {
    const { logical } = action.piece;
    if (action.kind === 'unmap') changes.push({ logical, block: -1, birth: tombstone });
    if (action.kind !== 'new') continue;
    const target = chosen[next];
    assert(target !== undefined, 'a block was chosen for each new piece');
    next += 1;
    changes.push({ logical, block: target.block, birth: disk.generation });
    if (action.old < 0) first.add(logical);
  }
  for (const group of byLeaf(changes)) {
    const kept = group.filter(({ logical }) => first.has(logical)).length;
    await applyLeaf(disk, group, true, () => {
      disk.quota.settle(kept);
      request.promisedBlocks -= kept;
    });
    const mapped = group.filter((each) => each.block >= 0).length;
    request.chosen.splice(0, mapped);
  }
}

/** Full pool: blocks that only this disk holds get the current birth, durably. False: none. */
async function adopt(request: Request, pieces: readonly Piece[]): Promise<boolean> {
  const { disk } = request;
  const { pool } = disk;
  const [head] = pieces;
  assert(head !== undefined, 'an operation has pieces');
  for (;;) {
    request.admitted();
    const missing = missingForChange(pool, disk.liveRoot(), head.logical, pieces.length);
    if (missing.length > 0) await pool.pages.ensure(missing);
    else if (disk.gate.tryEnter()) break;
    else await disk.gate.opened();
  }
  try {
    const changes = adoptable(request, pieces);
    if (changes.length === 0) return false;
    disk.adoptions.add(changes);
    for (const group of byLeaf(changes)) await applyLeaf(disk, group, false);
  } finally {
    disk.gate.leave();
  }
  await settleAdoptions(disk);
  return true;
}

/** Before an adopted block is overwritten its birth is durable, and who read it has left. */
async function settleAdoptions(disk: Disk): Promise<void> {
  const adoptions = [...disk.adoptions];
  await disk.pool.flush();
  await disk.pool.epochs.barrier();
  for (const adoption of adoptions) disk.adoptions.delete(adoption);
}

function adoptable(request: Request, pieces: readonly Piece[]): TableChange[] {
  const { disk } = request;
  const { pool, root, generation } = disk;
  const changes: TableChange[] = [];
  for (const action of decide(request, pieces)) {
    if (action.kind !== 'new' || action.old < 0) continue;
    const { logical } = action.piece;
    if (!isPathExclusive(pool, root, logical)) continue;
    if (pool.blockCounts.extra(action.old) > 0) continue;
    changes.push({ logical, block: action.old, birth: generation });
  }
  return changes;
}
