/** One round: load, an end at a random moment, a restart, a proof. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Lost } from './client.ts';
import { type DaemonOptions, DaemonProcess } from './daemon-process.ts';
import { actOnBackups, createTarget } from './load-backups.ts';
import { actOnData } from './load-data.ts';
import { actOnGroups } from './load-groups.ts';
import { actOnObjects, createDisk } from './load-objects.ts';
import type { Random } from './random.ts';
import { verifyAll } from './verify.ts';
import type { World } from './world.ts';

export interface RoundReport {
  readonly requests: number;
  readonly inFlight: number;
  readonly jobs: number;
  readonly killAfterMs: number;
  readonly how: string;
}

/** One store and the lives of its daemon. */
export class Store {
  readonly world: World;
  readonly #options: DaemonOptions;
  #daemon: DaemonProcess | undefined;

  constructor(options: DaemonOptions, world: World) {
    this.#options = options;
    this.world = world;
  }

  async open(): Promise<void> {
    await this.#start();
    const { world } = this;
    await createTarget(world);
    const pools = { fine: 16384, coarse: 1048576, apart: 65536 };
    for (const [name, blockSizeBytes] of Object.entries(pools)) {
      const sizeBytes = (world.random.chance(0.5) ? 24 : 64) * 1024 * 1024;
      const files = [{ path: `${name}.pool`, sizeBytes }];
      await world.client.json('POST', '/pools', { json: { name, blockSizeBytes, files } });
      world.pools.push(name);
    }
    world.pools.push('default', 'default');
    for (let count = 0; count < 3; count += 1) await createDisk(world, world.random);
  }

  /** Loads for a while, ends the daemon, starts it again and proves everything. */
  async round(maxSeconds: number): Promise<RoundReport> {
    const { world } = this;
    const killAfterMs = Math.round(world.random.size(200, maxSeconds * 1000));
    world.isOver = false;
    const { asked } = world.client;
    const load = this.#load();
    const early = load.then(() => 'load' as const);
    const daemon = this.#living();
    await Promise.race([sleep(killAfterMs), early, daemon.exited]);
    daemon.check();
    const { pending: inFlight } = world.client;
    const requests = world.client.asked - asked;
    const jobs = world.jobs.length;
    world.trace('end of the load');
    const how = await this.#end(daemon);
    world.isOver = true;
    await load;
    world.died(how.inGoodOrder);
    const starts = await this.#restart();
    await verifyAll(world);
    this.#living().check();
    return { requests, inFlight, jobs, killAfterMs, how: `${how.what}${starts}` };
  }

  /** Ends the daemon whatever has happened. */
  async close(): Promise<void> {
    this.world.isDying = true;
    this.world.isOver = true;
    await this.#daemon?.kill();
  }

  get logFile(): string {
    return this.#daemon?.logFile ?? '';
  }

  #living(): DaemonProcess {
    if (this.#daemon === undefined) throw new Error('no daemon');
    return this.#daemon;
  }

  async #start(): Promise<void> {
    const daemon = DaemonProcess.start(this.#options);
    this.#daemon = daemon;
    await daemon.ready();
    this.world.trace(`ready ${daemon.pid}`);
    const { world } = this;
    world.isDying = false;
    world.client = new Client(daemon.url, () => world.isDying, world.trace);
  }

  async #load(): Promise<void> {
    const { world } = this;
    const { random } = world;
    const actors: Promise<void>[] = [];
    const add = (count: number, act: (world: World, random: Random) => Promise<void>): void => {
      for (; count > 0; count -= 1) actors.push(this.#actor(act, random.fork()));
    };
    add(random.int(2, 5), actOnData);
    add(random.int(1, 2), actOnObjects);
    add(random.int(1, 2), actOnBackups);
    add(1, actOnGroups);
    try {
      await Promise.all(actors);
    } finally {
      world.isOver = true;
      await Promise.allSettled(actors);
    }
  }

  async #actor(
    act: (world: World, random: Random) => Promise<void>,
    random: Random,
  ): Promise<void> {
    const { world } = this;
    try {
      while (!world.isOver) {
        await act(world, random);
        await sleep(random.size(1, 40));
      }
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
    }
  }

  /** SIGKILL, SIGTERM, or the one while the other is being obeyed. */
  async #end(daemon: DaemonProcess): Promise<{ what: string; inGoodOrder: boolean }> {
    const { world } = this;
    world.isDying = true;
    if (world.random.chance(0.8)) {
      await daemon.kill();
      return { what: 'SIGKILL', inGoodOrder: false };
    }
    daemon.terminate();
    if (world.random.chance(0.5)) {
      await Promise.race([sleep(world.random.size(1, 1000)), daemon.exited]);
      await daemon.kill();
      return { what: 'SIGTERM+SIGKILL', inGoodOrder: false };
    }
    await daemon.stopped();
    daemon.check();
    return { what: 'SIGTERM', inGoodOrder: true };
  }

  /** Starts it again, at times after kills while it was starting. */
  async #restart(): Promise<string> {
    const { random } = this.world;
    let starts = '';
    while (random.chance(0.25)) {
      const daemon = DaemonProcess.start(this.#options);
      this.#daemon = daemon;
      const ms = random.int(100, 2500);
      await Promise.race([sleep(ms), daemon.exited]);
      daemon.check();
      await daemon.kill();
      starts += ` +${ms}ms`;
    }
    await this.#start();
    return starts;
  }
}
