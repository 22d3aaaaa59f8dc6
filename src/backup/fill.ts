/**
 * Writes the blocks of an image into a disk, segment by segment, at their original addresses.
 *
 * Runs of consecutive addresses are written together, in pieces of at most 4 MiB. With
 * `onlyDiffering` the disk keeps its table: blocks that are equal are left alone, blocks that the
 * image does not have are unmapped. Thinness is kept: a block of zeros that was mapped stays
 * mapped, unless the pool's block size is another.
 */
import { blocksFor } from '../base/units.ts';
import { CorrespondenceTable } from '../copy/correspondence-table.ts';
import { unmapBlocks } from '../disk/discard.ts';
import type { Disk } from '../disk/disk.ts';
import { WRITE_MAX_BYTES, writeRange } from '../disk/write.ts';
import { readRange } from '../disk/read.ts';

export interface FillSegment {
  readonly sourceBlocks: Float64Array;
  readonly bad: readonly number[];
  readonly data: Uint8Array;
}

export interface FillOptions {
  /** Of the image. */
  readonly blockSizeBytes: number;
  readonly capacityBytes: number;
  readonly onlyDiffering: boolean;
}

export class DiskFill {
  readonly #disk: Disk;
  readonly #o: FillOptions;
  /** Bytes below this are as the image says. */
  #doneTo: number;

  /** @param doneTo where an earlier attempt was durable */
  constructor(disk: Disk, options: FillOptions, doneTo = 0) {
    this.#disk = disk;
    this.#o = options;
    this.#doneTo = doneTo;
  }

  get doneTo(): number {
    return this.#doneTo;
  }

  /** The next segment, in order. */
  async write(segment: FillSegment): Promise<void> {
    const size = this.#o.blockSizeBytes;
    for (const { from, end } of goodStretches(segment)) {
      const table = CorrespondenceTable.of(segment.sourceBlocks.subarray(from, end));
      for (const run of table.runs()) {
        const begin = (from + run.copyBlock) * size;
        const bytes = segment.data.subarray(begin, begin + run.length * size);
        for (let at = 0; at < bytes.length; at += WRITE_MAX_BYTES) {
          const part = bytes.subarray(at, at + WRITE_MAX_BYTES);
          await this.#writeRun(run.sourceBlock + at / size, part);
        }
      }
    }
  }

  /** After the last segment: what lies behind it is not mapped. */
  async finish(): Promise<void> {
    await this.#unmapTo(Math.max(this.#disk.capacityBytes, this.#o.capacityBytes));
  }

  async #writeRun(first: number, bytes: Uint8Array): Promise<void> {
    const offset = first * this.#o.blockSizeBytes;
    const length = Math.min(bytes.length, this.#o.capacityBytes - offset);
    await this.#unmapTo(offset);
    // the disk may go on within the image's last block: what it holds there goes, too
    this.#doneTo = offset + length;
    const used = bytes.subarray(0, length);
    const sameSize = this.#disk.blockSizeBytes === this.#o.blockSizeBytes;
    if (!this.#o.onlyDiffering) {
      await writeRange(this.#disk, offset, used, !sameSize);
      return;
    }
    const size = this.#o.blockSizeBytes;
    const there = new Uint8Array(used.length);
    await readRange(this.#disk.pool, () => this.#disk.liveRoot(), offset, there);
    for (let at = 0; at < used.length; at += size) {
      const wanted = used.subarray(at, at + size);
      const equal = Buffer.compare(wanted, there.subarray(at, at + size)) === 0;
      if (!equal || !(await this.#isMapped(offset + at))) {
        await writeRange(this.#disk, offset + at, wanted, !sameSize);
      }
    }
  }

  async #isMapped(offset: number): Promise<boolean> {
    const block = Math.floor(offset / this.#disk.blockSizeBytes);
    const { runs } = await this.#disk.allocatedRuns(block, 1, false);
    return runs[0]?.block === block;
  }

  /** Unmaps whole blocks between the last run and `offset`, and zeroes parts beside runs. */
  async #unmapTo(offset: number): Promise<void> {
    const from = this.#doneTo;
    if (!this.#o.onlyDiffering || offset <= from) return;
    const size = this.#disk.blockSizeBytes;
    const end = Math.min(offset, this.#disk.capacityBytes);
    const first = Math.ceil(from / size);
    const last = end === this.#disk.capacityBytes ? blocksFor(end, size) : Math.floor(end / size);
    if (first < last) await unmapBlocks(this.#disk, first, last);
    await this.#zero(from, Math.min(end, first * size));
    await this.#zero(Math.max(from, last * size), end);
  }

  /** Less than a block at either side of a hole, where block sizes differ. */
  async #zero(from: number, to: number): Promise<void> {
    if (from < to) await writeRange(this.#disk, from, new Uint8Array(to - from), true);
  }
}

/** Blocks [from, end) of a segment between those that must not be used. */
function* goodStretches({
  sourceBlocks,
  bad,
}: FillSegment): Generator<{ readonly from: number; readonly end: number }> {
  let from = 0;
  for (const end of [...bad].sort((a, b) => a - b).concat(sourceBlocks.length)) {
    if (from < end) yield { from, end };
    from = end + 1;
  }
}
