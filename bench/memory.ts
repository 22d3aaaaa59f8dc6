/**
 * Peak resident memory of a daemon: idle, after PUTs of 2 GiB, after each of five backups of them;
 * a daemon of its own for each size of the disk: 4 GiB, 1 TiB and the largest. And the processor
 * time that the PUTs and the backups took, since some ways to save memory cost that.
 *
 * `node bench/memory.ts [NAME...]` (default d4g d1t dmax). BENCH_DIR: where 8 GiB are free.
 */
import { GIB, MAX_CAPACITY_BYTES, TIB } from '../src/base/units.ts';
import { backup, makeDisk } from './backup-steps.ts';
import { print, startDaemon } from './daemon.ts';

const BACKUPS = 5;
const sizes: Readonly<Record<string, number>> = {
  d4g: 4 * GIB,
  d1t: TIB,
  dmax: MAX_CAPACITY_BYTES,
};
const asked = process.argv.slice(2);

for (const [name, capacityBytes] of Object.entries(sizes)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  const daemon = await startDaemon({ SPINDLE_POOL_BYTES: String(3 * GIB) });
  try {
    const idle = await daemon.peakMiB();
    const atStart = await daemon.cpuSeconds();
    await daemon.call('POST', '/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
    await makeDisk(daemon, name, capacityBytes);
    const put = await daemon.peakMiB();
    const atPut = await daemon.cpuSeconds();
    const backups: number[] = [];
    for (let round = 0; round < BACKUPS; round += 1) {
      await backup(daemon, name);
      backups.push(await daemon.peakMiB());
    }
    print({ figure: 'peak resident MiB', name, idle, put, backups });
    print({
      figure: 'processor seconds',
      name,
      put: atPut - atStart,
      backups: (await daemon.cpuSeconds()) - atPut,
    });
  } finally {
    await daemon.stop();
  }
}
