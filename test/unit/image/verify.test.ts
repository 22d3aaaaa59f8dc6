import { expect, test } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { ImageFrame } from '../../../src/image/format.ts';
import { encodeHeader } from '../../../src/image/header.ts';
import { saltedCrc32 } from '../../../src/base/checksum.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { imageOf, MemoryBytes, MemoryCopy } from '../../support/image-source.ts';

const places = Array.from({ length: 70 }, (_, x) => 2 * x);
const copy = new MemoryCopy({ places, blockSizeBytes: 256 * 1024 });

test('a good image is proven, with progress up to its end', async () => {
  const image = await imageOf(copy);
  const progress: number[] = [];
  const result = await verifyImage(new MemoryBytes(image), {
    onProgress: (doneBytes, totalBytes) => {
      expect(totalBytes).toBe(image.length);
      progress.push(doneBytes);
    },
  });
  expect(result).toEqual({
    ok: true,
    blocks: 70,
    bytes: 70 * 256 * 1024,
    damaged: [],
    problems: [],
    problemCount: 0,
  });
  expect(progress).toHaveLength(4);
  expect(progress.at(-1)).toBe(image.length);
});

test('all problems of an image are found in one pass', async () => {
  const image = await imageOf(copy);
  const segment = 4096 + 8 * 1024 * 1024;
  for (const at of [4096, 8192 + 4096, 8192 + segment + 252, image.length - 1]) image[at] = 0xaa;
  const result = await verifyImage(new MemoryBytes(image));
  expect(result.problemCount).toBe(4);
  expect(result.blocks).toBe(31 + 6);
});

test('bytes that are no image are a result, not an error', async () => {
  const result = await verifyImage(new MemoryBytes(Buffer.alloc(10_000)));
  expect(result.ok).toBe(false);
  expect(result.problems).toMatchObject([{ code: 'IMAGE_INVALID' }]);
});

test('an image of a newer format cannot be judged', async () => {
  const header = encodeHeader(new ImageFrame(copy.facts));
  header.writeUInt32LE(2, 2056);
  header.writeUInt32LE(saltedCrc32('spindle image header', header.subarray(0, 4092)), 4092);
  const verifying = verifyImage(new MemoryBytes(header));
  await expect(verifying).rejects.toMatchObject({ code: 'IMAGE_UNSUPPORTED' });
});

test('a cancelled verification ends with its reason', async () => {
  const stop = new AbortController();
  const reason = new StorageError('CANCELLED', 'enough');
  const verifying = verifyImage(new MemoryBytes(await imageOf(copy)), {
    signal: stop.signal,
    onProgress: () => {
      stop.abort(reason);
    },
  });
  await expect(verifying).rejects.toBe(reason);
});
