/**
 * Where parts lie, and which bytes of an image they hold: what a catalog remembers of cartridges.
 *
 * All of it can be read from the cartridges again (scan.ts). Pure: nothing here does I/O.
 * Formulas: docs/format/tape.md, "Record".
 */
import { payloadSpace } from './record.ts';

/** A place on a cartridge. */
export interface TapePlace {
  /** Records and filemarks before it: what the drive tells and seeks. */
  readonly object: number;
  /** Filemarks before it. */
  readonly file: number;
}

/** Where the first part of a cartridge begins: behind the label and its filemark. */
export const FIRST_PLACE: TapePlace = { object: 2, file: 1 };

/**
 * `final`: closed, and the backup is complete with it. `continues`: closed, the backup goes on.
 * `open`: without a trailer; its data counts as far as each record is good.
 */
export type PartState = 'final' | 'continues' | 'open';

/** One part on one cartridge. */
export interface PartEntry {
  readonly backupId: string;
  /** Name of the backup; null if no header told it. */
  readonly backup: string | null;
  readonly partId: string;
  /** Number in its backup, from 0. */
  readonly part: number;
  readonly volumeId: string;
  readonly state: PartState;
  /** Of its first record. */
  readonly place: TapePlace;
  /** Behind its last filemark. */
  readonly end: TapePlace;
  /** Length of the records of its cartridge. */
  readonly recordBytes: number;
  /** The bytes of the image that it holds: `firstOffset` … `firstOffset + dataBytes`. */
  readonly firstOffset: number;
  readonly dataBytes: number;
  readonly dataRecords: number;
  /** 0 unless it is final. */
  readonly manifestBytes: number;
  /** Records between the data and the trailer. */
  readonly manifestRecords: number;
  /** Where the part before it lies; null for part 0, or if no header told it. */
  readonly previousVolumeId: string | null;
  /** The cartridge was full with it: nothing may be written behind. */
  readonly endsVolume: boolean;
}

/** False for one that found the cartridge full before its first byte: nobody needs it. */
export function holdsAnything({ dataBytes, state }: PartEntry): boolean {
  return dataBytes > 0 || state === 'final';
}

/** End of the bytes that the part holds. */
export function partEnd(part: PartEntry): number {
  return part.firstOffset + part.dataBytes;
}

export function holds(part: PartEntry, offset: number): boolean {
  return offset >= part.firstOffset && offset < partEnd(part);
}

/** One data record of a part, and the bytes of the image in it. */
export interface RecordPlace {
  /** In the part, from 1. */
  readonly sequence: number;
  readonly offset: number;
  readonly length: number;
  readonly object: number;
}

/** The data record that holds the byte at `offset`, which the part holds. */
export function recordAt(part: PartEntry, offset: number): RecordPlace {
  const space = payloadSpace(part.recordBytes);
  const index = Math.floor((offset - part.firstOffset) / space);
  const first = part.firstOffset + index * space;
  return {
    sequence: 1 + index,
    offset: first,
    length: Math.min(space, partEnd(part) - first),
    object: part.place.object + 1 + index,
  };
}
