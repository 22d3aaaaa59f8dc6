/**
 * Records on tape: 128 bytes of head, payload, zeros, all under one CRC.
 *
 * Every record says what it is, of which cartridge, backup and part, and where its payload belongs:
 * so one bad record costs only its own bytes, and records are found again behind any damage.
 *
 * Invariants:
 *  1. No field is believed before the CRC over the whole record is right.
 *  2. Every length is bounded before it is used.
 *  3. `encodeRecord` and `decodeRecord` are inverse; all else is a `BadRecord`.
 *
 * Bytes: docs/format/tape.md, "Record".
 */
import { assert } from '../base/assert.ts';
import { asBuffer, isZero, readU64, writeU64 } from '../base/bytes.ts';
import { crc32, joinOf } from '../base/checksum.ts';
import { formatUuid, parseUuid } from '../base/clock.ts';
import { KIB, MIB } from '../base/units.ts';

export const TAPE_FORMAT_VERSION = 1;
export const RECORD_HEAD_BYTES = 128;
export const MIN_RECORD_BYTES = 64 * KIB;
export const MAX_RECORD_BYTES = MIB;
export const DEFAULT_RECORD_BYTES = 256 * KIB;
/** The label's record, whatever the length of the others. */
export const LABEL_RECORD_BYTES = 64 * KIB;

const MAGIC = 'SPDLTAPE';
const SALT = 'spindle tape record';
/** What the CRC of every record begins with. */
const SALT_CRC = crc32(Buffer.from(SALT, 'latin1'));
const recentUuids = new Map<string, Buffer>();
const MAX_RECENT_UUIDS = 16;
const MAX_U32 = 2 ** 32 - 1;
const NO_UUID = '00000000-0000-0000-0000-000000000000';

const at = {
  magic: 0,
  version: 8,
  recordBytes: 12,
  kind: 16,
  flags: 20,
  volumeId: 24,
  backupId: 40,
  partId: 56,
  part: 72,
  sequence: 76,
  offset: 80,
  payloadBytes: 88,
  reserved: 92,
  crc: 124,
} as const;

const kinds = ['label', 'header', 'data', 'manifest', 'trailer'] as const;
export type RecordKind = (typeof kinds)[number];

/** What a record says of itself. */
export interface RecordHead {
  readonly kind: RecordKind;
  readonly recordBytes: number;
  readonly volumeId: string;
  /** All zeros in a label, as are `partId`, `part` and `sequence`. */
  readonly backupId: string;
  readonly partId: string;
  /** Number of the part in its backup, from 0. */
  readonly part: number;
  /** Number of the record in its part, from 0: the header. */
  readonly sequence: number;
  /** Place of the payload in the image or manifest; 0 in other kinds. */
  readonly offset: number;
  /** 1 … recordBytes - 128. */
  readonly payloadBytes: number;
  /** Only of a trailer: the backup is complete with this part. */
  readonly isFinal: boolean;
}

export interface TapeRecord {
  readonly head: RecordHead;
  /** View on the bytes that were decoded. */
  readonly payload: Buffer;
  /** The CRC field: what digests are made of. */
  readonly crc: number;
}

/**
 * Why bytes are no good record. `foreign`: not one of ours; `newer`: a right one of a later format;
 * `damaged`: one of ours whose CRC or fields are wrong.
 */
export class BadRecord {
  readonly why: 'foreign' | 'newer' | 'damaged';
  readonly message: string;

  constructor(why: BadRecord['why'], message: string) {
    this.why = why;
    this.message = message;
  }
}

export function isRecordSize(bytes: number): boolean {
  return bytes >= MIN_RECORD_BYTES && bytes <= MAX_RECORD_BYTES && bytes % 4096 === 0;
}

/** Bytes of payload in a full record. */
export function payloadSpace(recordBytes: number): number {
  return recordBytes - RECORD_HEAD_BYTES;
}

/** The head of a label: it has no backup. */
export function labelHead(volumeId: string, payloadBytes: number): RecordHead {
  return {
    kind: 'label',
    recordBytes: LABEL_RECORD_BYTES,
    volumeId,
    backupId: NO_UUID,
    partId: NO_UUID,
    part: 0,
    sequence: 0,
    offset: 0,
    payloadBytes,
    isFinal: false,
  };
}

/**
 * Makes a record around the payload that is in `bytes` from 128 on already: writes the head, clears
 * what is behind the payload, and computes the CRC.
 *
 * @param bytes of just `head.recordBytes`
 * @param payloadCrc CRC-32 of a payload that fills the record, if it is known: saves computing it
 * @returns the CRC
 */
export function encodeRecord(bytes: Buffer, head: RecordHead, payloadCrc?: number): number {
  assert(headProblem(head) === undefined, `tape record: ${String(headProblem(head))}`);
  assert(bytes.length === head.recordBytes, 'length of a tape record');
  bytes.fill(0, 0, RECORD_HEAD_BYTES);
  bytes.fill(0, RECORD_HEAD_BYTES + head.payloadBytes);
  bytes.write(MAGIC, at.magic, 'latin1');
  bytes.writeUInt32LE(TAPE_FORMAT_VERSION, at.version);
  bytes.writeUInt32LE(head.recordBytes, at.recordBytes);
  bytes.writeUInt32LE(kinds.indexOf(head.kind) + 1, at.kind);
  bytes.writeUInt32LE(flagsOf(head.kind, head.isFinal), at.flags);
  uuidBytes(head.volumeId).copy(bytes, at.volumeId);
  uuidBytes(head.backupId).copy(bytes, at.backupId);
  uuidBytes(head.partId).copy(bytes, at.partId);
  bytes.writeUInt32LE(head.part, at.part);
  bytes.writeUInt32LE(head.sequence, at.sequence);
  writeU64(bytes, head.offset, at.offset);
  bytes.writeUInt32LE(head.payloadBytes, at.payloadBytes);
  const isKnown = head.payloadBytes === payloadSpace(head.recordBytes);
  const crc = crcOf(bytes, isKnown ? payloadCrc : undefined);
  bytes.writeUInt32LE(crc, at.crc);
  return crc;
}

/** The record that just these bytes are. The payload is a view on them. */
export function decodeRecord(from: Uint8Array): TapeRecord | BadRecord {
  const bytes = asBuffer(from);
  if (!startsRecord(bytes)) return new BadRecord('foreign', 'this is no record of a Spindle tape');
  const version = bytes.readUInt32LE(at.version);
  if (bytes.readUInt32LE(at.recordBytes) !== bytes.length || !isRecordSize(bytes.length)) {
    return new BadRecord('damaged', `a record of ${bytes.length} bytes says it has others`);
  }
  const crc = bytes.readUInt32LE(at.crc);
  if (crc !== crcOf(bytes)) return new BadRecord('damaged', 'the CRC of a record is wrong');
  if (version > TAPE_FORMAT_VERSION) {
    return new BadRecord('newer', `a record of format version ${version}`);
  }
  const head = readHead(bytes);
  const problem = head === undefined ? 'fields' : headProblem(head);
  if (head === undefined || problem !== undefined || version !== TAPE_FORMAT_VERSION) {
    return new BadRecord('damaged', `a record makes no sense: ${String(problem)}`);
  }
  const end = RECORD_HEAD_BYTES + head.payloadBytes;
  if (!isZero(bytes.subarray(at.reserved, at.crc)) || !isZero(bytes.subarray(end))) {
    return new BadRecord('damaged', 'a record makes no sense: reserved bytes');
  }
  return { head, payload: bytes.subarray(RECORD_HEAD_BYTES, end), crc };
}

/** True if the bytes begin as a record does, whatever follows. */
function startsRecord(bytes: Buffer): boolean {
  return bytes.length >= RECORD_HEAD_BYTES && bytes.toString('latin1', 0, at.version) === MAGIC;
}

/** @param crcOfRest of what follows the head, if it is known */
function crcOf(bytes: Buffer, crcOfRest?: number): number {
  const seed = crc32(bytes.subarray(0, at.crc), SALT_CRC);
  if (crcOfRest === undefined) return crc32(bytes.subarray(RECORD_HEAD_BYTES), seed);
  return joinOf(bytes.length - RECORD_HEAD_BYTES)(seed, crcOfRest);
}

function flagsOf(kind: RecordKind, isFinal: boolean): number {
  if (kind !== 'trailer') return 0;
  return isFinal ? 1 : 2;
}

function readHead(bytes: Buffer): RecordHead | undefined {
  const kind = kinds[bytes.readUInt32LE(at.kind) - 1];
  const offset = readU64(bytes, at.offset);
  if (kind === undefined || offset === undefined) return undefined;
  const flags = bytes.readUInt32LE(at.flags);
  const isFinal = flags === 1;
  if (flags !== flagsOf(kind, isFinal)) return undefined;
  return {
    kind,
    recordBytes: bytes.length,
    volumeId: uuidAt(bytes, at.volumeId),
    backupId: uuidAt(bytes, at.backupId),
    partId: uuidAt(bytes, at.partId),
    part: bytes.readUInt32LE(at.part),
    sequence: bytes.readUInt32LE(at.sequence),
    offset,
    payloadBytes: bytes.readUInt32LE(at.payloadBytes),
    isFinal,
  };
}

/** As parseUuid: records by the thousand bear the same three. */
function uuidBytes(uuid: string): Buffer {
  const known = recentUuids.get(uuid);
  if (known !== undefined) return known;
  const bytes = parseUuid(uuid);
  if (recentUuids.size >= MAX_RECENT_UUIDS) recentUuids.clear();
  recentUuids.set(uuid, bytes);
  return bytes;
}

function uuidAt(bytes: Buffer, offset: number): string {
  return formatUuid(bytes.subarray(offset, offset + 16));
}

/** What is wrong with a head, or undefined. */
function headProblem(head: RecordHead): string | undefined {
  if (!isRecordSize(head.recordBytes)) return `record of ${head.recordBytes} bytes`;
  if (!isWithin(head.payloadBytes, 1, payloadSpace(head.recordBytes))) return 'payload length';
  if (!isWithin(head.part, 0, MAX_U32) || !isWithin(head.sequence, 0, MAX_U32)) return 'numbers';
  if (!isWithin(head.offset, 0, Number.MAX_SAFE_INTEGER - head.payloadBytes)) return 'offset';
  if (head.isFinal && head.kind !== 'trailer') return 'flags';
  if (head.kind === 'label') return labelProblem(head);
  if ((head.kind === 'header') !== (head.sequence === 0)) return 'sequence';
  const hasPlace = head.kind === 'data' || head.kind === 'manifest';
  return hasPlace || head.offset === 0 ? undefined : 'offset';
}

function labelProblem(head: RecordHead): string | undefined {
  const { recordBytes, backupId, partId, part, sequence, offset } = head;
  const isPlain = backupId === NO_UUID && partId === NO_UUID && part + sequence + offset === 0;
  return isPlain && recordBytes === LABEL_RECORD_BYTES ? undefined : 'label';
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isSafeInteger(value) && value >= least && value <= most;
}
