/**
 * What lies on a medium that loses what was not synced: values with a durable state and the
 * versions written since, sector by sector. Used by faulty-block-file.ts.
 */
export const SECTOR = 512;
/** Sequence number of a version that no sync covers any more. */
const NEVER = Infinity;

interface Version<T> {
  sequence: number;
  readonly value: T;
}

/** A value with a durable state and versions that are not durable yet, oldest first. */
export class Volatile<T> {
  durable: T;
  versions: Version<T>[] = [];

  constructor(durable: T) {
    this.durable = durable;
  }

  get current(): T {
    return this.versions.at(-1)?.value ?? this.durable;
  }

  /** Makes durable what was written up to `sequence`. */
  sync(sequence: number): void {
    const last = this.versions.findLastIndex((version) => version.sequence <= sequence);
    const version = this.versions[last];
    if (version === undefined) return;
    this.durable = version.value;
    this.versions.splice(0, last + 1);
  }

  /** A sync failed: what it covered will never be written. */
  lose(sequence: number): void {
    for (const version of this.versions) {
      if (version.sequence <= sequence) version.sequence = NEVER;
    }
  }

  crash(pick: (count: number) => number): void {
    const kept = this.versions[pick(this.versions.length + 1) - 1];
    if (kept !== undefined) this.durable = kept.value;
    this.versions = [];
  }
}

export type Cell = Volatile<Uint8Array> | Volatile<number>;

/** What is on the medium under one name, whoever has it open. */
export interface Medium {
  readonly kind: 'file' | 'device';
  readonly size: Volatile<number>;
  readonly sectors: Map<number, Volatile<Uint8Array>>;
  /** Sectors and size that have versions. */
  readonly unsynced: Set<Cell>;
  readonly fill: Uint8Array;
  isOpen: boolean;
}

export function newMedium(kind: 'file' | 'device', sizeBytes: number, fill: number): Medium {
  return {
    kind,
    size: new Volatile(sizeBytes),
    sectors: new Map(),
    unsynced: new Set(),
    fill: Buffer.alloc(SECTOR, fill),
    isOpen: false,
  };
}

export function get(medium: Medium, into: Uint8Array, position: number): void {
  for (const { sector, from, to, at } of sectorsOf(position, into.length)) {
    const bytes = medium.sectors.get(sector)?.current ?? medium.fill;
    into.set(bytes.subarray(from, to), at);
  }
}

export function put(medium: Medium, bytes: Uint8Array, position: number, sequence: number): void {
  for (const { sector, from, to, at } of sectorsOf(position, bytes.length)) {
    const cell = medium.sectors.get(sector) ?? new Volatile(medium.fill);
    const value = Uint8Array.from(cell.current);
    value.set(bytes.subarray(at, at + to - from), from);
    cell.versions.push({ sequence, value });
    medium.sectors.set(sector, cell);
    medium.unsynced.add(cell);
  }
}

/** Bytes `from` … `to` of each sector, and where they are in the buffer. */
function* sectorsOf(
  position: number,
  length: number,
): Generator<{ sector: number; from: number; to: number; at: number }> {
  for (let at = 0; at < length;) {
    const from = (position + at) % SECTOR;
    const to = Math.min(SECTOR, from + length - at);
    yield { sector: Math.floor((position + at) / SECTOR), from, to, at };
    at += to - from;
  }
}

/** What lies beyond the end after a crash is gone: growing again shows zeros. */
export function dropBeyond(medium: Medium): void {
  const size = medium.size.durable;
  for (const [sector, cell] of medium.sectors) {
    const kept = size - sector * SECTOR;
    if (kept <= 0) medium.sectors.delete(sector);
    else if (kept < SECTOR) cell.durable = Uint8Array.from(cell.durable).fill(0, kept);
  }
}

/** mulberry32: small, fast, good enough to choose victims. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
