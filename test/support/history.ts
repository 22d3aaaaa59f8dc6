/**
 * What reads may see while writes run beside them: the history of each sector.
 *
 * Every write has a number, a moment at which it was called and one at which it was answered, on
 * one clock that ticks at both. A sector holds the number of the write that filled it. A read may
 * see a write that was called before the read was answered, unless another write came wholly
 * between it and the read. A copy is read at one moment: if it holds a write, it also holds every
 * write that had been answered when that one was called.
 */
export const SECTOR = 512;
const OPEN = Infinity;

export interface Write {
  readonly number: number;
  readonly disk: number;
  readonly first: number;
  /** Exclusive end. */
  readonly end: number;
  /** Sectors become zeros instead of the number. */
  readonly zeroes: boolean;
  readonly calledAt: number;
  answeredAt: number;
  /** What it puts into each sector, if that is not its number. */
  readonly contents?: ReadonlyMap<number, Buffer> | undefined;
  /** It failed and may have changed some of its sectors. */
  partly: boolean;
  /** It failed and changed nothing. */
  refused: boolean;
}

/** A sector full of a number: its bytes tell the write and the disk. */
export function sectorOf(disk: number, number: number): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  for (let at = 0; at < SECTOR; at += 8) {
    bytes.writeUInt32LE(number, at);
    bytes.writeUInt32LE(disk, at + 4);
  }
  return bytes;
}

export class Clock {
  #now = 0;

  tick(): number {
    this.#now += 1;
    return this.#now;
  }
}

export class History {
  readonly disk: number;
  readonly #clock: Clock;
  readonly #writes: Write[] = [];
  readonly #sectors = new Map<number, Write[]>();
  readonly #initial: ReadonlyMap<number, Buffer>;
  static #numbers = 0;

  /** @param initial what the disk holds at first, by sector */
  constructor(disk: number, clock: Clock, initial: ReadonlyMap<number, Buffer> = new Map()) {
    this.disk = disk;
    this.#clock = clock;
    this.#initial = initial;
  }

  get writes(): readonly Write[] {
    return this.#writes;
  }

  call(
    first: number,
    count: number,
    zeroes: boolean,
    contents?: ReadonlyMap<number, Buffer>,
  ): Write {
    History.#numbers += 1;
    const write: Write = {
      number: History.#numbers,
      disk: this.disk,
      first,
      end: first + count,
      zeroes,
      contents,
      calledAt: this.#clock.tick(),
      answeredAt: OPEN,
      partly: false,
      refused: false,
    };
    this.#writes.push(write);
    for (let sector = first; sector < first + count; sector += 1) {
      const writes = this.#sectors.get(sector) ?? [];
      writes.push(write);
      this.#sectors.set(sector, writes);
    }
    return write;
  }

  answer(write: Write): void {
    write.answeredAt = this.#clock.tick();
  }

  refuse(write: Write): void {
    write.refused = true;
    this.answer(write);
  }

  bytesOf(write: Write): Buffer {
    const sector = write.zeroes ? Buffer.alloc(SECTOR) : sectorOf(this.disk, write.number);
    return Buffer.concat(Array.from({ length: write.end - write.first }, () => sector));
  }

  /**
   * Why the bytes of a read, called at `calledAt` and answered at `answeredAt`, cannot be; or
   * undefined if they can.
   */
  explain(first: number, bytes: Buffer, calledAt: number, answeredAt: number): string | undefined {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      const sector = first + at / SECTOR;
      const found = bytes.subarray(at, at + SECTOR);
      const allowed = this.allowed(sector, calledAt, answeredAt);
      if (allowed.some((write) => this.#is(sector, found, write))) continue;
      const numbers = allowed.map((write) => write?.number ?? 0).join(' ');
      const shown = found.subarray(0, 8).toString('hex');
      return `sector ${sector} of disk ${this.disk} reads ${shown}, not one of ${numbers}`;
    }
    return undefined;
  }

  /** Writes that a sector may show; undefined: never written. */
  allowed(sector: number, calledAt: number, answeredAt: number): (Write | undefined)[] {
    const writes = (this.#sectors.get(sector) ?? []).filter(
      (write) => !write.refused && write.calledAt < answeredAt,
    );
    const done = writes.filter((write) => write.answeredAt <= calledAt && !write.partly);
    const latestCall = done.reduce((latest, write) => Math.max(latest, write.calledAt), -1);
    const kept: (Write | undefined)[] = writes.filter((write) => write.answeredAt > latestCall);
    if (done.length === 0) kept.push(undefined);
    return kept;
  }

  /**
   * The same after a power cut: all that was answered when a flush was called at `durableAt` is
   * there, or something later, be it answered or not.
   */
  explainAfterCut(bytes: Buffer, durableAt: number): string | undefined {
    for (const [sector, found] of sectorsOf(bytes)) {
      const allowed = this.allowed(sector, durableAt, OPEN);
      if (allowed.some((write) => this.#is(sector, found, write))) continue;
      const numbers = allowed.map((write) => write?.number ?? 0).join(' ');
      return `sector ${sector} shows ${found.readUInt32LE(0)} after the cut, not one of ${numbers}`;
    }
    return undefined;
  }

  /**
   * The same for all sectors of one moment: no write is missing that had been answered when a
   * write that is there was called.
   */
  explainCut(sectors: ReadonlyMap<number, Buffer>): string | undefined {
    let newest: Write | undefined;
    const byNumber = new Map(this.#writes.map((write) => [write.number, write]));
    for (const bytes of sectors.values()) {
      const write = byNumber.get(bytes.readUInt32LE(0));
      if (write !== undefined && write.calledAt > (newest?.calledAt ?? -1)) newest = write;
    }
    if (newest === undefined) return undefined;
    for (const [sector, bytes] of sectors) {
      const allowed = this.allowed(sector, newest.calledAt, OPEN);
      if (allowed.some((write) => this.#is(sector, bytes, write))) continue;
      const shown = bytes.readUInt32LE(0);
      return `sector ${sector} shows ${shown}, older than what preceded ${newest.number}`;
    }
    return undefined;
  }

  #is(sector: number, found: Buffer, write: Write | undefined): boolean {
    const initial = this.#initial.get(sector);
    if (write === undefined && initial !== undefined) return found.equals(initial);
    const given = write?.contents?.get(sector);
    if (given !== undefined) return found.equals(given);
    if (write === undefined || write.zeroes) return found.every((byte) => byte === 0);
    return found.equals(sectorOf(write.disk, write.number));
  }
}

/** Sectors that differ: what they are, what they were. */
export function differences(found: Buffer, wanted: Buffer): string[] {
  if (found.equals(wanted)) return [];
  const before = sectorsOf(wanted);
  return [...sectorsOf(found)]
    .filter(([sector, bytes]) => !bytes.equals(before.get(sector)!))
    .map(([sector, bytes]) => {
      const then = before.get(sector)!.readUInt32LE(0);
      const [now, disk] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
      return `sector ${sector}: ${now} of disk ${disk}, was ${then}`;
    });
}

export function sectorsOf(bytes: Buffer): Map<number, Buffer> {
  const sectors = new Map<number, Buffer>();
  for (let at = 0; at < bytes.length; at += SECTOR) {
    sectors.set(at / SECTOR, bytes.subarray(at, at + SECTOR));
  }
  return sectors;
}
