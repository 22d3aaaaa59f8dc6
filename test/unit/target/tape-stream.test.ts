/**
 * The ring of a tape target: what is on its way to the drive is claimed by nobody, and lost with
 * whoever has it; a read in order moves the tape once.
 */
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { deferred } from '../../../src/base/mutex.ts';
import type { NeededMedium } from '../../../src/target/tape-drive-use.ts';
import { TapeTarget } from '../../../src/target/tape-target.ts';
import { patterned } from '../../contract/target.ts';
import { TapeBench } from '../../support/tape-target.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const KIB = 1024;
const MIB = KIB * KIB;

async function bench(cartridgeBytes = 64 * MIB): Promise<TapeBench> {
  const made = new TapeBench(await temporaryDirectory(), { cartridgeBytes });
  await made.prepareVolume(1);
  return made;
}

describe('a backup on its way to the drive', () => {
  it('is in memory until three quarters of the ring are filled', async () => {
    const made = await bench();
    made.asked.clear();
    const sink = await made.target().createBackup('b1');
    await sink.write([patterned(8 * MIB)]);
    expect(made.asked.get('write')).toBeUndefined();
    expect(sink.flow?.()).toMatchObject({ bufferBytes: 16 * MIB, bufferedBytes: 8 * MIB });
    expect(sink.flow?.()).toMatchObject({ writtenBytes: 0, stalls: 0 });
    await sink.write([patterned(8 * MIB)]);
    expect(await sink.confirm()).toBe(16 * MIB);
    expect(sink.flow?.()).toMatchObject({ bufferedBytes: 0, writtenBytes: 16 * MIB });
    expect(sink.flow?.()?.busyMs).toBeGreaterThan(0);
    await sink.abort(true);
  });

  it('is not known to the catalog, and is written again by who goes on', async () => {
    const made = await bench();
    const bytes = patterned(10 * MIB + 77);
    const sink = await made.target().createBackup('b1', { contentId: 'same' });
    await sink.write([bytes.subarray(0, MIB)]);
    expect(await sink.confirm()).toBe(MIB);
    await sink.write([bytes.subarray(MIB, 9 * MIB)]);
    const target = await made.reopen();
    const [found] = (await made.catalog.read()).backups;
    expect(found?.position.offset).toBe(MIB);
    const again = await target.createBackup('b1', { contentId: 'same', resumeFrom: MIB });
    await again.write([bytes.subarray(MIB)]);
    await again.commit({});
    const into = Buffer.alloc(bytes.length);
    const backup = await target.open('b1');
    await backup.read(0, into);
    await backup.close();
    expect(into.equals(bytes)).toBe(true);
  });

  it('that is given up does not wait for a cartridge any more', async () => {
    const made = await bench(4 * MIB);
    const asked = deferred<NeededMedium>();
    const target = new TapeTarget({
      openDevice: () => made.device(),
      catalog: made.catalog,
      set: 'nightly',
      path: made.tapes,
      clock: systemClock,
      bufferBytes: 4 * MIB,
      waitForMedium: (needed) => {
        asked.resolve(needed);
        return new Promise<never>(() => undefined);
      },
    });
    const sink = await target.createBackup('b1');
    await sink.write([patterned(7 * MIB)]);
    expect(await asked.promise).toMatchObject({ volumeNumber: 2, label: null });
    // Nobody is in a call: the source has failed.
    await sink.abort(true);
    const [found] = (await made.catalog.read()).backups;
    expect(found?.position.offset).toBeGreaterThan(2 * MIB);
    const other = await made.target().createBackup('b2');
    await other.write([patterned(10)]);
    await other.commit({});
  });

  it('has other records than before where the next cartridge has others', async () => {
    const made = await bench(4 * MIB);
    const bytes = patterned(9 * MIB + 5);
    const target = new TapeTarget({
      openDevice: () => made.device(),
      catalog: made.catalog,
      set: 'nightly',
      path: made.tapes,
      clock: systemClock,
      bufferBytes: 4 * MIB,
      waitForMedium: ({ volumeNumber }) => {
        return made.prepareVolume(volumeNumber, volumeNumber === 2 ? 256 * KIB : 64 * KIB);
      },
    });
    const sink = await target.createBackup('b1');
    for (let at = 0; at < bytes.length; at += 333_333) {
      await sink.write([bytes.subarray(at, at + 333_333)]);
    }
    await sink.commit({});
    const sizes = (await made.catalog.read()).volumes.map(({ label }) => label.recordBytes);
    expect(sizes.slice(0, 3)).toEqual([64 * KIB, 256 * KIB, 64 * KIB]);
    const into = Buffer.alloc(bytes.length);
    const backup = await made.target().open('b1');
    await backup.read(0, into);
    await backup.close();
    expect(into.equals(bytes)).toBe(true);
  });
});

describe('a backup that is read in order', () => {
  it('moves the tape to its beginning, and no more', async () => {
    const made = await bench();
    const target = made.target();
    const bytes = patterned(20 * MIB);
    const sink = await target.createBackup('b1');
    await sink.write([bytes]);
    await sink.commit({});
    const backup = await target.open('b1');
    made.asked.clear();
    const into = Buffer.alloc(100_000);
    for (let at = 3 * MIB; at + into.length <= 19 * MIB; at += into.length) {
      await backup.read(at, into);
      expect(into.equals(bytes.subarray(at, at + into.length))).toBe(true);
    }
    await backup.close();
    expect(made.asked.get('seek')).toBe(1);
    // The label, and each record once.
    expect(made.asked.get('read')).toBeLessThanOrEqual((16 * MIB) / (64 * KIB - 128) + 3);
  });
});
