/**
 * Chains of images with the stand-alone restore program: a full image and incremental ones on it.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ImageFrame } from '../../../src/image/format.ts';
import { blockSizeBytes, diskOf, ModelDisk, sourceOf, uuidOf } from '../../support/chain-model.ts';
import type { ModelCopy } from '../../support/chain-model.ts';
import { chainDisk, goldenChains, goldenCopy, goldenImage } from '../../support/golden-images.ts';
import { imageOf } from '../../support/image-source.ts';
import { restoreProgram } from '../../support/restore-program.ts';

const { folder, run, runAll, put, restored } = restoreProgram();
const small = 'image-v1-small';
const incremental = 'image-v1-incremental';
const untouched = 'image-v1-incremental-untouched';

test.each(goldenChains)('golden images %s … are restored in any order', (...names) => {
  const files = names.map((name) => put(name, goldenImage(name)));
  for (const [index, order] of [files, [...files].reverse()].entries()) {
    const { status, out } = run(['restore', ...order, `disk${index}.raw`]);
    expect(status).toBe(0);
    expect(out).toMatch(new RegExp(`good in ${names.length} images, 0 problems\\n$`));
    expect(restored(`disk${index}.raw`).equals(chainDisk(names))).toBe(true);
  }
});

test('info tells the base', () => {
  const { out } = run(['info', put('image', goldenImage(incremental))]);
  expect(out).toContain(`base id    ${goldenCopy(small).facts.copyId}, generation 7\n`);
});

describe('an image whose base is missing', () => {
  test.each([[[incremental]], [[incremental, untouched]], [[small, untouched]]] as const)(
    'is refused with its name: %s',
    (names) => {
      const files = names.map((name) => put(name, goldenImage(name)));
      const { status, err } = run(['restore', '--skip-damage', ...files, 'disk.raw']);
      expect(status).toBe(3);
      const wanted = names.includes(small as never) ? incremental : small;
      const { copyId, generation } = goldenCopy(wanted).facts;
      expect(err).toContain(`BASE_MISSING`);
      expect(err).toContain(`its base, copy ${copyId}, generation ${generation}\n`);
      expect(existsSync(join(folder(), 'disk.raw'))).toBe(false);
    },
  );

  test('is refused from standard input, too', () => {
    expect(run(['restore', '-', 'disk.raw'], goldenImage(incremental)).status).toBe(3);
    expect(run(['verify', '-'], goldenImage(incremental)).status).toBe(0);
  });
});

test('images that are no chain are refused', () => {
  const [full, other, one] = [small, 'image-v1-64-kib', incremental].map((name) =>
    put(name, goldenImage(name as typeof small)),
  ) as [string, string, string];
  for (const files of [
    [full, other],
    [full, full],
    [full, one, other],
    [full, one, one],
  ]) {
    const { status, err } = run(['restore', ...files, 'disk.raw']);
    expect(status).toBe(3);
    expect(err).toContain('IMAGE_INVALID');
  }
  expect(run(['restore', '--compact', full, one, 'disk.raw']).status).toBe(2);
  expect(run(['restore', full, '-', 'disk.raw'], goldenImage(incremental)).status).toBe(2);
  expect(existsSync(join(folder(), 'disk.raw'))).toBe(false);
});

/** A disk that was written, discarded, shrunk and grown between its copies. */
function fourCopies(): readonly ModelCopy[] {
  const disk = new ModelDisk(30);
  disk.write(0, 20, 1);
  disk.write(25, 5, 2);
  disk.freeze();
  disk.write(3, 4, 3);
  disk.discard(10, 3);
  disk.resize(16);
  disk.freeze();
  disk.resize(40);
  disk.write(35, 2, 4);
  disk.discard(0, 2);
  disk.freeze();
  disk.write(4, 1, 5);
  disk.write(11, 1, 6);
  disk.discard(5, 1);
  disk.freeze();
  return disk.copies;
}

async function imagesOf(copies: readonly ModelCopy[]): Promise<Buffer[]> {
  const images: Buffer[] = [];
  for (const [index, copy] of copies.entries()) {
    images.push(await imageOf(sourceOf(copy, copies[index - 1])));
  }
  return images;
}

test('any member is restored, and holes take no room', async () => {
  const copies = fourCopies();
  const files = (await imagesOf(copies)).map((image, index) => put(`image${index}`, image));
  for (const [index, copy] of copies.entries()) {
    expect(run(['restore', ...files.slice(0, index + 1), `disk${index}`]).status).toBe(0);
    expect(restored(`disk${index}`).equals(diskOf(copy))).toBe(true);
    const { blocks } = statSync(join(folder(), `disk${index}`));
    expect(blocks * 512).toBeLessThanOrEqual(30 * blockSizeBytes);
  }
});

describe('damage', () => {
  const copies = fourCopies();
  const newest = copies.at(-1) ?? expect.fail('no copy');
  const { layout } = new ImageFrame(sourceOf(newest, copies.at(-2)).facts);

  test('stops a restore and leaves no file', async () => {
    const images = await imagesOf(copies);
    images[3]!.fill(1, layout.trailerOffset - 5);
    const files = images.map((image, index) => put(`image${index}`, image));
    expect(run(['restore', ...files, 'disk.raw']).status).toBe(4);
    expect(existsSync(join(folder(), 'disk.raw'))).toBe(false);
  });

  test('to a block of the newest image loses it; no older one comes instead', async () => {
    const images = await imagesOf(copies);
    const data = layout.segmentOffset(0) + layout.segmentHeadBytes(0);
    images[3]![data] = 0; // block 4
    const files = images.map((image, index) => put(`image${index}`, image));
    const { status, out } = run(['restore', '--skip-damage', ...files, 'disk.raw']);
    expect(status).toBe(5);
    const start = 4 * blockSizeBytes;
    expect(out).toContain(`lost: offset ${start}, ${blockSizeBytes} bytes (exact)\n`);
    expect(out).toMatch(/ in 4 images, 1 problem\n$/);
    const disk = diskOf(newest);
    disk.fill(0, start, start + blockSizeBytes);
    expect(restored().equals(disk)).toBe(true);
  });

  test('to blocks that newer images decide about costs nothing', async () => {
    const images = await imagesOf(copies);
    const base = new ImageFrame(sourceOf(copies[0]!).facts).layout;
    const data = base.segmentOffset(0) + base.segmentHeadBytes(0);
    // written anew, discarded, cut off with the end of the disk
    for (const block of [4, 11, 22]) images[0]![data + block * blockSizeBytes] = 0;
    const files = images.map((image, index) => put(`image${index}`, image));
    const { status, out } = run(['restore', '--skip-damage', ...files, 'disk.raw']);
    expect(status).toBe(5);
    expect(out).not.toContain('lost');
    expect(restored().equals(diskOf(newest))).toBe(true);
  });

  test('of any kind never brings back an older block, and no loss is hidden', async () => {
    const images = await imagesOf(copies);
    const spoilt = Array.from({ length: 160 }, (_, index) => {
      const member = index % 4;
      const image = Buffer.from(images[member] ?? Buffer.alloc(0));
      // mostly in the structures before the data
      const span = index % 3 === 0 ? image.length - 4096 : 4 * 4096;
      const at = Math.min(image.length - 1, 4096 + ((index * 7919) % span));
      if (index % 5 === 0) return { member, image: image.subarray(0, at) };
      if (index % 5 === 1) image.fill(index, at, Math.min(at + 5000, image.length));
      else image.writeUInt8(image.readUInt8(at) ^ (1 << (index % 8)), at);
      return { member, image };
    });
    const lines = spoilt.map(({ member, image }, index) => {
      const files = images.map((good, which) =>
        put(`i${index}-${which}`, which === member ? image : good),
      );
      return `restore --skip-damage ${files.join(' ')} disk${index}.raw`;
    });
    const disk = diskOf(newest);
    for (const [index, { status, lost }] of runAll(lines).entries()) {
      expect([0, 5], `image ${index}`).toContain(status);
      const given = restored(`disk${index}.raw`);
      for (let at = 0; at < disk.length; at += blockSizeBytes) {
        const block = given.subarray(at, at + blockSizeBytes);
        const isRight = block.equals(disk.subarray(at, at + blockSizeBytes));
        const isZero = block.every((byte) => byte === 0);
        const isLost = lost.some(
          (range) => range.sourceOffset <= at && at < range.sourceOffset + range.length,
        );
        expect(isRight || (isLost && isZero), `image ${index} at ${at}`).toBe(true);
      }
    }
  });
});

test('pieces of an incremental image are salvaged with whole images of its bases', async () => {
  const copies = fourCopies();
  const images = await imagesOf(copies);
  const bases = images.slice(0, 3).flatMap((image, index) => ['--base', put(`b${index}`, image)]);
  const last = images[3] ?? expect.fail('no image');
  const pieces = [last.subarray(5000, 20_000), last.subarray(20_000)].map((piece, index) =>
    put(`piece${index}`, piece),
  );
  const args = [...bases, `${pieces[1] ?? ''}@20000`, pieces[0] ?? '', 'disk.raw'];
  const { status, err } = run(['restore', '--salvage', ...args]);
  expect(status, err).toBe(5); // its table is cut
  expect(restored().equals(diskOf(copies[3]!))).toBe(true);
  const alone = run(['restore', '--salvage', pieces[0] ?? '', 'other.raw']);
  expect(alone.status).toBe(3);
  expect(alone.err).toContain(`BASE_MISSING: the image of copy ${uuidOf(4)} needs`);
});
