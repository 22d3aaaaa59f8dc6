/**
 * A tape library with a catalog in memory: what stands above the volume logic, in its smallest
 * form. Cartridges are labelled when they are first needed.
 */
import { rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { openForAppend } from '../../src/tape/append.ts';
import { resumePosition } from '../../src/tape/assemble.ts';
import type { VolumeContents } from '../../src/tape/assemble.ts';
import type { VolumeLabel } from '../../src/tape/label.ts';
import { labelVolume } from '../../src/tape/label-volume.ts';
import { volumeName } from '../../src/tape/media.ts';
import { FIRST_PLACE } from '../../src/tape/parts.ts';
import type { PartEntry, TapePlace } from '../../src/tape/parts.ts';
import { scanVolume } from '../../src/tape/scan.ts';
import { TapeSetReader } from '../../src/tape/set-reader.ts';
import { TapeSetWriter } from '../../src/tape/set-writer.ts';
import type { SetPosition, SetWriterHost, TapeBackup } from '../../src/tape/set-writer.ts';
import { FILEMARK } from '../../src/tape/tap-file.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import { mountVolume, releaseVolume } from '../../src/tape/volume.ts';
import type { MountedVolume } from '../../src/tape/volume.ts';
import type { TapeDevice } from '../../src/tape/drive.ts';
import { VolumeWriter } from '../../src/tape/volume-writer.ts';
import { ManualTime } from './manual-time.ts';
import { temporaryDirectory } from './temporary.ts';

const KIB = 1024;

export interface KnownVolume {
  readonly cartridge: string;
  readonly label: VolumeLabel;
  end: TapePlace;
  lastPartId: string | null;
  isFull: boolean;
}

export interface WorldOptions {
  readonly sizeBytes?: number;
  readonly earlyWarningBytes?: number;
  readonly recordBytes?: number;
  /** False for a program that is not root: asynchronous writes stay on. Default true. */
  readonly mayChangeOptions?: boolean;
}

export const setId = '0193e4c0-1111-7222-8333-444455556666';

/** Bytes that tell where they belong. */
export function patterned(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE((at ^ (seed << 24)) >>> 0, at);
  return bytes;
}

/** A library, and hands that act on it. */
export interface TapeHands {
  device(): TapeDevice;
  addCartridge(name: string, sizeBytes: number, earlyWarningBytes: number): Promise<void>;
  cartridges(): readonly { readonly name: string }[];
  load(name: string): Promise<void>;
  unload(): Promise<void>;
}

export class TapeWorld<Library extends TapeHands = VirtualLibrary> {
  readonly library: Library;
  readonly clock = new ManualTime();
  /** In the order of their numbers. */
  readonly volumes: KnownVolume[] = [];
  readonly parts: PartEntry[] = [];
  /** volumeIds in the order in which they were mounted for reading. */
  readonly mounted: string[] = [];
  /** Cartridges that nobody finds. */
  readonly lost = new Set<string>();
  /** The catalog forgets what it is told: a power cut before it commits. */
  forgetsParts = false;
  /** The program is killed: the kernel closes the drive, the door stays locked. */
  isKilled = false;
  /** False for a drive that cannot lock its door. */
  locksDoor = true;
  readonly #options: Required<Omit<WorldOptions, 'mayChangeOptions'>>;

  constructor(library: Library, options: WorldOptions = {}) {
    this.library = library;
    this.#options = {
      sizeBytes: options.sizeBytes ?? 1024 * KIB,
      earlyWarningBytes: options.earlyWarningBytes ?? 256 * KIB,
      recordBytes: options.recordBytes ?? 64 * KIB,
    };
  }

  static async make(options: WorldOptions = {}): Promise<TapeWorld> {
    const { mayChangeOptions = true } = options;
    const directory = await temporaryDirectory();
    const library = await VirtualLibrary.open(directory, { slots: 64, mayChangeOptions });
    onTestFinished(() => library.close());
    return new TapeWorld(library, options);
  }

  get device(): TapeDevice {
    const device = this.library.device();
    const open: TapeDevice['open'] = async (mode) => {
      const drive = await device.open(mode);
      if (!this.locksDoor) drive.lock = async () => undefined;
      return drive;
    };
    return { path: device.path, open };
  }

  /** Puts another cartridge into the drive while a program has it open. */
  async swap(volume: KnownVolume): Promise<void> {
    await this.library.unload();
    await this.library.load(volume.cartridge);
  }

  backup(name: string, digit = '1'): TapeBackup {
    const backupId = `${digit.repeat(8)}-1111-7222-8333-444455556666`;
    return { backupId, backup: name, setId, info: { note: name } };
  }

  partsOf({ backupId }: TapeBackup): PartEntry[] {
    return this.parts.filter((part) => part.backupId === backupId);
  }

  /** A new cartridge, labelled and in the drive. */
  async addVolume(change: Partial<VolumeLabel> = {}): Promise<KnownVolume> {
    const number = this.volumes.length + 1;
    const cartridge = `T${String(number).padStart(3, '0')}`;
    const { sizeBytes, earlyWarningBytes, recordBytes } = this.#options;
    const isThere = this.library.cartridges().some(({ name }) => name === cartridge);
    if (!isThere) await this.library.addCartridge(cartridge, sizeBytes, earlyWarningBytes);
    await this.library.load(cartridge);
    const label: VolumeLabel = {
      volumeId: `0193e4c4-${String(number).padStart(4, '0')}-7c3a-9f6e-2b1a4c5d6e7f`,
      label: `nightly-${number}`,
      set: 'nightly',
      setId,
      number,
      previousVolumeId: this.volumes.at(-1)?.label.volumeId ?? null,
      recordBytes,
      labelledAtMs: this.clock.nowMs(),
      expiresAtMs: null,
      ...change,
    };
    // A labelling that failed in its midst is done again.
    const force = isThere ? { force: label.label } : {};
    await labelVolume(this.device, { label, nowMs: this.clock.nowMs(), ...force });
    const known = { cartridge, label, end: FIRST_PLACE, lastPartId: null, isFull: false };
    this.volumes.push(known);
    return known;
  }

  volume(volumeId: string): KnownVolume {
    const known = this.volumes.find(({ label }) => label.volumeId === volumeId);
    if (known === undefined) throw new Error(`no volume ${volumeId}`);
    return known;
  }

  remember(entry: PartEntry): void {
    const volume = this.volume(entry.volumeId);
    volume.end = entry.end;
    volume.lastPartId = entry.partId;
    volume.isFull ||= entry.endsVolume;
    this.parts.push(entry);
  }

  host(): SetWriterHost {
    return {
      nextVolume: () => this.#nextVolume(),
      partWritten: async (entry) => {
        if (this.forgetsParts) throw new Error('the power is gone');
        this.remember(entry);
      },
      release: async (writer, why) => {
        if (this.isKilled) return writer.volume.drive.close().catch(() => undefined);
        await writer.release(why === 'failed');
        if (why === 'full') this.volume(writer.volume.label.volumeId).isFull = true;
      },
    };
  }

  writer(backup: TapeBackup, partBytes = Infinity, from?: SetPosition): TapeSetWriter {
    const options = { clock: this.clock, partBytes, ...(from === undefined ? {} : { from }) };
    return new TapeSetWriter(this.host(), backup, options);
  }

  /** Ends a writer as SIGKILL does. */
  async kill(writer: TapeSetWriter): Promise<void> {
    this.isKilled = true;
    await writer.abort();
    this.isKilled = false;
  }

  /** A writer that goes on behind what is confirmed: on the cartridges, then by the catalog. */
  async resume(backup: TapeBackup, partBytes = Infinity): Promise<TapeSetWriter> {
    for (const volume of this.volumes) {
      if (!volume.isFull) await releaseVolume((await this.#append(volume)).volume);
    }
    return this.writer(backup, partBytes, resumePosition(this.partsOf(backup)));
  }

  async write(backup: TapeBackup, bytes: Uint8Array, partBytes = Infinity): Promise<void> {
    const writer = this.writer(backup, partBytes);
    await writer.write([bytes]);
    await writer.commit(Buffer.from(JSON.stringify({ backup: backup.backup })));
  }

  reader(backup: TapeBackup, imageBytes: number): TapeSetReader {
    return this.readerOf(this.partsOf(backup), imageBytes);
  }

  readerOf(parts: readonly PartEntry[], imageBytes: number): TapeSetReader {
    const host = {
      mount: async (volumeId: string) => {
        const volume = this.volume(volumeId);
        if (this.lost.has(volume.cartridge)) return null;
        this.mounted.push(volumeId);
        await this.library.load(volume.cartridge);
        return mountVolume(this.device, 'read', volumeName(volume.label));
      },
      release: (volume: MountedVolume) => releaseVolume(volume),
    };
    return new TapeSetReader(host, parts, imageBytes);
  }

  async read(backup: TapeBackup, imageBytes: number): Promise<Buffer> {
    const reader = this.reader(backup, imageBytes);
    const bytes = Buffer.alloc(imageBytes);
    for (let at = 0; at < imageBytes; at += 100_000) {
      await reader.read(at, bytes.subarray(at, Math.min(imageBytes, at + 100_000)));
    }
    await reader.close();
    return bytes;
  }

  async scan(volume: KnownVolume) {
    await this.library.load(volume.cartridge);
    const mounted = await mountVolume(this.device, 'read', volumeName(volume.label));
    try {
      return await scanVolume(mounted);
    } finally {
      await releaseVolume(mounted);
    }
  }

  async scanAll(): Promise<VolumeContents[]> {
    const found: VolumeContents[] = [];
    for (const volume of this.volumes.filter(({ cartridge }) => !this.lost.has(cartridge))) {
      found.push({ label: volume.label, parts: (await this.scan(volume)).parts });
    }
    return found;
  }

  async #append(volume: KnownVolume) {
    await this.library.load(volume.cartridge);
    const known = { place: volume.end, partId: volume.lastPartId };
    const point = await openForAppend(this.device, volumeName(volume.label), known);
    for (const { entry } of point.adopted) this.remember(entry);
    volume.isFull ||= point.isFull;
    return point;
  }

  async #nextVolume(): Promise<VolumeWriter> {
    for (;;) {
      const volume = this.volumes.find(({ isFull }) => !isFull) ?? (await this.addVolume());
      const point = await this.#append(volume);
      if (!point.isFull) return new VolumeWriter(point.volume, point.place);
      await releaseVolume(point.volume);
    }
  }
}

/** As if the power had gone before the last filemark was written, which was not confirmed. */
export async function cutFilemark(world: TapeWorld, volume: KnownVolume): Promise<void> {
  const objects = await world.library.objects(volume.cartridge);
  if (objects.length <= volume.end.object || objects.at(-1) !== FILEMARK) return;
  const path = join(world.library.directory, `${volume.cartridge}.tap`);
  await truncate(path, (await stat(path)).size - 4);
}

/** Before the test ends. */
export async function dispose({ library }: TapeWorld): Promise<void> {
  await library.close();
  await rm(library.directory, { recursive: true, force: true });
}
