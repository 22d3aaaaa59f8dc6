/**
 * The harness of the tape drive's contract over a real st driver and an emulated SCSI library.
 *
 * The library has the cartridges T001 and T002 in its slots 1 and 2, a changer at
 * SPINDLE_TEST_TAPE_CHANGER (default /dev/sg1) and a control over HTTP, whose commands are paths:
 * /load?cart=T001, /unload, /protect?cart=T001&on=0, /worm, /size, /bad, /fault, /records.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { realpath, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { TapeDrive } from '../../src/tape/drive.ts';
import { stDevice } from '../../src/tape/st-drive.ts';
import type { TapeHarness } from '../contract/tape-bench.ts';
import { killTapeWriter } from './killed-writer.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const cartridges = { A: 'T001', B: 'T002' } as const;
const slots = { A: 1, B: 2 } as const;
type Letter = keyof typeof cartridges;

interface LibraryStatus {
  readonly drives: readonly {
    readonly cartridge: string | null;
    readonly faults: readonly { readonly op: 'read' | 'write' | 'weof' }[];
  }[];
}

export class StTapeHarness implements TapeHarness {
  readonly device = stDevice(process.env['SPINDLE_TEST_TAPE'] ?? '/dev/nst0');
  readonly #control = process.env['SPINDLE_TEST_TAPE_CONTROL'] ?? 'http://127.0.0.1:3261';
  readonly #changer = process.env['SPINDLE_TEST_TAPE_CHANGER'] ?? '/dev/sg1';

  #host = '';

  static async make(): Promise<StTapeHarness> {
    return new StTapeHarness();
  }

  async reset(): Promise<void> {
    await this.#command('unload', {});
    for (const letter of ['B', 'A'] as const) {
      await this.#command('protect', { cart: cartridges[letter], on: '0' });
      await this.#command('worm', { cart: cartridges[letter], on: '0' });
      await this.resize(letter, 16 * MIB, 2 * MIB);
      await this.load(letter);
      const drive = await this.device.open('write');
      await drive.rewind();
      await drive.erase();
      if (letter === 'A') await this.#useUpFaults(drive);
      await drive.close();
    }
  }

  /** Faults of an earlier test that nothing has met. */
  async #useUpFaults(drive: TapeDrive): Promise<void> {
    const { drives } = (await this.#command('status', {})) as LibraryStatus;
    const meet = {
      read: () => drive.read(Buffer.alloc(512)),
      write: () => drive.write(Buffer.alloc(512)),
      weof: () => drive.writeFilemarks(1),
    };
    await drive.setRecordMode();
    for (const { op } of drives[0]?.faults ?? []) {
      await meet[op]().then(undefined, () => undefined);
      await drive.rewind();
    }
    await drive.erase();
  }

  async load(cartridge: Letter): Promise<void> {
    if ((await this.#inDrive()) === cartridge) return;
    await this.#command('load', { cart: cartridges[cartridge] });
  }

  /** By the changer, which cannot open a locked door. */
  async eject(): Promise<boolean> {
    const inDrive = await this.#inDrive();
    if (inDrive === undefined) return true;
    try {
      await run('mtx', ['-f', this.#changer, 'unload', String(slots[inDrive]), '0']);
      return true;
    } catch {
      return (await this.#inDrive()) === undefined;
    }
  }

  async protect(cartridge: Letter, isProtected: boolean): Promise<void> {
    await this.#command('protect', { cart: cartridges[cartridge], on: isProtected ? '1' : '0' });
  }

  async makeWorm(cartridge: Letter): Promise<void> {
    await this.#command('worm', { cart: cartridges[cartridge] });
  }

  async resize(cartridge: Letter, sizeBytes: number, earlyWarningBytes: number): Promise<void> {
    const [size, ew] = [String(sizeBytes), String(earlyWarningBytes)];
    await this.#command('size', { cart: cartridges[cartridge], size, ew });
  }

  async damage(cartridge: Letter, object: number): Promise<void> {
    await this.#command('bad', { cart: cartridges[cartridge], pos: String(object) });
  }

  async fail(operation: 'read' | 'write' | 'filemarks', after: number): Promise<void> {
    const op = operation === 'filemarks' ? 'weof' : operation;
    await this.#command('fault', { op, after: String(after), count: '1', key: '3', asc: '0c00' });
  }

  async administer(options: { blockSizeBytes?: number; asyncWrites?: boolean }): Promise<void> {
    const { blockSizeBytes, asyncWrites } = options;
    if (blockSizeBytes !== undefined) await this.#mt('setblk', String(blockSizeBytes));
    if (asyncWrites === undefined) return;
    await this.#mt(asyncWrites ? 'stsetoptions' : 'stclearoptions', 'async-writes');
  }

  async objects(cartridge: Letter): Promise<(number | 'FM')[]> {
    const objects = await this.#command('records', { cart: cartridges[cartridge] });
    return objects as (number | 'FM')[];
  }

  async unplug(): Promise<void> {
    const device = `/sys/class/scsi_tape/${basename(this.device.path)}/device`;
    this.#host = /\/(host\d+)\//.exec(await realpath(device))?.[1] ?? '';
    await writeFile(join(device, 'delete'), '1');
  }

  async plugIn(): Promise<void> {
    await writeFile(`/sys/class/scsi_host/${this.#host}/scan`, '- - -');
    while (!existsSync(this.device.path)) await setTimeout(50);
  }

  async killWriter(records: number): Promise<void> {
    await killTapeWriter('st', this.device.path, records);
  }

  async dispose(): Promise<void> {
    await this.#command('status', {});
  }

  async #inDrive(): Promise<Letter | undefined> {
    const [drive] = ((await this.#command('status', {})) as LibraryStatus).drives;
    if (drive?.cartridge === cartridges.A) return 'A';
    return drive?.cartridge === cartridges.B ? 'B' : undefined;
  }

  async #mt(...words: string[]): Promise<void> {
    await run('mt', ['-f', this.device.path, ...words]);
  }

  async #command(command: string, query: Record<string, string>): Promise<unknown> {
    const words = new URLSearchParams(query).toString();
    const response = await fetch(`${this.#control}/${command}?${words}`);
    const body: unknown = await response.json();
    if (!response.ok) throw new Error(`${command} ${words}: ${JSON.stringify(body)}`);
    return body;
  }
}
