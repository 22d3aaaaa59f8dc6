/** A disk with data to back up, and what tells contents apart. */
import { createHash, randomBytes } from 'node:crypto';
import { KIB, MIB, TIB } from '../../src/base/units.ts';
import type { Copy } from '../../src/copy/copy.ts';
import type { Disk } from '../../src/disk/disk.ts';
import type { WorkBench } from './work.ts';

const EXTENT = 64 * MIB;

export async function digest(source: Disk | Copy, bytes = EXTENT): Promise<string> {
  const hash = createHash('sha256');
  const part = Buffer.alloc(4 * MIB);
  for (let at = 0; at < bytes; at += part.length) {
    if ('fencedBy' in source) await source.read(at, part);
    else await source.read('full', at, part);
    hash.update(part);
  }
  return hash.digest('hex');
}

/** Data, holes, mapped zeros, an odd tail. */
export async function makeDisk(bench: WorkBench, name: string): Promise<Disk> {
  const { disk } = await bench.disks.create({ name, capacityBytes: TIB });
  await disk.write(0, randomBytes(3 * MIB));
  await disk.write(10 * MIB + 12345, randomBytes(100 * KIB));
  await disk.write(20 * MIB, randomBytes(64 * KIB));
  await disk.write(20 * MIB, Buffer.concat([Buffer.alloc(64 * KIB - 1), Buffer.from([0])]));
  for (let at = 30; at < 50; at += 2) await disk.write(at * MIB, randomBytes(MIB / 2 + 7));
  await disk.flush();
  return disk;
}
