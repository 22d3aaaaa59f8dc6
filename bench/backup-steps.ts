/**
 * What the benches of backups do to a daemon: a disk with 2 GiB used, its copy, a backup of it.
 */
import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { MIB } from '../src/base/units.ts';
import { type BenchDaemon, print, seconds } from './daemon.ts';

const EXTENTS = 256;
const EXTENT_BYTES = 8 * MIB;

export function placesOn(capacityBytes: number): number[] {
  const step = Math.floor((capacityBytes - EXTENT_BYTES) / (EXTENTS - 1) / 65536) * 65536;
  return Array.from({ length: EXTENTS }, (_, index) => index * step);
}

/** A disk with 2 GiB used, its copy, and, if asked for, the same as a sparse raw file. */
export async function makeDisk(
  daemon: BenchDaemon,
  name: string,
  capacityBytes: number,
  rawFile?: string,
): Promise<void> {
  const createMs =
    1000 * (await seconds(() => daemon.call('POST', '/disks', { name, capacityBytes })));
  const raw = rawFile === undefined ? undefined : await open(rawFile, 'w');
  await raw?.truncate(capacityBytes);
  for (const place of placesOn(capacityBytes)) {
    const bytes = randomBytes(EXTENT_BYTES);
    const path = `${daemon.url}/v1/disks/${name}/data?offset=${place}&durability=volatile`;
    const response = await fetch(path, { method: 'PUT', body: bytes });
    if (!response.ok) throw new Error(await response.text());
    await raw?.write(bytes, 0, bytes.length, place);
  }
  await raw?.sync();
  await raw?.close();
  await daemon.call('POST', `/disks/${name}/flush`);
  const copy = await daemon.call('POST', `/disks/${name}/copies`, { name: `${name}-copy` });
  print({
    figure: 'make',
    name,
    capacityBytes,
    createMs,
    haltMicroseconds: copy['haltMicroseconds'],
  });
}

/** A backup of the copy from its POST until it is durable, then deleted. @returns its seconds */
export async function backup(daemon: BenchDaemon, name: string): Promise<number> {
  const wall = await seconds(async () => {
    const request = { name: 'bench', copy: `${name}-copy`, target: 'shelf' };
    await daemon.ended(await daemon.call('POST', '/backups', request));
  });
  await daemon.call('DELETE', '/backups/bench');
  return wall;
}
