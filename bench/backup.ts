/**
 * Backup of a compact copy to a file, until durable, beside what else copies a disk:
 * `cp --sparse=always` + fsync and, where it is installed, `qemu-img convert` + fsync.
 * 2 GiB used on 64 GiB; then the same on 4 GiB, 1 TiB and the largest disk, against each other.
 *
 * `node bench/backup.ts [ROUNDS]` (default 5). BENCH_DIR: where 12 GiB are free.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { GIB, MAX_CAPACITY_BYTES, TIB } from '../src/base/units.ts';
import { backup, makeDisk } from './backup-steps.ts';
import { median, print, seconds, startDaemon } from './daemon.ts';

const rounds = Number(process.argv[2] ?? 5);

function run(command: string, ...parameters: string[]): Promise<void> {
  execFileSync(command, parameters, { stdio: 'ignore' });
  return Promise.resolve();
}

const daemon = await startDaemon({ SPINDLE_POOL_BYTES: String(10 * GIB) });
try {
  await daemon.call('POST', '/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  const raw = join(daemon.dir, 'raw.img');
  const out = join(daemon.dir, 'peer.img');
  await makeDisk(daemon, 'd64g', 64 * GIB, raw);
  const peers: Record<string, () => Promise<void>> = {
    'cp --sparse=always': () => run('cp', '--sparse=always', raw, out),
  };
  if (spawnSync('qemu-img', ['--version']).status === 0) {
    peers['qemu-img convert'] = () => run('qemu-img', 'convert', '-O', 'qcow2', raw, out);
  }
  const ours: number[] = [];
  const theirs: Record<string, number[]> = {};
  for (let round = 0; round < rounds; round += 1) {
    ours.push(await backup(daemon, 'd64g'));
    for (const [peer, copy] of Object.entries(peers)) {
      await rm(out, { force: true });
      const wall = await seconds(async () => {
        await copy();
        await run('sync', '-d', out);
      });
      (theirs[peer] ??= []).push(wall);
    }
  }
  for (const [peer, walls] of Object.entries(theirs)) {
    const figures = { ours: median(ours), peer: median(walls) };
    print({ figure: `backup / ${peer}`, ...figures, ratio: figures.ours / figures.peer });
  }
  await rm(raw);
  await rm(out, { force: true });
  await daemon.call('DELETE', '/copies/d64g-copy');
  await daemon.call('DELETE', '/disks/d64g');
  const sizes = { d4g: 4 * GIB, d1t: TIB, dmax: MAX_CAPACITY_BYTES };
  for (const [name, capacity] of Object.entries(sizes)) await makeDisk(daemon, name, capacity);
  const walls: Record<string, number[]> = {};
  for (let round = 0; round < rounds; round += 1) {
    for (const name of Object.keys(sizes)) (walls[name] ??= []).push(await backup(daemon, name));
  }
  const base = median(walls['d4g'] ?? []);
  for (const [name, each] of Object.entries(walls)) {
    print({
      figure: `backup ${name} / d4g`,
      ours: median(each),
      peer: base,
      ratio: median(each) / base,
    });
  }
  print({ figure: 'peak resident MiB', ours: await daemon.peakMiB() });
} finally {
  await daemon.stop();
}
