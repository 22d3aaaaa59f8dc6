/**
 * A tape target over a virtual library, with hands that load what is needed, and its accidents:
 * the program dies, the power goes, the drive refuses bytes.
 */
import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock, uuidv7 } from '../../src/base/clock.ts';
import { StorageError } from '../../src/base/errors.ts';
import { alignedBuffer } from '../../src/base/aligned-memory.ts';
import type { RingMemory } from '../../src/file/page-ring.ts';
import { TapeCatalog } from '../../src/tape/catalog.ts';
import { TapeError } from '../../src/tape/drive.ts';
import type { TapeDevice, TapeDrive } from '../../src/tape/drive.ts';
import { labelVolume } from '../../src/tape/label-volume.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import { tapPath } from '../../src/tape/library-file.ts';
import type { NeededMedium } from '../../src/target/tape-drive-use.ts';
import { TapeTarget } from '../../src/target/tape-target.ts';

const KIB = 1024;

export interface TapeBenchOptions {
  readonly cartridgeBytes?: number;
  /** Default 256 KiB. */
  readonly earlyWarningBytes?: number;
  readonly partBytes?: number;
  /** No more than two records are on their way to the drive: what is written is soon on tape. */
  readonly smallRing?: boolean;
}

/** A drive that can be taken away from who holds it, and that can be made to fail. */
class BenchDrive {
  readonly drive: TapeDrive;
  isDead = false;

  constructor(drive: TapeDrive) {
    this.drive = drive;
  }

  /** What SIGKILL does to it. */
  async kill(): Promise<void> {
    if (this.isDead) return;
    this.isDead = true;
    await this.drive.close();
  }
}

const twoRecords: RingMemory = {
  bytes: 128 * KIB,
  take: () => [alignedBuffer(128 * KIB)],
  giveBack: () => undefined,
};

export class TapeBench {
  readonly directory: string;
  readonly options: TapeBenchOptions;
  /** What was waited for. */
  readonly needed: NeededMedium[] = [];
  /** Hands of a test, instead of those here. */
  fetches: ((needed: NeededMedium) => Promise<void>) | undefined;
  refuses: 'full' | 'broken' | undefined;
  /** What the drive was asked to do, how often. */
  readonly asked = new Map<keyof TapeDrive | 'open', number>();
  #open: BenchDrive | undefined;
  /** By label. */
  readonly #cartridges = new Map<string, string>();
  /** Length of each file when a filemark was last confirmed. */
  readonly #durable = new Map<string, number>();

  constructor(directory: string, options: TapeBenchOptions = {}) {
    this.directory = directory;
    this.options = options;
  }

  get catalog(): TapeCatalog {
    return new TapeCatalog(join(this.directory, 'catalog.jsonl'));
  }

  get tapes(): string {
    return join(this.directory, 'tapes');
  }

  target(catalog = this.catalog): TapeTarget {
    return new TapeTarget({
      openDevice: () => this.device(),
      catalog,
      set: 'nightly',
      path: this.tapes,
      clock: systemClock,
      waitForMedium: (needed) => this.#fetch(needed),
      ...(this.options.partBytes === undefined ? {} : { partBytes: this.options.partBytes }),
      ...(this.options.smallRing === true ? { memory: twoRecords, bufferBytes: 1 } : {}),
    });
  }

  /** The program dies. */
  async reopen(): Promise<TapeTarget> {
    await this.#open?.kill();
    this.#open = undefined;
    return this.target();
  }

  async cutPower(): Promise<void> {
    await this.#open?.kill();
    this.#open = undefined;
    for (const [path, size] of this.#durable) await truncate(path, size);
  }

  library(): Promise<VirtualLibrary> {
    return VirtualLibrary.open(this.tapes, { slots: 64 });
  }

  async device(): Promise<TapeDevice> {
    const device = (await this.library()).device();
    return {
      path: device.path,
      open: async (mode) => {
        this.#count('open');
        const held = new BenchDrive(await device.open(mode));
        this.#open = held;
        return this.#watched(held);
      },
    };
  }

  #watched(held: BenchDrive): TapeDrive {
    return new Proxy(held.drive, {
      get: (drive, name: keyof TapeDrive) => {
        const method: unknown = Reflect.get(drive, name);
        if (typeof method !== 'function') return method;
        return async (...args: unknown[]): Promise<unknown> => {
          this.#count(name);
          if (held.isDead) throw new TapeError('ENODEV', 'status', 'the program is dead');
          if (name === 'write' && this.refuses === 'full') throw new TapeError('ENOSPC', 'write');
          if (name === 'write' && this.refuses === 'broken') throw new TapeError('EIO', 'write');
          const result: unknown = await Reflect.apply(method, drive, args);
          if (name === 'close') held.isDead = true;
          if (name === 'writeFilemarks') await this.#noteDurable();
          return result;
        };
      },
    });
  }

  #count(what: keyof TapeDrive | 'open'): void {
    this.asked.set(what, (this.asked.get(what) ?? 0) + 1);
  }

  async #noteDurable(): Promise<void> {
    for (const { name } of (await this.library()).cartridges()) {
      const path = tapPath(this.tapes, name);
      this.#durable.set(path, (await stat(path)).size);
    }
  }

  async #fetch(needed: NeededMedium): Promise<void> {
    this.needed.push(needed);
    if (this.fetches !== undefined) return this.fetches(needed);
    if (this.refuses === 'full') {
      throw new StorageError('TARGET_FULL', 'there is no further cartridge');
    }
    const { label } = needed;
    if (label === null) return this.prepareVolume(needed.volumeNumber);
    await (await this.library()).load(this.#cartridges.get(label) ?? '');
  }

  /** A new cartridge in the drive, labelled as this number of the set. */
  async prepareVolume(number: number, recordBytes = 64 * KIB): Promise<void> {
    const { cartridgeBytes = 64 * KIB * KIB, earlyWarningBytes = 256 * KIB } = this.options;
    const library = await this.library();
    const name = `T${String(library.cartridges().length + 1).padStart(3, '0')}`;
    await library.addCartridge(name, cartridgeBytes, earlyWarningBytes);
    await library.load(name);
    const { volumes } = await this.catalog.read();
    const label = {
      volumeId: uuidv7(systemClock),
      label: `nightly-${number}`,
      set: 'nightly',
      setId: volumes.at(-1)?.label.setId ?? uuidv7(systemClock),
      number,
      previousVolumeId: volumes.at(-1)?.label.volumeId ?? null,
      recordBytes,
      labelledAtMs: systemClock.nowMs(),
      expiresAtMs: null,
    };
    await labelVolume(await this.device(), { label, nowMs: label.labelledAtMs });
    this.#cartridges.set(label.label, name);
    await this.catalog.add({ kind: 'volume', label });
  }
}
