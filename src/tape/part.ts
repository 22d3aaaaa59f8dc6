/**
 * The first and the last record of a part: what the range of bytes between them is of.
 *
 * Bytes: docs/format/tape.md, "Part".
 */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { rfc3339 } from '../base/clock.ts';
import { decodeJson, encodeJson, FieldReader } from './fields.ts';
import type { Json } from './fields.ts';
import { payloadSpace } from './record.ts';
import type { TapeRecord } from './record.ts';

export const MAX_INFO_BYTES = 32768;
export const MAX_MANIFEST_BYTES = 1024 * 1024;
const DIGEST_BYTES = 32;

export interface PartHeader {
  /** Name of the backup. */
  readonly backup: string;
  readonly setId: string;
  /** Place in the image of the part's first byte. */
  readonly firstOffset: number;
  /** Where the part before it lies, null for part 0. */
  readonly previousVolumeId: string | null;
  readonly beganAtMs: number;
  /** What the writer knew of the backup at its beginning. */
  readonly info: Json | null;
}

export interface PartTrailer {
  readonly firstOffset: number;
  readonly dataRecords: number;
  readonly dataBytes: number;
  readonly manifestRecords: number;
  /** 0 unless the part is final. */
  readonly manifestBytes: number;
  /** SHA-256 over the CRCs of data and manifest records, hexadecimal. */
  readonly digest: string;
}

export function encodePartHeader(header: PartHeader): Buffer {
  const { info } = header;
  assert(info === null || encodeJson(info).length <= MAX_INFO_BYTES, 'info of more than 32 KiB');
  return encodeJson({
    backup: header.backup,
    setId: header.setId,
    firstOffset: header.firstOffset,
    previousVolumeId: header.previousVolumeId,
    beganAt: rfc3339(header.beganAtMs),
    info,
  });
}

/** The header in a good record, or the field that is wrong. */
export function decodePartHeader(record: TapeRecord): PartHeader | string {
  const json = record.head.kind === 'header' ? decodeJson(record.payload) : undefined;
  if (json === undefined) return 'this is no header of a part';
  const read = new FieldReader(json);
  const header: PartHeader = {
    backup: read.name('backup'),
    setId: read.uuid('setId'),
    firstOffset: read.number('firstOffset'),
    previousVolumeId: read.uuidOrNull('previousVolumeId'),
    beganAtMs: read.time('beganAt'),
    info: read.objectOrNull('info'),
  };
  return read.problem ?? header;
}

export function encodePartTrailer(trailer: PartTrailer): Buffer {
  return encodeJson({ ...trailer });
}

/** The trailer in a good record, or what is wrong. */
export function decodePartTrailer(record: TapeRecord): PartTrailer | string {
  const json = record.head.kind === 'trailer' ? decodeJson(record.payload) : undefined;
  if (json === undefined) return 'this is no trailer of a part';
  const read = new FieldReader(json);
  const trailer: PartTrailer = {
    firstOffset: read.number('firstOffset'),
    dataRecords: read.number('dataRecords', 0, 2 ** 32 - 1),
    dataBytes: read.number('dataBytes'),
    manifestRecords: read.number('manifestRecords', 0, 2 ** 32 - 1),
    manifestBytes: read.number('manifestBytes', 0, MAX_MANIFEST_BYTES),
    digest: read.hex('digest', DIGEST_BYTES),
  };
  return read.problem ?? trailerProblem(trailer, record) ?? trailer;
}

/** The numbers must follow from each other: what they count is packed without gaps. */
function trailerProblem(trailer: PartTrailer, { head }: TapeRecord): string | undefined {
  const space = payloadSpace(head.recordBytes);
  const { dataRecords, dataBytes, manifestRecords, manifestBytes, firstOffset } = trailer;
  if (dataRecords !== Math.ceil(dataBytes / space)) return 'dataRecords';
  if (!Number.isSafeInteger(firstOffset + dataBytes)) return 'dataBytes';
  if (head.sequence !== 1 + dataRecords + manifestRecords) return 'sequence';
  if (head.isFinal !== manifestBytes > 0) return 'manifestBytes';
  const isWhole = manifestRecords === Math.ceil(manifestBytes / space);
  return isWhole || !head.isFinal ? undefined : 'manifestRecords';
}

/** Digest of a part: over the CRCs of its data and manifest records in order. */
export class PartDigest {
  readonly #hash: Hash = createHash('sha256');

  add(crc: number): void {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32LE(crc);
    this.#hash.update(bytes);
  }

  /** Hexadecimal. Nothing can be added afterwards. */
  end(): string {
    return this.#hash.digest('hex');
  }
}
