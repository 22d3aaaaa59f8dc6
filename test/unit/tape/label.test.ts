import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeLabel, encodeLabel } from '../../../src/tape/label.ts';
import type { VolumeLabel } from '../../../src/tape/label.ts';
import { BadRecord, encodeRecord, labelHead } from '../../../src/tape/record.ts';

const label: VolumeLabel = {
  volumeId: '0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f',
  label: 'nightly-0002',
  set: 'nightly',
  setId: '0193e4c0-1111-7222-8333-444455556666',
  number: 2,
  previousVolumeId: '0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7e',
  recordBytes: 262_144,
  labelledAtMs: 1_767_323_045_678,
  expiresAtMs: 1_798_859_045_678,
};

/** A good record of kind label around any text. */
function around(text: string): Buffer {
  const payload = Buffer.from(text);
  const bytes = Buffer.alloc(65_536);
  payload.copy(bytes, 128);
  encodeRecord(bytes, labelHead(label.volumeId, payload.length));
  return bytes;
}

function json(): Record<string, unknown> {
  const bytes = encodeLabel(label);
  const text = bytes.toString('utf8', 128, 128 + bytes.readUInt32LE(88));
  return JSON.parse(text) as Record<string, unknown>;
}

const problem = (bytes: Uint8Array) => {
  const found = decodeLabel(bytes);
  return found instanceof BadRecord ? found.message : undefined;
};

describe('the label of a cartridge', () => {
  it('is one record of 64 KiB that says what it was given', () => {
    expect(encodeLabel(label)).toHaveLength(65_536);
    expect(decodeLabel(encodeLabel(label))).toEqual(label);
    const first = { ...label, previousVolumeId: null, expiresAtMs: null, recordBytes: 65_536 };
    expect(decodeLabel(encodeLabel(first))).toEqual(first);
  });

  it('can be read by a person', () => {
    const text = encodeLabel(label).toString('latin1');
    for (const word of ['Spindle', 'nightly-0002', 'spindle-tape.py', '2026-01-02T03:04:05.678Z']) {
      expect(text).toContain(word);
    }
  });

  it('keeps what a later version adds from being in the way', () => {
    expect(decodeLabel(around(JSON.stringify({ ...json(), barcode: 'A00002L8' })))).toEqual(label);
  });

  it.each<[string, unknown]>([
    ['label', ''],
    ['label', 'Nightly 2'],
    ['label', undefined],
    ['set', 'a'.repeat(64)],
    ['setId', '0193E4C0-1111-7222-8333-444455556666'],
    ['setId', 7],
    ['number', 0],
    ['number', 65_536],
    ['number', 1.5],
    ['number', '2'],
    ['previousVolumeId', undefined],
    ['previousVolumeId', 'none'],
    ['recordBytes', 65_537],
    ['recordBytes', 2 ** 53],
    ['recordBytes', 1_052_672],
    ['labelledAt', null],
    ['labelledAt', '2026-01-02'],
    ['labelledAt', '2026-02-30T00:00:00.000Z'],
    ['expiresAt', 1_798_859_045_678],
    ['expiresAt', '-000001-01-01T00:00:00.000Z'],
  ])('is refused with %s %j', (field, value) => {
    const text = JSON.stringify({ ...json(), [field]: value });
    expect(problem(around(text))).toContain(field);
  });

  it.each(['', '[]', '7', 'null', '{', '\ufeff{}', '\ud800', '['.repeat(60_000)])(
    'is refused if its payload is no object',
    (text) => {
      expect(problem(around(text === '' ? ' ' : text))).toContain('makes no sense');
    },
  );

  it('is refused if the bytes are no UTF-8', () => {
    const bytes = Buffer.alloc(65_536);
    bytes.write('{"a":"\xff"}', 128, 'latin1');
    encodeRecord(bytes, labelHead(label.volumeId, 9));
    expect(problem(bytes)).toContain('makes no sense');
  });

  it('never makes the reader throw, whatever object is in it', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(json())), fc.jsonValue()), (odd) => {
        const text = JSON.stringify({ ...json(), ...odd });
        const found = decodeLabel(around(text.slice(0, 60_000)));
        if (found instanceof BadRecord) expect(found.why).toBe('damaged');
        else expect(decodeLabel(encodeLabel(found))).toEqual(found);
      }),
    );
  });
});
