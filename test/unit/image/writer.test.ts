import { describe, expect, test } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { MIB } from '../../../src/base/units.ts';
import { ImageWriter } from '../../../src/image/writer.ts';
import { imageOf, MemoryCopy } from '../../support/image-source.ts';

const blockSizeBytes = 256 * 1024; // 32 blocks a segment
const headBytes = 4096;
const segmentBytes = headBytes + 32 * blockSizeBytes;
const places = Array.from({ length: 70 }, (_, x) => x + Math.floor(x / 7));
const newCopy = (): MemoryCopy => new MemoryCopy({ places, blockSizeBytes });

describe('a part of an image', () => {
  const ranges: [string, number, number][] = [
    ['the header', 0, 4096],
    ['a few bytes of the header', 10, 13],
    ['header and table', 5, 8192],
    ['inside the table', 4100, 5000],
    ['the first head', 8192, 8192 + headBytes],
    ['a head and some of its data', 8192 + 100, 8192 + headBytes + blockSizeBytes + 7],
    ['data of one block', 8192 + headBytes + 50, 8192 + headBytes + 60],
    ['data over several blocks', 8192 + headBytes + 5e5, 8192 + headBytes + 3e6],
    ['the border of two segments', 8192 + segmentBytes - 1, 8192 + segmentBytes + 1],
    ['from data to the end', 8192 + segmentBytes + 1e6, Infinity],
    ['from the second segment to the end', 8192 + segmentBytes, Infinity],
    ['the trailer', 8192 + 2 * segmentBytes + headBytes + 6 * blockSizeBytes, Infinity],
    ['nothing', 12345, 12345],
  ];
  const whole = imageOf(newCopy());

  test.each(ranges)('%s is that part of the whole', async (_what, from, to) => {
    const image = await whole;
    const end = Math.min(to, image.length);
    const part = await imageOf(newCopy(), from, end);
    expect(part.equals(image.subarray(from, end))).toBe(true);
  });

  test.each(ranges)('%s is the same with all checksums known', async (_what, from, to) => {
    const image = await whole;
    const end = Math.min(to, image.length);
    const copy = newCopy();
    await imageOf(copy);
    const part = await imageOf(copy, from, end);
    expect(part.equals(image.subarray(from, end))).toBe(true);
  });
});

describe('reading', () => {
  test('a whole image reads each block once and keeps all checksums', async () => {
    const copy = newCopy();
    await imageOf(copy);
    expect(copy.blocksRead).toBe(70);
    expect([...copy.kept.keys()]).toEqual([0, 1, 2]);
    expect(copy.kept.get(2)).toHaveLength(6);
  });

  test('blocks alone need no checksums and no other blocks', async () => {
    const copy = newCopy();
    const data = 8192 + headBytes;
    await imageOf(copy, data + blockSizeBytes + 1, data + 2 * blockSizeBytes + 1);
    expect(copy.blocksRead).toBe(2);
    expect(copy.kept.size).toBe(0);
  });

  test('a head whose checksums are unknown reads its segment, a known one nothing', async () => {
    const copy = newCopy();
    await imageOf(copy, 8192, 8192 + headBytes);
    expect(copy.blocksRead).toBe(32);
    await imageOf(copy, 8192, 8192 + headBytes);
    expect(copy.blocksRead).toBe(32);
  });

  test('a known segment is read only as far as it is wanted', async () => {
    const copy = newCopy();
    await imageOf(copy, 8192, 8192 + headBytes);
    copy.blocksRead = 0;
    await imageOf(copy, 8192, 8192 + headBytes + blockSizeBytes + 1);
    expect(copy.blocksRead).toBe(2);
  });

  test('the trailer of an unread copy costs one pass, the second time nothing', async () => {
    const copy = newCopy();
    const writer = new ImageWriter(copy);
    const { trailerOffset, imageBytes } = writer.layout;
    const first = await imageOf(copy, trailerOffset, imageBytes);
    expect(copy.blocksRead).toBe(70);
    const second = await imageOf(copy, trailerOffset, imageBytes);
    expect(copy.blocksRead).toBe(70);
    expect(second.equals(first)).toBe(true);
  });

  test('the rest of an interrupted stream reads no block twice for the trailer', async () => {
    const copy = newCopy();
    const { layout } = new ImageWriter(copy);
    await imageOf(copy, 0, layout.segmentOffset(1));
    copy.blocksRead = 0;
    await imageOf(copy, layout.segmentOffset(1), layout.imageBytes);
    expect(copy.blocksRead).toBe(70 - 32);
  });

  test('one image object serves many parts at once', async () => {
    const copy = newCopy();
    const image = await imageOf(newCopy());
    const writer = new ImageWriter(copy);
    const parts = Array.from({ length: 12 }, async (_, index) => {
      const from = Math.floor((index * image.length) / 12);
      const to = Math.floor(((index + 1) * image.length) / 12);
      const pieces: Buffer[] = [];
      for await (const bytes of writer.read(from, to)) pieces.push(Buffer.from(bytes));
      return Buffer.concat(pieces);
    });
    expect(Buffer.concat(await Promise.all(parts)).equals(image)).toBe(true);
  });

  test('a ring of single blocks gives the same bytes', async () => {
    const image = await imageOf(newCopy());
    const ring = { pieceBytes: 1 };
    expect((await imageOf(newCopy(), undefined, undefined, { ring })).equals(image)).toBe(true);
  });

  test('memory is one segment, in pieces of 1 MiB', async () => {
    const lengths: number[] = [];
    const allocate = (bytes: number): Uint8Array => {
      lengths.push(bytes);
      return Buffer.allocUnsafeSlow(bytes);
    };
    await imageOf(newCopy(), 8192, undefined, { ring: { allocate } });
    expect(lengths).toEqual(Array.from({ length: 8 }, () => MIB));
  });

  test('a part that ends within a segment of unknown checksums reads each block once', async () => {
    const lengths: number[] = [];
    const allocate = (bytes: number): Uint8Array => {
      lengths.push(bytes);
      return Buffer.allocUnsafeSlow(bytes);
    };
    const copy = newCopy();
    await imageOf(copy, 8192, 8192 + headBytes + 1, { ring: { allocate } });
    expect(lengths).toEqual([blockSizeBytes, MIB, MIB]);
    expect(copy.blocksRead).toBe(32);
  });
});

describe('failures', () => {
  test('a block that changed below its checksum is refused with its place', async () => {
    const copy = newCopy();
    await imageOf(copy);
    const known = copy.kept.get(1);
    if (known !== undefined) known[3] = (known[3] ?? 0) ^ 1;
    const place = places[35] ?? 0;
    await expect(imageOf(copy)).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      details: { copyBlock: 35, sourceOffset: place * blockSizeBytes, length: blockSizeBytes },
    });
  });

  test('an error of the source ends the stream when no read is running any more', async () => {
    const copy = newCopy();
    let running = 0;
    const readBlocks = copy.readBlocks.bind(copy);
    copy.readBlocks = async (first, count, into) => {
      running += 1;
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      if (first === 4) throw new StorageError('DATA_UNREADABLE', 'rot');
      await readBlocks(first, count, into);
    };
    await expect(imageOf(copy)).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
    expect(running).toBe(0);
  });

  test('a consumer that stops early waits for the reads it leaves behind', async () => {
    const copy = newCopy();
    let running = 0;
    copy.readBlocks = async () => {
      running += 1;
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    };
    for await (const bytes of new ImageWriter(copy).read()) {
      if (bytes.length > 4096) break;
    }
    expect(running).toBe(0);
  });

  test('a consumer that stops is not kept by a head that waits for its blocks', async () => {
    const copy = newCopy();
    const { layout } = new ImageWriter(copy);
    let taken = 0;
    for await (const bytes of new ImageWriter(copy).read()) {
      taken += bytes.length;
      if (taken === layout.segmentOffset(1) - MIB) break; // some of its blocks are being read
    }
    expect(copy.blocksRead).toBeLessThan(64);
    expect(copy.kept.has(1)).toBe(false);
  });

  test('an unreadable block ends the stream before the head of its segment', async () => {
    const copy = newCopy();
    const { layout } = new ImageWriter(copy);
    const readBlocks = copy.readBlocks.bind(copy);
    copy.readBlocks = async (first, count, into) => {
      if (first > 40) throw new StorageError('DATA_UNREADABLE', 'rot');
      await readBlocks(first, count, into);
    };
    let taken = 0;
    const reading = async (): Promise<void> => {
      for await (const bytes of new ImageWriter(copy).read()) taken += bytes.length;
    };
    await expect(reading()).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
    expect(taken).toBe(layout.segmentOffset(1));
  });

  test('a cancelled stream ends with the reason of its signal', async () => {
    const stop = new AbortController();
    const copy = newCopy();
    const reason = new StorageError('SHUTTING_DOWN', 'bye');
    copy.readBlocks = () => {
      stop.abort(reason);
      return Promise.resolve();
    };
    const reading = imageOf(copy, undefined, undefined, { signal: stop.signal });
    await expect(reading).rejects.toBe(reason);
  });

  test('a pass for the trailer is cancelled between its segments', async () => {
    const stop = new AbortController();
    const copy = newCopy();
    const { trailerOffset } = new ImageWriter(copy).layout;
    copy.keepChecksums = () => {
      stop.abort();
      return Promise.resolve();
    };
    const reading = imageOf(copy, trailerOffset, undefined, { signal: stop.signal });
    await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(copy.blocksRead).toBe(32);
  });

  test('a source that gives places out of order is a bug', async () => {
    const copy = newCopy();
    copy.sourceBlocks = (_first, count) => Promise.resolve(new Float64Array(count));
    await expect(imageOf(copy)).rejects.toThrow('assertion failed');
  });
});
