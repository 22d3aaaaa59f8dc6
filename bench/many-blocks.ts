/**
 * Makes a store with one disk of many mapped blocks in a sparse pool, without writing any data:
 * the tables are what is measured. `node bench/many-blocks.ts DIR [BLOCKS]` (default 16 Mi).
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemClock } from '../src/base/clock.ts';
import { MIB } from '../src/base/units.ts';
import { Disks } from '../src/disk/disks.ts';
import { Generations } from '../src/disk/generations.ts';
import { Names } from '../src/disk/names.ts';
import { Meta } from '../src/meta/meta.ts';
import { blockFileSystem } from '../src/pool/block-file.ts';
import { Pools } from '../src/pool/pools.ts';
import { mapAll } from './mapped-disk.ts';

const BLOCK_BYTES = 65536;
const dir = resolve(process.argv[2] ?? './many-blocks');
const blocks = Number(process.argv[3] ?? 16 * 1024 * 1024);

await mkdir(dir, { recursive: true, mode: 0o700 });
const store = await Meta.open({ path: join(dir, 'meta.db') });
const { storeId, epoch } = store;
const clock = systemClock;
const pools = new Pools({ store, storeId, epoch, clock, fileSystem: blockFileSystem });
const onError = (error: unknown): void => {
  throw error;
};
const names = new Names();
const disks = new Disks({ store, pools, names, generations: new Generations(), clock, onError });
await pools.open();
const sizeBytes = (blocks + 65536) * BLOCK_BYTES + MIB;
const files = [{ path: join(dir, 'pool-default.dat'), sizeBytes }];
await pools.create({ name: 'default', files, preallocate: false });
const { disk } = await disks.create({ name: 'big', capacityBytes: blocks * BLOCK_BYTES });
const begin = clock.monotonicNs();
await mapAll(disk);
const seconds = Number(clock.monotonicNs() - begin) / 1e9;
process.stdout.write(`${JSON.stringify({ figure: 'map', blocks, seconds })}\n`);
await disks.stop();
await pools.close();
await store.close();
