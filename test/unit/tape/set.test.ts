import { describe, expect, it } from 'vitest';
import { assembleBackups } from '../../../src/tape/assemble.ts';
import { FILEMARK } from '../../../src/tape/tap-file.ts';
import { patterned, TapeWorld } from '../../support/tape-world.ts';
import type { KnownVolume } from '../../support/tape-world.ts';

const KIB = 1024;
const R = 64 * KIB;
const P = R - 128;

async function shape(world: TapeWorld, volume: KnownVolume): Promise<string> {
  const objects = await world.library.objects(volume.cartridge);
  return objects.map((length) => (length === FILEMARK ? '|' : 'r')).join('');
}

describe('a backup on one cartridge', () => {
  it('is a label, and a tape file with header, data, manifest and trailer', async () => {
    const world = await TapeWorld.make();
    const bytes = patterned(2 * P + 5);
    await world.write(world.backup('monday'), bytes);
    expect(await shape(world, world.volumes[0]!)).toBe('r|rrrrrr|');
    expect(world.parts).toMatchObject([
      { part: 0, state: 'final', firstOffset: 0, dataBytes: bytes.length, dataRecords: 3 },
    ]);
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
  });

  it('may be empty', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), Buffer.alloc(0));
    expect(await shape(world, world.volumes[0]!)).toBe('r|rrr|');
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, imageBytes: 0, missing: [] });
  });

  it('has a part for each confirm, and each counts from its filemark on', async () => {
    const world = await TapeWorld.make();
    const writer = world.writer(world.backup('monday'));
    expect(await writer.confirm()).toBe(0);
    await writer.write([patterned(10)]);
    expect(writer.confirmedOffset).toBe(0);
    expect(await writer.confirm()).toBe(10);
    expect(await writer.confirm()).toBe(10);
    await writer.write([patterned(7)]);
    await writer.commit(Buffer.from('{}'));
    expect(await shape(world, world.volumes[0]!)).toBe('r|rrr|rrrr|');
    expect(world.parts.map((part) => [part.part, part.firstOffset, part.state])).toEqual([
      [0, 0, 'continues'],
      [1, 10, 'final'],
    ]);
  });

  it('is cut into parts of partBytes', async () => {
    const world = await TapeWorld.make();
    const bytes = patterned(5 * P);
    await world.write(world.backup('monday'), bytes, 2 * P);
    expect(await shape(world, world.volumes[0]!)).toBe('r|rrrr|rrrr|rrrr|');
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
  });

  it('follows another one, and both are found by a scan as the catalog has them', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(P + 1));
    await world.write(world.backup('tuesday', '2'), patterned(3 * P));
    const [volume] = world.volumes;
    const scan = await world.scan(volume!);
    expect(scan.parts.map(({ entry }) => entry)).toEqual(world.parts);
    expect(scan.parts.map(({ manifest }) => manifest)).toEqual([
      { backup: 'monday' },
      { backup: 'tuesday' },
    ]);
    expect(scan.parts[1]!.header?.info).toEqual({ note: 'tuesday' });
    expect(scan).toMatchObject({ others: [], isFull: false, end: volume!.end });
  });

  it('has a manifest of several records if it is long', async () => {
    const world = await TapeWorld.make();
    const writer = world.writer(world.backup('monday'));
    await writer.write([patterned(100)]);
    const manifest = { text: 'x'.repeat(2 * P) };
    await writer.commit(Buffer.from(JSON.stringify(manifest)));
    const scan = await world.scan(world.volumes[0]!);
    expect(scan.parts[0]!.manifest).toEqual(manifest);
    expect(scan.parts[0]!.entry.manifestRecords).toBe(3);
  });

  it('gives any range, and none beyond its end', async () => {
    const world = await TapeWorld.make();
    const bytes = patterned(4 * P + 99);
    await world.write(world.backup('monday'), bytes, 2 * P);
    const reader = world.reader(world.backup('monday'), bytes.length);
    for (const [from, to] of [
      [P - 1, P + 1],
      [3 * P + 7, 4 * P + 99],
      [0, 1],
      [2 * P, 2 * P],
      [1, 4 * P],
    ]) {
      const into = Buffer.alloc(to! - from!);
      await reader.read(from!, into);
      expect(into.equals(bytes.subarray(from, to))).toBe(true);
    }
    await expect(reader.read(bytes.length, Buffer.alloc(1))).rejects.toMatchObject({
      code: 'IMAGE_TRUNCATED',
    });
    await reader.close();
  });
});

describe('a backup over several cartridges', () => {
  // 1 MiB with the early warning at 768 KiB: the 13th record crosses it, the label counted.
  it('goes on with the record that found no room', async () => {
    const world = await TapeWorld.make();
    const bytes = patterned(33 * P + 1);
    await world.write(world.backup('monday'), bytes);
    expect(world.volumes).toHaveLength(4);
    const [first, second, , last] = world.volumes;
    expect(await shape(world, first!)).toBe(`r|${'r'.repeat(12)}|r|`);
    expect(await shape(world, second!)).toBe(`r|${'r'.repeat(12)}|r|`);
    expect(await shape(world, last!)).toBe('r|rrrr|');
    expect(world.parts.map((part) => part.firstOffset)).toEqual([0, 11 * P, 22 * P, 33 * P]);
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
    expect(world.mounted).toEqual(world.volumes.map(({ label }) => label.volumeId));
  });

  it('is found by a scan of the cartridges in any order, as the catalog has it', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(25 * P));
    const scanned = await world.scanAll();
    for (const volumes of [scanned, scanned.toReversed()]) {
      const [found] = assembleBackups(volumes);
      expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: 25 * P });
      expect(found!.parts).toEqual(world.parts);
      expect(found!.manifest).toEqual({ backup: 'monday' });
    }
  });

  it('counts without a trailer where even that finds no room', async () => {
    const world = await TapeWorld.make({ earlyWarningBytes: 0 });
    const bytes = patterned(20 * P);
    await world.write(world.backup('monday'), bytes);
    expect(await shape(world, world.volumes[0]!)).toBe(`r|${'r'.repeat(15)}|`);
    expect(world.parts[0]).toMatchObject({ state: 'open', dataBytes: 14 * P, endsVolume: true });
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: bytes.length });
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7])(
    'is whole wherever the end of the first one falls (%i records before)',
    async (records) => {
      for (const earlyWarningBytes of [0, R, 3 * R]) {
        const world = await TapeWorld.make({ sizeBytes: 10 * R, earlyWarningBytes });
        await world.write(world.backup('monday'), patterned(records * P, 7));
        const bytes = patterned(2 * P + 3, 9);
        await world.write(world.backup('tuesday', '2'), bytes, P);
        for (const [backup, content] of [
          [world.backup('monday'), patterned(records * P, 7)],
          [world.backup('tuesday', '2'), bytes],
        ] as const) {
          expect((await world.read(backup, content.length)).equals(content)).toBe(true);
        }
        const found = assembleBackups(await world.scanAll());
        expect(found.map((each) => [each.backup, each.isComplete, each.missing])).toEqual([
          ['monday', true, []],
          ['tuesday', true, []],
        ]);
        expect(found.map(({ manifest }) => manifest)).toEqual([
          { backup: 'monday' },
          { backup: 'tuesday' },
        ]);
      }
    },
  );

  it('needs no right to switch asynchronous writes off', async () => {
    const world = await TapeWorld.make({ mayChangeOptions: false });
    world.library.setDriverOptions({ asyncWrites: true });
    const bytes = patterned(25 * P);
    await world.write(world.backup('monday'), bytes);
    expect(await shape(world, world.volumes[0]!)).toBe(`r|${'r'.repeat(12)}|r|`);
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
  });

  it.each([256, 1024])('has records of %i KiB if the label says so', async (kib) => {
    const options = { recordBytes: kib * KIB, earlyWarningBytes: 0, sizeBytes: 4200 * KIB };
    const world = await TapeWorld.make(options);
    const bytes = patterned(9_000_001);
    await world.write(world.backup('monday'), bytes);
    expect(world.volumes.length).toBeGreaterThan(2);
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: bytes.length });
  });

  it('may go on with records of another length', async () => {
    const world = await TapeWorld.make();
    await world.addVolume({ recordBytes: 128 * KIB });
    await world.addVolume();
    await world.addVolume({ recordBytes: 192 * KIB });
    const bytes = patterned(25 * P + 3);
    await world.write(world.backup('monday'), bytes);
    expect(world.parts.map(({ recordBytes }) => recordBytes / KIB)).toEqual([128, 64, 192]);
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: bytes.length });
  });

  it('is refused on cartridges that are too small for anything', async () => {
    const world = await TapeWorld.make({ sizeBytes: 2 * R, earlyWarningBytes: 0 });
    const writer = world.writer(world.backup('monday'));
    await expect(writer.write([patterned(P)])).rejects.toMatchObject({ code: 'TARGET_FULL' });
    await expect(writer.write([patterned(P)])).rejects.toMatchObject({
      code: 'TARGET_UNAVAILABLE',
    });
    await writer.abort();
  });
});
