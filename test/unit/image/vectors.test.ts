/**
 * Golden images: today's writer gives the same bytes as the one that first wrote version 1, and
 * today's readers restore what it wrote.
 */
import { describe, expect, test } from 'vitest';
import { verifyImage } from '../../../src/image/verify.ts';
import { goldenCopy, goldenImage, goldenNames } from '../../support/golden-images.ts';
import { imageOf, MemoryBytes, readImage, readStream } from '../../support/image-source.ts';

describe.each(goldenNames)('%s', (name) => {
  const copy = goldenCopy(name);
  const golden = goldenImage(name);

  test('is written today byte for byte', async () => {
    expect((await imageOf(copy)).equals(golden)).toBe(true);
  });

  test('is proven today', async () => {
    expect(await verifyImage(new MemoryBytes(golden))).toMatchObject({ ok: true, problems: [] });
  });

  test('gives its blocks today', async () => {
    const reads = [await readImage(new MemoryBytes(golden), 'fail'), readStream(golden, 'fail')];
    for (const { blocks } of reads) {
      expect([...blocks.keys()]).toEqual(copy.places);
      copy.places.forEach((place, x) => {
        expect(blocks.get(place)?.equals(copy.data(x))).toBe(true);
      });
    }
  });
});
