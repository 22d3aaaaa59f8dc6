/**
 * A target on tape as an address: what any thread needs to open it.
 */
import { systemClock } from '../base/clock.ts';
import { TapeCatalog } from '../tape/catalog.ts';
import type { ChangerRoom } from './changer-room.ts';
import { ChangerUse } from './changer-use.ts';
import { openTapeDevice } from './tape-device.ts';
import type { TapeKind } from './tape-device.ts';
import type { NeededMedium } from './tape-drive-use.ts';
import { TapeMedia } from './tape-media.ts';
import { TapeTarget } from './tape-target.ts';

export interface TapePlaceFacts {
  readonly kind: TapeKind;
  /** Of the device, or the directory of the library. */
  readonly path: string;
  /** File of its catalog. */
  readonly catalog: string;
  readonly set: string;
  /** Memory between the source and the drive. Default: 16 MiB. */
  readonly bufferBytes?: number;
}

/** @param waitForMedium throws where no cartridge can be waited for */
export function tapeTargetAt(
  { kind, path, catalog, set, bufferBytes }: TapePlaceFacts,
  waitForMedium: (needed: NeededMedium) => Promise<void>,
): TapeTarget {
  return new TapeTarget({
    openDevice: () => openTapeDevice(kind, path),
    catalog: catalogAt(catalog),
    set,
    path,
    clock: systemClock,
    waitForMedium,
    ...(bufferBytes === undefined ? {} : { bufferBytes }),
  });
}

export function tapeMediaAt(
  { catalog, ...facts }: TapePlaceFacts,
  changer?: ChangerUse,
): TapeMedia {
  const base = { ...facts, catalog: catalogAt(catalog), clock: systemClock };
  return new TapeMedia(changer === undefined ? base : { ...base, changer });
}

/** The changer of a target's drive, as far as that target uses it. */
export function changerUseAt(
  { kind, path, catalog }: TapePlaceFacts,
  room: ChangerRoom,
  drive: number,
): ChangerUse {
  return new ChangerUse({
    room,
    drive,
    catalog: catalogAt(catalog),
    openDevice: () => openTapeDevice(kind, path),
  });
}

/** For a target that is given up: its cartridges stay as they are. */
export async function forgetTape({ catalog }: TapePlaceFacts): Promise<void> {
  await catalogAt(catalog).forget();
  catalogs.delete(catalog);
}

/** By path, of this thread: what one of them has read is not read again. */
const catalogs = new Map<string, TapeCatalog>();

function catalogAt(path: string): TapeCatalog {
  const catalog = catalogs.get(path) ?? new TapeCatalog(path);
  catalogs.set(path, catalog);
  return catalog;
}
