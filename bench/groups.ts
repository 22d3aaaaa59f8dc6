/**
 * The halt of group copies: three disks in two sparse pools, together BLOCKS mapped blocks
 * (default 16 Mi: 1 TiB), each with a writer of 4 KiB at random places and a flush now and then,
 * are frozen together again and again; 20 groups are kept.
 * `node bench/groups.ts DIR [BLOCKS] [GROUPS]`; DIR must not hold a store.
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { systemClock } from '../src/base/clock.ts';
import { KIB, MIB } from '../src/base/units.ts';
import { Copies } from '../src/copy/copies.ts';
import { freezeGroup } from '../src/copy/freeze-group.ts';
import type { Disk } from '../src/disk/disk.ts';
import { Disks } from '../src/disk/disks.ts';
import { Generations } from '../src/disk/generations.ts';
import { Names } from '../src/disk/names.ts';
import { Meta } from '../src/meta/meta.ts';
import { blockFileSystem } from '../src/pool/block-file.ts';
import { Pools } from '../src/pool/pools.ts';
import { mapAll } from './mapped-disk.ts';

const BLOCK_BYTES = 65536;
const KEPT = 20;
const SPARE_BLOCKS = 262_144;
const dir = resolve(process.argv[2] ?? './groups');
const blocks = Number(process.argv[3] ?? 16 * 1024 * 1024);
const count = Number(process.argv[4] ?? 500);

await mkdir(dir, { recursive: true, mode: 0o700 });
const store = await Meta.open({ path: join(dir, 'meta.db') });
const { storeId, epoch } = store;
const [clock, names, generations] = [systemClock, new Names(), new Generations()];
const pools = new Pools({ store, storeId, epoch, clock, fileSystem: blockFileSystem });
const onError = (error: unknown): void => {
  throw error;
};
const disks = new Disks({ store, pools, names, generations, clock, onError });
const copies = new Copies({ store, pools, disks, names, generations, clock, onError });
await pools.open();

function print(figure: string, values: Readonly<Record<string, number>>): void {
  process.stdout.write(`${JSON.stringify({ figure, ...values })}\n`);
}

const each = Math.ceil(blocks / 3);
for (const [name, share] of [
  ['default', 2],
  ['second', 1],
] as const) {
  const sizeBytes = (share * each + SPARE_BLOCKS) * BLOCK_BYTES + MIB;
  const files = [{ path: join(dir, `pool-${name}.dat`), sizeBytes }];
  await pools.create({ name, files, preallocate: false });
}
const mapBegin = clock.monotonicNs();
const made: Disk[] = [];
for (const [index, name] of ['x', 'y', 'z'].entries()) {
  const pool = index === 2 ? 'second' : 'default';
  const { disk } = await disks.create({ name, capacityBytes: each * BLOCK_BYTES, pool });
  await mapAll(disk);
  made.push(disk);
}
const seconds = Number(clock.monotonicNs() - mapBegin) / 1e9;
print('map', { blocks: 3 * each, seconds: Math.round(seconds * 10) / 10 });

let isOver = false;
let writes = 0;
const waits: number[] = [];
async function write(disk: Disk): Promise<void> {
  const bytes = Buffer.alloc(4 * KIB, 7);
  const places = disk.capacityBytes / bytes.length;
  for (let number = 1; !isOver; number += 1) {
    const begin = clock.monotonicNs();
    await disk.write(Math.floor(Math.random() * places) * bytes.length, bytes);
    waits.push(Number(clock.monotonicNs() - begin) / 1000);
    writes += 1;
    if (number % 64 === 0) await disk.flush();
  }
}
const writers = made.map((disk) => write(disk));
const halts: number[] = [];
const answers: number[] = [];
for (let number = 0; number < count; number += 1) {
  await new Promise((wake) => setTimeout(wake, 5 + Math.random() * 20));
  const begin = clock.monotonicNs();
  const group = await freezeGroup(copies, { name: `g${number}`, disks: ['x', 'y', 'z'] });
  answers.push(Number(clock.monotonicNs() - begin) / 1000);
  halts.push(group.haltMicroseconds);
  if (number >= KEPT) await copies.groups.delete(`g${number - KEPT}`);
}
isOver = true;
await Promise.all(writers);

function percentiles(values: readonly number[]): Record<string, number> {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number): number => {
    return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0);
  };
  return { p50: at(0.5), p99: at(0.99), max: Math.round(sorted.at(-1) ?? 0) };
}
print('haltMicroseconds', { groups: count, ...percentiles(halts) });
print('answerMicroseconds', percentiles(answers));
print('writeMicroseconds', { writes, ...percentiles(waits) });
await disks.stop();
await copies.stop();
await pools.close();
await store.close();
