/**
 * The naive model of pools, disks and copies: each root has a Map from block to its own bytes.
 *
 * Beside the bytes it knows which blocks are one and the same in the pool (`id`) and when they
 * were born, so it tells exactly how many blocks are used and when a pool is full.
 */
import { blocksFor } from '../../src/base/units.ts';

export interface ModelBlock {
  readonly id: number;
  birth: number;
  readonly data: Buffer;
}

export type Blocks = Map<number, ModelBlock>;

export interface ModelRoot {
  capacityBytes: number;
  blocks: Blocks;
}

export interface ModelDisk extends ModelRoot {
  readonly pool: ModelPool;
  birth: number;
  detectZeroes: boolean;
  reserveBytes: number;
}

export interface ModelCopy extends ModelRoot {
  readonly pool: ModelPool;
}

export type Outcome = 'ok' | 'full' | 'data beyond';

/** Bytes of one block that an operation touches. */
interface Piece {
  readonly block: number;
  readonly from: number;
  readonly to: number;
  readonly at: number;
}

function clone(blocks: Blocks): Blocks {
  return new Map(
    [...blocks].map(([block, each]) => [block, { ...each, data: Buffer.from(each.data) }]),
  );
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

export class ModelPool {
  readonly size: number;
  totalBlocks: number;
  readonly disks = new Set<ModelDisk>();
  readonly copies = new Set<ModelCopy>();
  static #sequence = 0;

  constructor(blockSizeBytes: number, totalBlocks: number) {
    this.size = blockSizeBytes;
    this.totalBlocks = totalBlocks;
  }

  get usedBlocks(): number {
    return this.#holders().size;
  }

  get freeBlocks(): number {
    return this.totalBlocks - this.usedBlocks;
  }

  get reservedBytes(): number {
    return [...this.disks].reduce((sum, { reserveBytes }) => sum + reserveBytes, 0);
  }

  create(o: { capacityBytes: number; detectZeroes: boolean; reserveBytes: number }): ModelDisk {
    const disk = { ...o, pool: this, birth: this.#next(), blocks: new Map() };
    this.disks.add(disk);
    return disk;
  }

  freeze(disk: ModelDisk): ModelCopy {
    const copy = { pool: this, capacityBytes: disk.capacityBytes, blocks: clone(disk.blocks) };
    this.copies.add(copy);
    disk.birth = this.#next();
    return copy;
  }

  remap(copy: ModelCopy): ModelDisk {
    const disk = {
      pool: this,
      capacityBytes: copy.capacityBytes,
      detectZeroes: true,
      reserveBytes: 0,
      birth: this.#next(),
      blocks: clone(copy.blocks),
    };
    this.disks.add(disk);
    return disk;
  }

  /** The disk gets other contents, as those of a copy or of its own past. */
  replace(disk: ModelDisk, blocks: Blocks, capacityBytes = 0): void {
    disk.blocks = clone(blocks);
    disk.birth = this.#next();
    disk.capacityBytes = Math.max(disk.capacityBytes, capacityBytes);
  }

  write(disk: ModelDisk, offset: number, bytes: Buffer, detect = disk.detectZeroes): Outcome {
    const pieces = this.#pieces(offset, bytes.length);
    const isLeft = ({ block, from, to, at }: Piece): boolean => {
      const whole = from === 0 && to >= Math.min(this.size, disk.capacityBytes - block * this.size);
      const zero = isZero(bytes.subarray(at, at + to - from));
      return detect && zero && (whole || !disk.blocks.has(block));
    };
    const kept = pieces.filter((piece) => !isLeft(piece));
    if (!this.#makeRoom(disk, kept)) return 'full';
    for (const piece of pieces) if (isLeft(piece)) disk.blocks.delete(piece.block);
    for (const { block, from, to, at } of kept) {
      const data = this.#writable(disk, block);
      bytes.copy(data, from, at, at + to - from);
    }
    return 'ok';
  }

  discard(disk: ModelDisk, offset: number, length: number): Outcome {
    const end = offset + length;
    const toEnd = end === disk.capacityBytes;
    const whole = ({ block, from, to }: Piece): boolean =>
      from === 0 && (to === this.size || (toEnd && block === Math.floor((end - 1) / this.size)));
    const touched = this.#piecesOfMapped(disk, offset, length);
    for (const piece of touched) {
      if (whole(piece)) continue;
      const zeros = Buffer.alloc(piece.to - piece.from);
      const outcome = this.write(disk, piece.block * this.size + piece.from, zeros, true);
      if (outcome !== 'ok') return outcome;
    }
    for (const piece of touched) if (whole(piece)) disk.blocks.delete(piece.block);
    return 'ok';
  }

  resize(disk: ModelDisk, capacityBytes: number, discard: boolean): Outcome {
    const old = disk.capacityBytes;
    if (capacityBytes < old) {
      const first = blocksFor(capacityBytes, this.size);
      const beyond = [...disk.blocks.keys()].filter((block) => block >= first);
      const tail = Math.min(first * this.size, old) - capacityBytes;
      const tailIsZero = isZero(this.read(disk, capacityBytes, tail));
      if (!discard && (beyond.length > 0 || !tailIsZero)) return 'data beyond';
      const last = Math.floor(capacityBytes / this.size);
      if (tail > 0 && disk.blocks.has(last)) {
        const outcome = this.write(disk, capacityBytes, Buffer.alloc(tail), false);
        if (outcome !== 'ok') return outcome;
      }
      for (const block of beyond) disk.blocks.delete(block);
    }
    disk.capacityBytes = capacityBytes;
    return 'ok';
  }

  read(root: ModelRoot, offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (const { block, from, to, at } of this.#pieces(offset, length)) {
      root.blocks.get(block)?.data.copy(bytes, at, from, to);
    }
    return bytes;
  }

  /** How many blocks of a root, from one block on, nobody else holds. */
  exclusive(root: ModelRoot, from = 0): number {
    const holders = this.#holders();
    return [...root.blocks].filter(([block, { id }]) => block >= from && holders.get(id) === 1)
      .length;
  }

  /** Mapped blocks in ascending order. */
  mapped(root: ModelRoot): number[] {
    return [...root.blocks.keys()].sort((a, b) => a - b);
  }

  #next(): number {
    ModelPool.#sequence += 1;
    return ModelPool.#sequence;
  }

  /** How many roots hold each block of the pool. */
  #holders(): Map<number, number> {
    const holders = new Map<number, number>();
    for (const { blocks } of [...this.disks, ...this.copies]) {
      for (const { id } of blocks.values()) holders.set(id, (holders.get(id) ?? 0) + 1);
    }
    return holders;
  }

  /** False if the pieces need more new blocks than there are; adopts what only the disk holds. */
  #makeRoom(disk: ModelDisk, pieces: readonly Piece[]): boolean {
    const needed = (): number[] =>
      pieces
        .map(({ block }) => block)
        .filter((block) => disk.blocks.get(block)?.birth !== disk.birth);
    const others = [...this.disks].filter((other) => other !== disk);
    const reserved = others.reduce((sum, { reserveBytes }) => sum + reserveBytes, 0);
    const holders = this.#holders();
    const room = this.totalBlocks - holders.size - Math.ceil(reserved / this.size);
    const fits = (): boolean => needed().length === 0 || needed().length <= room;
    if (fits()) return true;
    for (const block of needed()) {
      const held = disk.blocks.get(block);
      if (held !== undefined && holders.get(held.id) === 1) held.birth = disk.birth;
    }
    return fits();
  }

  #writable(disk: ModelDisk, block: number): Buffer {
    const old = disk.blocks.get(block);
    if (old?.birth === disk.birth) return old.data;
    const data = old === undefined ? Buffer.alloc(this.size) : Buffer.from(old.data);
    disk.blocks.set(block, { id: this.#next(), birth: disk.birth, data });
    return data;
  }

  #pieces(offset: number, length: number): Piece[] {
    const pieces: Piece[] = [];
    for (let at = 0; at < length;) {
      const block = Math.floor((offset + at) / this.size);
      const from = offset + at - block * this.size;
      const to = Math.min(this.size, from + length - at);
      pieces.push({ block, from, to, at });
      at += to - from;
    }
    return pieces;
  }

  /** The same, of mapped blocks only: the range may be huge. Parts come in the order of work. */
  #piecesOfMapped(disk: ModelDisk, offset: number, length: number): Piece[] {
    const end = offset + length;
    return this.mapped(disk)
      .map((block) => {
        const start = block * this.size;
        const from = Math.max(0, offset - start);
        const to = Math.min(this.size, end - start);
        return { block, from, to, at: start + from - offset };
      })
      .filter(({ from, to }) => from < to);
  }
}
