/**
 * What goes wrong when a cartridge is full: its last trailer costs nothing else, least of all on
 * the cartridge that was put in behind it.
 */
import { describe, expect, it } from 'vitest';
import { TapeError } from '../../../src/tape/drive.ts';
import type { TapeDrive } from '../../../src/tape/drive.ts';
import { TapeSetWriter } from '../../../src/tape/set-writer.ts';
import type { SetWriterHost } from '../../../src/tape/set-writer.ts';
import { FILEMARK } from '../../../src/tape/tap-file.ts';
import { patterned, TapeWorld } from '../../support/tape-world.ts';

const R = 64 * 1024;
const P = R - 128;

/** A host that does something when the filemark of a full cartridge is on it. */
function whenFull(world: TapeWorld, act: (drive: TapeDrive) => Promise<void>): SetWriterHost {
  const host = world.host();
  let isDone = false;
  return {
    ...host,
    nextVolume: async () => {
      const writer = await host.nextVolume();
      const { drive } = writer.volume;
      const tell = drive.tell.bind(drive);
      drive.tell = async () => {
        const told = await tell();
        if (!isDone && writer.isFull) await act(drive);
        isDone ||= writer.isFull;
        return told;
      };
      return writer;
    },
  };
}

describe('a cartridge that is full', () => {
  it('and changed before its trailer: the other one keeps every byte', async () => {
    const world = await TapeWorld.make();
    world.locksDoor = false;
    await world.write(world.backup('other', '2'), patterned(2 * P, 5));
    const [other] = world.volumes;
    other!.isFull = true;
    const before = await world.library.objects(other!.cartridge);
    const host = whenFull(world, async (drive) => {
      // It cannot lock its door: so it refuses to unlock it.
      drive.unlock = async () => {
        throw new TapeError('EIO', 'unlock');
      };
      await world.swap(other!);
    });
    const bytes = patterned(20 * P);
    const options = { clock: world.clock, partBytes: Infinity };
    const writer = new TapeSetWriter(host, world.backup('monday'), options);
    await writer.write([bytes]);
    await writer.commit(Buffer.from('{}'));
    expect(await world.library.objects(other!.cartridge)).toEqual(before);
    expect(world.partsOf(world.backup('monday'))[0]).toMatchObject({ state: 'open' });
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
  });

  it('and has a bad spot for its trailer: nothing is written behind that', async () => {
    const world = await TapeWorld.make();
    const host = whenFull(world, async () => {
      world.library.injectFault({ operation: 'write', after: 0, count: 1 });
    });
    const bytes = patterned(20 * P);
    const options = { clock: world.clock, partBytes: Infinity };
    const writer = new TapeSetWriter(host, world.backup('monday'), options);
    await writer.write([bytes]);
    await writer.commit(Buffer.from('{}'));
    const [first] = world.volumes;
    const objects = await world.library.objects(first!.cartridge);
    expect(objects.map((length) => (length === FILEMARK ? '|' : 'r')).join('')).toBe(
      `r|${'r'.repeat(12)}|`,
    );
    expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
  });
});
