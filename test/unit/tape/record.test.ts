import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BadRecord,
  decodeRecord,
  encodeRecord,
  isRecordSize,
  payloadSpace,
} from '../../../src/tape/record.ts';
import type { RecordHead, TapeRecord } from '../../../src/tape/record.ts';

const KIB = 1024;
const uuid = (digit: string) => `${digit.repeat(8)}-1111-7222-8333-${digit.repeat(12)}`;

const data: RecordHead = {
  kind: 'data',
  recordBytes: 64 * KIB,
  volumeId: uuid('a'),
  backupId: uuid('b'),
  partId: uuid('c'),
  part: 3,
  sequence: 17,
  offset: 2 ** 40 + 5,
  payloadBytes: 300,
  isFinal: false,
};

function recordOf(head: RecordHead, fill = 0x5a): Buffer {
  const bytes = Buffer.alloc(head.recordBytes);
  bytes.fill(fill, 128, 128 + head.payloadBytes);
  encodeRecord(bytes, head);
  return bytes;
}

function good(bytes: Buffer): TapeRecord {
  const record = decodeRecord(bytes);
  if (record instanceof BadRecord) throw new Error(record.message);
  return record;
}

const why = (bytes: Uint8Array) => {
  const record = decodeRecord(bytes);
  return record instanceof BadRecord ? record.why : 'good';
};

/** The CRC as the format page has it, by other means than the code. */
function seal(bytes: Buffer): void {
  const head = Buffer.concat([Buffer.from('spindle tape record'), bytes.subarray(0, 124)]);
  bytes.writeUInt32LE(crc32(Buffer.concat([head, bytes.subarray(128)])), 124);
}

const heads: fc.Arbitrary<RecordHead> = fc
  .record({
    kind: fc.constantFrom('header', 'data', 'manifest', 'trailer'),
    units: fc.integer({ min: 16, max: 256 }),
    part: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    sequence: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    offset: fc.integer({ min: 0, max: 2 ** 53 - 2 ** 21 }),
    payload: fc.integer({ min: 1, max: 2 ** 20 }),
    isFinal: fc.boolean(),
  })
  .map(({ kind, units, part, sequence, offset, payload, isFinal }) => ({
    ...data,
    kind,
    recordBytes: units * 4096,
    part,
    sequence: kind === 'header' ? 0 : sequence,
    offset: kind === 'data' || kind === 'manifest' ? offset : 0,
    payloadBytes: Math.min(payload, payloadSpace(units * 4096)),
    isFinal: kind === 'trailer' && isFinal,
  }));

describe('a record on tape', () => {
  it('says what it was given, and has the CRC of the format page', () => {
    fc.assert(
      fc.property(heads, (head) => {
        const bytes = recordOf(head);
        const record = good(bytes);
        expect(record.head).toEqual(head);
        expect(record.payload.equals(Buffer.alloc(head.payloadBytes, 0x5a))).toBe(true);
        const again = Buffer.from(bytes);
        seal(again);
        expect(again.equals(bytes)).toBe(true);
        expect(record.crc).toBe(bytes.readUInt32LE(124));
      }),
      { numRuns: 60 },
    );
  });

  it('shows nothing of what was in the buffer before', () => {
    const used = Buffer.alloc(data.recordBytes, 0xff);
    used.fill(0x5a, 128, 128 + data.payloadBytes);
    encodeRecord(used, data);
    expect(used.equals(recordOf(data))).toBe(true);
  });

  it('is not good with any bit of its head or payload flipped', () => {
    const bytes = recordOf(data);
    for (let bit = 0; bit < (128 + data.payloadBytes) * 8; bit += 1) {
      const byte = bit >>> 3;
      bytes[byte]! ^= 1 << (bit & 7);
      expect(why(bytes), `bit ${bit}`).toBe(bit < 64 ? 'foreign' : 'damaged');
      bytes[byte]! ^= 1 << (bit & 7);
    }
    expect(why(bytes)).toBe('good');
  });

  it('is not good with any byte of its padding changed', () => {
    const bytes = recordOf(data);
    for (let byte = 128 + data.payloadBytes; byte < bytes.length; byte += 7) {
      bytes[byte] = 1 << (byte & 7);
      expect(why(bytes), `byte ${byte}`).toBe('damaged');
      bytes[byte] = 0;
    }
  });

  it('is not good if a byte is missing or too many', () => {
    const bytes = recordOf(data);
    expect(why(bytes.subarray(0, -1))).toBe('damaged');
    expect(why(Buffer.concat([bytes, Buffer.alloc(1)]))).toBe('damaged');
    for (const length of [0, 1, 127]) expect(why(bytes.subarray(0, length))).toBe('foreign');
    expect(why(bytes.subarray(0, 128))).toBe('damaged');
  });

  it('of a later version is told from a damaged one', () => {
    const bytes = recordOf(data);
    bytes.writeUInt32LE(2, 8);
    expect(why(bytes)).toBe('damaged');
    seal(bytes);
    expect(why(bytes)).toBe('newer');
    bytes.writeUInt32LE(0, 8);
    seal(bytes);
    expect(why(bytes)).toBe('damaged');
  });

  it('with a right CRC but fields out of bounds is refused', () => {
    const wicked: [number, number][] = [
      [12, 65_536 + 4096], // recordBytes
      [12, 0],
      [16, 0], // kind
      [16, 6],
      [20, 1], // flags of a data record
      [80 + 4, 2 ** 21], // offset of 2^53 and above
      [80 + 4, 2 ** 21 - 1], // offset whose end may lie above
      [88, 0], // payloadBytes
      [88, 65_536 - 127],
      [88, 2 ** 32 - 1],
      [88, 299], // then a byte of padding is not zero
      [92, 1], // reserved
      [120, 1],
      [76, 0], // a data record as the first
    ];
    for (const [offset, value] of wicked) {
      const bytes = recordOf(data);
      if (offset === 84 && value === 2 ** 21 - 1) bytes.writeUInt32LE(2 ** 32 - 1, 80);
      bytes.writeUInt32LE(value, offset);
      seal(bytes);
      expect(why(bytes), `${value} at ${offset}`).toBe('damaged');
    }
  });

  it('with a right CRC over anything never makes the reader throw', () => {
    const changes = fc.array(fc.tuple(fc.nat({ max: 123 - 8 }), fc.nat({ max: 255 })));
    fc.assert(
      fc.property(changes, fc.uint8Array({ maxLength: 64 }), (edits, payload) => {
        const bytes = recordOf(data);
        bytes.set(payload, 128);
        for (const [byte, value] of edits) bytes[8 + byte] = value;
        seal(bytes);
        const record = decodeRecord(bytes);
        if (record instanceof BadRecord) return;
        expect(record.payload.length).toBe(record.head.payloadBytes);
        expect(record.head.offset + record.payload.length).toBeLessThan(2 ** 53);
      }),
    );
  });

  it('has one of the lengths of the format page', () => {
    const sizes = [65_535, 65_536, 69_632, 66_560, 262_144, 1_048_576, 1_052_672, Number.NaN];
    const allowed = [false, true, true, false, true, true, false, false];
    expect(sizes.map(isRecordSize)).toEqual(allowed);
  });
});
