/**
 * Salvage by the stand-alone program: images without their header, and pieces. The hardest case is
 * a disk that holds images itself: such an image must never be restored as if it were the copy.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ImageFrame } from '../../../src/image/format.ts';
import { goldenCopy, goldenDisk, goldenImage } from '../../support/golden-images.ts';
import { imageOf, MemoryCopy } from '../../support/image-source.ts';
import { restoreProgram } from '../../support/restore-program.ts';

const blockSize = 16384;
const { folder, run, put, restored } = restoreProgram();

describe('salvage', () => {
  const name = 'image-v1-two-segments';
  const image = goldenImage(name);
  const disk = goldenDisk(name);
  const { layout } = new ImageFrame(goldenCopy(name).facts);

  test('puts pieces cut anywhere together again, in any order', () => {
    const cuts = [0, 5000, 3_000_001, layout.segmentOffset(1) + 100, image.length];
    const pieces = cuts.slice(1).map((end, index) => {
      const start = cuts[index] ?? 0;
      const file = put(`piece${index}`, image.subarray(start, end));
      return start === 3_000_001 ? `${file}@${start}` : file;
    });
    const { status, out } = run(['restore', '--salvage', ...pieces.reverse(), 'disk.raw']);
    expect(out).toBe('515 of 515 blocks are good, 0 problems\n');
    expect(status).toBe(0);
    expect(restored().equals(disk)).toBe(true);
  });

  test('restores what a piece without the head holds, and names the rest', () => {
    const piece = put('piece', image.subarray(layout.segmentOffset(1)));
    const { status, out } = run(['restore', '--salvage', piece, 'disk.raw']);
    expect(status).toBe(5);
    expect(out).toBe(
      `lost: offset 0, ${517 * blockSize} bytes (within)\n3 of 515 blocks are good, 2 problems\n`,
    );
    const expected = Buffer.from(disk);
    expected.fill(0, 0, 517 * blockSize);
    expect(restored().equals(expected)).toBe(true);
  });

  test('finds segments behind bytes that were lost or put in', () => {
    const cut = layout.segmentOffset(0) + 100 * blockSize + 77;
    const shifted = Buffer.concat([
      image.subarray(0, cut),
      Buffer.alloc(12_345, 'x'),
      image.subarray(cut + 20 * blockSize),
    ]);
    const { status, out } = run(['restore', '--salvage', put('image', shifted), 'disk.raw']);
    expect(status).toBe(5);
    const lostFrom = 99 * blockSize; // the head takes half a block: the cut is in X = 99
    const first = `offset ${lostFrom}, ${blockSize} bytes (exact)`;
    const rest = `offset ${101 * blockSize}, ${20 * blockSize} bytes (exact)`;
    expect(out).toBe(`lost: ${first}\nlost: ${rest}\n494 of 515 blocks are good, 1 problem\n`);
    const expected = Buffer.from(disk);
    expected.fill(0, lostFrom, lostFrom + 22 * blockSize);
    expect(restored().equals(expected)).toBe(true);
  });
});

describe('an image on the disk', () => {
  const inner = goldenImage('image-v1-small');
  const innerId = new ImageFrame(goldenCopy('image-v1-small').facts).imageId;
  /** Where on the disk, in bytes. */
  const innerAt = 2 * blockSize;

  /** An outer disk that holds the bytes from block 2 on; its other blocks are noise. */
  function outerOf(bytes: Buffer, shift = 0): MemoryCopy {
    const held = Buffer.concat([Buffer.alloc(shift, 'shift'), bytes]);
    const blocks = Math.ceil(held.length / blockSize);
    const padded = Buffer.concat([held], blocks * blockSize);
    const outer = new MemoryCopy({
      places: [0, ...Array.from({ length: blocks }, (_, index) => 2 + index), blocks + 4],
      copyId: '0193e4c4-0000-7000-8000-0000000000ee',
      block: (place, size) => {
        const isHeld = place >= 2 && place < 2 + blocks;
        const from = (place - 2) * size;
        return isHeld ? padded.subarray(from, from + size) : Buffer.alloc(size, place + 65);
      },
    });
    return outer;
  }

  interface Outer {
    readonly image: Buffer;
    readonly id: string;
    /** Start of the first segment and of its blocks, and of the trailer. */
    readonly head: number;
    readonly blocks: number;
    readonly trailer: number;
    readonly disk: Buffer;
  }

  async function make(shift = 0, bytes = inner): Promise<Outer> {
    const copy = outerOf(bytes, shift);
    const { layout, imageId } = new ImageFrame(copy.facts);
    const disk = Buffer.alloc(copy.facts.capacityBytes);
    for (const [x, place] of copy.places.entries()) copy.data(x).copy(disk, place * blockSize);
    const head = layout.segmentOffset(0);
    const blocks = head + layout.segmentHeadBytes(0);
    const trailer = layout.trailerOffset;
    return { image: await imageOf(copy), id: imageId, head, blocks, trailer, disk };
  }

  function spoil(image: Buffer, ...places: (number | [number, number])[]): Buffer {
    const spoilt = Buffer.from(image);
    for (const place of places) {
      if (typeof place === 'number') spoilt[place] = (spoilt[place] ?? 0) ^ 1;
      else spoilt.fill(0, place[0], place[1]);
    }
    return spoilt;
  }

  function expectRefused(...parts: string[]): void {
    const { status, err } = run(['restore', '--salvage', ...parts, 'disk.raw']);
    expect(status, err).toBe(3);
    expect(err).toContain('--image-id');
    expect(err).toContain(innerId);
    expect(existsSync(join(folder(), 'disk.raw'))).toBe(false);
  }

  const shifts = [0, 512, 4096, 12_288];

  test.each(shifts)('(%i) is not taken for one whose header is lost', async (shift) => {
    const { image, disk } = await make(shift);
    const whole = put('whole', spoil(image, 2100));
    expect(run(['restore', '--salvage', whole, 'disk.raw']).status).toBe(0);
    expect(restored().equals(disk)).toBe(true);
  });

  test.each(shifts)('(%i) is not taken for one whose header and head are lost', async (shift) => {
    const { image, head, blocks, trailer } = await make(shift);
    const end: [number, number] = [trailer, trailer + 4096];
    const ways = [
      [2100, head + 252],
      [2100, [head, blocks]],
      [[0, 4096], [head, blocks], end],
      [[0, blocks], 1],
      [[0, blocks], end],
    ] as const;
    for (const [index, way] of ways.entries()) {
      const spoilt = spoil(image, ...way.map((place) => place as number | [number, number]));
      expectRefused(put(`whole${index}`, spoilt));
      expectRefused(put(`piece${index}`, spoilt.subarray(head)));
      expectRefused(put(`odd${index}`, spoilt.subarray(head - 999, trailer)));
    }
  });

  test('is left alone where the block around it is damaged', async () => {
    const { image, blocks, disk } = await make(512);
    const inHeader = blocks + blockSize + 512 + 100;
    const { status, out } = run([
      'restore',
      '--salvage',
      put('whole', spoil(image, 1, inHeader)),
      'disk.raw',
    ]);
    expect(out).toBe(
      `lost: offset ${innerAt}, ${blockSize} bytes (exact)\n6 of 7 blocks are good, 1 problem\n`,
    );
    expect(status).toBe(5);
    disk.fill(0, innerAt, innerAt + blockSize);
    expect(restored().equals(disk)).toBe(true);
  });

  test('that begins just where a piece begins is not taken for the image', async () => {
    const { image, blocks } = await make();
    expectRefused(put('piece', image.subarray(blocks + blockSize)));
  });

  test('that is larger than a segment is found by what is left of the head in it', async () => {
    const places = Array.from({ length: 1100 }, (_, x) => x);
    const large = await imageOf(new MemoryCopy({ places }));
    const { image, head } = await make(0, large);
    const from = head + 8192 + blockSize + 4096;
    const second = head + 8192 + 8 * 1024 * 1024;
    const spoilt = spoil(image, second + 252);
    expectRefused(put('piece', spoilt.subarray(from, second + 30_000)));
  });

  test('that is larger than a segment is found by the gap in it', async () => {
    const places = Array.from({ length: 1100 }, (_, x) => x);
    const large = await imageOf(new MemoryCopy({ places }));
    const { image, head } = await make(0, large);
    const from = head + 8192 + blockSize + 4096;
    const second = head + 8192 + 8 * 1024 * 1024;
    const spoilt = spoil(image, [second, second + 8192]);
    expectRefused(put('piece', spoilt.subarray(from, second + 8 * 1024 * 1024)));
  });

  test('is refused beside a piece of the outer one, and either is restored on demand', async () => {
    const { image, id, blocks, disk } = await make();
    const parts = [put('whole', image), put('headless', image.subarray(blocks))];
    expectRefused(...parts);
    const chosen = ['restore', '--salvage', '--image-id'];
    expect(run([...chosen, id, ...parts, 'outer.raw']).status).toBe(0);
    expect(restored('outer.raw').equals(disk)).toBe(true);
    expect(run([...chosen, innerId, ...parts, 'inner.raw']).status).toBe(0);
    expect(restored('inner.raw').equals(goldenDisk('image-v1-small'))).toBe(true);
    expect(run([...chosen, id.replace('-8', '-9'), ...parts, 'none.raw']).status).toBe(3);
  });
});
