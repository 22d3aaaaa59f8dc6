import { describe, expect, it } from 'vitest';
import { assembleBackups, assembleSets } from '../../../src/tape/assemble.ts';
import type { ByteRange } from '../../../src/tape/assemble.ts';
import { patterned, TapeWorld } from '../../support/tape-world.ts';

const P = 64 * 1024 - 128;
const length = 30 * P + 77;
const bytes = patterned(length);

/** One backup over three cartridges: 11 records, 11 records, the rest. */
async function threeCartridges(): Promise<TapeWorld> {
  const world = await TapeWorld.make();
  await world.write(world.backup('monday'), bytes);
  expect(world.parts.map(({ dataRecords }) => dataRecords)).toEqual([11, 11, 9]);
  return world;
}

/** Reads all of it around the damage; what is not lost must be right, what is lost zeros. */
async function readAround(world: TapeWorld, scanned: boolean): Promise<ByteRange[]> {
  const [found] = scanned ? assembleBackups(await world.scanAll()) : [];
  const reader = world.readerOf(found?.parts ?? world.parts, length);
  const lost: ByteRange[] = [];
  const into = Buffer.alloc(length, 0xee);
  for (let at = 0; at < length; at += 3 * P + 1) {
    const part = into.subarray(at, Math.min(length, at + 3 * P + 1));
    for (const range of await reader.readAvailable(at, part)) {
      const last = lost.at(-1);
      if (last !== undefined && last.offset + last.length === range.offset) {
        lost[lost.length - 1] = { offset: last.offset, length: last.length + range.length };
      } else lost.push(range);
    }
  }
  await reader.close();
  const expected = Buffer.from(bytes);
  for (const range of lost) expected.fill(0, range.offset, range.offset + range.length);
  expect(into.equals(expected)).toBe(true);
  return lost;
}

// Objects of a cartridge: 0 label, 1 filemark, 2 header, 3 … 13 data, 14 filemark, 15 trailer.
describe.each([
  ['by the catalog', false],
  ['by a scan', true],
])('read %s', (_, scanned) => {
  it('loses nothing if nothing is damaged', async () => {
    expect(await readAround(await threeCartridges(), scanned)).toEqual([]);
  });

  it('a bad spot costs one record', async () => {
    const world = await threeCartridges();
    await world.library.damage('T002', 3 + 4);
    expect(await readAround(world, scanned)).toEqual([{ offset: 15 * P, length: P }]);
  });

  it('several bad spots cost their records, the last one to its end only', async () => {
    const world = await threeCartridges();
    for (const object of [3, 4, 13]) await world.library.damage('T001', object);
    await world.library.damage('T003', 3 + 8);
    expect(await readAround(world, scanned)).toEqual([
      { offset: 0, length: 2 * P },
      { offset: 10 * P, length: P },
      { offset: 30 * P, length: 77 },
    ]);
  });

  it.each([2, 15])('a bad header or trailer costs nothing (object %i)', async (object) => {
    const world = await threeCartridges();
    await world.library.damage('T002', object);
    expect(await readAround(world, scanned)).toEqual([]);
  });

  it('header and trailer both bad cost nothing', async () => {
    const world = await threeCartridges();
    for (const object of [2, 15]) await world.library.damage('T002', object);
    expect(await readAround(world, scanned)).toEqual([]);
  });

  it('header, first and last records bad cost those records', async () => {
    const world = await threeCartridges();
    for (const object of [2, 3, 4, 12, 13, 15]) await world.library.damage('T002', object);
    expect(await readAround(world, scanned)).toEqual([
      { offset: 11 * P, length: 2 * P },
      { offset: 20 * P, length: 2 * P },
    ]);
  });

  it('a missing cartridge costs what is on it, and is asked for once', async () => {
    const world = await threeCartridges();
    world.lost.add('T002');
    expect(await readAround(world, scanned)).toEqual([{ offset: 11 * P, length: 11 * P }]);
  });
});

describe('a scan of damaged or missing cartridges', () => {
  it('names what is missing', async () => {
    const world = await threeCartridges();
    const ids = world.volumes.map(({ label }) => label.volumeId);
    world.lost.add('T002');
    expect(assembleBackups(await world.scanAll())[0]).toMatchObject({
      backup: 'monday',
      isComplete: true,
      imageBytes: length,
      missing: [{ offset: 11 * P, length: 11 * P }],
      missingVolumeIds: [ids[1]],
    });
    world.lost.add('T001');
    expect(assembleBackups(await world.scanAll())[0]).toMatchObject({
      missing: [{ offset: 0, length: 22 * P }],
    });
    world.lost.delete('T001');
    world.lost.add('T003');
    expect(assembleBackups(await world.scanAll())[0]).toMatchObject({
      isComplete: false,
      imageBytes: null,
      manifest: null,
      missing: [],
    });
  });

  it('lists sets with the numbers that are missing or there twice', async () => {
    const world = await threeCartridges();
    const [first, second, third] = world.volumes.map(({ label }) => label);
    const twin = { ...second!, volumeId: first!.volumeId.replace('0193', '0194') };
    const other = { ...first!, setId: first!.volumeId, set: 'weekly' };
    expect(assembleSets([third!, first!])).toMatchObject([
      { set: 'nightly', missingNumbers: [2], doubleNumbers: [] },
    ]);
    expect(assembleSets([second!, other, third!, twin, second!])).toMatchObject([
      { set: 'nightly', missingNumbers: [1], doubleNumbers: [2] },
      { set: 'weekly', missingNumbers: [], doubleNumbers: [] },
    ]);
  });

  it('tells a final part without a good trailer from a complete backup', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3 * P));
    await world.library.damage('T001', 7);
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: false, imageBytes: null });
    expect(found!.parts).toMatchObject([{ state: 'open', dataBytes: 3 * P }]);
  });

  it('gives a complete backup without its manifest if that is damaged', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(3 * P));
    await world.library.damage('T001', 6);
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, imageBytes: 3 * P, manifest: null });
    expect(found!.info).toEqual({ note: 'monday' });
  });

  it('counts no part twice if a cut transfer began it before', async () => {
    const world = await TapeWorld.make({ sizeBytes: 4 * 1024 * 1024 });
    const first = world.writer(world.backup('monday'));
    await first.write([bytes.subarray(0, 5 * P)]);
    await world.library.change('T001', { worm: true });
    await world.kill(first);
    const again = await world.resume(world.backup('monday'));
    expect(again.offset).toBe(0);
    await again.write([bytes]);
    await again.commit(Buffer.from('{}'));
    const [found] = assembleBackups(await world.scanAll());
    expect(found!.parts.map(({ state, dataBytes }) => [state, dataBytes])).toEqual([
      ['final', length],
      ['open', 5 * P],
    ]);
    // Where the whole one is damaged, the rest of the first transfer has the bytes.
    const whole = found!.parts[0]!;
    for (const record of [1, 2]) {
      await world.library.damage('T001', whole.place.object + 1 + record);
    }
    expect(await readAround(world, true)).toEqual([]);
  });

  it('reads a cartridge in the drive that is another one as an error, not as damage', async () => {
    const world = await threeCartridges();
    world.locksDoor = false;
    const reader = world.reader(world.backup('monday'), length);
    await reader.read(0, Buffer.alloc(10));
    await world.swap(world.volumes[2]!);
    await expect(reader.read(P, Buffer.alloc(10))).rejects.toMatchObject({ code: 'MEDIUM_WRONG' });
    const into = Buffer.alloc(10);
    await reader.read(P, into);
    expect(into.equals(bytes.subarray(P, P + 10))).toBe(true);
    await reader.close();
  });

  it('does not take the end of another cartridge for damage', async () => {
    const world = await threeCartridges();
    world.locksDoor = false;
    const empty = await world.addVolume();
    const reader = world.reader(world.backup('monday'), length);
    await reader.read(0, Buffer.alloc(10));
    await world.swap(empty);
    await expect(reader.read(P, Buffer.alloc(10))).rejects.toMatchObject({ code: 'MEDIUM_WRONG' });
    await reader.close();
  });

  it('names a lost range exactly in the error', async () => {
    const world = await threeCartridges();
    await world.library.damage('T001', 3 + 1);
    const reader = world.reader(world.backup('monday'), length);
    await expect(reader.read(P - 5, Buffer.alloc(10))).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      details: { offset: P - 5, length: 10, lost: [{ offset: P, length: 5 }] },
    });
    await reader.read(P - 5, Buffer.alloc(5));
    await reader.close();
  });
});
