import { expect, test } from 'vitest';
import { ImageReader } from '../../../src/image/reader.ts';
import { imageOf, MemoryBytes, MemoryCopy } from '../../support/image-source.ts';

async function roundTrip(copy: MemoryCopy): Promise<void> {
  const image = await imageOf(copy);
  const reader = await ImageReader.open(new MemoryBytes(image));
  expect(image).toHaveLength(reader.layout.imageBytes);
  expect(reader.facts).toEqual(copy.facts);
  await reader.checkComplete();
  const places: number[] = [];
  for await (const segment of reader.segments({ onDamage: 'fail' })) {
    expect(segment.firstBlock).toBe(places.length);
    segment.sourceBlocks.forEach((place, index) => {
      const at = index * copy.facts.blockSizeBytes;
      const block = segment.data.subarray(at, at + copy.facts.blockSizeBytes);
      expect(copy.data(places.length).equals(block)).toBe(true);
      places.push(place);
    });
    expect(segment.bad.size).toBe(0);
    expect(segment.damaged).toEqual([]);
  }
  expect(places).toEqual(copy.places);
}

test('an image of nothing is a header and a trailer', async () => {
  const copy = new MemoryCopy({ places: [] });
  expect(await imageOf(copy)).toHaveLength(8192);
  await roundTrip(copy);
});

test('an image of one block gives it back', async () => {
  await roundTrip(new MemoryCopy({ places: [5] }));
});

test.each([16, 32, 64, 128, 256, 512, 1024])(
  'an image with blocks of %i KiB and a short last segment gives all back',
  async (blockSizeKib) => {
    const blockSizeBytes = blockSizeKib * 1024;
    const perSegment = 8192 / blockSizeKib;
    const places = Array.from({ length: 2 * perSegment + 3 }, (_, x) => 3 * x + 1);
    await roundTrip(new MemoryCopy({ places, blockSizeBytes }));
  },
);
