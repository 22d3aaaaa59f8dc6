/**
 * Backups on cartridges as tests over a drive: in `npm test` over the virtual one, in
 * `npm run test:tape` over the kernel's driver. What needs many worlds is in test/unit/tape and
 * test/property/tape.test.ts; here is what a real driver could do otherwise than the virtual one.
 *
 *     describeTapeSet('virtual', async () => harness);
 */
import { beforeEach, afterEach, describe, expect, it } from 'vitest';
import { assembleBackups } from '../../src/tape/assemble.ts';
import { volumeName } from '../../src/tape/media.ts';
import { mountVolume, releaseVolume } from '../../src/tape/volume.ts';
import { patterned, TapeWorld } from '../support/tape-world.ts';
import type { KnownVolume, TapeHands } from '../support/tape-world.ts';
import type { TapeHarness } from './tape-bench.ts';

const KIB = 1024;
const P = 64 * KIB - 128;
const letters: Readonly<Record<string, 'A' | 'B'>> = { T001: 'A', T002: 'B' };

/** The two cartridges of a harness as a library. */
class HarnessHands implements TapeHands {
  readonly harness: TapeHarness;
  readonly #names: string[] = [];

  constructor(harness: TapeHarness) {
    this.harness = harness;
  }

  device() {
    return this.harness.device;
  }

  async addCartridge(name: string, sizeBytes: number, earlyWarningBytes: number): Promise<void> {
    await this.harness.resize(letterOf(name), sizeBytes, earlyWarningBytes);
    this.#names.push(name);
  }

  cartridges() {
    return this.#names.map((name) => ({ name }));
  }

  load(name: string): Promise<void> {
    return this.harness.load(letterOf(name));
  }

  async unload(): Promise<void> {
    if (!(await this.harness.eject())) throw new Error('the door is locked');
  }

  async shape({ cartridge }: KnownVolume): Promise<string> {
    const objects = await this.harness.objects(letterOf(cartridge));
    return objects.map((object) => (object === 'FM' ? '|' : 'r')).join('');
  }
}

function letterOf(cartridge: string): 'A' | 'B' {
  const letter = letters[cartridge];
  if (letter === undefined) throw new Error(`there is no cartridge ${cartridge}`);
  return letter;
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => (error as { code: string }).code,
  );

type World = TapeWorld<HarnessHands>;

/** Writes what is missing of a backup, and reads all of it. */
async function finish(world: World, bytes: Buffer): Promise<void> {
  const writer = await world.resume(world.backup('monday'));
  await writer.write([bytes.subarray(writer.offset)]);
  await writer.commit(Buffer.from('{}'));
  expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
}

export function describeTapeSet(name: string, make: () => Promise<TapeHarness>): void {
  describe(`backups on the ${name} drive`, () => {
    let harness: TapeHarness;

    const worldOf = (sizeBytes = 1024 * KIB): World =>
      new TapeWorld(new HarnessHands(harness), { sizeBytes });

    beforeEach(async () => {
      harness = await make();
      await harness.reset();
    });

    afterEach(async () => {
      await harness.dispose();
    });

    it('go over two cartridges, and are read and scanned as they were written', async () => {
      const world = worldOf();
      const bytes = patterned(11 * P + 9);
      await world.write(world.backup('monday'), bytes, 5 * P);
      await world.write(world.backup('tuesday', '2'), patterned(5));
      const [first, second] = world.volumes;
      expect(await world.library.shape(first!)).toBe(
        'r|rrrrrrr|rrrrr|r|'.replaceAll('rrrrrr|r', 'rrrrrr|r'),
      );
      expect(await world.library.shape(second!)).toBe('r|rrrrrr|rrrr|');
      expect((await world.read(world.backup('monday'), bytes.length)).equals(bytes)).toBe(true);
      const found = assembleBackups(await world.scanAll());
      expect(found.map((each) => [each.backup, each.isComplete, each.missing])).toEqual([
        ['monday', true, []],
        ['tuesday', true, []],
      ]);
      expect(found.flatMap(({ parts }) => parts)).toEqual(world.parts);
      const reader = world.reader(world.backup('monday'), bytes.length);
      const into = Buffer.alloc(2 * P);
      await reader.read(8 * P + 5, into);
      await reader.close();
      expect(into.equals(bytes.subarray(8 * P + 5, 10 * P + 5))).toBe(true);
    });

    it('go on after a kill behind what was confirmed', async () => {
      const world = worldOf();
      const bytes = patterned(6 * P);
      const writer = world.writer(world.backup('monday'));
      await writer.write([bytes.subarray(0, 2 * P)]);
      await writer.confirm();
      await writer.write([bytes.subarray(2 * P, 4 * P)]);
      await world.kill(writer);
      const [volume] = world.volumes;
      expect(await world.library.shape(volume!)).toBe('r|rrrr|rrr|');
      await finish(world, bytes);
      expect(await world.library.shape(volume!)).toBe('r|rrrr||rrrrrrr|');
    });

    it('are taken into the catalog if that had no time to note them', async () => {
      const world = worldOf();
      world.forgetsParts = true;
      expect(await codeOf(world.write(world.backup('monday'), patterned(2 * P)))).toBe(undefined);
      world.forgetsParts = false;
      await (await world.resume(world.backup('monday'))).abort();
      expect(world.parts).toMatchObject([{ state: 'final', dataBytes: 2 * P }]);
      await world.write(world.backup('tuesday', '2'), patterned(3));
      const [found] = assembleBackups(await world.scanAll());
      expect(found).toMatchObject({ backup: 'monday', isComplete: true, imageBytes: 2 * P });
    });

    it('leave a cut transfer where the cartridge is written once only', async () => {
      const world = worldOf(2 * 1024 * KIB);
      const bytes = patterned(4 * P);
      const writer = world.writer(world.backup('monday'));
      await writer.write([bytes.subarray(0, 2 * P)]);
      await world.kill(writer);
      await harness.makeWorm('A');
      await finish(world, bytes);
      expect(await world.library.shape(world.volumes[0]!)).toBe('r|rrr|rrrrrrr|');
    });

    it.each([
      ['write', 0],
      ['write', 3],
      ['filemarks', 0],
      ['filemarks', 1],
    ] as const)('survive a failure of %s, %i calls later', async (operation, after) => {
      const world = worldOf();
      const bytes = patterned(5 * P);
      const writer = world.writer(world.backup('monday'), 2 * P);
      await writer.write([bytes.subarray(0, 10)]);
      await writer.confirm();
      await harness.fail(operation, after);
      const rest = writer.write([bytes.subarray(10)]);
      if ((await codeOf(rest)) === 'no error') await codeOf(writer.commit(Buffer.from('{}')));
      expect(writer.confirmedOffset).toBeGreaterThanOrEqual(10);
      await writer.abort();
      const scanned = assembleBackups(await world.scanAll())[0]!;
      expect(scanned).toMatchObject({ isComplete: false, missing: [] });
      await finish(world, bytes);
    });

    it('write nothing on a cartridge that was put in behind them', async () => {
      const world = worldOf();
      world.locksDoor = false;
      await world.write(world.backup('other', '2'), patterned(2 * P, 5));
      const [other] = world.volumes;
      other!.isFull = true;
      const before = await world.library.shape(other!);
      const writer = world.writer(world.backup('monday'));
      await writer.write([patterned(2 * P)]);
      await world.swap(other!);
      const codes = [
        await codeOf(writer.write([patterned(3 * P)])),
        await codeOf(writer.confirm()),
      ];
      expect(codes).toContain('TARGET_UNAVAILABLE');
      expect(writer.confirmedOffset).toBe(0);
      await writer.abort();
      expect(await world.library.shape(other!)).toBe(before);
      const bytes = await world.read(world.backup('other', '2'), 2 * P);
      expect(bytes.equals(patterned(2 * P, 5))).toBe(true);
    });

    it('lose no more than a bad record, and none for another cartridge', async () => {
      const world = worldOf();
      const bytes = patterned(5 * P);
      await world.write(world.backup('monday'), bytes);
      await harness.damage('A', 3 + 2);
      const reader = world.reader(world.backup('monday'), bytes.length);
      const into = Buffer.alloc(bytes.length);
      expect(await reader.readAvailable(0, into)).toEqual([{ offset: 2 * P, length: P }]);
      expect(into.equals(Buffer.from(bytes).fill(0, 2 * P, 3 * P))).toBe(true);
      await reader.close();
      const [found] = assembleBackups(await world.scanAll());
      expect(found).toMatchObject({ isComplete: true, missing: [], imageBytes: 5 * P });
    });

    it('are refused on what is blank, protected, another one, or not there', async () => {
      const world = worldOf();
      expect(await codeOf(mountVolume(world.device, 'read'))).toBe('MEDIUM_BLANK');
      const first = await world.addVolume();
      const second = await world.addVolume();
      const wanted = volumeName(first.label);
      expect(await codeOf(mountVolume(world.device, 'write', wanted))).toBe('MEDIUM_WRONG');
      await harness.protect(letterOf(second.cartridge), true);
      const protectedName = volumeName(second.label);
      expect(await codeOf(mountVolume(world.device, 'write', protectedName))).toBe(
        'MEDIUM_READ_ONLY',
      );
      await releaseVolume(await mountVolume(world.device, 'read', protectedName));
      await world.library.unload();
      expect(await codeOf(mountVolume(world.device, 'read'))).toBe('MEDIUM_ABSENT');
    });
  });
}
