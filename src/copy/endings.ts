/**
 * How restores end: what they have made of disks becomes everybody's.
 *
 * It is done in memory in one turn, and so is in one batch, but nobody sees it before that is
 * durable. Where it cannot be (no room for metadata, or one pool of several has failed), it is
 * taken back as soon as that is known: no later batch has any of it.
 *
 * Invariant: a disk is fenced, or `restoring`, for everybody up to the turn in which its end is
 * durable, and afterwards too if that fails.
 */
import { deferred } from '../base/mutex.ts';
import type { Disk } from '../disk/disk.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { Pool } from '../pool/pool.ts';
import type { Copies } from './copies.ts';
import type { Copy } from './copy.ts';

/** What was done to one disk in this turn. */
export interface Ending {
  readonly disk: Disk;
  /** A copy that comes into being with it. */
  readonly safety?: Copy | undefined;
  /** It cannot become durable: memory is as it was before. */
  undo(): void;
  /** It is durable. */
  done(): void;
}

/** In the next batch the disk is ready; whoever calls this commits it in the same turn. */
export function beginEnding(disk: Disk): Pick<Ending, 'undo'> {
  const { record } = disk;
  const { root, lineage, generation, capacityBytes, reserveBytes, version, state, job } = record;
  const before = { root, lineage, generation, capacityBytes, reserveBytes, version, state, job };
  disk.ending = { state, job, over: deferred<undefined>() };
  record.state = 'ready';
  record.job = null;
  disk.changed();
  return {
    undo() {
      Object.assign(record, before);
      disk.changed();
    },
  };
}

/** A disk that a restore has made becomes visible. */
export function endRestoring(disk: Disk): Ending {
  const { undo } = beginEnding(disk);
  disk.record.reserveBytes = 0;
  return { disk, undo, done: () => undefined };
}

/**
 * Makes endings durable, in one transaction with the rows; in the turn in which they were made.
 * @throws POOL_POISONED, METADATA_FULL; then all is as before
 */
export async function commitEndings(
  copies: Copies,
  endings: readonly Ending[],
  rows: readonly RowChange[] = [],
): Promise<void> {
  const pools = new Set(endings.map(({ disk }) => disk.pool));
  const durable = Pool.flushTogether([...pools], rows);
  const hidden = endings.flatMap(({ safety }) =>
    safety === undefined ? [] : [copies.whileHidden(safety, durable)],
  );
  try {
    await durable;
  } catch (error) {
    for (const ending of endings.toReversed()) ending.undo();
    throw error;
  } finally {
    for (const { disk } of endings) {
      const { ending } = disk;
      disk.ending = undefined;
      ending?.over.resolve(undefined);
    }
    await Promise.allSettled(hidden);
  }
  for (const ending of endings) ending.done();
}

/** Waits until what this job ends is durable, or taken back. */
export async function endingsOf(copies: Copies, job: string): Promise<void> {
  const disks = copies.options.disks.list();
  const ending = disks.flatMap((disk) => disk.ending ?? []).filter((each) => each.job === job);
  await Promise.all(ending.map(({ over }) => over.promise));
}
