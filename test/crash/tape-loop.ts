/**
 * Kills the daemon at random moments of jobs on a virtual tape. After each kill cartridges and
 * catalog are compared; after the restart the jobs go on; at the end of a store every backup is
 * restored, and scans of all cartridges change nothing.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { Client, Lost, type Json } from './client.ts';
import { DaemonProcess } from './daemon-process.ts';
import { Random } from './random.ts';
import { TapeLoad } from './tape-load.ts';
import { CartridgeProof } from './tape-proof.ts';
import { TapeRobot } from './tape-robot.ts';
import { Violation } from './violation.ts';

const MIB = 1024 * 1024;
const ROUNDS_PER_STORE = 25;
const MAX_LOAD_MS = 2500;
const REST_MS = 180_000;

export interface TapeLoopOptions {
  readonly rounds: number;
  readonly seed: number;
  readonly main: string;
}

/** @returns whether all went well */
export async function runTape({ rounds, seed, main }: TapeLoopOptions): Promise<boolean> {
  const totals = new Map<string, number>();
  for (let done = 0; done < rounds; done += ROUNDS_PER_STORE) {
    const folder = mkdtempSync(join(tmpdir(), 'spindle-crash-'));
    const store = new TapeStore(folder, main, new Random(seed + done));
    try {
      await store.run(done, Math.min(ROUNDS_PER_STORE, rounds - done));
    } catch (error) {
      await store.close();
      console.error(error instanceof Error ? error.stack : error);
      console.error(`seed ${seed + done}, folder ${folder}, log ${store.logFile}`);
      return false;
    }
    for (const [what, times] of store.counts) totals.set(what, (totals.get(what) ?? 0) + times);
    rmSync(folder, { recursive: true, force: true });
  }
  const shown = [...totals].sort(([a], [b]) => a.localeCompare(b));
  console.log(shown.map(([what, count]) => `${what} ${count}`).join(', '));
  return true;
}

class TapeStore {
  readonly #folder: string;
  readonly #main: string;
  readonly #random: Random;
  readonly #load: TapeLoad;
  readonly #robot: TapeRobot;
  #daemon: DaemonProcess | undefined;
  #client: Client | undefined;
  #isDying = false;
  #isOver = false;

  constructor(folder: string, main: string, random: Random) {
    this.#folder = folder;
    this.#main = main;
    this.#random = random;
    this.#load = new TapeLoad(random.fork());
    this.#robot = new TapeRobot(random.fork());
  }

  get counts(): ReadonlyMap<string, number> {
    return this.#load.counts;
  }

  get logFile(): string {
    return this.#daemon?.logFile ?? '';
  }

  async run(done: number, count: number): Promise<void> {
    await this.#start();
    await this.#load.open();
    const data = join(this.#folder, 'data');
    const catalogs = join(data, 'tape-catalogs');
    let proof: CartridgeProof | undefined;
    for (let round = done + 1; round <= done + count; round += 1) {
      const ms = Math.round(this.#random.size(50, MAX_LOAD_MS));
      await this.#loadFor(ms);
      const catalog = readdirSync(data).includes('tape-catalogs') ? readdirSync(catalogs)[0] : '';
      if (catalog !== undefined && catalog !== '') {
        proof ??= new CartridgeProof(join(data, 'tapes'), join(catalogs, catalog));
      }
      await proof?.prove((backup) => this.#load.isDeleted(backup));
      await this.#start();
      const going = await this.#load.look();
      await this.#load.check();
      console.log(`round ${round}: killed after ${ms} ms, ${going} jobs go on`);
    }
    await this.#rest();
    await this.#load.check();
    await this.#load.restoreAll(() => this.#serveOnce());
    await this.#scanAll();
    await this.close();
    await proof?.prove((backup) => this.#load.isDeleted(backup));
  }

  async close(): Promise<void> {
    this.#isDying = true;
    this.#client?.close();
    await this.#daemon?.kill();
  }

  async #start(): Promise<void> {
    const options = { folder: this.#folder, poolBytes: 128 * MIB, main: this.#main };
    this.#daemon = DaemonProcess.start(options);
    await this.#daemon.ready();
    this.#isDying = false;
    this.#client?.close();
    this.#client = new Client(
      this.#daemon.url,
      () => this.#isDying,
      () => undefined,
    );
    this.#load.client = this.#client;
  }

  async #loadFor(ms: number): Promise<void> {
    this.#isOver = false;
    const daemon = this.#daemon!;
    const actors = [this.#actor(() => this.#load.act()), this.#actor(() => this.#serveOnce())];
    const failed = Promise.all(actors);
    failed.catch(() => undefined);
    await Promise.race([sleep(ms), daemon.exited, failed]);
    daemon.check();
    this.#isDying = true;
    await daemon.kill();
    this.#isOver = true;
    await failed;
  }

  async #actor(act: () => Promise<void>): Promise<void> {
    try {
      while (!this.#isOver) {
        await act();
        await sleep(this.#random.size(1, 40));
      }
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
    }
  }

  async #serveOnce(): Promise<void> {
    await this.#robot.once(this.#client!);
    await sleep(5);
  }

  /** Every job comes to its end, if somebody brings what it asks for. */
  async #rest(): Promise<void> {
    const until = Date.now() + REST_MS;
    while ((await this.#load.look()) > 0) {
      if (Date.now() > until) {
        const jobs = await this.#client!.list('/jobs?state=waiting');
        throw new Violation('jobs do not come to an end', { jobs });
      }
      await this.#serveOnce();
    }
    this.#daemon!.check();
  }

  /** Scans of all cartridges, in any order, find what the catalog has. */
  async #scanAll(): Promise<void> {
    const client = this.#client!;
    const before = await this.#known();
    const media = await client.list('/targets/vault/media');
    const labelled = media.filter(({ label }) => label !== null);
    for (const { label } of labelled.sort(() => this.#random.next() - 0.5)) {
      await client.json('POST', '/targets/vault/load', { json: { medium: label } });
      const headers = { prefer: 'wait=30' };
      const job = await client.json('POST', '/targets/vault/scan', { headers });
      if (job.state !== 'succeeded') throw new Violation('a scan did not succeed', { job });
    }
    const after = await this.#known();
    if (!isDeepStrictEqual(after, before)) {
      throw new Violation('scans found something else than was known', { before, after });
    }
  }

  async #known(): Promise<Json[]> {
    const media = await this.#client!.list('/targets/vault/media');
    const backups = await this.#client!.list('/backups');
    return [
      ...media.map(({ cartridge, label, state, dataBytes, backups: on }) => {
        return { cartridge, label, state, dataBytes, backups: on };
      }),
      ...backups.map(({ name, state, mediumBytes }) => ({ name, state, mediumBytes })),
    ];
  }
}
