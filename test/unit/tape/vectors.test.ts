/**
 * Cartridges that stay readable for ever: what version 1 wrote, byte for byte.
 *
 * `tape-v1-1` … `-3` hold `image-v1-small` as the backup monday: on the first the image's second
 * record found no room, on the second the manifest, on the third the trailer.
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { assembleBackups } from '../../../src/tape/assemble.ts';
import { scanVolume } from '../../../src/tape/scan.ts';
import { TapeSetReader } from '../../../src/tape/set-reader.ts';
import { VirtualLibrary } from '../../../src/tape/virtual-library.ts';
import { mountVolume, releaseVolume } from '../../../src/tape/volume.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { TapeWorld } from '../../support/tape-world.ts';

const R = 64 * 1024;
const vectors = join(import.meta.dirname, '..', '..', 'vectors');
const image = readFileSync(join(vectors, 'image-v1-small.spindle'));
const names = ['tape-v1-1', 'tape-v1-2', 'tape-v1-3'];
const golden = (name: string) => gunzipSync(readFileSync(join(vectors, `${name}.tap.gz`)));

/** The cartridges in a library of their own. */
async function goldenLibrary(): Promise<VirtualLibrary> {
  const folder = await temporaryDirectory();
  for (const name of names) writeFileSync(join(folder, `${name}.tap`), golden(name));
  return VirtualLibrary.open(folder);
}

describe('cartridges of version 1', () => {
  it('are what is written today', async () => {
    const world = await TapeWorld.make({ sizeBytes: 4 * R, earlyWarningBytes: R + 1 });
    await world.write(world.backup('monday'), image);
    expect(world.volumes).toHaveLength(3);
    for (const [index, { cartridge }] of world.volumes.entries()) {
      const path = join(world.library.directory, `${cartridge}.tap`);
      expect(readFileSync(path).equals(golden(names[index]!)), cartridge).toBe(true);
    }
  });

  it('are read: by a scan, and their image', async () => {
    const library = await goldenLibrary();
    const scanned = [];
    const ids = new Map<string, string>();
    for (const name of names) {
      await library.load(name);
      const volume = await mountVolume(library.device(), 'read');
      scanned.push({ label: volume.label, ...(await scanVolume(volume)) });
      ids.set(volume.label.volumeId, name);
      await releaseVolume(volume);
    }
    const [found] = assembleBackups(scanned);
    expect(found).toMatchObject({
      backup: 'monday',
      isComplete: true,
      imageBytes: image.length,
      missing: [],
      missingVolumeIds: [],
      manifest: { backup: 'monday' },
      info: { note: 'monday' },
    });
    expect(found!.parts.map(({ state, dataRecords }) => [state, dataRecords])).toEqual([
      ['continues', 1],
      ['continues', 1],
      ['final', 0],
    ]);
    const host = {
      mount: async (volumeId: string) => {
        await library.load(ids.get(volumeId)!);
        return mountVolume(library.device(), 'read');
      },
      release: (volume: Parameters<typeof releaseVolume>[0]) => releaseVolume(volume),
    };
    const reader = new TapeSetReader(host, found!.parts, image.length);
    const bytes = Buffer.alloc(image.length);
    await reader.read(0, bytes);
    await reader.close();
    expect(bytes.equals(image)).toBe(true);
    await library.close();
  });

  it('give the disk back with the two programs of tools/ alone', async () => {
    const folder = await temporaryDirectory();
    for (const name of names) writeFileSync(join(folder, `${name}.tap`), golden(name));
    for (const name of ['spindle-tape.py', 'spindle-restore.py']) {
      copyFileSync(join(vectors, '..', '..', 'tools', name), join(folder, name));
    }
    const python = (...args: string[]) => spawnSync('python3', args, { cwd: folder }).status;
    const taps = names.map((name) => `${name}.tap`);
    expect(python('spindle-tape.py', 'extract', ...taps)).toBe(0);
    expect(readFileSync(join(folder, 'monday.spindle')).equals(image)).toBe(true);
    expect(python('spindle-restore.py', 'restore', 'monday.spindle', 'disk.raw')).toBe(0);
    expect(readFileSync(join(folder, 'disk.raw'))).toHaveLength(82_432);
  });
});
