/**
 * The job that restores: from a backup on a target, or from a live copy where the table cannot
 * just be shared.
 *
 *  write-back from a live copy of the same pool: the tables are swapped, no data is moved;
 *  all else: segments come verified (from a worker thread, or from the copy), are written at their
 *  addresses, and made durable every 64 MiB, where the checkpoint is.
 *
 * Invariants:
 *  1. A segment counts as written only after the flush that followed it.
 *  2. A swap is committed together with a mark that it was done: a restart never repeats it.
 *  3. What could not be restored is in the result, or the job fails.
 */
import { StorageError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import type { Copy } from '../copy/copy.ts';
import { fence, swapTable } from '../copy/write-back.ts';
import type { Disk } from '../disk/disk.ts';
import { ImageFrame, type ImageFacts } from '../image/format.ts';
import type { LostRange } from '../image/damage.ts';
import { isJsonObject, type Job, type Json, toJson } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
import { DiskFill, type FillSegment } from './fill.ts';
import { readPlan, type RestorePlan } from './restore-plan.ts';
import { beginRestore, finishRestore, restoredJson, undoRestore } from './restore-target.ts';
import { waitForTarget } from './target-wait.ts';
import { runTask } from './worker-client.ts';

const CHECKPOINT_BYTES = 64 * MIB;

export function restoreKind(backups: Backups): JobKind<RowChange> {
  return {
    run: (context) => runRestore(backups, context),
    abandon: async (job) => {
      backups.endCopyUse(job.id);
      await undoRestore(backups.options.copies, job.id, readPlan(job).keepPartial);
    },
  };
}

async function runRestore(backups: Backups, context: JobContext<RowChange>): Promise<Json> {
  const plan = readPlan(context.job);
  switch (plan.source.kind) {
    case 'backup':
      return restoreBackup(backups, context, plan, plan.source.id);
    case 'copy':
      return restoreCopy(backups, context, plan, plan.source.id);
    case 'upload':
      throw new StorageError('INTERNAL', 'an upload has a job kind of its own');
  }
}

async function restoreBackup(
  backups: Backups,
  context: JobContext<RowChange>,
  plan: RestorePlan,
  id: string,
): Promise<Json> {
  const { targets, copies } = backups.options;
  const record = backups.readable(id);
  backups.use(record, context.job.id);
  const target = targets.get(record.targetId);
  let session: RestoreSession | undefined;
  await waitForTarget(context, target, targets.medium(target), async () => {
    session = new RestoreSession(backups, context, plan);
    const current = session;
    const result = await runTask(
      {
        kind: 'read',
        target: { kind: target.kind, path: target.path },
        name: record.mediumName,
        fromSegment: current.nextSegment,
        onDamage: plan.onDamage,
      },
      {
        facts: async (facts) => {
          await current.begin(facts);
          return undefined;
        },
        segment: async (segment) => {
          await current.write(segment.segment, segment, segment.damaged);
          return undefined;
        },
        busy: (stage, ms) => {
          context.stage(stage).add(ms);
          return undefined;
        },
      },
      context.signal,
    );
    current.lose(lostOf(result));
  });
  if (session === undefined) throw new StorageError('INTERNAL', 'the restore did not run');
  const { disk, facts } = await session.end();
  const restored = await finishRestore(copies, plan, disk, facts);
  return { ...restoredJson(restored), method: plan.method, damaged: session.damagedJson() };
}

async function restoreCopy(
  backups: Backups,
  context: JobContext<RowChange>,
  plan: RestorePlan,
  id: string,
): Promise<Json> {
  const { copies, store } = backups.options;
  const mark = { key: `swapped ${context.job.id}` };
  const copy = copies.byId(id);
  const [done] = await store.rows('store', mark);
  if (done !== undefined) return toJson(JSON.parse(String(done['value'])));
  if (copy === undefined) throw new StorageError('NOT_FOUND', `copy ${id} is gone`, { copy: id });
  backups.useCopy(copy, context.job.id);
  if (plan.method === 'write-back' && copy.pool.id === plan.pool) {
    const disk = copies.options.disks.get(plan.object);
    await fence(disk, context.job.id, plan.force);
    const result = {
      disk: disk.name,
      diskId: disk.id,
      method: plan.method,
      damaged: [],
      ...(plan.safetyCopy === null ? {} : { safetyCopy: plan.safetyCopy }),
    };
    const row: RowChange = { table: 'store', key: mark, row: { value: JSON.stringify(result) } };
    await swapTable(copies, disk, copy, plan.safetyCopy ?? undefined, [row]);
    backups.endCopyUse(context.job.id);
    return result;
  }
  const session = new RestoreSession(backups, context, plan);
  await session.begin(copy.facts);
  await pumpCopy(copy, session, context.signal);
  const { disk, facts } = await session.end();
  const restored = await finishRestore(copies, plan, disk, facts);
  backups.endCopyUse(context.job.id);
  return { ...restoredJson(restored), method: plan.method, damaged: [] };
}

/** Another pool: the blocks of a live copy are read and written. */
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

/** One attempt of a fill, from the checkpoint on. */
export class RestoreSession {
  readonly #backups: Backups;
  readonly #context: JobContext<RowChange>;
  readonly #plan: RestorePlan;
  #fill: DiskFill | undefined;
  #disk: Disk | undefined;
  #facts: ImageFacts | undefined;
  #next: number;
  #doneBytes: number;
  #unsaved = 0;
  readonly #damaged = new Map<string, LostRange>();
  #writing: Promise<void> = Promise.resolve();

  constructor(backups: Backups, context: JobContext<RowChange>, plan: RestorePlan) {
    this.#backups = backups;
    this.#context = context;
    this.#plan = plan;
    const { segment, doneBytes, damaged } = readCheckpoint(context.job);
    this.#next = segment;
    this.#doneBytes = doneBytes;
    this.lose(damaged);
  }

  get nextSegment(): number {
    return this.#next;
  }

  get disk(): Disk | undefined {
    return this.#disk;
  }

  /** The image's header is known. @throws as beginRestore */
  async begin(facts: ImageFacts): Promise<void> {
    const { copies } = this.#backups.options;
    this.#facts = facts;
    this.#disk = await beginRestore(copies, this.#plan, this.#context.job.id, facts);
    const { doneTo } = readCheckpoint(this.#context.job);
    const { blockSizeBytes, capacityBytes } = facts;
    const { onlyDiffering } = this.#plan;
    const options = { blockSizeBytes, capacityBytes, onlyDiffering };
    this.#fill = new DiskFill(this.#disk, options, doneTo);
    const totalBytes = facts.usedBlocks * blockSizeBytes;
    this.#context.progress({ doneBytes: this.#doneBytes, totalBytes });
  }

  /** Segments come one after the other; calls may overlap and take effect in order. */
  async write(
    index: number,
    segment: FillSegment,
    damaged: readonly { readonly sourceOffset: number; readonly length: number }[],
  ): Promise<void> {
    const before = this.#writing;
    this.#writing = before.then(() => this.#write(index, segment, damaged));
    await this.#writing;
  }

  lose(ranges: readonly { sourceOffset: number; length: number; exact?: boolean }[]): void {
    for (const { sourceOffset, length, exact = true } of ranges) {
      this.#damaged.set(`${sourceOffset} ${length}`, { sourceOffset, length, exact });
    }
  }

  damagedJson(): Json {
    const ranges = [...this.#damaged.values()];
    return toJson(ranges.sort((a, b) => a.sourceOffset - b.sourceOffset));
  }

  /** All segments were given: what follows the last is unmapped and everything is durable. */
  async end(): Promise<{ disk: Disk; facts: ImageFacts }> {
    const [fill, disk, facts] = [this.#fill, this.#disk, this.#facts];
    if (fill === undefined || disk === undefined || facts === undefined) {
      throw new StorageError('INTERNAL', 'a restore ended before it began');
    }
    await fill.finish();
    await disk.flush();
    return { disk, facts };
  }

  /** Makes what was written durable and remembers it. */
  async save(): Promise<void> {
    await this.#disk?.flush();
    this.#unsaved = 0;
    await this.#context.checkpoint({
      segment: this.#next,
      doneTo: this.#fill?.doneTo ?? 0,
      doneBytes: this.#doneBytes,
      damaged: this.damagedJson(),
    });
  }

  async #write(
    index: number,
    segment: FillSegment,
    damaged: readonly { readonly sourceOffset: number; readonly length: number }[],
  ): Promise<void> {
    this.#context.signal.throwIfAborted();
    const fill = this.#fill;
    if (fill === undefined) throw new StorageError('INTERNAL', 'a segment before the header');
    await this.#context.stage('write').busy(() => fill.write(segment));
    this.lose(damaged);
    this.#next = index + 1;
    this.#doneBytes += segment.data.length;
    this.#unsaved += segment.data.length;
    this.#context.progress({ doneBytes: this.#doneBytes });
    await this.#context.throttle(segment.data.length);
    if (this.#unsaved >= CHECKPOINT_BYTES) await this.save();
  }
}

function readCheckpoint(job: Job): {
  segment: number;
  doneTo: number;
  doneBytes: number;
  damaged: readonly LostRange[];
} {
  const { checkpoint } = job;
  const none = { segment: 0, doneTo: 0, doneBytes: 0, damaged: [] };
  if (checkpoint === null || !isJsonObject(checkpoint)) return none;
  const { segment, doneTo, doneBytes, damaged } = checkpoint;
  if (typeof segment !== 'number' || typeof doneTo !== 'number') return none;
  const bytes = typeof doneBytes === 'number' ? doneBytes : 0;
  return { segment, doneTo, doneBytes: bytes, damaged: rangesOf(damaged) };
}

function lostOf(result: unknown): readonly LostRange[] {
  return typeof result === 'object' && result !== null && 'damaged' in result
    ? rangesOf(result.damaged)
    : [];
}

function rangesOf(value: unknown): LostRange[] {
  return Array.isArray(value) ? value.filter(isRange) : [];
}

function isRange(value: unknown): value is LostRange {
  return typeof value === 'object' && value !== null && 'sourceOffset' in value;
}
