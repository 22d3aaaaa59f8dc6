/**
 * The drive goes away in the middle of something, and comes back.
 */
import { describe, expect, it } from 'vitest';
import { assembleBackups } from '../../../src/tape/assemble.ts';
import { patterned, TapeWorld } from '../../support/tape-world.ts';

const P = 64 * 1024 - 128;
const bytes = patterned(6 * P);

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => (error as { code: string }).code,
  );

describe('a drive that goes away', () => {
  it('while writing costs nothing that was confirmed', async () => {
    const world = await TapeWorld.make();
    const writer = world.writer(world.backup('monday'));
    await writer.write([bytes.subarray(0, 2 * P)]);
    await writer.confirm();
    await writer.write([bytes.subarray(2 * P, 3 * P)]);
    world.library.unplug();
    expect(await codeOf(writer.write([bytes.subarray(3 * P)]))).toBe('TARGET_UNAVAILABLE');
    expect(writer.confirmedOffset).toBe(2 * P);
    await writer.abort();
    expect(await codeOf(world.resume(world.backup('monday')))).toBe('TARGET_UNAVAILABLE');
    world.library.plugIn();
    const again = await world.resume(world.backup('monday'));
    expect(again.offset).toBe(2 * P);
    await again.write([bytes.subarray(2 * P)]);
    await again.commit(Buffer.from('{}'));
    expect((await world.read(world.backup('monday'), 6 * P)).equals(bytes)).toBe(true);
  });

  it('at a filemark has confirmed nothing', async () => {
    const world = await TapeWorld.make();
    const writer = world.writer(world.backup('monday'));
    await writer.write([bytes.subarray(0, P)]);
    world.library.unplug();
    expect(await codeOf(writer.confirm())).toBe('TARGET_UNAVAILABLE');
    expect(world.parts).toEqual([]);
    await writer.abort();
    world.library.plugIn();
    expect((await world.resume(world.backup('monday'))).offset).toBe(0);
  });

  it('while reading is no damage, and reading goes on when it is back', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), bytes);
    const reader = world.reader(world.backup('monday'), bytes.length);
    const into = Buffer.alloc(bytes.length);
    await reader.read(0, into.subarray(0, P + 1));
    world.library.unplug();
    const rest = into.subarray(P + 1);
    expect(await codeOf(reader.readAvailable(P + 1, rest))).toBe('TARGET_UNAVAILABLE');
    expect(await codeOf(reader.read(0, into))).toBe('TARGET_UNAVAILABLE');
    world.library.plugIn();
    await reader.read(P + 1, rest);
    await reader.close();
    expect(into.equals(bytes)).toBe(true);
  });

  it('while scanning finds nothing damaged', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), bytes, P);
    const scan = world.scan(world.volumes[0]!);
    await new Promise(setImmediate);
    world.library.unplug();
    expect(await codeOf(scan)).not.toBe('no error');
    world.library.plugIn();
    const [found] = assembleBackups(await world.scanAll());
    expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: bytes.length });
  });
});
