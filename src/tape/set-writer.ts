/**
 * Writes one backup to as many cartridges as it takes.
 *
 *  1. The host gives a cartridge on which writing may go on (append.ts); the first part begins with
 *     the first byte.
 *  2. `confirm` closes a part, so does every `partBytes`: the host is told of it, and when it has
 *     remembered that, the bytes count.
 *  3. A full cartridge goes back to the host, which gives the next one. The record that found no
 *     room is the first one there: nothing is asked for twice.
 *  4. `commit` closes the final part, with the manifest.
 *
 * Invariants:
 *  1. `confirmedOffset` never passes what was confirmed on tape and remembered by the host.
 *  2. After an error nothing more is written. Who goes on gets the cartridge anew from the host,
 *     and so its label is read again before anything is written.
 *  3. Calls follow each other, each awaited.
 *
 * Rules: docs/format/tape.md, "Writing".
 */
import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Json } from './fields.ts';
import { asMediumError } from './media.ts';
import { MAX_MANIFEST_BYTES } from './part.ts';
import { holdsAnything, partEnd } from './parts.ts';
import type { PartEntry } from './parts.ts';
import { RECORD_HEAD_BYTES } from './record.ts';
import type { FilledRecord, VolumeWriter } from './volume-writer.ts';

/** What a backup on tape is, from its beginning on. */
export interface TapeBackup {
  readonly backupId: string;
  readonly backup: string;
  readonly setId: string;
  readonly info: Json | null;
}

/** Where a transfer goes on: behind the last confirmed part. */
export interface SetPosition {
  /** Number of the next part. */
  readonly part: number;
  /** First byte that is not confirmed. */
  readonly offset: number;
  readonly previousVolumeId: string | null;
}

export const SET_START: SetPosition = { part: 0, offset: 0, previousVolumeId: null };

export interface SetWriterHost {
  /** A cartridge of the set on which writing may go on. Waits for it; throws to end the writing. */
  nextVolume(): Promise<VolumeWriter>;
  /** Remembers a part for good. The bytes count when it resolves. */
  partWritten(entry: PartEntry): Promise<void>;
  /** Takes a cartridge back: full, no longer needed, or after an error. Never throws. */
  release(writer: VolumeWriter, why: 'full' | 'done' | 'failed'): Promise<void>;
}

export interface SetWriterOptions {
  readonly clock: Clock;
  /** A part is closed when it has that many bytes. */
  readonly partBytes: number;
  readonly from?: SetPosition;
}

export class TapeSetWriter {
  readonly #host: SetWriterHost;
  readonly #backup: TapeBackup;
  readonly #options: SetWriterOptions;
  #writer: VolumeWriter | undefined;
  #position: SetPosition;
  #offset: number;
  #state: 'open' | 'broken' | 'ended' = 'open';
  #isBusy = false;

  constructor(host: SetWriterHost, backup: TapeBackup, options: SetWriterOptions) {
    this.#host = host;
    this.#backup = backup;
    this.#options = options;
    this.#position = options.from ?? SET_START;
    this.#offset = this.#position.offset;
  }

  /** Bytes taken, those before the position where it began included. */
  get offset(): number {
    return this.#offset;
  }

  get confirmedOffset(): number {
    return this.#position.offset;
  }

  /** Appends. The buffers may be used again when it resolves. */
  write(buffers: readonly Uint8Array[]): Promise<void> {
    return this.#step(async () => {
      for (const buffer of buffers) await this.#append(buffer);
    });
  }

  /**
   * Appends what is in a record of the caller, without a copy where it has the cartridge's size.
   * Only the last one before `confirm` or `commit` may have room left. Resolves when the drive has
   * taken it; the record may be used again then.
   */
  writeRecord(record: FilledRecord): Promise<void> {
    return this.#step(() => this.#appendRecord(record));
  }

  /** Makes everything taken so far count. @returns `confirmedOffset`, then equal to `offset` */
  confirm(): Promise<number> {
    return this.#step(async () => {
      await this.#confirmAll();
      return this.confirmedOffset;
    });
  }

  /** Completes the backup and ends the writer. @param manifest 1 … 1048576 bytes of JSON */
  async commit(manifest: Uint8Array): Promise<void> {
    const isLengthRight = manifest.length > 0 && manifest.length <= MAX_MANIFEST_BYTES;
    assert(isLengthRight, `manifest of ${manifest.length} bytes`);
    await this.#step(() => this.#complete(manifest));
    await this.#end('done');
  }

  /** Ends the writer without completing the backup; what was confirmed stays. Idempotent. */
  async abort(): Promise<void> {
    await this.#end(this.#state === 'broken' ? 'failed' : 'done');
  }

  async #append(bytes: Uint8Array): Promise<void> {
    let rest = bytes;
    while (rest.length > 0) {
      const writer = await this.#writerInPart();
      const taken = writer.fill(rest);
      rest = rest.subarray(taken);
      this.#offset += taken;
      if (!writer.isRecordFull) continue;
      await this.#flush(writer);
      await this.#closeLong(writer);
    }
  }

  async #appendRecord(record: FilledRecord): Promise<void> {
    const { bytes, payloadBytes } = record;
    for (;;) {
      const current = this.#writer;
      const writer = current?.hasPart === true ? current : await this.#writerInPart();
      const isOfSize = bytes.length === writer.volume.label.recordBytes;
      if (!isOfSize || writer.pending.length > 0) {
        return this.#append(bytes.subarray(RECORD_HEAD_BYTES, RECORD_HEAD_BYTES + payloadBytes));
      }
      const ended = await writer.writeFilled(record);
      if (ended === undefined) {
        this.#offset += payloadBytes;
        if (writer.partBytes >= this.#options.partBytes) await this.#closeLong(writer);
        return;
      }
      // The same record is the first one on the next cartridge.
      await this.#remember(writer, ended);
    }
  }

  async #closeLong(writer: VolumeWriter): Promise<void> {
    if (!writer.hasPart || writer.partBytes < this.#options.partBytes) return;
    await this.#remember(writer, await writer.closePart());
  }

  /**
   * Writes what is in the record. On a full cartridge the part ends before it, and the same bytes
   * are the beginning of the next part, on the next cartridge.
   */
  async #flush(writer: VolumeWriter): Promise<void> {
    const ended = await writer.writeData();
    if (ended === undefined) return;
    const carried = Buffer.from(writer.pending);
    await this.#remember(writer, ended);
    this.#offset -= carried.length;
    await this.#append(carried);
  }

  async #confirmAll(): Promise<void> {
    // A full cartridge in between has confirmed what it holds; the rest is confirmed on the next.
    while (this.confirmedOffset < this.#offset) {
      const writer = await this.#writerInPart();
      if (writer.pending.length > 0) await this.#flush(writer);
      else await this.#remember(writer, await writer.closePart());
    }
  }

  async #complete(manifest: Uint8Array): Promise<void> {
    for (;;) {
      const writer = await this.#writerInPart();
      if (writer.pending.length > 0) {
        await this.#flush(writer);
        continue;
      }
      const entry = await writer.closePart(manifest);
      await this.#remember(writer, entry);
      if (entry.state === 'final') return;
    }
  }

  /** The writer, with a part open on it: on the next cartridge if this one has no room for one. */
  async #writerInPart(): Promise<VolumeWriter> {
    for (;;) {
      this.#writer ??= await this.#host.nextVolume();
      const writer = this.#writer;
      if (writer.hasPart || (!writer.isFull && (await this.#beginPart(writer)))) return writer;
      if (writer.isTooSmall) throw tooSmall(writer);
      await this.#release('full');
    }
  }

  #beginPart(writer: VolumeWriter): Promise<boolean> {
    const { backupId, backup, setId, info } = this.#backup;
    const { part, offset, previousVolumeId } = this.#position;
    const beganAtMs = this.#options.clock.nowMs();
    const header = { backup, setId, info, firstOffset: offset, previousVolumeId, beganAtMs };
    return writer.beginPart({ backupId, partId: uuidv7(this.#options.clock), part, header });
  }

  /** The entry counts only when the host has it; then the next part follows it. */
  async #remember(writer: VolumeWriter, entry: PartEntry): Promise<void> {
    if (!holdsAnything(entry) && writer.isTooSmall) throw tooSmall(writer);
    await this.#host.partWritten(entry);
    this.#position = {
      part: entry.part + 1,
      offset: partEnd(entry),
      previousVolumeId: entry.volumeId,
    };
    if (writer.isFull) await this.#release('full');
  }

  async #release(why: 'full' | 'done' | 'failed'): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    if (writer !== undefined) await this.#host.release(writer, why);
  }

  async #end(why: 'done' | 'failed'): Promise<void> {
    this.#state = 'ended';
    await this.#release(why);
  }

  async #step<T>(work: () => Promise<T>): Promise<T> {
    assert(this.#state !== 'ended' && !this.#isBusy, 'tape writer used after its end or twice');
    const facts = { backup: this.#backup.backup, confirmedBytes: this.confirmedOffset };
    if (this.#state === 'broken') {
      throw new StorageError('TARGET_UNAVAILABLE', 'an earlier write failed', facts);
    }
    this.#isBusy = true;
    try {
      return await work();
    } catch (error) {
      this.#state = 'broken';
      await this.#release('failed');
      throw asMediumError(error, { ...facts, confirmedBytes: this.confirmedOffset });
    } finally {
      this.#isBusy = false;
    }
  }
}

/** A cartridge that has no room for one record would be followed by another one, for ever. */
function tooSmall({ volume: { label } }: VolumeWriter): StorageError {
  const next = 'use larger cartridges, or shorter records';
  const message = `cartridge ${label.label} is too small for a part`;
  return new StorageError('TARGET_FULL', message, { volume: label.label, next });
}
