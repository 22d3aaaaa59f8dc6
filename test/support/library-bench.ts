/**
 * A virtual library with a changer that tells what it moved, and the hands of a target in it.
 */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { TapeCatalog } from '../../src/tape/catalog.ts';
import type { Changer, ChangerInventory } from '../../src/tape/changer.ts';
import { tapPath } from '../../src/tape/library-file.ts';
import { VirtualChanger } from '../../src/tape/virtual-changer.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import { CartridgeFetcher } from '../../src/target/cartridge-fetch.ts';
import { ChangerRoom } from '../../src/target/changer-room.ts';
import { ChangerUse } from '../../src/target/changer-use.ts';
import type { NeededMedium } from '../../src/target/tape-drive-use.ts';
import { TapeMedia } from '../../src/target/tape-media.ts';
import { placesOf } from '../contract/changer.ts';
import { temporaryDirectory } from './temporary.ts';

const MIB = 1024 * 1024;

/** Tells what was moved; may have no reader of barcodes. */
class WatchedChanger implements Changer {
  readonly path: string;
  readonly moves: string[] = [];
  readonly #changer: VirtualChanger;
  readsBarcodes = true;

  constructor(changer: VirtualChanger) {
    this.path = changer.path;
    this.#changer = changer;
  }

  async inventory(): Promise<ChangerInventory> {
    const { drives, slots } = await this.#changer.inventory();
    if (this.readsBarcodes) return { drives, slots };
    return {
      drives: drives.map((drive) => ({ ...drive, barcode: null })),
      slots: slots.map((slot) => ({ ...slot, barcode: null })),
    };
  }

  async load(slot: number, drive: number): Promise<void> {
    await this.#changer.load(slot, drive);
    this.moves.push(`load ${slot}`);
  }

  async unload(drive: number, slot: number): Promise<void> {
    await this.#changer.unload(drive, slot);
    this.moves.push(`unload ${slot}`);
  }

  async transfer(from: number, to: number): Promise<void> {
    await this.#changer.transfer(from, to);
    this.moves.push(`transfer ${from} ${to}`);
  }
}

export class LibraryBench {
  readonly path: string;
  readonly virtual: VirtualChanger;
  readonly changer: WatchedChanger;
  readonly use: ChangerUse;
  readonly media: TapeMedia;
  readonly log: string[] = [];
  fetcher: CartridgeFetcher;

  private constructor(path: string) {
    this.path = path;
    this.virtual = new VirtualChanger(path, () => this.library());
    this.changer = new WatchedChanger(this.virtual);
    const openDevice = async () => (await this.library()).device();
    const catalog = new TapeCatalog(join(path, 'catalog.jsonl'));
    const room = new ChangerRoom(this.changer);
    const limits = { readyMs: 2, pollMs: 1 };
    this.use = new ChangerUse({ room, drive: 0, catalog, openDevice, ...limits });
    const facts = { kind: 'virtual-tape', path, set: 'nightly', catalog } as const;
    this.media = new TapeMedia({ ...facts, clock: systemClock, changer: this.use });
    this.fetcher = new CartridgeFetcher(this.use);
  }

  /** With six slots and two doors. */
  static async make(): Promise<LibraryBench> {
    const path = await temporaryDirectory();
    await VirtualLibrary.open(path, { slots: 6, importExportSlots: 2 });
    return new LibraryBench(path);
  }

  get catalog(): TapeCatalog {
    return this.use.catalog;
  }

  library(): Promise<VirtualLibrary> {
    return VirtualLibrary.open(this.path);
  }

  /** Cartridges of these names in the first free slots, labelled by their numbers. */
  async addLabelled(...cartridges: readonly string[]): Promise<void> {
    for (const cartridge of cartridges) await this.media.add(cartridge, 2 * MIB);
    for (const cartridge of cartridges) {
      await this.media.load(cartridge);
      await this.media.label({ recordBytes: 65536 });
    }
    await this.media.unload('slot');
    this.forgetMoves();
  }

  forgetMoves(): void {
    this.changer.moves.length = 0;
  }

  /** A catalog that knows all labels, and not on which cartridges they are. */
  async forgetBarcodes(): Promise<void> {
    const { volumes } = await this.catalog.read();
    await this.catalog.forget();
    await this.catalog.add(...volumes.map(({ label }) => ({ kind: 'volume' as const, label })));
  }

  /** What is on one cartridge is on the other too, or instead. */
  async copyCartridge(from: string, to: string): Promise<void> {
    await copyFile(tapPath(this.path, from), tapPath(this.path, to));
  }

  /** That cartridge, to be read; without a label one to be written to. */
  async needed(label?: string): Promise<NeededMedium> {
    const { volumes } = await this.catalog.read();
    const found = volumes.find((volume) => volume.label.label === label)?.label;
    return {
      set: 'nightly',
      volumeNumber: found?.number ?? 9,
      volumeId: found?.volumeId ?? label ?? null,
      label: label ?? null,
      reason: 'there is another one in the drive',
      code: 'MEDIUM_WRONG',
    };
  }

  async fetch(label?: string, leaveLoaded = false): Promise<boolean> {
    const { signal } = new AbortController();
    return this.fetcher.fetch(await this.needed(label), {
      leaveLoaded,
      signal,
      log: (line) => this.log.push(line),
      progressed: () => undefined,
    });
  }

  async places(): Promise<Record<string, string>> {
    return placesOf(await this.virtual.inventory());
  }
}
