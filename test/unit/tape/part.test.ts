import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodePartHeader,
  decodePartTrailer,
  encodePartHeader,
  encodePartTrailer,
  PartDigest,
} from '../../../src/tape/part.ts';
import type { PartHeader, PartTrailer } from '../../../src/tape/part.ts';
import { BadRecord, decodeRecord, encodeRecord } from '../../../src/tape/record.ts';
import type { RecordHead, TapeRecord } from '../../../src/tape/record.ts';

const id = '0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f';
const space = 65_536 - 128;

function recordOf(payload: Buffer, head: Partial<RecordHead>): TapeRecord {
  const bytes = Buffer.alloc(65_536);
  payload.copy(bytes, 128);
  encodeRecord(bytes, {
    kind: 'header',
    recordBytes: 65_536,
    volumeId: id,
    backupId: id,
    partId: id,
    part: 0,
    sequence: 0,
    offset: 0,
    payloadBytes: payload.length,
    isFinal: false,
    ...head,
  });
  const record = decodeRecord(bytes);
  if (record instanceof BadRecord) throw new Error(record.message);
  return record;
}

const header: PartHeader = {
  backup: 'monday',
  setId: id,
  firstOffset: 2 ** 40,
  previousVolumeId: id,
  beganAtMs: 1_767_323_045_678,
  info: { imageId: id, disk: 'wëb' },
};

const trailer: PartTrailer = {
  firstOffset: 1000,
  dataRecords: 3,
  dataBytes: 2 * space + 1,
  manifestRecords: 1,
  manifestBytes: 300,
  digest: 'ab'.repeat(32),
};

const decoded = (value: object, sequence = 5, isFinal = true) =>
  decodePartTrailer(
    recordOf(Buffer.from(JSON.stringify(value)), { kind: 'trailer', sequence, isFinal }),
  );

describe('the header of a part', () => {
  it('says what it was given', () => {
    expect(decodePartHeader(recordOf(encodePartHeader(header), {}))).toEqual(header);
    const first = { ...header, previousVolumeId: null, info: null, firstOffset: 0 };
    expect(decodePartHeader(recordOf(encodePartHeader(first), {}))).toEqual(first);
  });

  it.each<[string, unknown]>([
    ['backup', '../x'],
    ['setId', null],
    ['firstOffset', -1],
    ['firstOffset', 2 ** 53],
    ['previousVolumeId', 'x'],
    ['beganAt', 0],
    ['info', []],
    ['info', 'text'],
  ])('is refused with %s %j', (field, value) => {
    const json = JSON.parse(encodePartHeader(header).toString()) as object;
    const payload = Buffer.from(JSON.stringify({ ...json, [field]: value }));
    expect(decodePartHeader(recordOf(payload, {}))).toBe(field);
  });

  it('is no other kind of record', () => {
    const record = recordOf(encodePartHeader(header), { kind: 'data', sequence: 1 });
    expect(typeof decodePartHeader(record)).toBe('string');
  });
});

describe('the trailer of a part', () => {
  it('says what it was given', () => {
    const payload = encodePartTrailer(trailer);
    const final = recordOf(payload, { kind: 'trailer', sequence: 5, isFinal: true });
    expect(decodePartTrailer(final)).toEqual(trailer);
    const goesOn = { ...trailer, manifestBytes: 0, manifestRecords: 2 };
    expect(decoded(goesOn, 6, false)).toEqual(goesOn);
    const empty = { ...goesOn, dataRecords: 0, dataBytes: 0, manifestRecords: 0 };
    expect(decoded(empty, 1, false)).toEqual(empty);
  });

  it.each<[string, object, number?, boolean?]>([
    ['dataRecords', { dataRecords: 2 }],
    ['dataRecords', { dataBytes: 2 * space }],
    ['dataBytes', { firstOffset: 2 ** 53 - 2 }],
    ['sequence', {}, 6],
    ['manifestBytes', { manifestBytes: 0 }],
    ['manifestBytes', {}, 5, false],
    ['manifestBytes', { manifestBytes: 2 ** 20 + 1 }],
    ['manifestRecords', { manifestBytes: space + 1 }],
    ['digest', { digest: 'AB'.repeat(32) }],
    ['digest', { digest: 'ab'.repeat(31) }],
  ])('is refused for its %s if it has %j', (field, change, sequence, isFinal) => {
    expect(decoded({ ...trailer, ...change }, sequence, isFinal)).toBe(field);
  });

  it('never makes the reader throw', () => {
    const odd = fc.dictionary(fc.constantFrom(...Object.keys(trailer)), fc.jsonValue());
    fc.assert(
      fc.property(
        odd,
        fc.integer({ min: 1, max: 9 }),
        fc.boolean(),
        (change, sequence, isFinal) => {
          const found = decoded({ ...trailer, ...change }, sequence, isFinal);
          if (typeof found === 'string') return;
          expect(found.dataRecords + found.manifestRecords + 1).toBe(sequence);
        },
      ),
    );
  });

  it('has a digest over the CRCs of the records', () => {
    const digest = new PartDigest();
    digest.add(1);
    digest.add(2 ** 32 - 1);
    const bytes = Buffer.from('01000000ffffffff', 'hex');
    expect(digest.end()).toBe(createHash('sha256').update(bytes).digest('hex'));
  });
});
