/**
 * The harness of the tape drive's contract over a virtual library in a directory of its own.
 */
import { isStorageError } from '../../src/base/errors.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import type { LibraryOptions } from '../../src/tape/virtual-library.ts';
import { FILEMARK } from '../../src/tape/tap-file.ts';
import type { TapeHarness } from '../contract/tape-bench.ts';
import { killTapeWriter } from './killed-writer.ts';
import { temporaryDirectory } from './temporary.ts';

const MIB = 1024 * 1024;

export class VirtualTapeHarness implements TapeHarness {
  readonly library: VirtualLibrary;

  private constructor(library: VirtualLibrary) {
    this.library = library;
  }

  /** In a directory that goes with the test. */
  static async make(options: LibraryOptions = {}): Promise<VirtualTapeHarness> {
    const directory = await temporaryDirectory();
    return new VirtualTapeHarness(await VirtualLibrary.open(directory, options));
  }

  get device() {
    return this.library.device();
  }

  async reset(): Promise<void> {
    for (const name of ['A', 'B']) await this.library.addCartridge(name, 16 * MIB);
    await this.library.load('A');
  }

  load(cartridge: 'A' | 'B'): Promise<void> {
    return this.library.load(cartridge);
  }

  async eject(): Promise<boolean> {
    try {
      await this.library.unload();
      return true;
    } catch (error) {
      if (isStorageError(error, 'TARGET_IN_USE')) return false;
      throw error;
    }
  }

  protect(cartridge: 'A' | 'B', writeProtected: boolean): Promise<void> {
    return this.library.change(cartridge, { writeProtected });
  }

  makeWorm(cartridge: 'A' | 'B'): Promise<void> {
    return this.library.change(cartridge, { worm: true });
  }

  resize(cartridge: 'A' | 'B', sizeBytes: number, earlyWarningBytes: number): Promise<void> {
    return this.library.change(cartridge, { sizeBytes, earlyWarningBytes });
  }

  damage(cartridge: 'A' | 'B', object: number): Promise<void> {
    return this.library.damage(cartridge, object);
  }

  async fail(operation: 'read' | 'write' | 'filemarks', after: number): Promise<void> {
    this.library.injectFault({ operation, after, count: 1 });
  }

  async administer(options: { blockSizeBytes?: number; asyncWrites?: boolean }): Promise<void> {
    this.library.setDriverOptions(options);
  }

  async objects(cartridge: 'A' | 'B'): Promise<(number | 'FM')[]> {
    const objects = await this.library.objects(cartridge);
    return objects.map((length) => (length === FILEMARK ? 'FM' : length));
  }

  async unplug(): Promise<void> {
    this.library.unplug();
  }

  async plugIn(): Promise<void> {
    this.library.plugIn();
  }

  async killWriter(records: number): Promise<void> {
    await killTapeWriter('virtual', this.library.directory, records);
  }

  async dispose(): Promise<void> {
    await this.library.close();
  }
}
