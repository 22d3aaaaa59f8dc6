/**
 * Laws of the image: decoding undoes encoding, every part equals that part of the whole, and no
 * bytes whatever make a reader crash, hang, or give a block that is not proven.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { ImageStreamReader } from '../../src/image/stream-reader.ts';
import type { ImageStreamState } from '../../src/image/stream-reader.ts';
import { verifyImage } from '../../src/image/verify.ts';
import {
  codeOf,
  diskId,
  imageOf,
  MemoryBytes,
  MemoryCopy,
  readImage,
  readStream,
} from '../support/image-source.ts';

/** A block that is cheap to make; every third one is zeros. */
function fastBlock(place: number, blockSizeBytes: number): Buffer {
  return Buffer.alloc(blockSizeBytes, place % 3 === 0 ? 0 : `block ${place} `);
}

const copies = fc
  .record({
    power: fc.constantFrom(14, 14, 14, 16, 18, 20),
    gaps: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 24 }),
    tail: fc.integer({ min: 1, max: 40 }),
    farAway: fc.boolean(),
    isIncremental: fc.boolean(),
    diskName: fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,62}$/),
  })
  .map(({ power, gaps, tail, farAway, isIncremental, diskName }) => {
    const blockSizeBytes = 2 ** power;
    let place = farAway ? 2 ** 52 / blockSizeBytes : 0;
    const places = gaps.map((gap) => {
      place += gap + 1;
      return place - 1;
    });
    const capacityBytes = ((places.at(-1) ?? 0) + 1) * blockSizeBytes - tail * 512 + 40 * 512;
    const size = { places, blockSizeBytes, capacityBytes: Math.max(512, capacityBytes) };
    const base = { copyId: diskId, generation: 6 };
    const holes = places.map((found, x) => [found - (gaps[x] ?? 0), gaps[x] ?? 0] as const);
    const zeroRanges = holes.filter(([, blocks]) => blocks > 0);
    const difference = isIncremental ? { base, zeroRanges } : {};
    return new MemoryCopy({ ...size, ...difference, diskName, block: fastBlock });
  });

function expectAll(copy: MemoryCopy, blocks: Map<number, Buffer>): void {
  expect([...blocks.keys()]).toEqual(copy.places);
  copy.places.forEach((place, x) => {
    expect(blocks.get(place)?.equals(copy.data(x))).toBe(true);
  });
}

test('decoding undoes encoding, by random access and as a stream', async () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(copies, lengths, async (copy, pieces) => {
      const image = await imageOf(copy);
      const bytes = new MemoryBytes(image);
      expectAll(copy, (await readImage(bytes, 'fail')).blocks);
      const large = pieces.map((length) => length + Math.floor(image.length / 1000));
      expectAll(copy, readStream(image, 'fail', large).blocks);
      const result = await verifyImage(bytes);
      expect(result).toMatchObject({ ok: true, blocks: copy.places.length });
    }),
    { numRuns: 60 },
  );
});

test('every part of an image equals that part of the whole, whatever is known', async () => {
  const cut = fc.double({ min: 0, max: 1, noNaN: true });
  const part = fc.record({ from: cut, to: cut });
  await fc.assert(
    fc.asyncProperty(copies, fc.array(part, { maxLength: 6 }), async (copy, parts) => {
      const image = await imageOf(copy);
      copy.kept.clear();
      for (const { from, to } of parts) {
        const cuts = [from, to].map((share) => Math.floor(share * image.length));
        const [low = 0, high = 0] = cuts.sort((a, b) => a - b);
        const bytes = await imageOf(copy, low, high);
        expect(bytes.equals(image.subarray(low, high))).toBe(true);
      }
    }),
    { numRuns: 60 },
  );
});

test('a stream interrupted anywhere goes on where it is confirmed', async () => {
  const stops = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(copies, stops, async (copy, shares) => {
      const image = await imageOf(copy);
      let reader = new ImageStreamReader();
      const blocks = new Map<number, Buffer>();
      for (const share of [...shares.sort((a, b) => a - b), 1]) {
        const start = reader.confirmedBytes;
        const state = JSON.parse(JSON.stringify(reader.state ?? null)) as ImageStreamState | null;
        reader = state === null ? new ImageStreamReader() : ImageStreamReader.resume(state);
        const end = Math.max(start, Math.floor(share * image.length));
        for (const event of reader.push(image.subarray(start, end))) {
          if (event.kind !== 'segment') continue;
          event.segment.sourceBlocks.forEach((place, index) => {
            const at = index * copy.facts.blockSizeBytes;
            const bytes = event.segment.data.subarray(at, at + copy.facts.blockSizeBytes);
            blocks.set(place, Buffer.from(bytes));
          });
        }
        if (reader.confirmedBytes === image.length) break;
      }
      expect(reader.confirmedBytes).toBe(image.length);
      expectAll(copy, blocks);
    }),
    { numRuns: 60 },
  );
});

/** Ways to spoil an image: flip bits, overwrite, cut out, put in. */
const spoiling = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), bit: fc.nat(7) }),
  fc.record({
    kind: fc.constant('overwrite' as const),
    at: fc.nat(),
    bytes: fc.uint8Array({ maxLength: 5000 }),
  }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), length: fc.nat(20_000) }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), length: fc.nat(20_000) }),
);
type Spoiling = typeof spoiling extends fc.Arbitrary<infer T> ? T : never;

function spoil(image: Buffer, how: Spoiling): Buffer {
  const spoilt = Buffer.from(image);
  if (spoilt.length === 0) return spoilt;
  const at = how.at % spoilt.length;
  if (how.kind === 'flip') spoilt[at] = (spoilt[at] ?? 0) ^ (1 << how.bit);
  if (how.kind === 'overwrite') spoilt.set(how.bytes.subarray(0, spoilt.length - at), at);
  if (how.kind === 'cut') {
    return Buffer.concat([spoilt.subarray(0, at), spoilt.subarray(at + how.length)]);
  }
  if (how.kind === 'insert') {
    return Buffer.concat([
      spoilt.subarray(0, at),
      Buffer.alloc(how.length, at),
      spoilt.subarray(at),
    ]);
  }
  return spoilt;
}

const spoiltPlaces = { places: [1, 2, 5, 9, 10], block: fastBlock };
const spoiltZeros = [
  [3, 2],
  [7, 1],
] as const;
const difference = { base: { copyId: diskId, generation: 6 }, zeroRanges: spoiltZeros };

test.each([
  ['full', new MemoryCopy(spoiltPlaces)],
  ['incremental', new MemoryCopy({ ...spoiltPlaces, ...difference })],
])('a spoilt %s image gives only right blocks, and no loss is hidden', async (_what, small) => {
  const image = await imageOf(small);
  await fc.assert(
    fc.asyncProperty(fc.array(spoiling, { minLength: 1, maxLength: 4 }), async (ways) => {
      const spoilt = ways.reduce(spoil, image);
      const isSame = spoilt.equals(image);
      const bytes = new MemoryBytes(spoilt);
      expect((await verifyImage(bytes)).ok).toBe(isSame);
      expect((await codeOf(() => readImage(bytes, 'fail'))) === undefined).toBe(isSame);
      expect((await codeOf(() => readStream(spoilt, 'fail', [7777]))) === undefined).toBe(isSame);
      await codeOf(async () => {
        const read = await readImage(bytes, 'skip');
        expectHonest(small, read.blocks, (await verifyImage(bytes)).damaged);
      });
      await codeOf(() => {
        const read = readStream(spoilt, 'skip', [7777]);
        expectHonest(
          small,
          read.blocks,
          read.problems.flatMap((problem) => problem.lost),
        );
      });
    }),
    { numRuns: 250 },
  );
});

/** Given blocks are right, and each missing one lies in a lost range. */
function expectHonest(
  copy: MemoryCopy,
  blocks: Map<number, Buffer>,
  lost: readonly { sourceOffset: number; length: number }[],
): void {
  const size = copy.facts.blockSizeBytes;
  copy.places.forEach((place, x) => {
    const given = blocks.get(place);
    const isLost = lost.some(
      (range) =>
        range.sourceOffset <= place * size &&
        range.sourceOffset + range.length >= (place + 1) * size,
    );
    expect(given === undefined ? isLost : given.equals(copy.data(x))).toBe(true);
  });
}

test('random bytes are no image and do no harm', async () => {
  const bytes = fc.uint8Array({ maxLength: 20_000 });
  await fc.assert(
    fc.asyncProperty(bytes, async (random) => {
      const image = Buffer.from(random);
      expect(await codeOf(() => readStream(image, 'skip', [999]))).toEqual(expect.any(String));
      expect((await verifyImage(new MemoryBytes(image))).ok).toBe(false);
    }),
  );
});

test('the medium holds little more than the blocks', async () => {
  await fc.assert(
    fc.asyncProperty(copies, async (copy) => {
      const { blockSizeBytes } = copy.facts;
      const data = copy.places.length * blockSizeBytes;
      const share = blockSizeBytes >= 65536 ? 1.001 : 1.01;
      expect((await imageOf(copy)).length).toBeLessThanOrEqual(share * data + MIB / 16);
    }),
    { numRuns: 20 },
  );
});
