/**
 * Reads any byte range through an allocation table; blocks without an entry read as zeros.
 *
 * The reader enters an epoch first: a block that is unmapped while it is read is not handed out to
 * anyone else before the reader has left. Consecutive blocks are read in one call.
 */
import type { Pool } from '../pool/pool.ts';
import { MIB } from '../base/units.ts';
import { type TableRoot, lookup, missingForLookup } from './allocation-table.ts';

const STEP_BYTES = 4 * MIB;

interface Extent {
  readonly physical: number;
  readonly offset: number;
  readonly at: number;
  length: number;
}

/** @throws DATA_UNREADABLE with the range */
export async function readRange(
  pool: Pool,
  rootOf: () => TableRoot,
  offset: number,
  into: Uint8Array,
): Promise<void> {
  for (let at = 0; at < into.length; at += STEP_BYTES) {
    const part = into.subarray(at, Math.min(into.length, at + STEP_BYTES));
    await readStep(pool, rootOf, offset + at, part);
  }
}

async function readStep(
  pool: Pool,
  rootOf: () => TableRoot,
  offset: number,
  into: Uint8Array,
): Promise<void> {
  const size = pool.blockSizeBytes;
  const first = Math.floor(offset / size);
  const count = Math.floor((offset + into.length - 1) / size) - first + 1;
  const epoch = pool.enterRead();
  try {
    let missing = missingForLookup(pool, rootOf(), first, count);
    while (missing.length > 0) {
      await pool.pages.ensure(missing);
      missing = missingForLookup(pool, rootOf(), first, count);
    }
    const extents = extentsOf(pool, rootOf(), offset, into);
    await Promise.all(
      extents.map(({ physical, offset: from, at, length }) =>
        pool.files.read(physical, from, into.subarray(at, at + length)),
      ),
    );
  } finally {
    pool.leaveRead(epoch);
  }
}

/** Physically consecutive stretches; fills the holes with zeros at once. */
function extentsOf(pool: Pool, root: TableRoot, offset: number, into: Uint8Array): Extent[] {
  const size = pool.blockSizeBytes;
  const extents: Extent[] = [];
  for (let at = 0; at < into.length;) {
    const logical = Math.floor((offset + at) / size);
    const from = offset + at - logical * size;
    const length = Math.min(size - from, into.length - at);
    const { block } = lookup(pool, root, logical);
    const last = extents.at(-1);
    if (block < 0) {
      into.fill(0, at, at + length);
    } else if (
      last?.at !== undefined &&
      last.at + last.length === at &&
      last.physical * size + last.offset + last.length === block * size + from
    ) {
      last.length += length;
    } else {
      extents.push({ physical: block, offset: from, at, length });
    }
    at += length;
  }
  return extents;
}
