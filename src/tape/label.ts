/**
 * The label of a cartridge, its first record: whose it is, and when it may be overwritten.
 *
 * The record always has 64 KiB, so that it can be read before the length of the others is known.
 * Bytes: docs/format/tape.md, "Label".
 */
import { assert } from '../base/assert.ts';
import { rfc3339 } from '../base/clock.ts';
import { decodeJson, encodeJson, FieldReader, isPlainUuid, isTapeName } from './fields.ts';
import {
  BadRecord,
  decodeRecord,
  encodeRecord,
  isRecordSize,
  LABEL_RECORD_BYTES,
  labelHead,
  MAX_RECORD_BYTES,
  MIN_RECORD_BYTES,
  RECORD_HEAD_BYTES,
} from './record.ts';

/** Cartridges of one set. */
export const MAX_VOLUMES = 65535;

export interface VolumeLabel {
  /** UUID of this labelling of the cartridge. */
  readonly volumeId: string;
  /** What a person calls the cartridge, and types to have it overwritten. */
  readonly label: string;
  readonly set: string;
  readonly setId: string;
  /** Of the cartridge in its set, from 1. */
  readonly number: number;
  /** volumeId of `number` - 1 when this one joined, null if it was not known. */
  readonly previousVolumeId: string | null;
  /** Length of all records behind the label. */
  readonly recordBytes: number;
  readonly labelledAtMs: number;
  /** From then on it may be overwritten; null: never by itself. */
  readonly expiresAtMs: number | null;
}

const readme =
  'A tape cartridge of Spindle: backups of virtual disks. To get them back without Spindle: ' +
  'dd each tape file to a file (bs=1M, variable block mode), then ' +
  'python3 spindle-tape.py extract FILES, then python3 spindle-restore.py restore IMAGE DISK. ' +
  'Both programs are in tools/ of its source; docs/format/tape.md describes every byte.';

/** The label's record, of 64 KiB. */
export function encodeLabel(label: VolumeLabel): Buffer {
  assert(labelProblem(label) === undefined, `tape label: ${String(labelProblem(label))}`);
  const payload = encodeJson({
    readme,
    label: label.label,
    set: label.set,
    setId: label.setId,
    number: label.number,
    previousVolumeId: label.previousVolumeId,
    recordBytes: label.recordBytes,
    labelledAt: rfc3339(label.labelledAtMs),
    expiresAt: label.expiresAtMs === null ? null : rfc3339(label.expiresAtMs),
  });
  const bytes = Buffer.alloc(LABEL_RECORD_BYTES);
  payload.copy(bytes, RECORD_HEAD_BYTES);
  encodeRecord(bytes, labelHead(label.volumeId, payload.length));
  return bytes;
}

/** The label that just these bytes are. */
export function decodeLabel(bytes: Uint8Array): VolumeLabel | BadRecord {
  const record = decodeRecord(bytes);
  if (record instanceof BadRecord) return record;
  if (record.head.kind !== 'label') return new BadRecord('damaged', 'the first record is no label');
  const json = decodeJson(record.payload);
  if (json === undefined) return new BadRecord('damaged', 'the label makes no sense');
  const read = new FieldReader(json);
  const label: VolumeLabel = {
    volumeId: record.head.volumeId,
    label: read.name('label'),
    set: read.name('set'),
    setId: read.uuid('setId'),
    number: read.number('number', 1, MAX_VOLUMES),
    previousVolumeId: read.uuidOrNull('previousVolumeId'),
    recordBytes: read.number('recordBytes', MIN_RECORD_BYTES, MAX_RECORD_BYTES),
    labelledAtMs: read.time('labelledAt'),
    expiresAtMs: read.timeOrNull('expiresAt'),
  };
  const problem = read.problem ?? labelProblem(label);
  if (problem === undefined) return label;
  return new BadRecord('damaged', `the label makes no sense: ${problem}`);
}

/** What is wrong with a label, or undefined. */
export function labelProblem(label: VolumeLabel): string | undefined {
  if (!isTapeName(label.label) || !isTapeName(label.set)) return 'name';
  if (!isPlainUuid(label.volumeId) || !isPlainUuid(label.setId)) return 'UUID';
  if (!(label.number >= 1 && label.number <= MAX_VOLUMES)) return 'number';
  if (!isRecordSize(label.recordBytes)) return 'recordBytes';
  return undefined;
}
