/**
 * The two sides of one backup on tape: its bytes going in, its bytes coming out.
 *
 * The drive is taken with the first byte. A transfer that goes on repeats its bytes from where it
 * begins; those that the cartridges have already are passed over.
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { ErrorDetails } from '../base/errors.ts';
import { KIB, MIB } from '../base/units.ts';
import { asMediumError } from '../tape/media.ts';
import { holds, partEnd } from '../tape/parts.ts';
import type { PartEntry } from '../tape/parts.ts';
import type { ByteRange } from '../tape/assemble.ts';
import { unreadable } from '../tape/set-reader.ts';
import type { TapeSetReader } from '../tape/set-reader.ts';
import type { DriveFlow, StreamedWriter } from '../tape/streamed-writer.ts';
import { SinkSteps } from './sink-steps.ts';
import { MAX_MANIFEST_BYTES } from './target.ts';
import type { BackupBytes, BackupSink, Manifest } from './target.ts';

/** What a sink asks of its target. */
export interface TapeSinkHome {
  /** `target` and `backup`, for errors. */
  readonly facts: ErrorDetails;
  /** Mounts a cartridge and finds out where the backup goes on. */
  begin(): Promise<BegunWriting>;
  /** The manifest that the next final part will hold. */
  completing(manifest: Manifest): void;
  discard(): Promise<void>;
  /** Whoever waits for a cartridge for this backup waits no more. */
  interrupt(): void;
  /** Gives the drive back if it is still held; the name may be written again. */
  release(): Promise<void>;
}

export interface BegunWriting {
  /** Bytes that the cartridges have: passed over. */
  readonly knownBytes: number;
  /** Undefined if they have the whole backup, which the catalog did not know. */
  readonly writer: StreamedWriter | undefined;
}

export class TapeSink implements BackupSink {
  readonly #home: TapeSinkHome;
  readonly #steps: SinkSteps;
  #begun: BegunWriting | undefined;
  #offset: number;

  constructor(home: TapeSinkHome, offset: number) {
    this.#home = home;
    this.#steps = new SinkSteps(home.facts, (error) =>
      asMediumError(error, { ...home.facts, writtenBytes: this.#writtenBytes }),
    );
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  /** Without what is on its way to the drive. */
  get #writtenBytes(): number {
    return this.#offset - (this.flow()?.bufferedBytes ?? 0);
  }

  flow(): DriveFlow | undefined {
    return this.#begun?.writer?.flow();
  }

  write(buffers: readonly Uint8Array[], checksums?: Uint32Array): Promise<void> {
    return this.#steps.run(async () => {
      const { writer, knownBytes } = await this.#begin();
      for (const buffer of buffers) {
        const known = Math.min(buffer.length, Math.max(0, knownBytes - this.#offset));
        if (known < buffer.length) {
          if (writer === undefined) throw this.#otherLength(knownBytes);
          if (known === 0) await writer.write(buffer, checksums);
          else await writer.write(buffer.subarray(known));
        }
        this.#offset += buffer.length;
      }
    });
  }

  confirm(): Promise<number> {
    return this.#steps.run(async () => {
      const writer = this.#begun?.writer;
      if (writer !== undefined && this.#offset > writer.confirmedOffset) await writer.confirm();
      return this.#offset;
    });
  }

  async commit(manifest: Manifest): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`);
    assert(bytes.length <= MAX_MANIFEST_BYTES, 'manifest of more than 1 MiB');
    await this.#steps.run(async () => {
      const { writer, knownBytes } = await this.#begin();
      if (this.#offset < knownBytes) throw this.#otherLength(knownBytes);
      this.#home.completing(manifest);
      await writer?.commit(bytes);
    });
    this.#steps.end();
    await this.#home.release();
  }

  async abort(keep: boolean): Promise<void> {
    if (this.#steps.isEnded) return;
    this.#steps.end();
    this.#home.interrupt();
    try {
      await this.#begun?.writer?.abort();
      if (!keep) await this.#home.discard();
    } finally {
      await this.#home.release();
    }
  }

  async #begin(): Promise<BegunWriting> {
    if (this.#begun !== undefined) return this.#begun;
    const begun = await this.#home.begin();
    // Cartridges may have been given up or labelled anew since this sink was made.
    if (begun.knownBytes < this.#offset) throw this.#otherLength(begun.knownBytes);
    this.#begun = begun;
    return begun;
  }

  #otherLength(confirmedBytes: number): StorageError {
    const message = 'the cartridges hold another number of bytes of this backup';
    return new StorageError('TARGET_INVALID', message, { confirmedBytes });
  }
}

/**
 * Kept in memory once they were read, and what of them is lost: an image begins with its header and
 * table and ends with its trailer, and all of them are looked at again, when other cartridges are
 * in the drive.
 */
const HEAD_BYTES = 2 * MIB;
const TAIL_BYTES = 64 * KIB;

/** A stretch of the image, and what reading it gave. */
interface Kept {
  readonly offset: number;
  readonly length: number;
  found: { readonly bytes: Buffer; readonly lost: readonly ByteRange[] } | undefined;
}

/** Runs one piece of work with the drive at a time. */
export type DriveTurn = <T>(work: () => Promise<T>) => Promise<T>;

export class TapeBytes implements BackupBytes {
  readonly sizeBytes: number;
  readonly isSequential = true;
  readonly #reader: TapeSetReader;
  readonly #turn: DriveTurn;
  readonly #facts: ErrorDetails;
  readonly #kept: readonly Kept[];
  #closing: Promise<void> | undefined;

  constructor(
    reader: TapeSetReader,
    turn: DriveTurn,
    facts: ErrorDetails,
    parts: readonly PartEntry[],
  ) {
    this.sizeBytes = reader.imageBytes;
    this.#reader = reader;
    this.#turn = turn;
    this.#facts = facts;
    this.#kept = keptOf(parts, this.sizeBytes);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    assert(this.#closing === undefined, 'backup read after close');
    try {
      await this.#turn(() => this.#read(offset, into));
    } catch (error) {
      throw asMediumError(error, { ...this.#facts, offset, length: into.length });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#turn(() => this.#reader.close());
    return this.#closing;
  }

  async #read(offset: number, into: Uint8Array): Promise<void> {
    const end = offset + into.length;
    const kept = this.#kept.find((each) => {
      return each.offset <= offset && end <= each.offset + each.length;
    });
    if (kept === undefined) return this.#reader.read(offset, into);
    kept.found ??= await this.#readWhole(kept);
    // A loss nearby is no loss of what was asked for.
    const lost = kept.found.lost.flatMap((range) => {
      const from = Math.max(offset, range.offset);
      const length = Math.min(end, range.offset + range.length) - from;
      return length > 0 ? [{ offset: from, length }] : [];
    });
    if (lost.length > 0) throw unreadable(offset, into.length, lost);
    into.set(kept.found.bytes.subarray(offset - kept.offset, end - kept.offset));
  }

  async #readWhole({ offset, length }: Kept) {
    const bytes = Buffer.alloc(length);
    return { bytes, lost: await this.#reader.readAvailable(offset, bytes) };
  }
}

/** No more than what lies on one cartridge with the first byte, and with the last one. */
function keptOf(parts: readonly PartEntry[], sizeBytes: number): Kept[] {
  const first = parts.find((part) => holds(part, 0));
  const last = parts.findLast((part) => holds(part, sizeBytes - 1));
  if (first === undefined || last === undefined) return [];
  const head = Math.min(HEAD_BYTES, partEnd(first));
  const tail = Math.max(sizeBytes - TAIL_BYTES, last.firstOffset);
  return [
    { offset: 0, length: head, found: undefined },
    { offset: tail, length: sizeBytes - tail, found: undefined },
  ];
}
