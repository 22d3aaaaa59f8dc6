/**
 * A backup to a virtual tape beside the same backup to a directory, both until durable: 2 GiB used
 * on a 64 GiB disk, checksums known. The two take turns, and who is first changes each round.
 *
 * `node bench/tape.ts [ROUNDS]` (default 6). BENCH_DIR: where 8 GiB are free.
 *
 * `ratio` is the speed of the tape by that of the directory: the median of the rounds' ratios.
 */
import { execFileSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { GIB } from '../src/base/units.ts';
import { makeDisk } from './backup-steps.ts';
import { type BenchDaemon, median, print, seconds, startDaemon } from './daemon.ts';

const rounds = Number(process.argv[2] ?? 6);

async function label(daemon: BenchDaemon): Promise<void> {
  await daemon.call('POST', '/targets/vault/label', { force: 'vault-1' });
}

/** From its POST until it is durable. @returns seconds and what the job says of its stages */
async function backup(daemon: BenchDaemon, target: string) {
  const name = `on-${target}`;
  let stages: unknown;
  const before = await daemon.cpuSeconds();
  const wall = await seconds(async () => {
    const job = await daemon.call('POST', '/backups', { name, copy: 'd1-copy', target });
    stages = (await daemon.ended(job))['stages'];
  });
  return { wall, cpu: (await daemon.cpuSeconds()) - before, stages };
}

async function verify(daemon: BenchDaemon, target: string): Promise<number> {
  return seconds(async () => {
    await daemon.ended(await daemon.call('POST', `/backups/on-${target}/verify`));
  });
}

const daemon = await startDaemon({ SPINDLE_POOL_BYTES: String(3 * GIB) });
try {
  await daemon.call('POST', '/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  await daemon.call('POST', '/targets', { name: 'vault', kind: 'virtual-tape', path: 'tapes' });
  const cartridge = { cartridge: 'T1', sizeBytes: 4 * GIB };
  await daemon.call('POST', '/targets/vault/media', cartridge);
  await daemon.call('POST', '/targets/vault/load', { medium: 'T1' });
  await label(daemon);
  await makeDisk(daemon, 'd1', 64 * GIB);
  // The first backup of a copy computes its checksums, and keeps them.
  await backup(daemon, 'shelf');
  await daemon.call('DELETE', '/backups/on-shelf');
  const walls: Record<string, number[]> = { shelf: [], vault: [] };
  const verifies: Record<string, number[]> = { shelf: [], vault: [] };
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const order = round % 2 === 0 ? ['shelf', 'vault'] : ['vault', 'shelf'];
    execFileSync('sync');
    for (const target of order) {
      const { wall, cpu, stages } = await backup(daemon, target);
      walls[target]?.push(wall);
      print({ figure: 'tape round', round, target, wall, cpu, stages, load: loadavg()[0] });
    }
    for (const target of order) verifies[target]?.push(await verify(daemon, target));
    for (const target of order) await daemon.call('DELETE', `/backups/on-${target}`);
    await label(daemon);
    ratios.push((walls['shelf']?.at(-1) ?? NaN) / (walls['vault']?.at(-1) ?? NaN));
  }
  const [ours, peer] = [median(walls['vault'] ?? []), median(walls['shelf'] ?? [])];
  print({ figure: 'backup to tape / directory', ours, peer, ratio: median(ratios), ratios });
  const [read, peerRead] = [median(verifies['vault'] ?? []), median(verifies['shelf'] ?? [])];
  print({ figure: 'verify', ours: read, peer: peerRead, ratio: peerRead / read });
  print({ figure: 'peak resident MiB', ours: await daemon.peakMiB() });
} finally {
  await daemon.stop();
}
