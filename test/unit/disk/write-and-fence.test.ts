import { describe, expect, it } from 'vitest';
import { fence, unfence } from '../../../src/copy/write-back.ts';
import { MIB } from '../../../src/base/units.ts';
import { SIZE, smallEngine } from '../../support/small-engine.ts';

describe('a write of several operations', () => {
  it('that a fence meets is applied whole or not at all, whenever that is', async () => {
    // with room for a freeze in between, so that its operations go one by one
    const small = await smallEngine({ blocks: (300 * MIB) / SIZE });
    const seen = new Set<string>();
    for (let turns = 0; turns < 200 && seen.size < 2; turns += 1) {
      const disk = await small.disk({ name: `d${turns}`, capacityBytes: 8 * MIB });
      const written = disk.write(0, Buffer.alloc(4 * MIB, 7)).then(
        () => 'whole',
        () => 'nothing',
      );
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      await fence(disk, 'job', true);
      const usedAtFence = disk.root.mapped;
      const how = await written;
      seen.add(how);
      expect([how, usedAtFence]).toEqual([how, how === 'whole' ? (4 * MIB) / SIZE : 0]);
      expect(disk.root.mapped).toBe(usedAtFence);
      await unfence(disk);
      await small.engine.disks.delete(disk.id);
    }
    expect(seen).toEqual(new Set(['whole', 'nothing']));
  });
});
