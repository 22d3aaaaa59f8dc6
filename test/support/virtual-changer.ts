/**
 * The harness of the changer's contract over a virtual library in a directory of its own.
 */
import { StorageError } from '../../src/base/errors.ts';
import { ChangerError } from '../../src/tape/changer.ts';
import { VirtualChanger } from '../../src/tape/virtual-changer.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import type { ChangerUseHarness } from '../contract/changer-use.ts';
import { temporaryDirectory } from './temporary.ts';

const MIB = 1024 * 1024;

export class VirtualChangerHarness implements ChangerUseHarness {
  readonly kind = 'virtual-tape';
  readonly library: VirtualLibrary;
  readonly changer: VirtualChanger;

  private constructor(library: VirtualLibrary) {
    this.library = library;
    this.changer = new VirtualChanger(library.directory, async () => library);
  }

  static async make(): Promise<VirtualChangerHarness> {
    const size = { slots: 6, importExportSlots: 2 };
    return new VirtualChangerHarness(await VirtualLibrary.open(await temporaryDirectory(), size));
  }

  get path(): string {
    return this.library.directory;
  }

  get device() {
    return this.library.device();
  }

  async reset(): Promise<void> {
    for (const name of ['T001', 'T002']) await this.library.addCartridge(name, 4 * MIB);
  }

  others(): readonly VirtualChanger[] {
    return [
      new VirtualChanger('nowhere', async () => {
        throw new ChangerError('unreachable', 'there is no virtual library any more');
      }),
      new VirtualChanger('nowhere', async () => {
        throw new StorageError('TARGET_INVALID', 'it is no virtual library');
      }),
    ];
  }

  async dispose(): Promise<void> {
    await this.library.close();
  }
}
