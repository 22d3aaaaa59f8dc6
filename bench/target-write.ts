/**
 * What it costs to write an image until it is durable: past the page cache, or through it.
 *
 *     node bench/target-write.ts [FOLDER] [MIB] [ROUNDS]
 *
 * Each way writes the same bytes, read from a cached file as a backup reads its pool, through the
 * sink of a directory target, confirms every 64 MiB and commits. The ways take turns; `dd` with an
 * fsync at the end is the peer. One JSON line a way: medians of wall seconds and of the CPU seconds
 * of this process (not of `dd`).
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../src/base/clock.ts';
import { MIB } from '../src/base/units.ts';
import { DirectoryTarget } from '../src/target/file.ts';
import { systemFiles } from '../src/file/bulk-file.ts';
import type { BulkFiles } from '../src/file/bulk-file.ts';

const CONFIRM_BYTES = 64 * MIB;

/** A file system that knows no O_DIRECT. */
const throughCache: BulkFiles = {
  open: (path, mode) => {
    if (mode !== 'write-direct') return systemFiles.open(path, mode);
    return Promise.reject(Object.assign(new Error('refused'), { code: 'EINVAL' }));
  },
};

interface Cost {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

async function measured(work: () => Promise<void>): Promise<Cost> {
  const cpuBefore = process.cpuUsage();
  const before = systemClock.monotonicNs();
  await work();
  const wallSeconds = Number(systemClock.monotonicNs() - before) / 1e9;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { wallSeconds, cpuSeconds: (user + system) / 1e6 };
}

/** Reads 4 pieces ahead, as the reading side of a backup does. */
async function* piecesOf(source: FileHandle, sizeBytes: number): AsyncGenerator<Buffer> {
  const ring = Array.from({ length: 5 }, () => Buffer.allocUnsafe(MIB));
  const reads: Promise<Buffer>[] = [];
  for (let offset = 0; offset < sizeBytes + 4 * MIB; offset += MIB) {
    if (offset < sizeBytes) {
      const buffer = ring[(offset / MIB) % ring.length] ?? Buffer.alloc(0);
      reads.push(source.read(buffer, 0, MIB, offset).then(() => buffer));
    }
    const next = offset >= 4 * MIB ? reads.shift() : undefined;
    if (next !== undefined) yield await next;
  }
}

async function store(
  target: DirectoryTarget,
  source: FileHandle,
  sizeBytes: number,
): Promise<void> {
  const sink = await target.createBackup('b1');
  let confirmed = 0;
  for await (const piece of piecesOf(source, sizeBytes)) {
    await sink.write([piece]);
    if (sink.offset - confirmed >= CONFIRM_BYTES) confirmed = await sink.confirm();
  }
  await sink.commit({ sizeBytes });
}

async function fill(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'w');
  for (let offset = 0; offset < sizeBytes; offset += MIB) {
    await file.write(systemClock.random(MIB), 0, MIB, offset);
  }
  await file.sync();
  await file.close();
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

async function main(parent: string, mebibytes: number, rounds: number): Promise<void> {
  const folder = await mkdtemp(join(parent, 'spindle-bench-'));
  const sizeBytes = mebibytes * MIB;
  const sourcePath = join(folder, 'source');
  await fill(sourcePath, sizeBytes);
  const source = await open(sourcePath, 'r');
  const base = join(folder, 'shelf');
  const ways: Record<string, () => Promise<void>> = {
    direct: async () => store(await DirectoryTarget.create(base), source, sizeBytes),
    cached: async () =>
      store(await DirectoryTarget.create(base, { files: throughCache }), source, sizeBytes),
    dd: async () => {
      const copy = join(folder, 'copy');
      execFileSync('dd', [`if=${sourcePath}`, `of=${copy}`, 'bs=1M', 'conv=fsync', 'status=none']);
      return Promise.resolve();
    },
  };
  const costs = new Map(Object.keys(ways).map((way) => [way, new Array<Cost>()]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [way, work] of Object.entries(ways)) {
      costs.get(way)?.push(await measured(work));
      await rm(base, { recursive: true, force: true });
      await rm(join(folder, 'copy'), { force: true });
      execFileSync('sync');
    }
  }
  for (const [way, list] of costs) {
    const wallSeconds = median(list.map((cost) => cost.wallSeconds));
    const cpuSeconds = median(list.map((cost) => cost.cpuSeconds));
    const all = list.map((cost) => Number(cost.wallSeconds.toFixed(2)));
    const line = { figure: 'target-write', way, mebibytes, rounds, wallSeconds, cpuSeconds, all };
    console.log(JSON.stringify(line));
  }
  await source.close();
  await rm(folder, { recursive: true });
}

const [parent = tmpdir(), mebibytes = '1024', rounds = '5'] = process.argv.slice(2);
await main(parent, Number(mebibytes), Number(rounds));
