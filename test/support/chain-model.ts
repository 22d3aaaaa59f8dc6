/**
 * A naive model of a disk with copies, and the images of its copies: full, and incremental between
 * any two. For tests of chains.
 */
import { MemoryCopy } from './image-source.ts';

export const blockSizeBytes = 16384;

/** A block's content is a number; holes are absent. */
export interface ModelCopy {
  readonly id: string;
  readonly generation: number;
  readonly capacityBytes: number;
  readonly blocks: ReadonlyMap<number, number>;
}

export function contentOf(value: number, length = blockSizeBytes): Buffer {
  return Buffer.alloc(length, value === 0 ? 0 : `content ${String(value).padStart(7)}\n`);
}

export function uuidOf(number: number): string {
  return `0193e4c4-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;
}

export class ModelDisk {
  readonly blocks = new Map<number, number>();
  readonly copies: ModelCopy[] = [];
  capacityBytes: number;

  constructor(blocks: number) {
    this.capacityBytes = blocks * blockSizeBytes;
  }

  write(first: number, count: number, value: number): void {
    const end = Math.min(first + count, Math.ceil(this.capacityBytes / blockSizeBytes));
    for (let place = first; place < end; place += 1) this.blocks.set(place, value);
  }

  discard(first: number, count: number): void {
    for (let place = first; place < first + count; place += 1) this.blocks.delete(place);
  }

  resize(blocks: number): void {
    this.capacityBytes = blocks * blockSizeBytes;
    for (const place of [...this.blocks.keys()]) if (place >= blocks) this.blocks.delete(place);
  }

  freeze(): ModelCopy {
    const generation = this.copies.length + 1;
    const { capacityBytes } = this;
    const blocks = new Map([...this.blocks].sort(([a], [b]) => a - b));
    const copy = { id: uuidOf(generation), generation, capacityBytes, blocks };
    this.copies.push(copy);
    return copy;
  }
}

/** The disk that a copy shows: its blocks at their places, zeros between. */
export function diskOf({ capacityBytes, blocks }: ModelCopy): Buffer {
  const disk = Buffer.alloc(capacityBytes);
  for (const [place, value] of blocks) contentOf(value).copy(disk, place * blockSizeBytes);
  return disk;
}

interface Extra {
  /** Also given though they did not change, or are holes in both. */
  readonly surplus?: ReadonlySet<number>;
  /** Said instead of the number of blocks of the copy. */
  readonly copyBlocks?: number;
}

/** The source of a copy's image: full without a base. */
export function sourceOf(copy: ModelCopy, base?: ModelCopy, extra: Extra = {}): MemoryCopy {
  const isMore = (place: number): boolean => extra.surplus?.has(place) === true;
  const isSame = (place: number): boolean =>
    base?.blocks.get(place) === copy.blocks.get(place) && !isMore(place);
  const places = [...copy.blocks.keys()].filter((place) => base === undefined || !isSame(place));
  const holes = [...(base?.blocks.keys() ?? []), ...(extra.surplus ?? [])].filter(
    (place) => !copy.blocks.has(place) && place * blockSizeBytes < copy.capacityBytes,
  );
  return new MemoryCopy({
    copyId: copy.id,
    generation: copy.generation,
    capacityBytes: copy.capacityBytes,
    places,
    copyBlocks: extra.copyBlocks ?? copy.blocks.size,
    ...(base === undefined
      ? {}
      : {
          base: { copyId: base.id, generation: base.generation },
          zeroRanges: rangesOf([...new Set(holes)].sort((a, b) => a - b)),
        }),
    block: (place, length) => contentOf(copy.blocks.get(place) ?? NaN, length),
  });
}

/** Ascending places as ranges that do not touch. */
export function rangesOf(places: readonly number[]): [first: number, blocks: number][] {
  const ranges: [number, number][] = [];
  for (const place of places) {
    const last = ranges.at(-1);
    if (last !== undefined && last[0] + last[1] === place) last[1] += 1;
    else ranges.push([place, 1]);
  }
  return ranges;
}
