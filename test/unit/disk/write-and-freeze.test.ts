import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { KIB, MIB } from '../../../src/base/units.ts';
import { freeze } from '../../../src/copy/freeze.ts';
import { openEngine } from '../../support/engine.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';

it('a write on a full pool that a freeze meets is applied whole or not at all', async () => {
  const fileSystem = new FaultyFileSystem();
  const engine = await openEngine({ store: new MemoryMetadata(), fileSystem });
  const files = [{ path: '/full', sizeBytes: 5 * MIB }];
  const blockSizeBytes = 64 * KIB;
  await engine.pools.create({ name: 'default', files, blockSizeBytes, preallocate: false });
  const { disk } = await engine.disks.create({ name: 'd', capacityBytes: 16 * MIB });
  let old = randomBytes(4 * MIB);
  await disk.write(0, old);
  await disk.flush();
  let refused = 0;
  for (let round = 0; round < 60; round += 1) {
    const bytes = randomBytes(4 * MIB);
    const written = disk.write(0, bytes).then(
      () => true,
      () => false,
    );
    for (let turn = 0; turn < round % 12; turn += 1) await Promise.resolve();
    if (round % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    const copy = await freeze(engine.copies, 'd', { name: 'c' });
    const whole = await written;
    if (!whole) refused += 1;
    const found = Buffer.alloc(4 * MIB);
    await disk.read(0, found);
    expect(found.equals(whole ? bytes : old)).toBe(true);
    if (whole) old = bytes;
    await engine.copies.delete(copy.id);
    // what the freeze made shared is the disk's own again
    await disk.write(0, old);
    await disk.flush();
  }
  expect(refused).toBeGreaterThan(0);
  await engine.close();
});
