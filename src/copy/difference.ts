/**
 * What changed between two copies, as runs of blocks: what must be applied to the older one's
 * content, brought to the newer one's capacity, to make it the newer one's.
 *
 * Between two copies both tables are read where they differ, in either direction and across disks
 * that share history. Since a checkpoint, which has no table, the newer copy's own table tells:
 * what was born or unmapped later than the checkpoint's generation. That says a little more: a
 * block that was written and unmapped in between is told as `zero`, though it was before, too.
 *
 * Beyond the end of the older one all that is not data is told as `zero`, so that it may be applied
 * to a medium that still holds something there.
 *
 * Seed: FIG. 10, 12.
 */
import { StorageError } from '../base/errors.ts';
import { blocksFor } from '../base/units.ts';
import { isAncestor, shareHistory } from '../disk/lineage.ts';
import { type ChangeKind, type Compared, walkChanges } from '../disk/table-difference.ts';
import type { Checkpoint } from './checkpoints.ts';
import type { Copy } from './copy.ts';

/** `length` ≥ 1 neighbours; `data`: mapped in the newer copy; `zero`: not mapped there. */
export interface ChangedRun {
  readonly first: number;
  readonly length: number;
  readonly kind: ChangeKind;
}

/** What a copy is compared with. */
export type Since =
  | { readonly kind: 'copy'; readonly copy: Copy }
  | { readonly kind: 'checkpoint'; readonly checkpoint: Checkpoint };

/** Why the two cannot be compared, or undefined if they can. */
export function whyUnrelated(newer: Copy, since: Since): string | undefined {
  const older = since.kind === 'copy' ? since.copy : since.checkpoint;
  if (older.blockSizeBytes !== newer.blockSizeBytes) return 'their blocks have different sizes';
  const { diskId, lineage } = newer.record;
  if (since.kind === 'copy') {
    const { record } = since.copy;
    if (record.diskId === diskId || shareHistory(record.lineage, lineage)) return undefined;
    return 'they have no history in common';
  }
  if (isAncestor(since.checkpoint.lineage, lineage)) return undefined;
  return 'the older one, of which only a checkpoint is left, is not in the history of the newer';
}

/** @throws COPIES_UNRELATED */
export function assertRelated(newer: Copy, since: Since): void {
  const reason = whyUnrelated(newer, since);
  if (reason === undefined) return;
  const older = since.kind === 'copy' ? since.copy.id : since.checkpoint.id;
  const message = `copy ${newer.name} cannot be compared with ${older}: ${reason}`;
  throw new StorageError('COPIES_UNRELATED', message, { copy: newer.name, since: older });
}

/**
 * Runs of blocks that changed, ascending by A from block `from` on, at most `maxRuns`; all lie
 * below the newer copy's capacity. Neighbours of one kind are one run. Who asks is a user of the
 * copies, or hears that they are gone.
 *
 * Cost: the nodes of the tables that differ, never what is equal. Reads pages.
 *
 * @returns `next`: the `from` of the rest, if there is any
 * @throws COPIES_UNRELATED, NOT_FOUND (a copy was deleted)
 */
export async function changedRuns(
  newer: Copy,
  since: Since,
  o: { readonly from: number; readonly maxRuns: number },
): Promise<{ runs: ChangedRun[]; next?: number }> {
  assertRelated(newer, since);
  const size = newer.blockSizeBytes;
  const end = blocksFor(newer.record.sourceCapacityBytes, size);
  const grownFrom = Math.min(end, blocksFor(capacityOf(since), size));
  const page = new RunPage(o.maxRuns);
  /** What comes next is not told yet, and zero if it is beyond the older one's end. */
  let told = Math.max(o.from, grownFrom);
  const fillTo = (block: number): boolean => told >= block || page.add(told, block - told, 'zero');
  await walkChanges(comparedOf(newer, since), { from: o.from, to: end }, (block, kind) => {
    if (!fillTo(block) || !page.add(block, 1, kind)) return false;
    told = Math.max(told, block + 1);
    return true;
  });
  if (page.next === undefined) fillTo(end);
  const { runs, next } = page;
  return next === undefined ? { runs } : { runs, next };
}

function capacityOf(since: Since): number {
  if (since.kind === 'checkpoint') return since.checkpoint.capacityBytes;
  return since.copy.record.sourceCapacityBytes;
}

function comparedOf(newer: Copy, since: Since): Compared {
  return {
    newer: () => newer.tables(),
    since: since.kind === 'copy' ? () => since.copy.tables() : since.checkpoint.generation,
  };
}

/** Collects runs until there are enough. */
class RunPage {
  readonly runs: ChangedRun[] = [];
  readonly #maxRuns: number;
  #next: number | undefined;

  constructor(maxRuns: number) {
    this.#maxRuns = maxRuns;
  }

  /** Where the first run begins for which there was no room. */
  get next(): number | undefined {
    return this.#next;
  }

  /** Takes blocks that follow those before. False if that would be a run too many. */
  add(first: number, length: number, kind: ChangeKind): boolean {
    const last = this.runs.at(-1);
    if (last?.kind === kind && last.first + last.length === first) {
      this.runs[this.runs.length - 1] = { ...last, length: last.length + length };
      return true;
    }
    if (this.runs.length === this.#maxRuns) {
      this.#next = first;
      return false;
    }
    this.runs.push({ first, length, kind });
    return true;
  }
}
