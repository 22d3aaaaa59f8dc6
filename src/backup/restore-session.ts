/**
 * One attempt to fill a disk from segments that arrive in order: begins at the checkpoint, writes,
 * makes durable, remembers how far it is and what was lost.
 *
 * Invariant: a segment counts as written only after the flush that followed it.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';
import type { Disk } from '../disk/disk.ts';
import type { LostRange } from '../image/damage.ts';
import type { ImageFacts } from '../image/format.ts';
import { isJsonObject, type Job, type Json, type JsonObject, toJson } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
import { DiskFill, type FillSegment } from './fill.ts';
import type { RestorePlan } from './restore-plan.ts';
import { beginRestore } from './restore-target.ts';

const CHECKPOINT_BYTES = 64 * MIB;

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
  readonly #savesItself: boolean;
  readonly #damaged = new Map<string, LostRange>();
  #writing: Promise<void> = Promise.resolve();

  /** @param savesItself remembers every 64 MiB how far it is; else the owner calls `save` */
  constructor(
    backups: Backups,
    context: JobContext<RowChange>,
    plan: RestorePlan,
    savesItself = true,
  ) {
    this.#savesItself = savesItself;
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

  /** What is restored is known: a full image or a whole chain. @throws as beginRestore */
  async begin(facts: ImageFacts): Promise<void> {
    assert(facts.base === null, 'the blocks of an incremental image alone are not the disk');
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

  get mustSave(): boolean {
    return this.#unsaved >= CHECKPOINT_BYTES;
  }

  /** Makes what was written durable and remembers it, with more facts of the owner. */
  async save(more: JsonObject = {}): Promise<void> {
    await this.#disk?.flush();
    this.#unsaved = 0;
    await this.#context.checkpoint({
      ...more,
      segment: this.#next,
      doneTo: this.#fill?.doneTo ?? 0,
      doneBytes: this.#doneBytes,
      damaged: this.damagedJson(),
    });
  }

  /** Room that was reserved for what is written now. */
  #giveBackRoom(): void {
    if (this.#disk?.state !== 'restoring' || this.#facts === undefined) return;
    const { usedBlocks, blockSizeBytes } = this.#facts;
    const left = Math.max(0, usedBlocks * blockSizeBytes - this.#doneBytes);
    this.#disk.record.reserveBytes = left;
    this.#disk.changed();
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
    this.#giveBackRoom();
    this.#unsaved += segment.data.length;
    this.#context.progress({ doneBytes: this.#doneBytes });
    await this.#context.throttle(segment.data.length);
    if (this.#savesItself && this.mustSave) await this.save();
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

export function rangesOf(value: unknown): LostRange[] {
  return Array.isArray(value) ? value.filter(isRange) : [];
}

function isRange(value: unknown): value is LostRange {
  return typeof value === 'object' && value !== null && 'sourceOffset' in value;
}
