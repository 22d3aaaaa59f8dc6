/**
 * What the worker of a backup tells the engine: offsets from which another attempt can go on.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { runBackup } from '../../../src/backup/worker-backup.ts';
import type { Engine } from '../../../src/backup/worker-engine.ts';
import type { Calls } from '../../../src/backup/worker-protocol.ts';
import { systemClock, uuidv7 } from '../../../src/base/clock.ts';
import { MIB } from '../../../src/base/units.ts';
import { ImageLayout } from '../../../src/image/format.ts';
import { DATA_OFFSET } from '../../../src/pool/format.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const BLOCK = 65536;

it('confirms an image only between its segments, however slowly it goes', async () => {
  const directory = await temporaryDirectory();
  const usedBlocks = (20 * MIB) / BLOCK + 3;
  const path = join(directory, 'pool');
  const file = await open(path, 'w');
  await file.truncate(DATA_OFFSET + usedBlocks * BLOCK);
  await file.close();
  const facts = {
    copyId: uuidv7(systemClock),
    diskId: uuidv7(systemClock),
    diskName: 'd1',
    frozenAtMs: 0,
    generation: 1,
    capacityBytes: usedBlocks * BLOCK,
    blockSizeBytes: BLOCK,
    usedBlocks,
    copyBlocks: usedBlocks,
    base: null,
    zeroRanges: 0,
  };
  let ns = 0n;
  vi.spyOn(systemClock, 'monotonicNs').mockImplementation(() => (ns += 10n ** 10n));
  const confirmed: number[] = [];
  const answers: { [Name in keyof Calls]?: (...args: never) => Calls[Name]['answer'] } = {
    places: (first: number, count: number) => {
      const blocks = Array.from(
        { length: Math.max(0, Math.min(count, usedBlocks - first)) },
        (_, index) => first + index,
      );
      return { source: Float64Array.from(blocks), physical: Uint32Array.from(blocks) };
    },
    known: () => undefined,
    keep: () => undefined,
    progress: () => undefined,
    confirmed: (offset: number) => {
      confirmed.push(offset);
      return undefined;
    },
  };
  const engine: Engine = {
    signal: new AbortController().signal,
    call: (name, args) => {
      const answer = answers[name] as ((...args: unknown[]) => never) | undefined;
      if (answer === undefined) throw new Error(`asked for ${name}`);
      return Promise.resolve(answer(...args));
    },
  };
  const extents = [{ firstBlock: 0, blocks: usedBlocks, file: 0, fileBlock: 0 }];
  await runBackup(engine, {
    kind: 'backup',
    target: { kind: 'directory', path: directory },
    name: 'b1',
    resumeFrom: 0,
    facts,
    pool: { files: [path], extents },
    manifest: {},
  });
  const layout = new ImageLayout(facts);
  expect(confirmed.length).toBeGreaterThanOrEqual(3);
  for (const offset of confirmed) {
    const isEnd = offset === layout.imageBytes;
    expect(isEnd ? offset : layout.regionAt(offset).offset).toBe(offset);
  }
});
