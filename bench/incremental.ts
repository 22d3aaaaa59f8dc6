/**
 * Incremental backups beside full ones: 2 GiB used on 64 GiB, of which 1 in 100 blocks is written
 * anew between two backups, here and there or in one piece; a disk that nobody touched; a disk that
 * was trimmed to nothing.
 *
 * `node bench/incremental.ts [ROUNDS]` (default 5). BENCH_DIR: where 16 GiB are free.
 */
import { randomBytes } from 'node:crypto';
import { GIB, MIB } from '../src/base/units.ts';
import { makeDisk, placesOn } from './backup-steps.ts';
import { type BenchDaemon, median, print, startDaemon } from './daemon.ts';

const rounds = Number(process.argv[2] ?? 5);
const BLOCK = 65536;
const EXTENT_BLOCKS = (8 * MIB) / BLOCK;

interface Made {
  readonly wall: number;
  readonly mediumBytes: number;
}

/** From the POST until it is durable, of the disk as it is. */
async function backUp(daemon: BenchDaemon, name: string, more: object = {}): Promise<Made> {
  const request = { name, disk: 'd', target: 'shelf', ...more };
  const begin = performance.now();
  const job = await daemon.ended(await daemon.call('POST', '/backups', request));
  const wall = (performance.now() - begin) / 1000;
  const { result } = job;
  const isSized = typeof result === 'object' && result !== null && 'mediumBytes' in result;
  return { wall, mediumBytes: isSized ? Number(result.mediumBytes) : NaN };
}

async function write(daemon: BenchDaemon, offset: number, bytes: number): Promise<void> {
  const path = `${daemon.url}/v1/disks/d/data?offset=${offset}&durability=volatile`;
  const response = await fetch(path, { method: 'PUT', body: randomBytes(bytes) });
  if (!response.ok) throw new Error(await response.text());
}

/** 1 in 100 blocks of those in use. */
async function change(daemon: BenchDaemon, isScattered: boolean, round: number): Promise<void> {
  const places = placesOn(64 * GIB);
  const blocks = Math.floor((places.length * EXTENT_BLOCKS) / 100);
  if (isScattered) {
    for (let index = 0; index < blocks; index += 1) {
      const used = (index * 100 + round) % (places.length * EXTENT_BLOCKS);
      const place = places[Math.floor(used / EXTENT_BLOCKS)] ?? 0;
      await write(daemon, place + (used % EXTENT_BLOCKS) * BLOCK, BLOCK);
    }
  } else {
    for (let done = 0; done < blocks; done += EXTENT_BLOCKS) {
      const part = Math.min(EXTENT_BLOCKS, blocks - done);
      await write(daemon, places[done / EXTENT_BLOCKS + 4 * round] ?? 0, part * BLOCK);
    }
  }
  await daemon.call('POST', '/disks/d/flush');
}

const daemon = await startDaemon({ SPINDLE_POOL_BYTES: String(10 * GIB) });
try {
  await daemon.call('POST', '/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  await makeDisk(daemon, 'd', 64 * GIB);
  await daemon.call('DELETE', '/copies/d-copy');
  const full: Made[] = [];
  const kinds: Record<string, Made[]> = { scattered: [], together: [], untouched: [] };
  for (let round = 0; round < rounds; round += 1) {
    full.push(await backUp(daemon, 'full'));
    for (const [kind, made] of Object.entries(kinds)) {
      if (kind !== 'untouched') await change(daemon, kind === 'scattered', round);
      made.push(await backUp(daemon, kind, { level: 'incremental' }));
    }
    await daemon.call('DELETE', '/backups/full?cascade=true');
  }
  const base = median(full.map(({ wall }) => wall));
  const bytes = median(full.map(({ mediumBytes }) => mediumBytes));
  for (const [kind, made] of Object.entries(kinds)) {
    const wall = median(made.map((each) => each.wall));
    const moved = median(made.map((each) => each.mediumBytes));
    print({
      figure: `incremental, 1 % changed (${kind}) / full`,
      ours: wall,
      peer: base,
      ratio: wall / base,
      limit: (0.03 * base + 0.05) / base,
      bytesRatio: moved / bytes,
      bytesLimit: 0.011,
      mediumBytes: moved,
    });
  }
  await backUp(daemon, 'full');
  const all = `${daemon.url}/v1/disks/d/data?offset=0&length=${64 * GIB}`;
  await fetch(all, { method: 'DELETE' });
  const trimmed = await backUp(daemon, 'trimmed', { level: 'incremental' });
  print({ figure: 'incremental of a trimmed disk', ...trimmed });
  print({ figure: 'peak resident MiB', ours: await daemon.peakMiB() });
} finally {
  await daemon.stop();
}
