/**
 * Every flipped bit of a small image is found and attributed to the blocks that it costs.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { Fault } from '../../../src/image/damage.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import { examineSegment } from '../../../src/image/segment-check.ts';
import { decodeTablePage } from '../../../src/image/table.ts';
import { decodeTrailer } from '../../../src/image/trailer.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import {
  codeOf,
  imageOf,
  MemoryBytes,
  MemoryCopy,
  readImage,
  readStream,
} from '../../support/image-source.ts';

const blockSize = 16384;
const places = [1, 2, 5];
const copy = new MemoryCopy({ places });
const frame = new ImageFrame(copy.facts);
const tableAt = 4096;
const segmentAt = 8192;
const dataAt = segmentAt + 4096;
const trailerAt = dataAt + 3 * blockSize;
const known = {
  table: Float64Array.from(places),
  beforeHead: -1,
  before: -1,
  after: frame.diskBlocks,
};
const firstLost = { sourceOffset: blockSize, length: blockSize, exact: true };
const lastLost = { sourceOffset: 5 * blockSize, length: blockSize, exact: true };
const allLost = [{ ...firstLost, length: 2 * blockSize }, lastLost];
let image: Buffer;

beforeAll(async () => {
  image = await imageOf(copy);
});

/** Runs `body` for each bit of [from, to) flipped in `bytes`. */
function forEachFlip(bytes: Buffer, from: number, to: number, body: (bit: number) => void): void {
  for (let bit = from * 8; bit < to * 8; bit += 1) {
    const byte = Math.floor(bit / 8);
    const before = bytes[byte] ?? 0;
    bytes[byte] = before ^ (1 << (bit % 8));
    body(bit);
    bytes[byte] = before;
  }
}

function codeOfFault(decoded: unknown): string | undefined {
  return decoded instanceof Fault ? decoded.code : undefined;
}

function check(isRight: boolean, bit: number): void {
  if (!isRight) throw new Error(`flipped bit ${bit} was not found or not attributed`);
}

describe('every flipped bit', () => {
  test('of a table page is found', () => {
    const page = Buffer.from(image.subarray(tableAt, segmentAt));
    forEachFlip(page, 0, page.length, (bit) => {
      check(codeOfFault(decodeTablePage(frame, 0, page, -1)) === 'IMAGE_DAMAGED', bit);
    });
    expect(decodeTablePage(frame, 0, page, -1)).toEqual(Float64Array.from(places));
  });

  test('of a trailer is found', () => {
    const trailer = Buffer.from(image.subarray(trailerAt));
    forEachFlip(trailer, 0, trailer.length, (bit) => {
      check(codeOfFault(decodeTrailer(frame, trailer)) === 'IMAGE_TRUNCATED', bit);
    });
    expect(decodeTrailer(frame, trailer)).toBeInstanceOf(Buffer);
  });

  test('of a segment head costs nothing, unless it is in the CRC: then its blocks', () => {
    const segment = Buffer.from(image.subarray(segmentAt, trailerAt));
    forEachFlip(segment, 0, 4096, (bit) => {
      const { problems, segment: found } = examineSegment(frame, 0, segment, known);
      const inCrc = bit >= 252 * 8 && bit < 256 * 8;
      check(problems.length === 1 && problems[0]?.code === 'IMAGE_DAMAGED', bit);
      check(found.bad.size === (inCrc ? 3 : 0), bit);
      check(problems[0]?.lost.length === (inCrc ? 2 : 0), bit);
    });
    expect(examineSegment(frame, 0, segment, known).problems).toEqual([]);
  });

  test('of a segment head without its table page costs nothing before the CRC', () => {
    const segment = Buffer.from(image.subarray(segmentAt, trailerAt));
    const alone = { ...known, table: new Float64Array(3).fill(NaN) };
    forEachFlip(segment, 0, 256 + 3 * 12, (bit) => {
      const { problems, segment: found } = examineSegment(frame, 0, segment, alone);
      check(problems.length === 1 && problems[0]?.code === 'IMAGE_DAMAGED', bit);
      check(found.bad.size === (bit < 252 * 8 ? 0 : 3), bit);
    });
  });

  test('of the data costs just its block (one bit of every byte)', () => {
    const segment = Buffer.from(image.subarray(segmentAt, trailerAt));
    for (let byte = 4096; byte < segment.length; byte += 1) {
      const before = segment[byte] ?? 0;
      segment[byte] = before ^ (1 << (byte % 8));
      const { segment: found } = examineSegment(frame, 0, segment, known);
      const index = Math.floor((byte - 4096) / blockSize);
      check(found.bad.size === 1 && found.bad.has(index), byte * 8);
      check(found.damaged[0]?.sourceOffset === (places[index] ?? 0) * blockSize, byte * 8);
      segment[byte] = before;
    }
  });
});

describe('a flipped bit in a whole image', () => {
  const damages: [string, number, string, object[]][] = [
    ['in the text', 100, 'IMAGE_INVALID', []],
    ['in the header', 2100, 'IMAGE_INVALID', []],
    ['in the table', tableAt + 9, 'IMAGE_DAMAGED', []],
    ['in the unused table', tableAt + 100, 'IMAGE_DAMAGED', []],
    ['in the segment header', segmentAt + 3, 'IMAGE_DAMAGED', []],
    ['in the CRC of a head', segmentAt + 252, 'IMAGE_DAMAGED', allLost],
    ['in a place of a head', segmentAt + 256, 'IMAGE_DAMAGED', []],
    ['in a checksum of a head', segmentAt + 256 + 8, 'IMAGE_DAMAGED', []],
    ['in the padding', dataAt - 1, 'IMAGE_DAMAGED', []],
    ['in the first block', dataAt, 'IMAGE_DAMAGED', [firstLost]],
    ['in the last block', trailerAt - 1, 'IMAGE_DAMAGED', [lastLost]],
    ['in the trailer', trailerAt + 90, 'IMAGE_TRUNCATED', []],
    ['in the end mark', trailerAt + 4085, 'IMAGE_TRUNCATED', []],
  ];

  test.each(damages)('%s is reported with what it costs', async (_what, at, code, lost) => {
    const damaged = Buffer.from(image);
    damaged[at] = (damaged[at] ?? 0) ^ 4;
    const result = await verifyImage(new MemoryBytes(damaged));
    expect(result.ok).toBe(false);
    expect(result.problems.map((problem) => problem.code)).toEqual([code]);
    expect(result.damaged).toEqual(lost);
    expect(await codeOf(() => readImage(new MemoryBytes(damaged), 'fail'))).toBe(code);
    expect(await codeOf(() => readStream(damaged, 'fail'))).toBe(code);
  });

  test.each(damages.slice(2))('%s does not stop a reader that skips', async (...row) => {
    const [, at, code, lost] = row;
    const damaged = Buffer.from(image);
    damaged[at] = (damaged[at] ?? 0) ^ 4;
    for (const read of [
      await readImage(new MemoryBytes(damaged), 'skip'),
      readStream(damaged, 'skip', [1000, 5]),
    ]) {
      expect(read.problems.map((problem) => problem.code)).toEqual([code]);
      expect(read.damaged).toEqual(lost);
      for (const [place, bytes] of read.blocks) {
        expect(copy.data(places.indexOf(place)).equals(bytes)).toBe(true);
      }
    }
  });

  test('a damaged block is an error that names its range', async () => {
    const damaged = Buffer.from(image);
    damaged[dataAt + blockSize] = (damaged[dataAt + blockSize] ?? 0) ^ 1;
    await expect(readImage(new MemoryBytes(damaged), 'fail')).rejects.toMatchObject({
      code: 'IMAGE_DAMAGED',
      details: { damaged: [{ sourceOffset: 2 * blockSize, length: blockSize }] },
    });
  });
});

describe('what is lost', () => {
  test('ends at the capacity if the last block does not fit', async () => {
    const short = new MemoryCopy({ places: [0, 3], capacityBytes: 3 * blockSize + 512 });
    const damaged = await imageOf(short);
    damaged.fill(0xff, 8192 + 4096, 8192 + 4096 + 2 * blockSize);
    const result = await verifyImage(new MemoryBytes(damaged));
    expect(result.damaged).toEqual([
      { sourceOffset: 0, length: blockSize, exact: true },
      { sourceOffset: 3 * blockSize, length: 512, exact: true },
    ]);
  });

  test('is bounded by known neighbours if table and head are both damaged', async () => {
    const many = new MemoryCopy({ places: Array.from({ length: 1600 }, (_, x) => 2 * x) });
    const damaged = await imageOf(many);
    damaged.fill(0xee, 4096 + 4096 + 8, 4096 + 4096 + 16); // X = 510 … 1019
    const { layout } = new ImageFrame(many.facts);
    damaged.fill(0xee, layout.segmentOffset(1), layout.segmentOffset(1) + 256); // X = 512 … 1023
    const result = await verifyImage(new MemoryBytes(damaged));
    expect(result.problems).toHaveLength(2);
    expect(result.damaged).toEqual([
      { sourceOffset: 1023 * blockSize, length: (2040 - 1023) * blockSize, exact: false },
      ...[1020, 1021, 1022, 1023].map((x) => ({
        sourceOffset: 2 * x * blockSize,
        length: blockSize,
        exact: true,
      })),
    ]);
    expect(readStream(damaged, 'skip').damaged).toEqual(result.damaged);
  });

  test('reaches to the end of the disk if nothing behind it is known', async () => {
    const damaged = Buffer.from(image);
    damaged.fill(0, tableAt, tableAt + 16);
    damaged.fill(0, segmentAt, segmentAt + 256);
    const result = await verifyImage(new MemoryBytes(damaged));
    expect(result.damaged).toEqual([
      { sourceOffset: 0, length: copy.facts.capacityBytes, exact: false },
    ]);
  });

  test('a place that cannot be read costs only its block', async () => {
    const bytes = new MemoryBytes(image, [dataAt + blockSize + 7]);
    const result = await verifyImage(bytes);
    expect(result.damaged).toEqual([
      { sourceOffset: 2 * blockSize, length: blockSize, exact: true },
    ]);
    await expect(readImage(bytes, 'fail')).rejects.toThrow('EIO');
  });

  test.each([tableAt, trailerAt])('a table or trailer that cannot be read: no data', async (at) => {
    const result = await verifyImage(new MemoryBytes(image, [at]));
    expect(result).toMatchObject({ ok: false, blocks: 3, damaged: [], problemCount: 1 });
  });

  test('an error that is not of the medium is no damage', async () => {
    const bytes = new MemoryBytes(image);
    const read = bytes.read.bind(bytes);
    bytes.read = (offset, into) =>
      offset === segmentAt ? Promise.reject(new Error('gone')) : read(offset, into);
    await expect(verifyImage(bytes)).rejects.toThrow('gone');
  });
});
