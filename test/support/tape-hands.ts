/**
 * Hands of somebody who serves a daemon with a tape drive, virtual or real: they bring cartridges,
 * push them in, and spoil them. Not through the daemon: it must find out by itself.
 */
import { appendFile, copyFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stDevice } from '../../src/tape/st-drive.ts';
import { FILEMARK } from '../../src/tape/tap-file.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import type { Client } from './daemons.ts';

export type LibraryObject = number | 'FM';

export interface DaemonTapeHands {
  /** What POST /targets takes beside the name and the set. */
  readonly target: Readonly<Record<string, string>>;
  /** Variables of the daemon's environment. */
  readonly settings: Readonly<Record<string, string>>;
  /** So many blank cartridges of a size, and an empty drive. @returns their names */
  bring(client: Client, target: string, count: number, sizeBytes: number): Promise<string[]>;
  insert(client: Client, target: string, cartridge: string): Promise<void>;
  /** Another cartridge lies in the drive, whoever has it open; undefined: not possible. */
  readonly swap: ((cartridge: string) => Promise<void>) | undefined;
  /** Lengths of records, 'FM' for filemarks. The drive is closed. */
  objects(cartridge: string): Promise<LibraryObject[]>;
  /** The object of that number cannot be read any more. The drive is closed. */
  damage(cartridge: string, object: number): Promise<void>;
  /**
   * The current fails while a process writes: it is killed by `kill`, and no filemark follows what
   * it has written.
   */
  powerCut(kill: () => Promise<void>): Promise<void>;
  /** A file of what is on the cartridge, for tools/spindle-tape.py. The drive is closed. */
  dump(cartridge: string, file: string): Promise<void>;
}

/** Of a library that the daemon keeps in the directory `tapes` of its own. */
export class VirtualDaemonHands implements DaemonTapeHands {
  readonly target: Readonly<Record<string, string>>;
  readonly settings = {};
  readonly swap = undefined;
  readonly #directory: string;

  /** @param dataDir of the daemon */
  constructor(dataDir: string, { hasChanger = false } = {}) {
    const changer: Record<string, string> = hasChanger ? { changer: 'virtual' } : {};
    this.target = { kind: 'virtual-tape', path: 'tapes', ...changer };
    this.#directory = join(dataDir, 'tapes');
  }

  async bring(client: Client, target: string, count: number, size: number): Promise<string[]> {
    const names = Array.from({ length: count }, (_, at) => `T${at + 1}`);
    for (const cartridge of names) {
      await good(client.post(`/targets/${target}/media`, { cartridge, sizeBytes: size }));
    }
    return names;
  }

  async insert(client: Client, target: string, medium: string): Promise<void> {
    await good(client.post(`/targets/${target}/load`, { medium }));
  }

  async objects(cartridge: string): Promise<LibraryObject[]> {
    const library = await VirtualLibrary.open(this.#directory);
    const objects = await library.objects(cartridge);
    return objects.map((length) => (length === FILEMARK ? 'FM' : length));
  }

  async damage(cartridge: string, object: number): Promise<void> {
    const library = await VirtualLibrary.open(this.#directory);
    await library.damage(cartridge, object);
  }

  async powerCut(kill: () => Promise<void>): Promise<void> {
    await kill();
    // What tells the next opening that a killed process has left a filemark to write.
    await rm(join(this.#directory, 'drive-0.writing'), { force: true });
  }

  async dump(cartridge: string, file: string): Promise<void> {
    await copyFile(this.#file(cartridge), file);
  }

  #file(cartridge: string): string {
    return join(this.#directory, `${cartridge}.tap`);
  }
}

/** Of a real driver over an emulated library, steered as test/support/st-tape.ts says. */
export class StDaemonHands implements DaemonTapeHands {
  readonly #path = process.env['SPINDLE_TEST_TAPE'] ?? '/dev/nst0';
  readonly #changer = process.env['SPINDLE_TEST_CHANGER'] ?? '/dev/sg1';
  readonly #hasChanger: boolean;
  readonly target: Readonly<Record<string, string>>;
  readonly settings = { SPINDLE_DEVICES: `${this.#path}:${this.#changer}` };
  readonly #control = process.env['SPINDLE_TEST_TAPE_CONTROL'] ?? 'http://127.0.0.1:3261';

  constructor({ hasChanger = false } = {}) {
    this.#hasChanger = hasChanger;
    const changer: Record<string, string> = hasChanger ? { changer: this.#changer } : {};
    this.target = { kind: 'tape', path: this.#path, ...changer };
  }

  async bring(_: Client, _target: string, count: number, sizeBytes: number): Promise<string[]> {
    const names = Array.from({ length: count }, (_each, at) => `T00${at + 1}`);
    await this.#command('unload', {});
    for (const cart of names) {
      await this.#command('protect', { cart, on: '0' });
      const [size, ew] = [String(sizeBytes), String(sizeBytes / 8)];
      await this.#command('size', { cart, size, ew });
      await this.#command('load', { cart });
      const drive = await stDevice(this.#path).open('write');
      await drive.rewind();
      await drive.erase();
      await drive.close();
    }
    await this.#command('unload', {});
    return names;
  }

  /** By the changer, as it is told; else by reaching into the library. */
  async insert(client: Client, target: string, cart: string): Promise<void> {
    if (this.#hasChanger) await good(client.post(`/targets/${target}/load`, { medium: cart }));
    else await this.#load(cart);
  }

  readonly swap = (cart: string): Promise<void> => this.#load(cart);

  async objects(cart: string): Promise<LibraryObject[]> {
    return (await this.#command('records', { cart })) as LibraryObject[];
  }

  async damage(cart: string, object: number): Promise<void> {
    await this.#command('bad', { cart, pos: String(object) });
  }

  async powerCut(kill: () => Promise<void>): Promise<void> {
    // The filemark that the kernel writes for a killed process does not get there.
    await this.#command('fault', { op: 'weof', after: '0', count: '9', key: '4', asc: '4400' });
    await kill();
    const drive = await stDevice(this.#path).open('write');
    await drive.setRecordMode();
    for (;;) {
      const { drives } = (await this.#command('status', {})) as {
        drives: { faults: unknown[] }[];
      };
      if ((drives[0]?.faults.length ?? 0) === 0) break;
      await drive.writeFilemarks(1).then(undefined, () => undefined);
    }
    await drive.close();
  }

  async dump(cart: string, file: string): Promise<void> {
    await this.#load(cart);
    const drive = await stDevice(this.#path).open('read');
    const into = Buffer.alloc(1024 * 1024);
    await writeFile(file, '');
    await drive.setRecordMode();
    await drive.rewind();
    for (let isMark = false; ;) {
      const length = await drive.read(into);
      if (length === 0 && isMark) break;
      isMark = length === 0;
      await appendFile(file, into.subarray(0, length));
    }
    await drive.close();
  }

  async #load(cart: string): Promise<void> {
    const { drives } = (await this.#command('status', {})) as {
      drives: { cartridge: string | null }[];
    };
    if (drives[0]?.cartridge !== cart) await this.#command('load', { cart });
  }

  async #command(command: string, query: Record<string, string>): Promise<unknown> {
    const words = new URLSearchParams(query).toString();
    const response = await fetch(`${this.#control}/${command}?${words}`);
    const body: unknown = await response.json();
    if (!response.ok) throw new Error(`${command} ${words}: ${JSON.stringify(body)}`);
    return body;
  }
}

async function good(sent: Promise<Response>): Promise<void> {
  const answer = await sent;
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${await answer.text()}`);
}
