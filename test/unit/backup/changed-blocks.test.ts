import { randomBytes, randomInt } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ChangedBlocks } from '../../../src/backup/changed-blocks.ts';
import { KIB, TIB } from '../../../src/base/units.ts';
import { checkpointOf } from '../../../src/copy/checkpoints.ts';
import type { Copy } from '../../../src/copy/copy.ts';
import { type ChangedRun, changedRuns } from '../../../src/copy/difference.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { makeFolder, openWork, removeFolder, type WorkBench } from '../../support/work.ts';

const BLOCK = 16 * KIB;
const BLOCKS = 6000;

let dir: string;
let bench: WorkBench;

beforeEach(async () => {
  dir = await makeFolder();
  bench = await openWork(dir, { blockSizeBytes: BLOCK });
});

afterEach(async () => {
  expect(bench.errors).toEqual([]);
  await bench.close();
  await removeFolder(dir);
});

/** Two copies with some 4000 runs of all kinds between them. */
async function twoCopies(): Promise<{ base: Copy; copy: Copy; runs: readonly ChangedRun[] }> {
  const { disk } = await bench.disks.create({ name: 'd1', capacityBytes: TIB });
  for (let at = 0; at < BLOCKS; at += 200) await disk.write(at * BLOCK, randomBytes(200 * BLOCK));
  const base = await freeze(bench.copies, 'd1', { name: 'base' });
  for (let at = 0; at < BLOCKS - 10; at += 4) await disk.discard(at * BLOCK, BLOCK);
  for (let at = 1; at < BLOCKS - 10; at += 4) {
    await disk.write(at * BLOCK, randomBytes(BLOCK * (1 + (at % 3))));
  }
  await disk.write(TIB - BLOCK, randomBytes(BLOCK));
  const copy = await freeze(bench.copies, 'd1', { name: 'copy' });
  const since = { kind: 'copy', copy: base } as const;
  const { runs } = await changedRuns(copy, since, { from: 0, maxRuns: 1e6 });
  return { base, copy, runs };
}

describe('the blocks of an incremental image', () => {
  it('are found from any block on, over thousands of runs', { timeout: 120_000 }, async () => {
    const { base, copy, runs } = await twoCopies();
    const changed = await ChangedBlocks.since(bench.copies, copy, checkpointOf(base));
    const blocks = runs
      .filter(({ kind }) => kind === 'data')
      .flatMap(({ first, length }) => Array.from({ length }, (_, index) => first + index));
    const zeros = runs.filter(({ kind }) => kind === 'zero');
    expect(runs.length).toBeGreaterThan(2500);
    expect(changed).toMatchObject({ blocks: blocks.length, ranges: zeros.length });
    const slices = [
      [0, blocks.length],
      [0, 1],
      [blocks.length - 1, 1],
      ...Array.from({ length: 40 }, () => {
        const first = randomInt(blocks.length);
        return [first, Math.min(700, blocks.length - first)];
      }),
    ];
    for (const [first = 0, count = 0] of slices) {
      const { source, physical } = await changed.places(first, count);
      expect([...source]).toEqual(blocks.slice(first, first + count));
      const places = await copy.placesAt(source[0] ?? 0, 1);
      expect(physical[0]).toBe(places.physical[0]);
    }
    for (const [first, count] of [
      [0, zeros.length],
      [zeros.length - 1, 1],
      [1000, 300],
    ] as const) {
      const pairs = zeros.slice(first, first + count).flatMap((run) => [run.first, run.length]);
      expect([...(await changed.zeroRanges(first, count))]).toEqual(pairs);
    }
    expect((await changed.places(5, 0)).source).toHaveLength(0);
    expect(await changed.zeroRanges(5, 0)).toHaveLength(0);
  });

  it('are none where nothing changed', async () => {
    await bench.disks.create({ name: 'd1', capacityBytes: TIB });
    const base = await freeze(bench.copies, 'd1', { name: 'base' });
    const copy = await freeze(bench.copies, 'd1', { name: 'copy' });
    const changed = await ChangedBlocks.since(bench.copies, copy, checkpointOf(base));
    expect(changed).toMatchObject({ blocks: 0, ranges: 0 });
    expect((await changed.places(0, 0)).source).toHaveLength(0);
  });

  it('are not counted on once the job is to stop', async () => {
    await bench.disks.create({ name: 'd1', capacityBytes: TIB });
    const base = await freeze(bench.copies, 'd1', { name: 'base' });
    const copy = await freeze(bench.copies, 'd1', { name: 'copy' });
    const stopped = AbortSignal.abort(new Error('stop'));
    await expect(
      ChangedBlocks.since(bench.copies, copy, checkpointOf(base), stopped),
    ).rejects.toThrow('stop');
  });
});
