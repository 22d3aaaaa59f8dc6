/**
 * Finds what is on a cartridge without reading its data: a few records of each tape file.
 *
 * Of each file the first record tells what it is of, and the last one, in front of the filemark,
 * how it ended. Where those are damaged, their neighbours are asked: every record says which part
 * it is of and where it stands in it.
 *
 * Invariants:
 *  1. The end of what was recorded is what the drive says, never what cannot be read.
 *  2. Bytes are taken for a part only after the check of their record.
 *  3. What is in no part is reported: as a file that was not understood, or that is damaged.
 *
 * Rules: docs/format/tape.md, "What counts".
 */
import { isTapeError } from './drive.ts';
import { mediumError, volumeName } from './media.ts';
import { decodeJson } from './fields.ts';
import type { Json } from './fields.ts';
import { decodePartHeader, decodePartTrailer } from './part.ts';
import type { PartHeader, PartTrailer } from './part.ts';
import { FIRST_PLACE } from './parts.ts';
import type { PartEntry, TapePlace } from './parts.ts';
import { BadRecord, decodeRecord, payloadSpace } from './record.ts';
import type { TapeRecord } from './record.ts';
import { checkLabel, readLabel } from './volume.ts';
import type { MountedVolume } from './volume.ts';

/** Records asked at either end of a file in which some cannot be read. */
const MAX_TRIES = 32;

export interface ScannedPart {
  readonly entry: PartEntry;
  /** As in the header, null if that could not be read. */
  readonly header: PartHeader | null;
  /** Of a final part; null if it cannot be read. */
  readonly manifest: Json | null;
}

/** A tape file that is no part. `empty` has no record, `foreign` holds records of others. */
export interface OtherFile {
  readonly kind: 'empty' | 'foreign' | 'damaged';
  readonly place: TapePlace;
  readonly end: TapePlace;
  /** A filemark ends it. */
  readonly hasFilemark: boolean;
}

export interface VolumeScan {
  readonly parts: readonly ScannedPart[];
  readonly others: readonly OtherFile[];
  /** Behind the last object on the cartridge. */
  readonly end: TapePlace;
  /** The last object is a filemark. */
  readonly endsWithFilemark: boolean;
  /** A cartridge that was full: nothing may be written behind. */
  readonly isFull: boolean;
}

/**
 * Scans from the beginning of a tape file on. The drive stands anywhere afterwards.
 *
 * @param from default: behind the label
 * @throws MEDIUM_UNSUPPORTED for records of a newer format; TapeError if the drive fails
 */
export async function scanVolume(volume: MountedVolume, from = FIRST_PLACE): Promise<VolumeScan> {
  await volume.drive.seekEndOfData();
  const end = await volume.drive.tell();
  const scanner = new FileScanner(volume, end);
  let place = from;
  const parts: ScannedPart[] = [];
  const others: OtherFile[] = [];
  let endsWithFilemark = true;
  while (place.object < end) {
    const file = await scanner.scanFile(place);
    const closed = closeBefore(parts.at(-1), file);
    if (closed !== undefined) parts[parts.length - 1] = await scanner.withManifest(closed);
    else if (file.part !== undefined) parts.push(file.part);
    else others.push(file);
    place = file.end;
    endsWithFilemark = file.hasFilemark;
  }
  if (scanner.sawTrouble) await checkStill(volume);
  const isFull = parts.at(-1)?.entry.endsVolume === true;
  return { parts, others, end: place, endsWithFilemark, isFull };
}

/** What could not be read may be so because another cartridge is in the drive by now. */
async function checkStill({ drive, buffer, label }: MountedVolume): Promise<void> {
  checkLabel(await readLabel(drive, buffer), volumeName(label));
}

interface ScannedFile extends OtherFile {
  readonly part?: ScannedPart;
  /** A good trailer that stands alone, of a part of which the file before holds the rest. */
  readonly lone?: TapeRecord;
}

/** The part before, closed by the trailer that is all of this file. */
function closeBefore(before: ScannedPart | undefined, file: ScannedFile): ScannedPart | undefined {
  const { lone } = file;
  if (lone === undefined || before?.entry.state !== 'open' || !file.hasFilemark) return undefined;
  const { entry } = before;
  const trailer = decodePartTrailer(lone);
  if (typeof trailer === 'string' || lone.head.partId !== entry.partId) return undefined;
  // Between the header and the trailer: the records it counts, and the filemark.
  if (lone.head.sequence !== file.place.object - entry.place.object - 1) return undefined;
  const state = lone.head.isFinal ? 'final' : 'continues';
  const closed: PartEntry = {
    ...entry,
    ...countsOf(trailer),
    state,
    end: file.end,
    endsVolume: true,
  };
  return { ...before, entry: closed };
}

function countsOf(trailer: PartTrailer) {
  const { firstOffset, dataBytes, dataRecords, manifestBytes, manifestRecords } = trailer;
  return { firstOffset, dataBytes, dataRecords, manifestBytes, manifestRecords };
}

class FileScanner {
  readonly #volume: MountedVolume;
  readonly #end: number;
  /** Something could not be read, or was not of this cartridge. */
  sawTrouble = false;

  constructor(volume: MountedVolume, end: number) {
    this.#volume = volume;
    this.#end = end;
  }

  /** The file that begins at `place`, where something is. */
  async scanFile(place: TapePlace): Promise<ScannedFile> {
    const first = await this.#recordAt(place.object);
    if (first === 'filemark') {
      const end = { object: place.object + 1, file: place.file + 1 };
      return { kind: 'empty', place, end, hasFilemark: true };
    }
    const { end, hasFilemark } = await this.#fileEnd(place);
    const last = end.object - (hasFilemark ? 2 : 1);
    const file = { place, end, hasFilemark };
    if (isGood(first) && first.head.kind === 'trailer') {
      return { kind: 'damaged', ...file, lone: copyOf(first) };
    }
    const known = isGood(first) ? first : await this.#anyRecord(place.object, last);
    if (known === undefined) {
      const isForeign = first instanceof BadRecord && first.why === 'foreign';
      return { kind: isForeign ? 'foreign' : 'damaged', ...file };
    }
    const part = await this.#partOf(known, place, end, last, hasFilemark);
    return { kind: 'damaged', ...file, part };
  }

  async #partOf(
    known: TapeRecord,
    place: TapePlace,
    end: TapePlace,
    last: number,
    hasFilemark: boolean,
  ): Promise<ScannedPart> {
    const found = known.head.kind === 'header' ? decodePartHeader(known) : 'damaged';
    const header = typeof found === 'string' ? null : found;
    const { backupId, partId, part, volumeId, recordBytes } = known.head;
    const common = { backupId, partId, part, volumeId, recordBytes, place, end };
    const named = {
      ...common,
      backup: header?.backup ?? null,
      previousVolumeId: header?.previousVolumeId ?? null,
      endsVolume: false,
    };
    const trailer = hasFilemark ? await this.#trailerAt(last, known, place) : undefined;
    if (trailer !== undefined) {
      const entry = { ...named, ...countsOf(trailer.counts), state: trailer.state };
      return this.withManifest({ entry, header, manifest: null });
    }
    const counts = await this.#openCounts(known, place, last, header);
    return { entry: { ...named, ...counts, state: 'open' }, header, manifest: null };
  }

  async #trailerAt(last: number, known: TapeRecord, place: TapePlace) {
    const record = await this.#recordAt(last);
    if (!isGood(record) || record.head.partId !== known.head.partId) return undefined;
    if (record.head.sequence !== last - place.object) return undefined;
    const counts = decodePartTrailer(record);
    if (typeof counts === 'string') return undefined;
    const state = record.head.isFinal ? ('final' as const) : ('continues' as const);
    return { counts, state };
  }

  /** What an open part may hold: up to its last record that can be read, else to its end. */
  async #openCounts(known: TapeRecord, place: TapePlace, last: number, header: PartHeader | null) {
    const space = payloadSpace(known.head.recordBytes);
    const tail = await this.#lastData(known.head.partId, place.object, last);
    const origin = header?.firstOffset ?? firstOffsetFrom(tail ?? known, space);
    const firstOffset = origin ?? 0;
    const none = { firstOffset, manifestBytes: 0, manifestRecords: 0 };
    const nothing = { ...none, dataBytes: 0, dataRecords: 0 };
    if (tail === 'no-data' || origin === undefined) return nothing;
    if (tail === undefined) {
      const dataRecords = last - place.object;
      return { ...none, dataBytes: dataRecords * space, dataRecords };
    }
    const { sequence, offset, payloadBytes } = tail.head;
    const dataBytes = Math.max(0, offset + payloadBytes - firstOffset);
    return { ...none, dataBytes, dataRecords: sequence };
  }

  /** The last good data record of a part, among those that are tried. */
  async #lastData(partId: string, first: number, last: number) {
    const least = Math.max(first + 1, last - MAX_TRIES + 1);
    for (let object = last; object >= least; object -= 1) {
      const record = await this.#recordAt(object);
      if (!isGood(record) || record.head.partId !== partId) continue;
      if (record.head.sequence !== object - first) continue;
      if (record.head.kind === 'data') return record;
      if (record.head.kind === 'manifest' && dataBefore(record) === 0) return 'no-data';
    }
    return last === first ? 'no-data' : undefined;
  }

  /** A good record of the file, asked at its beginning and at its end. */
  async #anyRecord(first: number, last: number): Promise<TapeRecord | undefined> {
    for (let step = 0; step < MAX_TRIES && first + step <= last; step += 1) {
      for (const object of new Set([first + step, last - step])) {
        const record = await this.#recordAt(object);
        if (isGood(record) && record.head.sequence === object - first) return copyOf(record);
      }
    }
    return undefined;
  }

  /** The part with the manifest that it holds if it is final. */
  async withManifest(part: ScannedPart): Promise<ScannedPart> {
    if (part.entry.state !== 'final') return part;
    return { ...part, manifest: await this.#manifest(part.entry) };
  }

  async #manifest(entry: PartEntry): Promise<Json | null> {
    const pieces: Buffer[] = [];
    for (let index = 0; index < entry.manifestRecords; index += 1) {
      const object = entry.place.object + 1 + entry.dataRecords + index;
      const record = await this.#recordAt(object);
      if (!isGood(record) || record.head.kind !== 'manifest') return null;
      if (record.head.partId !== entry.partId) return null;
      pieces.push(Buffer.from(record.payload));
    }
    const manifest = Buffer.concat(pieces);
    return manifest.length === entry.manifestBytes ? (decodeJson(manifest) ?? null) : null;
  }

  async #fileEnd(place: TapePlace): Promise<{ end: TapePlace; hasFilemark: boolean }> {
    const { drive } = this.#volume;
    await drive.seek(place.object);
    try {
      await drive.spaceFilemarks(1);
    } catch (error) {
      if (!isTapeError(error, 'EIO')) throw error;
      return { end: { object: this.#end, file: place.file }, hasFilemark: false };
    }
    const object = await drive.tell();
    return { end: { object, file: place.file + 1 }, hasFilemark: true };
  }

  /** What is there: a good record of this cartridge, a filemark, or why it is neither. */
  async #recordAt(object: number): Promise<TapeRecord | 'filemark' | 'unreadable' | BadRecord> {
    const { drive, buffer, label } = this.#volume;
    let length: number;
    try {
      await drive.seek(object);
      length = await drive.read(buffer);
    } catch (error) {
      this.sawTrouble = true;
      if (isTapeError(error, 'ENOMEM')) return new BadRecord('foreign', 'a very long record');
      if (!isTapeError(error, 'EIO')) throw error;
      return 'unreadable';
    }
    if (length === 0) return 'filemark';
    const record = decodeRecord(buffer.subarray(0, length));
    if (!(record instanceof BadRecord)) {
      const isOfThis = record.head.volumeId === label.volumeId;
      if (isOfThis && length === label.recordBytes && record.head.kind !== 'label') return record;
    } else if (record.why === 'newer') {
      throw newer(record, label.label);
    }
    this.sawTrouble = true;
    if (record instanceof BadRecord) return record;
    return new BadRecord('foreign', 'a record of another cartridge');
  }
}

function isGood(found: TapeRecord | 'filemark' | 'unreadable' | BadRecord): found is TapeRecord {
  return typeof found === 'object' && !(found instanceof BadRecord);
}

/** A record whose payload outlives the next read. */
function copyOf(record: TapeRecord): TapeRecord {
  return { ...record, payload: Buffer.from(record.payload) };
}

/** Place of the part's first byte, told by one of its data records; undefined by others. */
function firstOffsetFrom(record: TapeRecord | 'no-data', space: number): number | undefined {
  if (record === 'no-data' || record.head.kind !== 'data') return undefined;
  return Math.max(0, record.head.offset - (record.head.sequence - 1) * space);
}

/** Data records in front of a record of the manifest. */
function dataBefore({ head }: TapeRecord): number {
  return head.sequence - 1 - head.offset / payloadSpace(head.recordBytes);
}

function newer(record: BadRecord, label: string) {
  const message = `cartridge ${label} holds records of a newer version: ${record.message}`;
  return mediumError('MEDIUM_UNSUPPORTED', message, 'use that version', { volume: label });
}
