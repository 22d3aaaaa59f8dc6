/**
 * The stand-alone restore program: Python's standard library and the format page are all it has.
 */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { verifyImage } from '../../../src/image/verify.ts';
import { goldenCopy, goldenDisk, goldenImage, goldenNames } from '../../support/golden-images.ts';
import { imageOf, MemoryBytes, MemoryCopy } from '../../support/image-source.ts';
import { restoreProgram } from '../../support/restore-program.ts';

const blockSize = 16384;
const { folder, run, runAll, put, restored } = restoreProgram();

describe.each(goldenNames)('%s', (name) => {
  test('is restored as the disk it was taken of', () => {
    const copy = goldenCopy(name);
    const { capacityBytes, blockSizeBytes } = copy.facts;
    expect(run(['restore', put('image', goldenImage(name)), 'disk.raw']).status).toBe(0);
    const { size, blocks } = statSync(join(folder(), 'disk.raw'));
    expect(size).toBe(capacityBytes);
    if (capacityBytes < 2 ** 30) {
      expect(restored().equals(goldenDisk(name))).toBe(true);
      return;
    }
    expect(blocks * 512).toBeLessThanOrEqual(copy.places.length * blockSizeBytes);
    const disk = openSync(join(folder(), 'disk.raw'), 'r');
    for (const [x, place] of copy.places.entries()) {
      const bytes = Buffer.alloc(blockSizeBytes);
      const length = readSync(disk, bytes, 0, blockSizeBytes, place * blockSizeBytes);
      const expected = copy.data(x).subarray(0, capacityBytes - place * blockSizeBytes);
      expect(bytes.subarray(0, length).equals(expected)).toBe(true);
    }
    closeSync(disk);
  });

  test('is restored head to end from standard input', () => {
    const copy = goldenCopy(name);
    const { status } = run(['restore', '--compact', '-', 'disk.raw'], goldenImage(name));
    expect(status).toBe(0);
    const blocks = copy.places.map((_, x) => copy.data(x));
    expect(restored().equals(Buffer.concat(blocks))).toBe(true);
  });

  test('is proven', () => {
    const { status, out } = run(['verify', '-'], goldenImage(name));
    expect(status).toBe(0);
    const count = goldenCopy(name).places.length;
    const blocks = count === 1 ? 'block is' : 'blocks are';
    expect(out).toBe(`${count} of ${count} ${blocks} good, 0 problems\n`);
  });
});

test('features that only forbid writing do not hinder a restore', () => {
  const image = put('image', goldenImage('image-v1-read-only-compatible'));
  expect(run(['restore', image, 'disk.raw']).status).toBe(0);
  expect(restored().equals(goldenDisk('image-v1-small'))).toBe(true);
});

test('info tells what the image is', () => {
  const { status, out } = run(['info', put('image', goldenImage('image-v1-small'))]);
  expect(status).toBe(0);
  expect(out).toContain('disk       web-01\n');
  expect(out).toContain('frozen at  2026-01-02T03:04:05.678Z, generation 7\n');
  expect(out).toContain('capacity   82432 bytes\n');
});

test('holes of the disk take no room', async () => {
  const far = new MemoryCopy({ places: [0, 2 ** 25], capacityBytes: 2 ** 40 });
  const image = put('image', await imageOf(far));
  expect(run(['restore', image, 'disk.raw']).status).toBe(0);
  const { size, blocks } = statSync(join(folder(), 'disk.raw'));
  expect(size).toBe(2 ** 40);
  expect(blocks * 512).toBeLessThan(2 ** 20);
});

describe('damage', () => {
  const firstBlock = 3 * 4096;
  function damaged(at: number): Buffer {
    const image = Buffer.from(goldenImage('image-v1-small'));
    image[at] = (image[at] ?? 0) ^ 1;
    return image;
  }

  test('stops a restore and leaves no file', () => {
    const { status, err } = run(['restore', put('image', damaged(firstBlock)), 'disk.raw']);
    expect(status).toBe(4);
    expect(err).toContain('1 block of segment 0 is damaged');
    expect(existsSync(join(folder(), 'disk.raw'))).toBe(false);
  });

  test('is skipped on demand, with the lost range and a status of its own', () => {
    const image = put('image', damaged(firstBlock + blockSize));
    const { status, out } = run(['restore', '--skip-damage', image, 'disk.raw']);
    expect(status).toBe(5);
    expect(out).toMatch(
      /^lost: offset 32768, 16384 bytes \(exact\)\n2 of 3 blocks are good, 1 problem\n$/,
    );
    const disk = goldenDisk('image-v1-small');
    disk.fill(0, 2 * blockSize, 3 * blockSize);
    expect(restored().equals(disk)).toBe(true);
  });

  test('of the trailer leaves the image incomplete', () => {
    const image = goldenImage('image-v1-small').subarray(0, -1);
    expect(run(['restore', put('image', image), 'disk.raw']).status).toBe(4);
    expect(run(['restore', '-', 'disk.raw'], image).status).toBe(4);
    expect(existsSync(join(folder(), 'disk.raw'))).toBe(false);
  });

  test('of the header is told apart from damage behind it', () => {
    expect(run(['restore', put('image', damaged(2100)), 'disk.raw']).status).toBe(3);
    expect(run(['verify', put('text', Buffer.alloc(9999, 'no image'))]).status).toBe(3);
  });

  test('bytes behind the image are refused', () => {
    const image = Buffer.concat([goldenImage('image-v1-small'), Buffer.alloc(1)]);
    expect(run(['restore', put('image', image), 'disk.raw']).status).toBe(3);
    expect(run(['verify', 'image']).status).toBe(3);
    expect(run(['verify', '-'], image).status).toBe(3);
    expect(run(['restore', '--skip-damage', '-', 'disk.raw'], image).status).toBe(5);
    expect(restored().equals(goldenDisk('image-v1-small'))).toBe(true);
  });

  test('of a head is made good', () => {
    const heads = [8192 + 40, 8192 + 256, 8192 + 256 + 8];
    for (const [index, at] of heads.entries()) {
      const image = put(`image${index}`, damaged(at));
      const { status, out } = run(['restore', '--skip-damage', image, `disk${index}.raw`]);
      expect(status).toBe(5);
      expect(out).toBe('3 of 3 blocks are good, 1 problem\n');
      expect(restored(`disk${index}.raw`).equals(goldenDisk('image-v1-small'))).toBe(true);
    }
  });
});

test('an existing file is kept unless it may be replaced', () => {
  const image = put('image', goldenImage('image-v1-small'));
  put('disk.raw', Buffer.from('precious'));
  expect(run(['restore', image, 'disk.raw']).status).toBe(1);
  expect(restored().toString()).toBe('precious');
  expect(run(['restore', '--force', image, 'disk.raw']).status).toBe(0);
  expect(restored().equals(goldenDisk('image-v1-small'))).toBe(true);
});

test('wrong usage and missing files have their own status', () => {
  expect(run(['restore', 'one']).status).toBe(2);
  expect(run(['restore', '--compact', 'one', 'two', 'three']).status).toBe(2);
  expect(run(['verify', 'nowhere']).status).toBe(1);
  expect(run(['--help']).out).toContain('Exit status:');
});

describe('spoilt images', () => {
  const copy = new MemoryCopy({ places: [1, 2, 5, 9, 10] });

  async function spoiltImages(): Promise<Buffer[]> {
    const good = await imageOf(copy);
    const images: Buffer[] = Array.from({ length: 120 }, (_, index) => {
      const image = Buffer.from(good);
      const at = (index * 7919 * 13) % image.length;
      const structure = 4096 * (index % 3);
      if (index % 5 === 0) image.writeUInt8(image.readUInt8(at) ^ (1 << (index % 8)), at);
      if (index % 5 === 1) image.fill(index, at, Math.min(at + 6000, image.length));
      if (index % 5 === 2) return image.subarray(0, at);
      if (index % 5 === 3) image.writeUInt8(image.readUInt8(structure) ^ 1, structure);
      if (index % 5 === 4) return Buffer.concat([image.subarray(0, at), image.subarray(at / 2)]);
      return image;
    });
    return [...images, good];
  }

  test('get the same verdict and losses as from verify', async () => {
    const images = await spoiltImages();
    const verdicts = runAll(images.map((image, index) => `verify ${put(`image${index}`, image)}`));
    for (const [index, image] of images.entries()) {
      const { status, lost } = verdicts[index] ?? { status: NaN, lost: [] };
      const result = await verifyImage(new MemoryBytes(image));
      expect(status === 0, `image ${index}`).toBe(result.ok);
      if (status !== 3 && image.length >= 4096) expect(lost).toEqual(result.damaged);
    }
  });

  test('are salvaged without a wrong byte outside of the lost ranges', async () => {
    const images = await spoiltImages();
    const verdicts = runAll(
      images.map((image, index) => {
        const name = put(`image${index}`, image);
        return `restore --salvage ${name} disk${index}.raw`;
      }),
    );
    const disk = Buffer.alloc(copy.facts.capacityBytes);
    for (const [x, place] of copy.places.entries()) copy.data(x).copy(disk, place * blockSize);
    for (const [index, { status, lost }] of verdicts.entries()) {
      expect([0, 3, 5], `image ${index}`).toContain(status);
      expect(existsSync(join(folder(), `disk${index}.raw`))).toBe(status !== 3);
      if (status === 3) continue;
      const salvaged = restored(`disk${index}.raw`);
      for (let at = 0; at < disk.length; at += blockSize) {
        const block = salvaged.subarray(at, at + blockSize);
        const isRight = block.equals(disk.subarray(at, at + blockSize));
        const isLost = lost.some(
          (range) => range.sourceOffset <= at && at < range.sourceOffset + range.length,
        );
        expect(isRight || isLost, `image ${index} at ${at}`).toBe(true);
      }
    }
  });
});
