/**
 * Writes parts to one cartridge, from a place where the tape may be written on.
 *
 * Life of a part: `beginPart`, `fill` and `writeData` for each record, `closePart`. Any of them can
 * find the cartridge full; then the part is closed as far as it got, and the writer is at its end.
 *
 * 1. Payload is put together in the record that will be written: no further copy. That is a record
 *    of the caller (`writeFilled`), or the one in `pending` (`fill` and `writeData`).
 * 2. A write that found no room is not repeated. What it had is still in `pending`.
 * 3. After any error of the drive the writer is of no use: `TapeError`s go up as they are.
 *
 * Invariants:
 *  1. An entry is returned only after a filemark behind its data was written with success and the
 *     drive stood where it must: this data is on the tape.
 *  2. Nothing is written behind a trailer that stands alone.
 *  3. After an error of the drive nothing is written any more, not by giving it back either.
 *
 * Rules: docs/format/tape.md, "Writing".
 */
import { assert } from '../base/assert.ts';
import { isTapeError } from './drive.ts';
import { mediumError } from './media.ts';
import { encodePartHeader, encodePartTrailer, PartDigest } from './part.ts';
import type { PartHeader } from './part.ts';
import { FIRST_PLACE } from './parts.ts';
import type { PartEntry, PartState, TapePlace } from './parts.ts';
import { encodeRecord, payloadSpace, RECORD_HEAD_BYTES } from './record.ts';
import type { RecordHead, RecordKind } from './record.ts';
import { releaseVolume } from './volume.ts';
import type { MountedVolume } from './volume.ts';

/** What a part is of. */
export interface PartIdentity {
  readonly backupId: string;
  readonly partId: string;
  readonly part: number;
  readonly header: PartHeader;
}

/** A record of the cartridge's size; its payload begins at byte 128, the rest is the writer's. */
export interface FilledRecord {
  /** Page-aligned, as drives want it. */
  readonly bytes: Buffer;
  readonly payloadBytes: number;
  /** CRC-32 of the payload, if it fills the record and somebody has computed it. */
  readonly payloadCrc?: number | undefined;
}

interface OpenPart extends PartIdentity {
  readonly place: TapePlace;
  readonly digest: PartDigest;
  /** Records so far, the header included: the sequence of the next one. */
  records: number;
  dataRecords: number;
  dataBytes: number;
  manifestRecords: number;
}

export class VolumeWriter {
  readonly volume: MountedVolume;
  readonly #record: Buffer;
  #place: TapePlace;
  #part: OpenPart | undefined;
  #pendingBytes = 0;
  #isFull = false;
  #hasFailed = false;
  #holdsAnything: boolean;

  /** @param place where the drive stands, and writing is allowed (append.ts) */
  constructor(volume: MountedVolume, place: TapePlace) {
    this.volume = volume;
    this.#place = place;
    this.#holdsAnything = place.object > FIRST_PLACE.object;
    this.#record = volume.buffer.subarray(0, volume.label.recordBytes);
  }

  /** The cartridge takes no more. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Full, and nothing that counts is on it: so nothing ever will be. */
  get isTooSmall(): boolean {
    return this.#isFull && !this.#holdsAnything;
  }

  get hasPart(): boolean {
    return this.#part !== undefined;
  }

  /** Bytes of the image in the open part, those in `pending` not counted. */
  get partBytes(): number {
    return this.#part?.dataBytes ?? 0;
  }

  /** Payload that was put in the record and is not on tape: also what a full cartridge refused. */
  get pending(): Buffer {
    return this.#record.subarray(RECORD_HEAD_BYTES, RECORD_HEAD_BYTES + this.#pendingBytes);
  }

  /** True if the record has no room for more payload. */
  get isRecordFull(): boolean {
    return this.#pendingBytes === this.#space;
  }

  get #space(): number {
    return payloadSpace(this.volume.label.recordBytes);
  }

  /** Writes the header of a part. @returns false if there is no room for it: nothing was written */
  async beginPart(identity: PartIdentity): Promise<boolean> {
    assert(!this.#isFull && this.#part === undefined, 'a part begun on a full volume or in a part');
    this.#part = {
      ...identity,
      place: this.#place,
      digest: new PartDigest(),
      records: 0,
      dataRecords: 0,
      dataBytes: 0,
      manifestRecords: 0,
    };
    if (await this.#writePayload('header', encodePartHeader(identity.header))) return true;
    this.#part = undefined;
    this.#isFull = true;
    return false;
  }

  /** Copies as many of these bytes into the record as fit. @returns how many */
  fill(bytes: Uint8Array): number {
    const length = Math.min(bytes.length, this.#space - this.#pendingBytes);
    this.#record.set(bytes.subarray(0, length), RECORD_HEAD_BYTES + this.#pendingBytes);
    this.#pendingBytes += length;
    return length;
  }

  /**
   * Writes what is in the record. Only the last record of a part may have room left.
   *
   * @returns undefined, or the closed part if the cartridge is full: then `pending` is not in it
   */
  async writeData(): Promise<PartEntry | undefined> {
    const ended = await this.#writeDataRecord({
      bytes: this.#record,
      payloadBytes: this.#pendingBytes,
    });
    if (ended === undefined) this.#pendingBytes = 0;
    return ended;
  }

  /**
   * Writes a record of the caller; nothing may be pending. Its payload stays as it is.
   *
   * @returns as `writeData`: of a full cartridge the part, without this record
   */
  writeFilled(record: FilledRecord): Promise<PartEntry | undefined> {
    assert(this.#pendingBytes === 0, 'a record written before what is pending');
    return this.#writeDataRecord(record);
  }

  async #writeDataRecord(record: FilledRecord): Promise<PartEntry | undefined> {
    const part = this.#openPart();
    const offset = part.header.firstOffset + part.dataBytes;
    const crc = await this.#writeRecord(record, 'data', offset, false);
    if (crc === undefined) return this.#endVolume(false);
    part.digest.add(crc);
    part.dataRecords += 1;
    part.dataBytes += record.payloadBytes;
    return undefined;
  }

  /**
   * Ends the part; nothing may be pending.
   *
   * @param manifest of a backup that is complete with this part, else undefined
   * @returns the entry, once its data is confirmed on tape; its state is not `final` if it was to
   *   be, but the cartridge had no room for manifest or trailer
   */
  async closePart(manifest?: Uint8Array): Promise<PartEntry> {
    assert(this.#pendingBytes === 0, 'a part closed with pending bytes');
    const isFinal = manifest !== undefined;
    if (isFinal && !(await this.#writeManifest(manifest))) return this.#endVolume(false);
    const manifestBytes = manifest?.length ?? 0;
    const trailer = this.#trailer(manifestBytes);
    if (!(await this.#writePayload('trailer', trailer, isFinal))) {
      return this.#endVolume(isFinal, manifestBytes, trailer);
    }
    await this.#writeFilemark();
    return this.#ended(isFinal ? 'final' : 'continues', manifestBytes);
  }

  /**
   * Gives the cartridge back. If the drive gave any error, nothing is written by that.
   *
   * @param hasFailed the writer is given up after an error
   */
  async release(hasFailed = false): Promise<void> {
    await releaseVolume(this.volume, hasFailed || this.#hasFailed);
  }

  /**
   * The cartridge is full: a filemark, which makes the data count, and the trailer behind it.
   *
   * @param isFinal the manifest is on tape and only the trailer is missing
   */
  async #endVolume(
    isFinal: boolean,
    manifestBytes = 0,
    trailer = this.#trailer(0),
  ): Promise<PartEntry> {
    this.#isFull = true;
    await this.#writeFilemark();
    const before = this.#place;
    if (!(await this.#tryTrailer(trailer, isFinal))) {
      this.#place = before;
      return this.#ended('open', 0);
    }
    return this.#ended(isFinal ? 'final' : 'continues', manifestBytes);
  }

  /** The data counts already: whatever goes wrong here costs only the trailer. */
  async #tryTrailer(trailer: Buffer, isFinal: boolean): Promise<boolean> {
    try {
      if (!(await this.#writePayload('trailer', trailer, isFinal))) return false;
      await this.#writeFilemark();
      return true;
    } catch (error) {
      if (!isTapeError(error)) throw error;
      this.#hasFailed = true;
      return false;
    }
  }

  async #writeManifest(manifest: Uint8Array): Promise<boolean> {
    const part = this.#openPart();
    for (let at = 0; at < manifest.length; at += this.#space) {
      const payload = manifest.subarray(at, at + this.#space);
      this.#record.set(payload, RECORD_HEAD_BYTES);
      const record = { bytes: this.#record, payloadBytes: payload.length };
      const crc = await this.#writeRecord(record, 'manifest', at, false);
      if (crc === undefined) return false;
      part.digest.add(crc);
      part.manifestRecords += 1;
    }
    return true;
  }

  async #writePayload(kind: RecordKind, payload: Buffer, isFinal = false): Promise<boolean> {
    // What is pending would be lost; headers and trailers come when nothing is, or carry it along.
    const kept = Buffer.from(this.pending);
    this.#record.set(payload, RECORD_HEAD_BYTES);
    try {
      const record = { bytes: this.#record, payloadBytes: payload.length };
      return (await this.#writeRecord(record, kind, 0, isFinal)) !== undefined;
    } finally {
      this.#record.set(kept, RECORD_HEAD_BYTES);
    }
  }

  /** Writes the record around its payload. @returns its CRC, or undefined if there was no room */
  async #writeRecord(record: FilledRecord, kind: RecordKind, offset: number, isFinal: boolean) {
    const part = this.#openPart();
    const { bytes, payloadBytes, payloadCrc } = record;
    const head: RecordHead = {
      kind,
      recordBytes: this.volume.label.recordBytes,
      volumeId: this.volume.label.volumeId,
      backupId: part.backupId,
      partId: part.partId,
      part: part.part,
      sequence: part.records,
      offset,
      payloadBytes,
      isFinal,
    };
    const crc = encodeRecord(bytes, head, payloadCrc);
    try {
      await this.volume.drive.write(bytes);
    } catch (error) {
      if (isTapeError(error, 'ENOSPC')) return undefined;
      throw error;
    }
    part.records += 1;
    this.#place = { ...this.#place, object: this.#place.object + 1 };
    return crc;
  }

  async #writeFilemark(): Promise<void> {
    const { drive, label } = this.volume;
    await drive.writeFilemarks(1);
    const object = this.#place.object + 1;
    const told = await drive.tell();
    if (told !== object) {
      const message = `cartridge ${label.label} stands at ${told} instead of ${object}`;
      const next = 'the cartridge may have been changed: scan it before anything else';
      throw mediumError('MEDIUM_MISMATCH', message, next, { volume: label.label });
    }
    this.#place = { object, file: this.#place.file + 1 };
  }

  #trailer(manifestBytes: number): Buffer {
    const { header, dataRecords, dataBytes, manifestRecords, digest } = this.#openPart();
    const { firstOffset } = header;
    const counts = { firstOffset, dataRecords, dataBytes, manifestRecords, manifestBytes };
    return encodePartTrailer({ ...counts, digest: digest.end() });
  }

  #ended(state: PartState, manifestBytes: number): PartEntry {
    const part = this.#openPart();
    this.#part = undefined;
    this.#holdsAnything ||= part.dataBytes > 0 || state === 'final';
    return {
      backupId: part.backupId,
      backup: part.header.backup,
      partId: part.partId,
      part: part.part,
      volumeId: this.volume.label.volumeId,
      state,
      place: part.place,
      end: this.#place,
      recordBytes: this.volume.label.recordBytes,
      firstOffset: part.header.firstOffset,
      dataBytes: part.dataBytes,
      dataRecords: part.dataRecords,
      manifestBytes,
      manifestRecords: part.manifestRecords,
      previousVolumeId: part.header.previousVolumeId,
      endsVolume: this.#isFull,
    };
  }

  #openPart(): OpenPart {
    assert(this.#part !== undefined, 'no part is open');
    return this.#part;
  }
}
