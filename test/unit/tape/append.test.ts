import { describe, expect, it } from 'vitest';
import { LABEL_ONLY, openForAppend } from '../../../src/tape/append.ts';
import { assembleBackups, resumePosition } from '../../../src/tape/assemble.ts';
import { alignedBuffer } from '../../../src/base/aligned-memory.ts';
import { volumeName } from '../../../src/tape/media.ts';
import { FILEMARK } from '../../../src/tape/tap-file.ts';
import { releaseVolume } from '../../../src/tape/volume.ts';
import { cutFilemark, patterned, TapeWorld } from '../../support/tape-world.ts';
import type { KnownVolume } from '../../support/tape-world.ts';

const MIB = 1024 * 1024;
const P = 64 * 1024 - 128;

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => (error as { code: string }).code,
  );

async function shape(world: TapeWorld, volume: KnownVolume): Promise<string> {
  const objects = await world.library.objects(volume.cartridge);
  return objects.map((length) => (length === FILEMARK ? '|' : 'r')).join('');
}

const append = (world: TapeWorld, volume: KnownVolume) =>
  openForAppend(world.device, volumeName(volume.label), {
    place: volume.end,
    partId: volume.lastPartId,
  });

/** A world in which a transfer was cut off behind a confirmed part and two more records. */
async function cutWorld() {
  const world = await TapeWorld.make({ sizeBytes: 2 * MIB });
  const writer = world.writer(world.backup('monday'));
  await writer.write([patterned(6 * P).subarray(0, 2 * P)]);
  await writer.confirm();
  await writer.write([patterned(6 * P).subarray(2 * P, 4 * P + 9)]);
  await world.kill(writer);
  return { world, volume: world.volumes[0]! };
}

async function finish(world: TapeWorld): Promise<void> {
  const writer = await world.resume(world.backup('monday'));
  await writer.write([patterned(6 * P).subarray(writer.offset)]);
  await writer.commit(Buffer.from('{}'));
  expect((await world.read(world.backup('monday'), 6 * P)).equals(patterned(6 * P))).toBe(true);
}

describe('appending', () => {
  it('goes on where the data ended', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    const [volume] = world.volumes;
    const point = await append(world, volume!);
    expect(point).toMatchObject({ place: volume!.end, adopted: [], isFull: false });
    expect(await point.volume.drive.tell()).toBe(volume!.end.object);
    await releaseVolume(point.volume);
  });

  it('cuts off the rest of a transfer, and the transfer goes on behind what counts', async () => {
    const { world, volume } = await cutWorld();
    expect(await shape(world, volume)).toBe('r|rrrr|rrr|');
    const writer = await world.resume(world.backup('monday'));
    expect(writer.offset).toBe(2 * P);
    await writer.abort();
    expect(await shape(world, volume)).toBe('r|rrrr||');
    await finish(world);
    expect(await shape(world, volume)).toBe('r|rrrr||rrrrrrr|');
  });

  it('does so where the drive was closed in order, too', async () => {
    const world = await TapeWorld.make();
    const writer = world.writer(world.backup('monday'));
    await writer.write([patterned(6 * P).subarray(0, 2 * P)]);
    await writer.abort();
    expect(await shape(world, world.volumes[0]!)).toBe('r|rrr');
    await finish(world);
  });

  it('does so after a power cut, too', async () => {
    const { world, volume } = await cutWorld();
    await cutFilemark(world, volume);
    await finish(world);
    expect(await shape(world, volume)).toBe('r|rrrr||rrrrrrr|');
  });

  it('leaves the rest where the cartridge is written once only', async () => {
    const { world, volume } = await cutWorld();
    await world.library.change(volume.cartridge, { worm: true });
    await finish(world);
    expect(await shape(world, volume)).toBe('r|rrrr|rrr|rrrrrrr|');
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: 6 * P });
    expect(found!.parts.map(({ state }) => state)).toEqual(['continues', 'final', 'open']);
  });

  it('ends the rest with a filemark there if it has none', async () => {
    const { world, volume } = await cutWorld();
    await cutFilemark(world, volume);
    await world.library.change(volume.cartridge, { worm: true });
    await finish(world);
    expect(await shape(world, volume)).toBe('r|rrrr|rrr|rrrrrrr|');
  });

  it('takes closed parts that the catalog had no time to note', async () => {
    const world = await TapeWorld.make({ sizeBytes: 2 * MIB });
    const writer = world.writer(world.backup('monday'));
    await writer.write([patterned(6 * P).subarray(0, 2 * P)]);
    await writer.confirm();
    world.forgetsParts = true;
    await writer.write([patterned(6 * P).subarray(2 * P, 4 * P)]);
    await expect(writer.confirm()).rejects.toThrow('the power is gone');
    expect(writer.confirmedOffset).toBe(2 * P);
    await writer.abort();
    world.forgetsParts = false;
    const again = await world.resume(world.backup('monday'));
    expect(again.offset).toBe(4 * P);
    await again.abort();
    await finish(world);
    const [volume] = world.volumes;
    expect(await shape(world, volume!)).toBe('r|rrrr|rrrr|rrrrr|');
  });

  it('knows a complete backup that the catalog had no time to note', async () => {
    const world = await TapeWorld.make();
    world.forgetsParts = true;
    await expect(world.write(world.backup('monday'), patterned(9))).rejects.toThrow('power');
    world.forgetsParts = false;
    const point = await append(world, world.volumes[0]!);
    expect(point.adopted).toMatchObject([{ entry: { state: 'final' }, manifest: {} }]);
    await releaseVolume(point.volume);
  });

  it('knows a full cartridge that the catalog had no time to note', async () => {
    const world = await TapeWorld.make();
    world.forgetsParts = true;
    const writer = world.writer(world.backup('monday'));
    await expect(writer.write([patterned(20 * P)])).rejects.toThrow('power');
    world.forgetsParts = false;
    const again = await world.resume(world.backup('monday'));
    expect(world.volumes[0]!.isFull).toBe(true);
    expect(again.offset).toBe(11 * P);
    await again.write([patterned(20 * P).subarray(again.offset)]);
    await again.commit(Buffer.from('{}'));
    expect(world.volumes).toHaveLength(2);
    expect((await world.read(world.backup('monday'), 20 * P)).equals(patterned(20 * P))).toBe(true);
  });

  it('is refused if the tape ends before what the catalog knows', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    const [volume] = world.volumes;
    volume!.end = { object: 99, file: 9 };
    expect(await codeOf(append(world, volume!))).toBe('MEDIUM_MISMATCH');
    expect(await shape(world, volume!)).toBe('r|rrrr|');
  });

  it('is refused if the known end is in the midst of a part', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    const [volume] = world.volumes;
    volume!.end = { object: 4, file: 1 };
    expect(await codeOf(append(world, volume!))).toBe('MEDIUM_MISMATCH');
    expect(await shape(world, volume!)).toBe('r|rrrr|');
  });

  it('is refused if the last part is another one than the catalog knows', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    const [volume] = world.volumes;
    volume!.lastPartId = world.backup('x', '9').backupId;
    expect(await codeOf(append(world, volume!))).toBe('MEDIUM_MISMATCH');
  });

  it('is refused if somebody else has written behind', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    const [volume] = world.volumes;
    const drive = await world.device.open('write');
    await drive.seekEndOfData();
    await drive.write(alignedBuffer(10_240));
    await drive.close();
    expect(await codeOf(append(world, volume!))).toBe('MEDIUM_MISMATCH');
    expect(await shape(world, volume!)).toBe('r|rrrr|r|');
  });

  it('needs no catalog: from the label on everything is found', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    await world.write(world.backup('tuesday', '2'), patterned(3));
    const [volume] = world.volumes;
    const name = volumeName(volume!.label);
    const point = await openForAppend(world.device, name, LABEL_ONLY);
    expect(point.adopted.map(({ entry }) => entry)).toEqual(world.parts);
    expect(point.place).toEqual(volume!.end);
    await releaseVolume(point.volume);
  });

  it('passes a bad spot in the trailer of the last part', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3));
    const [volume] = world.volumes;
    await world.library.damage(volume!.cartridge, volume!.end.object - 2);
    await world.write(world.backup('tuesday', '2'), patterned(3));
    expect((await world.read(world.backup('tuesday', '2'), 3)).equals(patterned(3))).toBe(true);
  });
});

describe('a drive that fails while writing', () => {
  it.each(['write', 'filemarks'] as const)(
    '(%s) costs nothing that was confirmed, whichever call it is',
    async (operation) => {
      for (let after = 0; after < 8; after += 1) {
        const world = await TapeWorld.make();
        const writer = world.writer(world.backup('monday'), 2 * P);
        await writer.write([patterned(6 * P).subarray(0, 10)]);
        await writer.confirm();
        world.library.injectFault({ operation, after, count: 1 });
        const failed = await codeOf(writer.write([patterned(6 * P).subarray(10)]));
        if (failed === 'no error') await codeOf(writer.commit(Buffer.from('{}')));
        else expect(failed).toBe('TARGET_UNAVAILABLE');
        const confirmed = writer.confirmedOffset;
        await writer.abort();
        const { offset } = resumePosition(world.partsOf(world.backup('monday')));
        expect(offset).toBe(confirmed);
        const found = assembleBackups(await world.scanAll())[0]!;
        expect(found.missing).toEqual([]);
        if (!found.isComplete) await finish(world);
      }
    },
  );

  it.each([1, 2, 3])(
    'may hold another cartridge by then: nothing is written to that (%i records before)',
    async (records) => {
      const world = await TapeWorld.make();
      world.locksDoor = false;
      await world.write(world.backup('other', '2'), patterned(3 * P, 5));
      const other = world.volumes[0]!;
      other.isFull = true;
      const before = await shape(world, other);
      const writer = world.writer(world.backup('monday'));
      await writer.write([patterned(records * P)]);
      await world.swap(other);
      expect(await codeOf(writer.write([patterned(P)]))).toBe('TARGET_UNAVAILABLE');
      expect(await codeOf(writer.confirm())).toBe('TARGET_UNAVAILABLE');
      expect(writer.confirmedOffset).toBe(0);
      await writer.abort();
      expect(await shape(world, other)).toBe(before);
      const bytes = await world.read(world.backup('other', '2'), 3 * P);
      expect(bytes.equals(patterned(3 * P, 5))).toBe(true);
      await finish(world);
    },
  );

  it('confirms and writes nothing if the cartridge was changed before the filemark', async () => {
    const world = await TapeWorld.make();
    world.locksDoor = false;
    const other = await world.addVolume();
    other.isFull = true;
    const writer = world.writer(world.backup('monday'));
    await writer.write([patterned(P)]);
    await world.swap(other);
    expect(await codeOf(writer.confirm())).toBe('TARGET_UNAVAILABLE');
    await writer.abort();
    expect(await shape(world, other)).toBe('r|');
    await finish(world);
  });
});
