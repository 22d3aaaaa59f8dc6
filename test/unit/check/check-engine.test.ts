import { expect, it } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { checkEngine } from '../../support/check-engine.ts';
import { openEngine } from '../../support/engine.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

it('an engine is sound after writes, freezes, discards and deletes, at every step', async () => {
  const store = new MemoryMetadata();
  const engine = await openEngine({ store, fileSystem: new FaultyFileSystem() });
  const sound = async (): Promise<void> => {
    expect(await checkEngine(engine, store)).toEqual([]);
  };
  await sound();
  await engine.pools.create({ name: 'p', files: [{ path: '/p0', sizeBytes: 20 * MIB }] });
  await sound();
  const { disk } = await engine.disks.create({ name: 'd', capacityBytes: 2 ** 40 });
  await sound();
  await disk.write(5000, Buffer.alloc(3 * MIB, 1));
  await disk.write(2 ** 39, Buffer.alloc(100_000, 2));
  await sound();
  await freeze(engine.copies, 'd', { name: 'c' });
  await sound();
  await disk.write(MIB, Buffer.alloc(MIB, 3));
  await sound();
  await disk.discard(0, 2 * MIB);
  await sound();
  await engine.copies.delete('c');
  await sound();
  await engine.disks.delete('d');
  await sound();
  await engine.close();
});
