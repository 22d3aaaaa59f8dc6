import { describe, expect, test } from 'vitest';
import { ImageStreamReader } from '../../../src/image/stream-reader.ts';
import type { ImageEvent, ImageStreamState } from '../../../src/image/stream-reader.ts';
import { codeOf, imageOf, MemoryCopy, readStream } from '../../support/image-source.ts';

const places = Array.from({ length: 70 }, (_, x) => 2 * x);
const copy = new MemoryCopy({ places, blockSizeBytes: 256 * 1024 });

function kindsOf(events: Iterable<ImageEvent>): string[] {
  const kinds: string[] = [];
  for (const event of events) kinds.push(event.kind);
  return kinds;
}

describe('a stream', () => {
  test.each([[1e9], [4096], [4095, 3], [1, 100_000], [8 * 1024 * 1024 + 1]])(
    'in pieces of %i bytes gives every block once',
    async (...lengths) => {
      const read = readStream(await imageOf(copy), 'fail', lengths);
      expect([...read.blocks.keys()]).toEqual(places);
      places.forEach((place, x) => {
        expect(read.blocks.get(place)?.equals(copy.data(x))).toBe(true);
      });
    },
  );

  test('gives the header once, the segments in order, then the end', async () => {
    const reader = new ImageStreamReader();
    const kinds = kindsOf(reader.push(await imageOf(copy)));
    expect(kinds).toEqual(['header', 'segment', 'segment', 'segment', 'end']);
    expect(kindsOf(reader.finish())).toEqual([]);
  });

  test('of nothing has a header and an end', async () => {
    const reader = new ImageStreamReader();
    const kinds = kindsOf(reader.push(await imageOf(new MemoryCopy({ places: [] }))));
    expect(kinds).toEqual(['header', 'end']);
  });

  test('gives the facts of the copy', async () => {
    const reader = new ImageStreamReader();
    const [header] = reader.push((await imageOf(copy)).subarray(0, 4096));
    expect(header).toMatchObject({ kind: 'header', facts: copy.facts });
  });
});

describe('an interrupted stream', () => {
  test('goes on at the last whole segment, with a reader made from plain JSON', async () => {
    const image = await imageOf(copy);
    const first = new ImageStreamReader();
    kindsOf(first.push(image.subarray(0, 10_000_000)));
    const at = first.confirmedBytes;
    expect(at).toBe(8192 + 4096 + 8 * 1024 * 1024);
    const state = JSON.parse(JSON.stringify(first.state)) as ImageStreamState;
    const second = ImageStreamReader.resume(state);
    expect(second.confirmedBytes).toBe(at);
    expect(kindsOf(second.push(image.subarray(at)))).toEqual(['segment', 'segment', 'end']);
  });

  test('begins again if not even the table was complete', async () => {
    const image = await imageOf(copy);
    const reader = new ImageStreamReader();
    expect(reader.confirmedBytes).toBe(0);
    kindsOf(reader.push(image.subarray(0, 8191)));
    expect(reader.confirmedBytes).toBe(0);
    expect(reader.state).toBeUndefined();
    kindsOf(reader.push(image.subarray(8191, 8192)));
    expect(reader.confirmedBytes).toBe(8192);
  });

  test('goes on at the trailer', async () => {
    const image = await imageOf(copy);
    const first = new ImageStreamReader();
    kindsOf(first.push(image.subarray(0, image.length - 100)));
    expect(first.confirmedBytes).toBe(image.length - 4096);
    const { state } = first;
    if (state === undefined) throw new Error('no state');
    const second = ImageStreamReader.resume(state);
    expect(kindsOf(second.push(image.subarray(-4096)))).toEqual(['end']);
    expect(second.confirmedBytes).toBe(image.length);
  });

  test('that goes on with another image is refused', async () => {
    const image = await imageOf(copy);
    const other = new MemoryCopy({ places, blockSizeBytes: 256 * 1024, block: otherBlock });
    const first = new ImageStreamReader();
    kindsOf(first.push(image.subarray(0, 10_000_000)));
    const { state, confirmedBytes } = first;
    if (state === undefined) throw new Error('no state');
    const second = ImageStreamReader.resume(state);
    const rest = (await imageOf(other)).subarray(confirmedBytes);
    expect(await codeOf(() => kindsOf(second.push(rest)))).toBe('IMAGE_INVALID');
  });

  test('is not confirmed while the consumer still holds the segment', async () => {
    const reader = new ImageStreamReader();
    for (const event of reader.push(await imageOf(copy))) {
      if (event.kind !== 'segment') continue;
      const whole = 4096 + 8 * 1024 * 1024;
      expect(reader.confirmedBytes).toBe(8192 + event.segment.segment * whole);
    }
  });
});

function otherBlock(place: number, blockSizeBytes: number): Buffer {
  return Buffer.alloc(blockSizeBytes, place + 1);
}
