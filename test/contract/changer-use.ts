/**
 * What a target does with a changer and its drive, as tests over both: in `npm test` over a virtual
 * library, in `npm run test:tape` over `mtx` and the kernel's driver. What needs many cartridges is
 * in test/unit/target/cartridge-fetch.test.ts; here is what a real drive could do otherwise: get
 * ready late, keep a cartridge that was not ejected, stay locked.
 *
 *     describeChangerUse('virtual', async () => harness);
 */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { TapeCatalog } from '../../src/tape/catalog.ts';
import { CartridgeFetcher } from '../../src/target/cartridge-fetch.ts';
import { ChangerRoom } from '../../src/target/changer-room.ts';
import { ChangerUse } from '../../src/target/changer-use.ts';
import type { TapeKind } from '../../src/target/tape-device.ts';
import { TapeMedia } from '../../src/target/tape-media.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { placesOf } from './changer.ts';
import type { ChangerHarness } from './changer.ts';

export interface ChangerUseHarness extends ChangerHarness {
  readonly kind: TapeKind;
  /** Of the drive, or of the library. */
  readonly path: string;
}

export function describeChangerUse(name: string, make: () => Promise<ChangerUseHarness>): void {
  describe(`use of a changer: ${name}`, () => {
    let harness: ChangerUseHarness;
    let catalog: TapeCatalog;
    let media: TapeMedia;
    let use: ChangerUse;
    let log: string[];

    beforeEach(async () => {
      harness = await make();
      await harness.reset();
      catalog = new TapeCatalog(join(await temporaryDirectory(), 'catalog.jsonl'));
      const room = new ChangerRoom(harness.changer);
      const openDevice = async () => harness.device;
      use = new ChangerUse({ room, drive: 0, catalog, openDevice, pollMs: 100 });
      const facts = { kind: harness.kind, path: harness.path, set: 'nightly' };
      media = new TapeMedia({ ...facts, catalog, clock: systemClock, changer: use });
      log = [];
      for (const cartridge of ['T001', 'T002']) {
        await media.load(cartridge);
        await erase(harness);
        await media.label({ recordBytes: 65536 });
      }
      await media.unload('slot');
    });
    afterEach(async () => {
      await harness.dispose();
    });

    const places = async () => placesOf(await harness.changer.inventory());

    /** By a fetcher of its own: what another has found out is in the catalog. */
    async function fetch(label: string): Promise<boolean> {
      const { volumes } = await catalog.read();
      const found = volumes.find((volume) => volume.label.label === label)?.label;
      const { set = 'nightly', number: volumeNumber = 9, volumeId = label } = found ?? {};
      const reason = { reason: 'it is needed', code: 'MEDIUM_ABSENT' };
      const { signal } = new AbortController();
      return new CartridgeFetcher(use).fetch(
        { set, volumeNumber, volumeId, label, ...reason },
        { leaveLoaded: false, signal, log: (line) => log.push(line), progressed: () => undefined },
      );
    }

    it('cartridges are shown with their places, and fetched one after the other', async () => {
      expect(await media.list()).toMatchObject([
        { label: 'nightly-1', barcode: 'T001', slot: 1, inDrive: false },
        { label: 'nightly-2', barcode: 'T002', slot: 2, inDrive: false },
      ]);
      expect(await fetch('nightly-2')).toBe(true);
      expect(await places()).toEqual({ T001: 'slot 1', T002: 'drive 0' });
      expect(await fetch('nightly-1')).toBe(true);
      expect(await places()).toEqual({ T001: 'drive 0', T002: 'slot 2' });
      expect(log).toHaveLength(2);
    });

    it('labels are read where no barcode is known, and what was ejected is asked for', async () => {
      const { volumes } = await catalog.read();
      await catalog.forget();
      await catalog.add(...volumes.map(({ label }) => ({ kind: 'volume' as const, label })));
      await media.load('T001');
      const drive = await harness.device.open('read');
      await drive.unload();
      await drive.close();
      expect(await fetch('nightly-1')).toBe(true);
      expect(await fetch('nightly-3')).toBe(false);
      expect(await places()).toEqual({ T001: 'slot 1', T002: 'slot 2' });
      expect(await media.get('nightly-2')).toMatchObject({ barcode: 'T002' });
    });

    it('the door of a drive that a killed program left locked is opened', async () => {
      await media.load('T001');
      const drive = await harness.device.open('read');
      await drive.lock();
      await drive.close();
      expect(await fetch('nightly-2')).toBe(true);
      expect(await places()).toEqual({ T001: 'slot 1', T002: 'drive 0' });
    });
  });
}

/** Another test may have left something on it. */
async function erase({ device }: ChangerUseHarness): Promise<void> {
  const drive = await device.open('write');
  await drive.rewind();
  await drive.erase();
  await drive.close();
}
