/**
 * Maps every block of a new disk without writing any data, through the real allocator, table and
 * commits: the tables of a full disk in a sparse pool.
 */
import { FAN_OUT, change, missingForChange } from '../src/disk/allocation-table.ts';
import type { Disk } from '../src/disk/disk.ts';

export async function mapAll(disk: Disk): Promise<void> {
  const { pool } = disk;
  const blocks = disk.capacityBytes / disk.blockSizeBytes;
  for (let first = 0; first < blocks; first += FAN_OUT) {
    await pool.throttle();
    const chosen = await pool.allocate(Math.min(FAN_OUT, blocks - first));
    for (;;) {
      const missing = missingForChange(pool, disk.root, first, chosen.length);
      for (const { block } of chosen) missing.push(...pool.missingForDrop(block));
      if (missing.length === 0) break;
      await pool.pages.ensure(missing);
    }
    for (const { block } of chosen) pool.allocator.apply(block);
    const changes = chosen.map(({ block }, index) => {
      return { logical: first + index, block, birth: disk.generation };
    });
    disk.record.root = change(pool, disk.root, changes);
    disk.changed();
  }
  await pool.flush();
}
