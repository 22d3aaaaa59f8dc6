/**
 * A storm that a power cut ends, and what is found after it.
 */
import { expect } from 'vitest';
import { revertFill } from '../../src/copy/write-back.ts';
import { checkEngine } from './check-engine.ts';
import { openEngine } from './engine.ts';
import { restOf } from './small-engine.ts';
import { Storm, type StormOptions } from './storm.ts';

/** Cuts the files at a step, and the metadata at the same moment. */
export async function cutStorm(o: StormOptions, step: number): Promise<void> {
  const storm = await Storm.open(o);
  const { files } = storm;
  files.cutAt(files.steps + step);
  await storm.runUntilCut();
  const { disks, copies, durableAt } = storm.found;
  const before = { disks: disks.map((live) => ({ ...live })), copies: [...copies] };
  const store = storm.store.crash(files.pick(storm.store.pending + 1));
  files.crash();
  const engine = await openEngine({ store, fileSystem: files, epoch: 2, cacheBytes: o.cacheBytes });
  expect(await checkEngine(engine, store)).toEqual([]);
  for (const { disk, history, isDeleted } of before.disks) {
    const found = engine.disks.find(disk.id);
    if (found === undefined && isDeleted) continue;
    if (found === undefined) throw new Error(`disk ${disk.name} is gone`);
    if (found.state === 'fenced') await revertFill(engine.copies, found);
    const bytes = Buffer.alloc(found.capacityBytes, 0xee);
    await found.read(0, bytes);
    expect(history.explainAfterCut(bytes, durableAt)).toBeUndefined();
  }
  for (const { copy, bytes, isDeleted } of before.copies) {
    const found = engine.copies.find(copy.id);
    if (found === undefined && isDeleted) continue;
    if (found === undefined) throw new Error(`copy ${copy.name} is gone`);
    const full = Buffer.alloc(bytes.length, 0xee);
    await found.read('full', 0, full);
    expect(full.equals(bytes)).toBe(true);
  }
  for (const { id } of engine.disks.list()) await engine.disks.delete(id);
  for (const { id } of engine.copies.list()) await engine.copies.delete(id);
  await restOf(engine);
  expect(engine.pools.get('p').allocator.usedBlocks).toBe(0);
  expect(engine.errors).toEqual([]);
  await engine.close();
}
