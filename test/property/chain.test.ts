/**
 * Laws of chains: whatever was written, discarded and resized between copies, the images of a chain
 * give the newest copy, block by block, and its full image, byte by byte; and whatever is damaged,
 * no older block comes in the place of a newer one.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { layeredSegments } from '../../src/image/chain-layers.ts';
import { chainSource } from '../../src/image/chain-source.ts';
import { openChain } from '../../src/image/chain.ts';
import type { ImageProblem } from '../../src/image/damage.ts';
import { blockSizeBytes, contentOf, ModelDisk, sourceOf } from '../support/chain-model.ts';
import type { ModelCopy } from '../support/chain-model.ts';
import { codeOf, imageOf, MemoryBytes } from '../support/image-source.ts';

const MOST_BLOCKS = 700;
const at = fc.nat(MOST_BLOCKS - 1);
const change = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), at, count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('discard' as const), at, count: fc.integer({ min: 1, max: 90 }) }),
  fc.record({ kind: fc.constant('resize' as const), at, count: fc.constant(0) }),
);
/** Changes before each freeze, and places that images hold though they did not change. */
const history = fc.array(
  fc.record({
    changes: fc.array(change, { maxLength: 12 }),
    surplus: fc.array(at, { maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 6 },
);
type History = typeof history extends fc.Arbitrary<infer T> ? T : never;

interface Made {
  readonly copies: readonly ModelCopy[];
  readonly images: readonly Buffer[];
  readonly full: Buffer;
}

async function make(steps: History): Promise<Made> {
  const disk = new ModelDisk(300);
  const images: Buffer[] = [];
  let value = 0;
  for (const { changes, surplus } of steps) {
    for (const { kind, at: first, count } of changes) {
      value += 1;
      if (kind === 'write') disk.write(first, count, value % 5 === 0 ? 0 : value);
      if (kind === 'discard') disk.discard(first, count);
      if (kind === 'resize') disk.resize(first + 1);
    }
    const base = disk.copies.at(-1);
    const copy = disk.freeze();
    images.push(await imageOf(sourceOf(copy, base, { surplus: new Set(surplus) })));
  }
  const newest = disk.copies.at(-1);
  if (newest === undefined) throw new Error('no copy');
  return { copies: disk.copies, images, full: await imageOf(sourceOf(newest)) };
}

async function layeredPlaces(images: readonly Buffer[], from: number) {
  const chain = await openChain(images.map((image) => new MemoryBytes(image)));
  const found: { segment: number; places: Float64Array; data: Buffer }[] = [];
  for await (const segment of layeredSegments(chain, { onDamage: 'fail', from })) {
    const [places, data] = [segment.sourceBlocks.slice(), Buffer.from(segment.data)];
    found.push({ segment: segment.segment, places, data });
  }
  return found;
}

interface Read {
  readonly blocks: Map<number, Buffer>;
  readonly problems: ImageProblem[];
}

/** In ascending places, or image by image. */
type Order = 'merged' | 'layered';

async function readChain(
  images: readonly Buffer[],
  onDamage: 'fail' | 'skip',
  from = 0,
  order: Order = 'merged',
): Promise<Read> {
  const chain = await openChain(images.map((image) => new MemoryBytes(image)));
  const read: Read = { blocks: new Map(), problems: [] };
  const onProblem = (problem: ImageProblem): void => {
    read.problems.push(problem);
  };
  const options = { onDamage, onProblem, from };
  const segments = order === 'merged' ? chain.segments(options) : layeredSegments(chain, options);
  for await (const segment of segments) {
    segment.sourceBlocks.forEach((place, index) => {
      if (segment.bad.has(index)) return;
      if (read.blocks.has(place)) throw new Error(`place ${place} is given twice`);
      const start = index * blockSizeBytes;
      read.blocks.set(place, Buffer.from(segment.data.subarray(start, start + blockSizeBytes)));
    });
  }
  return read;
}

function expectAll(copy: ModelCopy, blocks: ReadonlyMap<number, Buffer>, from = 0): void {
  const expected = [...copy.blocks.keys()].slice(from);
  expect([...blocks.keys()]).toEqual(expected);
  for (const [place, bytes] of blocks) {
    if (!bytes.equals(contentOf(copy.blocks.get(place) ?? NaN))) {
      throw new Error(`block ${place} is not that of the newest copy`);
    }
  }
}

test('a chain gives the newest copy and its full image, and so does each part of it', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      const { copies, images, full } = await make(steps);
      for (const [index, copy] of copies.entries()) {
        const { blocks, problems } = await readChain(images.slice(0, index + 1), 'fail');
        expect(problems).toEqual([]);
        expectAll(copy, blocks);
      }
      const chain = await openChain(images.map((image) => new MemoryBytes(image)));
      await chain.checkComplete();
      const synthetic = await imageOf(chainSource(chain));
      expect(synthetic.equals(full)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

test('a chain is read from any segment on, and its full image in any part', async () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  await fc.assert(
    fc.asyncProperty(history, share, share, async (steps, one, other) => {
      const { copies, images, full } = await make(steps);
      const newest = copies.at(-1);
      if (newest === undefined) throw new Error('no copy');
      for (const from of [0, 1, 2].slice(0, Math.ceil(newest.blocks.size / 512))) {
        expectAll(newest, (await readChain(images, 'fail', from)).blocks, from * 512);
      }
      const layered = await readChain(images, 'fail', 0, 'layered');
      expectAll(newest, new Map([...layered.blocks].sort(([a], [b]) => a - b)));
      // Who goes on in the middle is given just what was not given before.
      const all = await layeredPlaces(images, 0);
      for (const from of [1, 2, 3]) {
        const rest = all.filter(({ segment }) => segment >= from);
        expect(await layeredPlaces(images, from)).toEqual(rest);
      }
      const chain = await openChain(images.map((image) => new MemoryBytes(image)));
      const source = chainSource(chain);
      const cuts = [one, other].map((part) => Math.floor(part * full.length));
      const [low = 0, high = 0] = cuts.sort((a, b) => a - b);
      for (const [from, to] of [
        [low, high],
        [high, full.length],
        [0, low],
      ] as const) {
        expect((await imageOf(source, from, to)).equals(full.subarray(from, to))).toBe(true);
      }
    }),
    { numRuns: 40 },
  );
});

const spoiling = fc.record({
  member: fc.nat(),
  at: fc.nat(),
  kind: fc.constantFrom('flip', 'flip', 'overwrite', 'cut'),
  /** Zero pages, table, heads, or anywhere. */
  where: fc.constantFrom('structures', 'structures', 'anywhere'),
  length: fc.integer({ min: 1, max: 9000 }),
});
type Spoiling = typeof spoiling extends fc.Arbitrary<infer T> ? T : never;

function spoil(images: Buffer[], how: Spoiling): void {
  const index = how.member % images.length;
  const image = Buffer.from(images[index] ?? Buffer.alloc(0));
  // An earlier cut may have left the header alone, which stays whole.
  if (image.length <= 4096) return;
  const span = Math.max(1, (how.where === 'structures' ? 8 * 4096 : image.length) - 4096);
  const start = Math.min(image.length - 1, 4096 + (how.at % span));
  images[index] = image;
  if (how.kind === 'flip') image[start] = (image[start] ?? 0) ^ (1 << (how.at % 8));
  if (how.kind === 'overwrite') image.fill(0xa5, start, Math.min(image.length, start + how.length));
  if (how.kind === 'cut') images[index] = image.subarray(0, start);
}

test('damage never brings back an older block, and no loss is hidden', async () => {
  await fc.assert(
    fc.asyncProperty(
      history,
      fc.array(spoiling, { minLength: 1, maxLength: 3 }),
      async (steps, ways) => {
        const { copies, images } = await make(steps);
        const newest = copies.at(-1);
        if (newest === undefined) throw new Error('no copy');
        const spoilt = [...images];
        for (const how of ways) spoil(spoilt, how);
        const { blocks, problems } = await readChain(spoilt, 'skip');
        expectHonest(newest, blocks, problems);
        const layered = await readChain(spoilt, 'skip', 0, 'layered');
        expectHonest(newest, layered.blocks, layered.problems);
        for (const place of blocks.keys()) expect(layered.blocks.has(place)).toBe(true);
        const refused = await codeOf(() => readChain(spoilt, 'fail', 0, 'layered'));
        expect(refused === undefined).toBe(layered.problems.length === 0);
        const failed = await codeOf(async () => {
          expectAll(newest, (await readChain(spoilt, 'fail')).blocks);
        });
        if (problems.length > 0) expect(failed).toMatch(/^IMAGE_/);
        const chain = await openChain(spoilt.map((image) => new MemoryBytes(image)));
        const synthetic = await codeOf(async () => {
          const bytes = await imageOf(chainSource(chain));
          expect(bytes.equals(await imageOf(sourceOf(newest)))).toBe(true);
        });
        if (newest.blocks.size > 0 && failed !== undefined) expect(synthetic).toMatch(/^IMAGE_/);
      },
    ),
    { numRuns: 150 },
  );
});

/** Given blocks are those of the copy; each that is missing or given as a hole is told. */
function expectHonest(
  copy: ModelCopy,
  blocks: ReadonlyMap<number, Buffer>,
  problems: readonly ImageProblem[],
): void {
  const lost = problems.flatMap((problem) => problem.lost);
  const isLost = (place: number): boolean =>
    lost.some(({ sourceOffset, length }) => {
      const start = place * blockSizeBytes;
      return sourceOffset <= start && start + blockSizeBytes <= sourceOffset + length;
    });
  for (const [place, bytes] of blocks) {
    const value = copy.blocks.get(place);
    if (value === undefined || !bytes.equals(contentOf(value))) {
      throw new Error(`block ${place} is not that of the newest copy`);
    }
  }
  for (const place of copy.blocks.keys()) {
    if (!blocks.has(place) && !isLost(place)) throw new Error(`block ${place} is lost untold`);
  }
}
