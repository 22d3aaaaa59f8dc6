/**
 * Reads any range of the bytes of a backup from the cartridges that hold it.
 *
 * 1. Of the parts that hold a byte the one on the mounted cartridge is asked first: who reads in
 *    order is asked for each cartridge once.
 * 2. The drive goes straight to the record; where it stands there already, nothing moves.
 * 3. A record that is not good costs its own bytes, unless another part has them too.
 *
 * Invariants:
 *  1. A byte is given only out of a good record that says it is of this cartridge, backup, place.
 *  2. What is lost is told exactly: a byte is either given, or in a lost range.
 *  3. A cartridge that turns out to be another one is an error, never a loss.
 *
 * Rules: docs/format/tape.md, "What counts".
 */
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { ByteRange } from './assemble.ts';
import { isTapeError } from './drive.ts';
import { asMediumError, mediumError, volumeName } from './media.ts';
import { holds, recordAt } from './parts.ts';
import type { PartEntry, RecordPlace } from './parts.ts';
import { BadRecord, decodeRecord } from './record.ts';
import { checkLabel, goTo, readLabel } from './volume.ts';
import type { MountedVolume } from './volume.ts';

export interface SetReaderHost {
  /**
   * The cartridge, its label proven; the one given before has been released by then. null if it
   * cannot be had, so that its bytes are lost. Waits for it; throws to end the reading.
   */
  mount(volumeId: string): Promise<MountedVolume | null>;
  release(volume: MountedVolume): Promise<void>;
}

export class TapeSetReader {
  readonly imageBytes: number;
  readonly #host: SetReaderHost;
  readonly #parts: readonly PartEntry[];
  #volume: MountedVolume | undefined;
  /** The part of which a byte was given last. */
  #current: PartEntry | undefined;
  readonly #missing = new Set<string>();
  /** Object behind what was read last, undefined if it is not known where the drive stands. */
  #position: number | undefined;
  /** The data record read last: its payload is in the volume's buffer. */
  #last: { readonly partId: string; readonly place: RecordPlace; payload: Buffer } | undefined;
  #isBusy = false;

  constructor(host: SetReaderHost, parts: readonly PartEntry[], imageBytes: number) {
    this.#host = host;
    this.#parts = parts;
    this.imageBytes = imageBytes;
  }

  /**
   * Fills `into` from `offset` on.
   *
   * @throws IMAGE_TRUNCATED beyond the end; DATA_UNREADABLE with the `lost` ranges of the image;
   *   what the host throws; MEDIUM_WRONG, TARGET_UNAVAILABLE
   */
  async read(offset: number, into: Uint8Array): Promise<void> {
    const lost = await this.readAvailable(offset, into);
    if (lost.length > 0) throw unreadable(offset, into.length, lost);
  }

  /** As `read`, but what cannot be read becomes zeros. @returns it, ascending, joined */
  async readAvailable(offset: number, into: Uint8Array): Promise<ByteRange[]> {
    assert(!this.#isBusy, 'tape reader used twice at once');
    if (offset + into.length > this.imageBytes) {
      const facts = { offset, length: into.length };
      throw new StorageError('IMAGE_TRUNCATED', 'the image ends before this range', facts);
    }
    this.#isBusy = true;
    try {
      return await this.#readAll(offset, into);
    } catch (error) {
      // Whoever goes on gets the cartridge anew, and so its label is proven again.
      await this.close();
      throw asMediumError(error);
    } finally {
      this.#isBusy = false;
    }
  }

  /** Gives the cartridge back. Idempotent. */
  async close(): Promise<void> {
    const volume = this.#volume;
    this.#volume = undefined;
    this.#forgetPosition();
    if (volume !== undefined) await this.#host.release(volume);
  }

  async #readAll(offset: number, into: Uint8Array): Promise<ByteRange[]> {
    const lost: ByteRange[] = [];
    let done = 0;
    while (done < into.length) {
      const at = offset + done;
      const found = await this.#payloadAt(at);
      const length = Math.min(into.length - done, found.length);
      if (found.payload === undefined) {
        into.fill(0, done, done + length);
        addRange(lost, { offset: at, length });
      } else into.set(found.payload.subarray(0, length), done);
      done += length;
    }
    return lost;
  }

  /** The bytes from `at` on to the end of their record, or how many of them are lost. */
  async #payloadAt(at: number): Promise<{ length: number; payload?: Buffer }> {
    const current = this.#current;
    // Read in order, the next record is of the same part: the others need not be looked at.
    const parts = current !== undefined && holds(current, at) ? [current] : [];
    for (const part of [...parts, ...this.#candidates(at, parts)]) {
      const place = recordAt(part, at);
      const payload = await this.#readRecord(part, place);
      const inRecord = at - place.offset;
      // A part that is open may promise more than its last record has.
      if (payload !== undefined && payload.length > inRecord) {
        this.#current = part;
        return { length: payload.length - inRecord, payload: payload.subarray(inRecord) };
      }
    }
    return { length: this.#lostUntil(at) - at };
  }

  /** Parts that hold the byte, but those that were asked; the mounted cartridge first. */
  *#candidates(at: number, asked: readonly PartEntry[]): Generator<PartEntry> {
    const here = this.#volume?.label.volumeId;
    const able = this.#parts.filter((part) => holds(part, at) && !asked.includes(part));
    able.sort((a, b) => Number(b.volumeId === here) - Number(a.volumeId === here));
    for (const part of able) if (!this.#missing.has(part.volumeId)) yield part;
  }

  /** Where what is lost at `at` ends at the latest: the next record or part, or the end. */
  #lostUntil(at: number): number {
    let end = this.imageBytes;
    for (const part of this.#parts) {
      if (part.firstOffset > at) end = Math.min(end, part.firstOffset);
      if (!holds(part, at) || this.#missing.has(part.volumeId)) continue;
      const place = recordAt(part, at);
      end = Math.min(end, place.offset + place.length);
    }
    return end;
  }

  /** The payload of a good record there, or undefined: it is lost. */
  async #readRecord(part: PartEntry, place: RecordPlace): Promise<Buffer | undefined> {
    const last = this.#last;
    if (last?.partId === part.partId && last.place.sequence === place.sequence) return last.payload;
    const volume = await this.#mounted(part.volumeId);
    if (volume === null) return undefined;
    const payload = await this.#readThere(volume, part, place);
    this.#last = payload === undefined ? undefined : { partId: part.partId, place, payload };
    return payload;
  }

  async #readThere(
    volume: MountedVolume,
    part: PartEntry,
    place: RecordPlace,
  ): Promise<Buffer | undefined> {
    this.#last = undefined;
    const length =
      (await this.#tryRead(volume, part, place)) ?? (await this.#again(volume, part, place));
    if (length === undefined) return undefined;
    const record = decodeRecord(volume.buffer.subarray(0, length));
    if (record instanceof BadRecord) return undefined;
    const { head, payload } = record;
    const { label } = volume.label;
    if (head.volumeId !== volume.label.volumeId) throw wrongVolume(label);
    const isThat = head.kind === 'data' && head.backupId === part.backupId;
    return isThat && head.offset === place.offset ? payload : undefined;
  }

  /** @returns the length of the record, 0 for one that is too long; undefined if it was not read */
  async #tryRead(volume: MountedVolume, part: PartEntry, place: RecordPlace) {
    const { drive, buffer } = volume;
    const isThere = this.#position === place.object;
    this.#position = undefined;
    try {
      if (!isThere) await goTo(drive, place.object, part.place.file, place.sequence);
      const length = await drive.read(buffer);
      this.#position = place.object + 1;
      return length;
    } catch (error) {
      if (isTapeError(error, 'ENOMEM')) return 0;
      if (isTapeError(error, 'EIO')) return undefined;
      throw error;
    }
  }

  /**
   * After an error. At a bad spot the drive stands in front of it. Where it does not, the record
   * was not the reason: another cartridge may be in the drive, which is told by one error.
   */
  async #again(volume: MountedVolume, part: PartEntry, place: RecordPlace) {
    const { drive, buffer, label } = volume;
    if ((await drive.tell()) === place.object) return undefined;
    const length = await this.#tryRead(volume, part, place);
    if (length !== undefined || (await drive.tell()) === place.object) return length;
    checkLabel(await readLabel(drive, buffer), volumeName(label));
    return undefined;
  }

  async #mounted(volumeId: string): Promise<MountedVolume | null> {
    if (this.#volume?.label.volumeId === volumeId) return this.#volume;
    await this.close();
    const volume = await this.#host.mount(volumeId);
    if (volume === null) {
      this.#missing.add(volumeId);
      return null;
    }
    assert(volume.label.volumeId === volumeId, 'the host mounted another cartridge');
    this.#volume = volume;
    return volume;
  }

  #forgetPosition(): void {
    this.#position = undefined;
    this.#last = undefined;
  }
}

/** Adds a range at or behind the end of the list, joined with the last one where they touch. */
function addRange(ranges: ByteRange[], range: ByteRange): void {
  const last = ranges.at(-1);
  if (last === undefined || last.offset + last.length < range.offset) ranges.push(range);
  else ranges[ranges.length - 1] = { offset: last.offset, length: last.length + range.length };
}

function wrongVolume(label: string): StorageError {
  const message = `cartridge ${label} is not in the drive any more`;
  return mediumError('MEDIUM_WRONG', message, `load cartridge ${label} again`);
}

/** For a range of which these bytes are lost. */
export function unreadable(
  offset: number,
  length: number,
  lost: readonly ByteRange[],
): StorageError {
  const message = 'a range of the image cannot be read from its cartridges';
  return new StorageError('DATA_UNREADABLE', message, { offset, length, lost });
}
