/** What the harness knows: objects, their bytes, and what it has asked for. */
import type { JobView } from '../../src/api/views.ts';
import type { Content } from './content.ts';
import { END, examine, type Mismatch, type Write } from './history.ts';
import { Violation } from './violation.ts';

/** `sure`: it must be there; `maybe`: a request about it has had no answer yet. */
export type Existence = 'sure' | 'maybe';

/** The bytes of a disk at one instant between two events. */
export class Snapshot {
  /** Once they were read: from then on they never change. */
  content: Content | undefined;
  sourceCapacity: number | undefined;
  readonly begin: number;
  end = END;
  /** When it was taken only in the next life: what was not durable by then may be missing. */
  takenAgain: number | undefined;
  /** Or its job had taken it before that, which nobody saw. */
  orBefore = false;
  /** A job takes it, or takes it anew after a restart. */
  byJob = false;
  readonly #base: Content;
  /** Of the disk, also those to come: some begin before the instant. */
  #writes: readonly Write[];
  readonly #except: Write | undefined;

  constructor(base: Content, writes: readonly Write[], begin: number, except?: Write) {
    this.#base = base;
    this.#writes = writes;
    this.begin = begin;
    this.#except = except;
  }

  /** Bytes to read against, to share memory with. */
  get like(): Content {
    return this.content ?? this.#base;
  }

  /** Compares what was read, and keeps it if it is the first time. @throws Violation */
  check(actual: Content, what: string): void {
    if (this.content !== undefined) {
      const position = actual.firstDifference(this.content);
      if (position === undefined) return;
      throw new Violation(`${what} has changed`, { position });
    }
    const again = this.takenAgain;
    if (again === undefined) this.#checkInstant(actual, what);
    else if (!this.orBefore || !this.#fitsInstant(actual)) {
      this.#examine(actual, ({ durable }) => durable <= again, what);
    }
    this.content = actual;
    this.#writes = [];
  }

  #fitsInstant(actual: Content): boolean {
    try {
      this.#checkInstant(actual, '');
      return true;
    } catch (error) {
      if (error instanceof Violation) return false;
      throw error;
    }
  }

  /** Taken in the life in which it was asked for. */
  #checkInstant(actual: Content, what: string): void {
    const { latest } = this.#examine(actual, ({ end }) => end <= this.begin, what);
    // a write that is seen in it began before the instant: so what had ended by then is in it
    const instant = Math.max(this.begin, latest);
    this.#examine(actual, ({ end }) => end <= instant, what);
  }

  #examine(actual: Content, isPast: (write: Write) => boolean, what: string): { latest: number } {
    const writes = this.#writes.filter((write) => write !== this.#except);
    const view = { base: this.#base, writes, isPast, end: this.end, isLive: false };
    const { mismatch, latest } = examine(view, actual);
    if (mismatch !== undefined) throw wrongBytes(what, mismatch);
    return { latest };
  }
}

export function wrongBytes(what: string, { position, found, allowed }: Mismatch): Violation {
  return new Violation(`${what} holds wrong bytes`, {
    position: `${position} (sector ${Math.floor(position / 512)})`,
    found,
    allowed: allowed.join('\n             '),
  });
}

interface Zone {
  readonly from: number;
  readonly length: number;
}

export class DiskModel {
  id: string | undefined;
  existence: Existence = 'maybe';
  readonly names: Set<string>;
  /** More than one while a change of it has no answer. */
  capacities: Set<number>;
  base: Content;
  writes: Write[] = [];
  /** Made from something not read yet: nothing is written before that. */
  unread: Snapshot | undefined;
  isDeleting = false;
  isResizing = false;
  /** Resizes begun so far. */
  resizes = 0;
  /** Write-backs that have not ended. */
  restores = 0;
  /** Until a write-back has ended nothing is written, so that its result is exact. */
  isQuiet = false;
  readonly zones: readonly Zone[];

  constructor(name: string, capacity: number, base: Content, zones: readonly Zone[]) {
    this.names = new Set([name]);
    this.capacities = new Set([capacity]);
    this.base = base;
    this.zones = zones;
  }

  get name(): string {
    return [...this.names][0] ?? '?';
  }

  get ref(): string {
    return this.id ?? this.name;
  }

  /** The smallest it may be. */
  get capacity(): number {
    return Math.min(...this.capacities);
  }

  get isUsable(): boolean {
    return this.existence === 'sure' && !this.isDeleting && this.unread === undefined;
  }

  /** @param except a write that is not to be in it */
  snapshot(begin: number, except?: Write): Snapshot {
    if (this.unread !== undefined) return this.unread;
    const snapshot = new Snapshot(this.base, this.writes, begin, except);
    snapshot.sourceCapacity = this.capacities.size === 1 ? this.capacity : undefined;
    return snapshot;
  }

  /** It was read whole, with nothing under way. */
  settle(actual: Content): void {
    this.base = actual;
    this.writes = [];
    this.unread = undefined;
  }
}

export class CopyModel {
  id: string | undefined;
  existence: Existence = 'maybe';
  readonly names: Set<string>;
  readonly snapshot: Snapshot;
  isDeleting = false;
  isDedicated = false;
  /** Of its image, once downloaded. */
  imageDigest: string | undefined;

  constructor(name: string, snapshot: Snapshot) {
    this.names = new Set([name]);
    this.snapshot = snapshot;
  }

  get name(): string {
    return [...this.names][0] ?? '?';
  }

  get ref(): string {
    return this.id ?? this.name;
  }

  get isUsable(): boolean {
    return this.existence === 'sure' && !this.isDeleting;
  }
}

export class BackupModel {
  id: string | undefined;
  existence: Existence = 'maybe';
  readonly name: string;
  readonly snapshot: Snapshot;
  /** That was backed up, if it was no copy. */
  readonly disk: DiskModel | undefined;
  isComplete = false;
  /** Or it may have been deleted, which nobody knows before all are looked at. */
  isDeleting = false;
  /** A deletion was cut off behind its first step: what is left is no part of a group. */
  isDeletedInPart = false;
  /** A cascade went on while it was made: it may have been taken along. */
  metCascade = false;

  constructor(name: string, snapshot: Snapshot, disk?: DiskModel) {
    this.name = name;
    this.snapshot = snapshot;
    this.disk = disk;
  }

  get isUsable(): boolean {
    return this.isComplete && this.existence === 'sure' && !this.isDeleting;
  }

  /** Its job has made it. */
  made(id: string | undefined): void {
    this.existence = 'sure';
    this.isComplete = true;
    this.id = id;
    this.isDeleting ||= this.metCascade;
  }
}

/** Copies that were frozen together: there are all of them, or none. */
export class GroupModel {
  id: string | undefined;
  existence: Existence = 'maybe';
  readonly name: string;
  /** Also those that were deleted since. */
  readonly copies: readonly CopyModel[];
  /** Of the sources at the freeze, once they are known. */
  diskNames: readonly string[] = [];
  isDeleting = false;

  constructor(name: string, copies: readonly CopyModel[]) {
    this.name = name;
    this.copies = copies;
  }

  get ref(): string {
    return this.id ?? this.name;
  }
}

/** The backups of a group: they are complete together, or there is none. */
export class GroupBackupModel {
  readonly name: string;
  readonly backups: readonly BackupModel[];
  readonly diskNames: readonly string[];

  constructor(name: string, backups: readonly BackupModel[], diskNames: readonly string[]) {
    this.name = name;
    this.backups = backups;
    this.diskNames = diskNames;
  }
}

/** A job that was asked for. */
export interface JobModel {
  id: string | undefined;
  readonly kind: string;
  readonly what: string;
  /** Of an upload: what it sends, to go on with. */
  readonly image?: Buffer;
  /** Whether a job of which only the daemon knows the id is this one. */
  readonly matches: (job: JobView) => boolean;
  /** It has ended, or (undefined) it never began. */
  readonly settle: (job: JobView | undefined) => void;
}

/** What a POST makes, to find it in its list. */
export interface Makes {
  readonly list: string;
  readonly name: string;
  /** Of what it freezes. */
  readonly snapshot?: Snapshot;
  readonly snapshots?: readonly Snapshot[];
  /** The answer is a job, not the thing. */
  readonly byJob?: boolean;
}

/** A keyed POST that the kill cut off, to be sent again. */
export interface CutPost {
  readonly path: string;
  readonly json: Readonly<Record<string, unknown>> | undefined;
  readonly key: string;
  readonly makes: Makes | undefined;
  readonly settle: (answer: { status: number; body: Buffer }) => void;
}
