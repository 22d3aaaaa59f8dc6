/**
 * Golden images: today's writer gives the same bytes as the one that first wrote version 1, and
 * today's readers restore what it wrote.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { verifyImage } from '../../../src/image/verify.ts';
import { goldenCopy, goldenImage, goldenNames } from '../../support/golden-images.ts';
import { incrementalNames, readableNames } from '../../support/golden-images.ts';
import { imageOf, MemoryBytes, readImage, readStream } from '../../support/image-source.ts';

const names = [...goldenNames, ...incrementalNames];

describe.each(names)('%s', (name) => {
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

test('each golden image is of a copy of its own', () => {
  const ids = names.map((name) => goldenCopy(name).facts.copyId);
  expect(new Set(ids).size).toBe(names.length);
});

test('features that only forbid writing do not hinder reading', async () => {
  for (const [name, plain] of Object.entries(readableNames)) {
    const image = goldenImage(name as keyof typeof readableNames);
    expect(await verifyImage(new MemoryBytes(image))).toMatchObject({ ok: true });
    const read = readStream(image, 'fail');
    expect([...read.blocks]).toEqual([...readStream(goldenImage(plain), 'fail').blocks]);
  }
});

test('the worked examples of the format page show the bytes of their images', () => {
  const docs = join(import.meta.dirname, '..', '..', '..', 'docs', 'format', 'image.md');
  const pages = readFileSync(docs, 'utf8').split('## Worked example of an incremental image');
  for (const [index, name] of (['image-v1-small', 'image-v1-incremental'] as const).entries()) {
    const page = pages[index] ?? '';
    const image = goldenImage(name);
    const lines = [...page.matchAll(/^([0-9a-f]{8}): ((?:[0-9a-f]{4} ){8})/gm)];
    expect(lines.length).toBeGreaterThan(30);
    for (const [, offset = '', hex = ''] of lines) {
      const at = Number.parseInt(offset, 16);
      expect(image.subarray(at, at + 16).toString('hex'), offset).toBe(hex.replaceAll(' ', ''));
    }
    expect(page).toContain(image.toString('utf8', 0, 2048).trimEnd());
  }
});
