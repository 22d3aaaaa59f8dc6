/**
 * The job that restores: from a backup on a target, or from a live copy where the table cannot
 * just be shared.
 *
 *  write-back from a live copy of the same pool: the tables are swapped, no data is moved (but
 *  what a dedicated copy is still owed);
 *  all else: segments come verified (from a worker thread, or from the copy), are written at their
 *  addresses, and made durable every 64 MiB, where the checkpoint is.
 *
 * Invariants:
 *  1. A segment counts as written only after the flush that followed it.
 *  2. A swap is committed together with a mark that it was done: a restart never repeats it.
 *  3. What could not be restored is in the result, or the job fails.
 */
import { StorageError } from '../base/errors.ts';
import type { Copy } from '../copy/copy.ts';
import { settle } from '../copy/dedicated/settle.ts';
import { endingsOf } from '../copy/endings.ts';
import { fence, swapTable } from '../copy/write-back.ts';
import { ImageFrame } from '../image/format.ts';
import type { LostRange } from '../image/damage.ts';
import type { Json, JsonObject } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
import { reading } from './on-medium.ts';
import { readPlan, type RestorePlan } from './restore-plan.ts';
import { markRow, readMark } from './restore-mark.ts';
import { finishRestore, restoredJson, undoRestore, type Restored } from './restore-target.ts';
import type { Uploads } from './uploads.ts';
import { RestoreSession, rangesOf } from './restore-session.ts';
import { waitForTarget } from './target-wait.ts';
import { runOnTarget } from './target-task.ts';

export function restoreKind(backups: Backups, uploads: Uploads): JobKind<RowChange> {
  return {
    run: (context) => runRestore(backups, uploads, context),
    abandon: async (job) => {
      backups.endCopyUse(job.id);
      await endingsOf(backups.options.copies, job.id);
      const done = await readMark(backups, job.id);
      if (done !== undefined) return { result: done };
      await undoRestore(backups.options.copies, job.id, readPlan(job).keepPartial);
      return undefined;
    },
  };
}

async function runRestore(
  backups: Backups,
  uploads: Uploads,
  context: JobContext<RowChange>,
): Promise<Json> {
  const plan = readPlan(context.job);
  const done = await readMark(backups, context.job.id);
  if (done !== undefined) return done;
  switch (plan.source.kind) {
    case 'backup':
      return restoreBackup(backups, context, plan, plan.source.id);
    case 'copy':
      return restoreCopy(backups, context, plan, plan.source.id);
    case 'upload':
      return uploads.run(context, plan);
  }
}

async function restoreBackup(
  backups: Backups,
  context: JobContext<RowChange>,
  plan: RestorePlan,
  id: string,
): Promise<Json> {
  return endRestore(backups, context, plan, await fillFromBackup(backups, context, plan, id));
}

/** Fills the plan's disk from a backup, from the context's checkpoint on. */
export async function fillFromBackup(
  backups: Backups,
  context: JobContext<RowChange>,
  plan: RestorePlan,
  id: string,
): Promise<RestoreSession> {
  const { targets } = backups.options;
  const chain = backups.readableChain(id);
  backups.use(chain, context.job.id);
  const target = targets.get(chain[0].targetId);
  let session: RestoreSession | undefined;
  const fill = async (): Promise<void> => {
    session = new RestoreSession(backups, context, plan);
    const current = session;
    const result = await runOnTarget(
      backups,
      context,
      target,
      {
        kind: 'read',
        target: targets.place(target),
        names: chain.map(({ mediumName }) => mediumName),
        fromSegment: current.nextSegment,
        // what lies between the blocks of the image is unmapped on the way
        mustAscend: plan.onlyDiffering,
        onDamage: plan.onDamage,
      },
      {
        facts: async (facts) => {
          await current.begin(facts);
          return undefined;
        },
        segment: async (segment) => {
          await current.write(segment.segment, segment, segment.damaged);
          return segment.data;
        },
      },
    );
    current.lose(lostOf(result));
  };
  await reading(backups, chain, context.signal, () =>
    waitForTarget(context, targets, target, fill),
  );
  if (session === undefined) throw new StorageError('INTERNAL', 'the restore did not run');
  return session;
}

async function restoreCopy(
  backups: Backups,
  context: JobContext<RowChange>,
  plan: RestorePlan,
  id: string,
): Promise<Json> {
  const { copies } = backups.options;
  const copy = copies.byId(id);
  if (copy === undefined) throw new StorageError('NOT_FOUND', `copy ${id} is gone`, { copy: id });
  backups.useCopy(copy, context.job.id);
  if (plan.method === 'write-back' && copy.pool.id === plan.pool) {
    // only a copy that has all its blocks can give its table
    await settle(copies, copy, { kind: 'all' }, context.signal);
    const disk = copies.options.disks.get(plan.object);
    await fence(disk, context.job.id, plan.force);
    const result = {
      disk: disk.name,
      diskId: disk.id,
      capacityBytes: Math.max(disk.capacityBytes, copy.record.sourceCapacityBytes),
      method: plan.method,
      damaged: [],
      ...(plan.safetyCopy === null ? {} : { safetyCopy: plan.safetyCopy }),
    };
    const row = markRow(context.job.id, result);
    await swapTable(copies, disk, copy, plan.safetyCopy ?? undefined, [row]);
    backups.endCopyUse(context.job.id);
    return result;
  }
  const session = new RestoreSession(backups, context, plan);
  await session.begin(copy.facts);
  await pumpCopy(copy, session, context.signal);
  const result = await endRestore(backups, context, plan, session);
  backups.endCopyUse(context.job.id);
  return result;
}

/** Makes the result visible, in one transaction with the mark that says so. */
async function endRestore(
  backups: Backups,
  context: JobContext<RowChange>,
  plan: RestorePlan,
  session: RestoreSession,
): Promise<Json> {
  const { disk, facts } = await session.end();
  const damaged = session.damagedJson();
  const resultOf = (made: Restored): JsonObject => {
    return { ...restoredJson(made), method: plan.method, damaged };
  };
  const { copies } = backups.options;
  const restored = await finishRestore(copies, plan, disk, facts, (made) => [
    markRow(context.job.id, resultOf(made)),
  ]);
  return resultOf(restored);
}

/** Where the table cannot be shared: the blocks of a live copy are read and written. */
async function pumpCopy(copy: Copy, session: RestoreSession, signal: AbortSignal): Promise<void> {
  const { layout } = new ImageFrame(copy.facts);
  const perSegment = layout.segmentCount === 0 ? 0 : layout.segmentBlocks(0);
  for (let index = session.nextSegment; index < layout.segmentCount; index += 1) {
    signal.throwIfAborted();
    const count = layout.segmentBlocks(index);
    const data = new Uint8Array(count * copy.blockSizeBytes);
    const sourceBlocks = await copy.sourceBlocks(index * perSegment, count);
    await copy.readBlocks(index * perSegment, count, data);
    await session.write(index, { sourceBlocks, bad: [], data }, []);
  }
}

function lostOf(result: unknown): readonly LostRange[] {
  return typeof result === 'object' && result !== null && 'damaged' in result
    ? rangesOf(result.damaged)
    : [];
}
