/**
 * The model of one disk's bytes: what it held when it was last known, and every write since.
 *
 * Times are counted in events of this program. A write may show from its request on, and until
 * another one that began after its answer counts as done: for a live read that one must have been
 * answered, for what a crash left it must have been durable. Within one sector a write is there or
 * not; sectors are free of each other.
 */
import { CHUNK, type Content, isZero } from './content.ts';
import { patternBytes, readPattern, SECTOR } from './pattern.ts';

export const END = Number.MAX_SAFE_INTEGER;
const WORD = 8;

export interface Write {
  /** Number of its pattern; 0: zeros; -1: the bytes of `content`. */
  readonly number: number;
  readonly content?: Content;
  readonly from: number;
  to: number;
  readonly begin: number;
  /** When it could have its last effect; END while it may still come. */
  end: number;
  /** From when on it must survive a crash; END if it need not. */
  durable: number;
  /** All of it took effect, by `end`. */
  isCertain: boolean;
  /** It had no effect and never will. */
  isVoid: boolean;
  /** The client breaks it off: it may end at any byte. */
  isCut?: boolean;
  /** A replacement of everything that came later, if that took place. */
  before?: Write;
  readonly what: string;
}

/** A question to a history: which bytes are allowed? */
export interface View {
  readonly base: Content;
  readonly writes: readonly Write[];
  /** Writes that had happened for sure when the look began. */
  readonly isPast: (write: Write) => boolean;
  /** Later writes cannot be seen. */
  readonly end: number;
  /** A look beside writes under way may see a sector half written. */
  readonly isLive: boolean;
}

export interface Mismatch {
  readonly position: number;
  readonly found: string;
  readonly allowed: readonly string[];
}

export interface Finding {
  readonly mismatch?: Mismatch;
  /** Begin of the latest write that was recognised. */
  readonly latest: number;
}

interface Candidate {
  /** Undefined: what was there before all writes. */
  readonly write: Write | undefined;
  readonly bytes: Buffer;
}

/** Compares what was read in [from, to) with what is allowed there. */
export function examine(view: View, actual: Content, from = 0, to = END): Finding {
  return new Examination(view, actual).run(from, to);
}

class Examination {
  readonly #view: View;
  readonly #actual: Content;
  readonly #wide: Write[] = [];
  readonly #byChunk = new Map<number, Write[]>();
  #latest = -1;
  #mismatch: Mismatch | undefined;

  constructor(view: View, actual: Content) {
    this.#view = view;
    this.#actual = actual;
    for (const write of view.writes) {
      if (write.isVoid || write.begin > view.end || write.to <= write.from) continue;
      if (write.number <= 0) this.#wide.push(write);
      else this.#addByChunk(write);
    }
  }

  #addByChunk(write: Write): void {
    const end = Math.ceil(write.to / CHUNK);
    for (let chunk = Math.floor(write.from / CHUNK); chunk < end; chunk += 1) {
      const there = this.#byChunk.get(chunk);
      if (there === undefined) this.#byChunk.set(chunk, [write]);
      else there.push(write);
    }
  }

  run(from: number, to: number): Finding {
    const contents = [this.#view.base, this.#actual];
    for (const { content } of this.#wide) if (content !== undefined) contents.push(content);
    const chunks = new Set(this.#byChunk.keys());
    for (const content of contents) for (const chunk of content.chunks()) chunks.add(chunk);
    for (const chunk of chunks) {
      const start = Math.max(from, chunk * CHUNK);
      const end = Math.min(to, (chunk + 1) * CHUNK);
      if (start < end && !this.#chunk(chunk, start, end)) break;
    }
    if (this.#mismatch === undefined) return { latest: this.#latest };
    return { latest: this.#latest, mismatch: this.#mismatch };
  }

  #chunk(chunk: number, start: number, end: number): boolean {
    const wide = this.#wide.filter((write) => write.from < end && write.to > start);
    const writes = [...(this.#byChunk.get(chunk) ?? []), ...wide];
    const borders = new Set([start, end]);
    for (const write of writes) {
      if (write.from > start && write.from < end) borders.add(write.from);
      if (write.to > start && write.to < end) borders.add(write.to);
    }
    const sorted = [...borders].sort((a, b) => a - b);
    return sorted.slice(1).every((border, index) => {
      const from = sorted[index] ?? start;
      const covering = writes.filter((write) => write.from <= from && write.to >= border);
      return this.#interval(from, border, covering);
    });
  }

  /** One stretch that the same writes cover. */
  #interval(from: number, to: number, covering: readonly Write[]): boolean {
    const past = covering.filter((write) => write.isCertain && this.#view.isPast(write));
    const since = past.reduce((latest, write) => Math.max(latest, write.begin), -1);
    const allowed = covering.filter((write) => {
      if (write.before !== undefined && past.includes(write.before)) return false;
      return write.end >= since;
    });
    const candidates = allowed.map((write) => ({ write, bytes: bytesOf(write, from, to) }));
    const base = this.#view.base.bytes(from, to);
    const all = past.length > 0 ? candidates : [...candidates, { write: undefined, bytes: base }];
    const bytes = this.#actual.bytes(from, to);
    for (const { write, bytes: wanted } of all) {
      if (!wanted.equals(bytes)) continue;
      this.#recognised(write);
      return true;
    }
    for (let at = from; at < to;) {
      const next = Math.min(to, (Math.floor(at / SECTOR) + 1) * SECTOR);
      if (!this.#sector(at - from, next - from, bytes, all)) {
        this.#mismatch = mismatchAt(at, bytes.subarray(at - from, next - from), all);
        return false;
      }
      at = next;
    }
    return true;
  }

  #sector(start: number, end: number, bytes: Buffer, all: readonly Candidate[]): boolean {
    const piece = bytes.subarray(start, end);
    const found = all.find((each) => each.bytes.subarray(start, end).equals(piece));
    if (found !== undefined) {
      this.#recognised(found.write);
      return true;
    }
    const cut = all.filter(({ write }) => write?.isCut === true);
    if (cut.some((each) => endsWithin(each, start, end, bytes, all))) return true;
    if (!this.#view.isLive || all.length < 2) return false;
    for (let at = start; at < end; at += WORD) {
      const stop = Math.min(end, at + WORD);
      const word = bytes.subarray(at, stop);
      if (!all.some((each) => each.bytes.subarray(at, stop).equals(word))) return false;
    }
    return true;
  }

  #recognised(write: Write | undefined): void {
    if (write !== undefined && write.number > 0) this.#latest = Math.max(this.#latest, write.begin);
  }
}

/** True if the bytes [start, end) are those of a cut write up to where it ends, then others. */
function endsWithin(
  cut: Candidate,
  start: number,
  end: number,
  bytes: Buffer,
  all: readonly Candidate[],
): boolean {
  let at = start;
  while (at < end && bytes[at] === cut.bytes[at]) at += 1;
  const rest = bytes.subarray(at, end);
  return all.some((each) => each.bytes.subarray(at, end).equals(rest));
}

function bytesOf(write: Write, from: number, to: number): Buffer {
  if (write.content !== undefined) return write.content.bytes(from, to);
  return write.number === 0 ? Buffer.alloc(to - from) : patternBytes(write.number, from, to);
}

function mismatchAt(position: number, bytes: Buffer, all: readonly Candidate[]): Mismatch {
  const allowed = all.map(({ write }) => (write === undefined ? 'what was there' : shown(write)));
  return { position, found: describePieces(bytes, position), allowed };
}

export function shown(write: Write): string {
  const { number, from, to, begin, end, durable, isCertain, what } = write;
  const times = [begin, end, durable].map((time) => (time === END ? '…' : time)).join('/');
  return `${what} #${number} [${from}, ${to}) ${times}${isCertain ? '' : ' unsure'}`;
}

/** Each stretch of 16-byte cells from one write. */
function describePieces(bytes: Buffer, position: number): string {
  const pieces: string[] = [];
  let last = '';
  for (let at = 0; at < bytes.length; at += 16) {
    const text = describeBytes(bytes.subarray(at, at + 32), position + at);
    if (text !== last) pieces.push(`${at}: ${text}`);
    last = text;
  }
  return pieces.join(', ');
}

function describeBytes(bytes: Buffer, position: number): string {
  if (isZero(bytes)) return 'zeros';
  const read = readPattern(bytes, position);
  if (read === undefined || read === 'zeros') return bytes.subarray(0, 32).toString('hex');
  const at = Math.floor(position / SECTOR);
  return `write #${read.write}${read.sector === at ? '' : ` of sector ${read.sector}`}`;
}
