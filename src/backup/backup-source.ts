/**
 * What the image of a backup is made from, as its job worker asks for it: the whole copy, or what
 * changed since the base.
 *
 * Invariant: all answers are the same in every attempt, so an interrupted transfer goes on.
 */
import { StorageError } from '../base/errors.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy, Places } from '../copy/copy.ts';
import { leasePlaces } from '../copy/dedicated/lease.ts';
import type { ImageFacts } from '../image/format.ts';
import { baseHistory } from './base.ts';
import type { Backups } from './backups.ts';
import { ChangedBlocks } from './changed-blocks.ts';
import type { BackupRecord } from './records.ts';

export interface BackupSource {
  readonly facts: ImageFacts;
  /** A and P of blocks from X on; fewer where the image ends. */
  places(first: number, count: number): Promise<Places>;
  /** Zero ranges as pairs of first A and number of blocks; fewer where they end. */
  zeroRanges(first: number, count: number): Promise<Float64Array>;
  known(segment: number): Promise<Uint32Array | undefined>;
  keep(segment: number, checksums: Uint32Array): Promise<void>;
}

/**
 * Cost: nothing for a full backup, a walk over what changed for an incremental.
 * @throws BASE_MISSING; the signal's reason
 */
export async function openSource(
  backups: Backups,
  record: BackupRecord,
  copy: Copy,
  signal: AbortSignal,
): Promise<BackupSource> {
  const { copies } = backups.options;
  if (record.base === null) return wholeCopy(copies, copy);
  const { base } = record;
  const history = baseHistory(copies, base.copyId);
  const { missing } = backups.chains().chainTo(record);
  if (history?.generation !== base.generation || missing !== null) {
    const reason = missing === null ? 'unrelated' : 'no-backup';
    throw new StorageError('BASE_MISSING', `what backup ${record.name} is built on is gone`, {
      reason,
      backup: record.name,
      base: base.copyId,
    });
  }
  const changed = await ChangedBlocks.since(copies, copy, history, signal);
  const facts = {
    ...copy.facts,
    base,
    usedBlocks: changed.blocks,
    zeroRanges: changed.ranges,
    copyBlocks: copy.usedBlocks,
  };
  return difference(facts, changed);
}

function wholeCopy(copies: Copies, copy: Copy): BackupSource {
  return {
    facts: copy.facts,
    places: (first, count) =>
      leasePlaces(copies, copy, first, within(first, count, copy.usedBlocks)),
    zeroRanges: () => Promise.resolve(new Float64Array()),
    known: (segment) => copy.knownChecksums(segment),
    keep: (segment, checksums) => copy.keepChecksums(segment, checksums),
  };
}

/** Segments whose checksums one attempt remembers: 32 GiB of blocks, in at most 8 MiB. */
const SEGMENTS_KEPT = 4096;

/**
 * The checksums that are kept with a copy are of the segments of its full image. Those of an
 * incremental are needed again only by an attempt that goes on: for the digest in the trailer.
 */
function difference(facts: ImageFacts, changed: ChangedBlocks): BackupSource {
  const kept = new Map<number, Uint32Array>();
  return {
    facts,
    places: (first, count) => changed.places(first, within(first, count, changed.blocks)),
    zeroRanges: (first, count) => changed.zeroRanges(first, within(first, count, changed.ranges)),
    known: (segment) => Promise.resolve(kept.get(segment)),
    keep: (segment, checksums) => {
      if (kept.size < SEGMENTS_KEPT) kept.set(segment, checksums.slice());
      return Promise.resolve();
    },
  };
}

/** As many of `count` from `first` on as there are. */
function within(first: number, count: number, all: number): number {
  return Math.max(0, Math.min(count, all - first));
}
