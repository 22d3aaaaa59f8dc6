/**
 * Images on a medium where going to and fro is dear: the end is read at the end, and all is found
 * that is found elsewhere.
 */
import { expect, test } from 'vitest';
import { openChain } from '../../../src/image/chain.ts';
import type { ImageProblem } from '../../../src/image/damage.ts';
import { ImageReader } from '../../../src/image/reader.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { codeOf, imageOf, MemoryBytes, MemoryCopy } from '../../support/image-source.ts';

class TapeLikeBytes extends MemoryBytes {
  readonly isSequential = true;
  readonly offsets: number[] = [];

  override async read(offset: number, into: Uint8Array): Promise<void> {
    this.offsets.push(offset);
    await super.read(offset, into);
  }
}

const copy = new MemoryCopy({ places: Array.from({ length: 1100 }, (_, block) => 2 * block) });
const image = await imageOf(copy);
const trailerOffset = image.length - 4096;

async function readChain(bytes: MemoryBytes): Promise<ImageProblem[]> {
  const problems: ImageProblem[] = [];
  const onProblem = (problem: ImageProblem): void => {
    problems.push(problem);
  };
  const segments = (await openChain([bytes])).segments({ onDamage: 'skip', onProblem });
  for await (const segment of segments) expect(segment.bad.size).toBe(0);
  return problems;
}

const sorted = (problems: readonly ImageProblem[]): string[] =>
  problems.map((problem) => JSON.stringify(problem)).sort();

test.each(['verify', 'chain'] as const)('a %s reads the end after all else', async (how) => {
  const bytes = new TapeLikeBytes(image);
  if (how === 'verify') expect(await verifyImage(bytes)).toMatchObject({ ok: true, blocks: 1100 });
  else expect(await readChain(bytes)).toEqual([]);
  const first = bytes.offsets.indexOf(trailerOffset);
  expect(first).toBeGreaterThan(3);
  // A chain reads the heads ahead of the data.
  const { layout } = await ImageReader.open(bytes);
  const least = how === 'verify' ? trailerOffset : layout.segmentOffset(layout.segmentCount - 2);
  expect(Math.min(...bytes.offsets.slice(first, -1))).toBeGreaterThanOrEqual(least);
});

test.each([0, 8, 40, 4092])('a trailer with a wrong byte %i is told all the same', async (at) => {
  const spoilt = Buffer.from(image);
  spoilt[trailerOffset + at] = (spoilt[trailerOffset + at] ?? 0) ^ 1;
  const [here, elsewhere] = [new TapeLikeBytes(spoilt), new MemoryBytes(spoilt)];
  expect(await verifyImage(here)).toEqual(await verifyImage(elsewhere));
  expect(sorted(await readChain(here))).toEqual(sorted(await readChain(elsewhere)));
  const reader = await ImageReader.open(here);
  let given = 0;
  const code = await codeOf(async () => {
    for await (const { segment } of reader.segments({ onDamage: 'fail' })) given = segment + 1;
  });
  expect(code).toMatch(/^IMAGE_/);
  expect(given).toBe(reader.layout.segmentCount);
});

test('an image that is too short is refused before any of it is given', async () => {
  const reader = await ImageReader.open(new TapeLikeBytes(image.subarray(0, image.length - 1)));
  await expect(reader.segments({ onDamage: 'fail' }).next()).rejects.toMatchObject({
    code: 'IMAGE_TRUNCATED',
  });
});
