/**
 * A scan of a cartridge that shows less than the catalog knew: what counted goes on to count, and
 * nothing is written over it.
 */
import { rm } from 'node:fs/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { TapeMedia } from '../../../src/target/tape-media.ts';
import { patterned } from '../../contract/target.ts';
import { TapeBench } from '../../support/tape-target.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const KIB = 1024;
const bytes = patterned(2_000_000);

let bench: TapeBench;

function media(): TapeMedia {
  const { catalog, tapes: path } = bench;
  return new TapeMedia({
    kind: 'virtual-tape',
    path,
    set: 'nightly',
    catalog,
    clock: systemClock,
  });
}

async function write(name: string, content: Buffer): Promise<void> {
  const sink = await bench.target().createBackup(name, { contentId: name });
  await sink.write([content]);
  await sink.commit({ name });
}

async function read(name: string): Promise<Buffer> {
  const backup = await bench.target().open(name);
  const found = Buffer.alloc(backup.sizeBytes);
  await backup.read(0, found);
  await backup.close();
  return found;
}

async function scan(...cartridges: readonly string[]): Promise<void> {
  for (const name of cartridges) {
    await (await bench.library()).load(name);
    await media().scan();
  }
}

/** Makes the last record of a cartridge unreadable. */
async function damageLast(cartridge: string): Promise<void> {
  const library = await bench.library();
  const objects = await library.objects(cartridge);
  await library.damage(
    cartridge,
    objects.findLastIndex((length) => length > 0),
  );
}

async function expectWhole(): Promise<void> {
  const other = patterned(300_000);
  await write('b2', other);
  expect((await read('b1')).equals(bytes)).toBe(true);
  expect((await read('b2')).equals(other)).toBe(true);
  expect(await bench.target().readManifest('b1')).toEqual({ name: 'b1' });
}

describe.each([
  ['found no room', 0],
  ['has a bad spot', 128 * KIB],
])('a cartridge whose last trailer %s', (_why, earlyWarningBytes) => {
  beforeEach(async () => {
    const directory = await temporaryDirectory();
    bench = new TapeBench(directory, { cartridgeBytes: 1_300_000, earlyWarningBytes });
    await write('b1', bytes);
    if (earlyWarningBytes > 0) await damageLast('T001');
    const [first] = (await bench.catalog.read()).volumes;
    expect(first).toMatchObject({ isFull: true });
  });

  it('is full after a scan as before, and keeps its bytes', async () => {
    const [before] = (await bench.catalog.read()).volumes;
    await scan('T001');
    expect((await bench.catalog.read()).volumes[0]).toEqual(before);
    await expectWhole();
  });

  it.each([
    ['T001', 'T002'],
    ['T002', 'T001'],
  ])('keeps its bytes where the catalog is made anew (%s, %s)', async (...order) => {
    await rm(bench.catalog.path);
    await scan(...order, 'T001');
    expect((await bench.catalog.read()).volumes[0]).toMatchObject({ isFull: true });
    await expectWhole();
  });
});

describe('a cartridge with room', () => {
  beforeEach(async () => {
    bench = new TapeBench(await temporaryDirectory(), { smallRing: true });
    await write('b1', bytes);
  });

  it('keeps the final part of which the trailer has a bad spot', async () => {
    const { volumes } = await bench.catalog.read();
    await damageLast('T001');
    await scan('T001');
    expect((await bench.catalog.read()).volumes).toEqual(volumes);
    await expectWhole();
  });

  it('is not full for the rest of a transfer that went on elsewhere', async () => {
    const sink = await bench.target().createBackup('b3', { contentId: 'b3' });
    await sink.write([bytes.subarray(0, 600_000)]);
    await sink.confirm();
    await sink.write([bytes.subarray(600_000, 1_000_000)]);
    await sink.abort(true);
    await scan('T001');
    const before = (await bench.catalog.read()).volumes[0];
    const library = await bench.library();
    await library.unload();
    await bench.prepareVolume(2);
    const again = await bench.target().createBackup('b3', { contentId: 'b3' });
    await again.write([bytes]);
    await again.commit({ name: 'b3' });
    await rm(bench.catalog.path);
    await scan('T001', 'T002', 'T001');
    const { volumes } = await bench.catalog.read();
    expect(volumes.map(({ isFull }) => isFull)).toEqual([false, false]);
    expect(volumes[0]?.end).toEqual(before?.end);
    expect((await read('b3')).equals(bytes)).toBe(true);
    await expectWhole();
  });

  it('is no more known for the rest of a transfer when something lies over it', async () => {
    const { volumes } = await bench.catalog.read();
    const sink = await bench.target().createBackup('b3', { contentId: 'b3' });
    await sink.write([bytes.subarray(0, 400_000)]);
    await sink.abort(true);
    await scan('T001');
    const found = (await bench.catalog.read()).byName('b3');
    expect(found?.parts.map(({ state }) => state)).toEqual(['open']);
    await write('b2', bytes.subarray(0, 300_000));
    const after = await bench.catalog.read();
    expect(after.byName('b3')?.parts).toEqual([]);
    const dataBytes = Number(volumes[0]?.dataBytes) + 300_000;
    expect(after.volumes[0]).toMatchObject({ dataBytes, isFull: false });
    const again = await bench.target().createBackup('b3', { contentId: 'b3' });
    await again.write([bytes]);
    await again.commit({ name: 'b3' });
    expect((await read('b3')).equals(bytes)).toBe(true);
  });
});

it('finds what is known, wherever a cartridge became full', async () => {
  let backups = 0;
  for (let size = 330_000; size < 640_000; size += 33_000) {
    bench = new TapeBench(await temporaryDirectory(), { cartridgeBytes: 900_000 });
    await write('b1', bytes.subarray(0, size));
    await write('b2', bytes.subarray(0, 700_000));
    const told = async () => {
      const state = await bench.catalog.read();
      return state.volumes.map((volume) => {
        return { ...volume, backups: state.backupNamesOn(volume.label.volumeId) };
      });
    };
    const before = await told();
    await scan('T001', 'T002');
    expect(await told(), `b1 of ${size} bytes`).toEqual(before);
    backups = Math.max(backups, before.length);
  }
  expect(backups).toBeGreaterThan(1);
});
